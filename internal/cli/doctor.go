package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/doctor"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/store"
	"imagebuilder.dev/internal/ui"
)

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host lacks and how to mend it",
		RunE:  func(c *cobra.Command, _ []string) error { return a.doctor(c.Context()) },
	}
	a.jsonFlag(c)
	return c
}

func (a *app) doctor(ctx context.Context) error {
	dir, err := store.DefaultDir()
	if err != nil {
		return err
	}
	findings := doctor.Examine(ctx, dir)
	if a.json {
		if err := a.printJSON(findings); err != nil {
			return err
		}
	} else {
		var rows [][]string
		for _, f := range findings {
			rows = append(rows, []string{f.Mark(), f.Name, f.Found})
		}
		if err := ui.Table(a.out, []string{"", "check", "found"}, rows); err != nil {
			return err
		}
		for _, f := range findings {
			if !f.OK {
				fmt.Fprintf(a.out, "\n%s: %s\n", f.Name, f.Mend)
			}
		}
	}
	for _, f := range findings {
		if !f.OK && !f.Optional {
			return fault.New(fault.Environment, "this host lacks what a build needs: %s", f.Name)
		}
	}
	return nil
}
