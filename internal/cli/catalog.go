package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/ui"
)

func (a *app) catalogCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "catalog",
		Short: "List what can be built",
		RunE:  func(*cobra.Command, []string) error { return a.catalog() },
	}
	a.jsonFlag(c)
	return c
}

func (a *app) catalog() error {
	lists := []struct {
		Name   string   `json:"name"`
		Values []string `json:"values"`
	}{
		{"os", nil}, {"arch", catalog.Architectures()}, {"kernel", catalog.Kernels()}, {"kubernetes", nil},
		{"kubernetes source", catalog.Sources()}, {"target", catalog.Targets()}, {"root filesystem", catalog.Filesystems()},
	}
	for _, os := range catalog.OSNames() {
		for _, v := range catalog.Versions(os) {
			lists[0].Values = append(lists[0].Values, os+" "+v)
		}
	}
	for _, m := range catalog.KubernetesMinors() {
		lists[3].Values = append(lists[3].Values, fmt.Sprintf("v1.%d", m))
	}
	if a.json {
		return a.printJSON(lists)
	}
	var rows [][]string
	for _, l := range lists {
		rows = append(rows, []string{l.Name, strings.Join(l.Values, ", ")})
	}
	return ui.Table(a.out, []string{"what", "values"}, rows)
}
