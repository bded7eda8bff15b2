package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/spec"
)

func (a *app) validateCommand() *cobra.Command {
	var path string
	var schema bool
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check a spec and name every mistake in it",
		RunE: func(*cobra.Command, []string) error {
			if schema {
				return a.schema()
			}
			return a.validate(path)
		},
	}
	specFlag(c, &path)
	c.Flags().BoolVar(&schema, "schema", false, "print the JSON schema of a spec")
	a.jsonFlag(c)
	return c
}

// jsonFlag adds --json.
func (a *app) jsonFlag(c *cobra.Command) {
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) schema() error {
	b, err := spec.Schema()
	if err != nil {
		return err
	}
	_, err = a.out.Write(b)
	return err
}

func (a *app) validate(path string) error {
	s, _, err := loadSpec(path)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(s)
	}
	fmt.Fprintf(a.out, "%s is valid: %s %s, Kubernetes %s\n", path, s.Spec.OS.Name, s.Spec.OS.Version, s.Spec.Kubernetes.Version)
	return nil
}
