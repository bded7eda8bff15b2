package cli

import (
	"context"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/ui"
)

func (a *app) planCommand() *cobra.Command {
	var path, target string
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show the phases, their keys, and which are made already",
		RunE: func(c *cobra.Command, _ []string) error {
			sp, _, err := loadSpec(path)
			if err == nil {
				err = chooseTarget(c, sp, &target)
			}
			if err != nil {
				return err // before anything is started
			}
			return a.work(c.Context(), func(ctx context.Context, s *session) error { return a.plan(ctx, s, path, target) })
		},
	}
	specFlag(c, &path)
	c.Flags().StringVar(&target, "target", "", "one of the spec's targets; default the first")
	a.jsonFlag(c)
	return c
}

type plannedPhase struct {
	Phase  string `json:"phase"`
	Key    string `json:"key"`
	Cached bool   `json:"cached"`
	Inputs int    `json:"inputs"`
}

func (a *app) plan(ctx context.Context, s *session, path, target string) error {
	in, err := s.inputs(ctx, path, false)
	if err != nil {
		return err
	}
	phases, err := in.Phases(target)
	if err != nil {
		return err
	}
	var list []plannedPhase
	var rows [][]string
	for _, step := range build.Steps(in.Spec.Spec.OS.Arch, in.Lock.Epoch, phases) {
		_, ok := s.store.Layer(step.Key)
		list = append(list, plannedPhase{step.Phase.Name, step.Key, ok, len(step.Phase.Inputs)})
		state := "to make"
		if ok {
			state = "made"
		}
		rows = append(rows, []string{step.Phase.Name, state, step.Key})
	}
	if a.json {
		return a.printJSON(list)
	}
	return ui.Table(a.out, []string{"phase", "state", "key"}, rows)
}
