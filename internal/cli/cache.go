package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/ui"
)

func (a *app) cacheCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "List or clear the store of inputs and results",
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.cacheListCommand(), a.cachePruneCommand())
	return c
}

func (a *app) cacheListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ls",
		Short: "List what the store holds",
		Args:  takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.work(c.Context(), func(ctx context.Context, s *session) error {
				entries, err := s.store.Entries()
				if err != nil || a.json {
					return orPrint(err, func() error { return a.printJSON(entries) })
				}
				var rows [][]string
				for _, e := range entries {
					rows = append(rows, []string{e.Kind, e.Name, ui.Bytes(e.Size), e.Used.Format(time.DateTime)})
				}
				return ui.Table(a.out, []string{"kind", "name", "size", "last used"}, rows)
			})
		},
	}
	a.jsonFlag(c)
	return c
}

func orPrint(err error, print func() error) error {
	if err != nil {
		return err
	}
	return print()
}

func (a *app) cachePruneCommand() *cobra.Command {
	var age time.Duration
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove what has not been used for a while",
		Args:  takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.work(c.Context(), func(ctx context.Context, s *session) error {
				freed, err := s.store.Prune(ctx, time.Now().Add(-age))
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "freed %s\n", ui.Bytes(freed))
				return nil
			})
		},
	}
	c.Flags().DurationVar(&age, "unused-for", 0, "keep what was used within this time, e.g. 168h; 0 keeps nothing")
	return c
}
