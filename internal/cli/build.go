package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/ui"
)

type buildOptions struct {
	build.Options
	path   string
	locked bool
}

func (a *app) buildCommand() *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:   "build",
		Short: "Build the artifacts of a spec",
		RunE:  func(c *cobra.Command, _ []string) error { return a.build(c, o) },
	}
	specFlag(c, &o.path)
	c.Flags().StringVarP(&o.Out, "out", "o", "out", "folder for the artifacts and their manifest.json")
	c.Flags().BoolVar(&o.locked, "locked", false, "fail when the lock is missing or does not fit the spec")
	c.Flags().StringVar(&o.Until, "until", "", "stop after this phase and make no artifact: "+words(build.Order()))
	c.Flags().StringSliceVar(&o.Targets, "target", nil, "only these of the spec's targets; default all")
	a.jsonFlag(c)
	return c
}

// check finds mistakes of the command line before anything is started.
func (o buildOptions) check(c *cobra.Command) error {
	s, _, err := loadSpec(o.path)
	if err != nil {
		return err
	}
	for _, t := range o.Targets {
		if err := chooseTarget(c, s, &t); err != nil {
			return err
		}
	}
	if o.Until == "" {
		return build.PrepareOut(o.Out)
	}
	return choosePhase(c, o.Until)
}

func (a *app) build(c *cobra.Command, o buildOptions) error {
	if err := o.check(c); err != nil {
		return err
	}
	var m *build.Manifest
	err := a.work(c.Context(), func(ctx context.Context, s *session) error {
		in, err := s.inputs(ctx, o.path, o.locked)
		if err != nil {
			return err
		}
		m, err = build.Build(ctx, in, o.Options)
		if n := s.fetch.Retries(); n > 0 {
			_, task := event.Start(ctx, "network")
			task.Warn("some downloads had to be repeated; see the warnings above")
			task.Done(nil)
		}
		return err
	})
	if err != nil || o.Until != "" {
		return err
	}
	return a.printManifest(m)
}

func (a *app) printManifest(m *build.Manifest) error {
	if a.json {
		return a.printJSON(m)
	}
	var rows [][]string
	for _, art := range m.Artifacts {
		rows = append(rows, []string{art.File, ui.Bytes(art.Size), ui.Duration(time.Duration(art.Seconds * float64(time.Second))), art.SHA256})
	}
	return ui.Table(a.out, []string{"artifact", "size", "time", "SHA-256"}, rows)
}
