package cli

import (
	"context"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

func (a *app) shellCommand() *cobra.Command {
	var path, phase, target string
	c := &cobra.Command{
		Use:   "shell",
		Short: "Open a shell in the root as a phase leaves it; changes are lost",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.work(c.Context(), func(ctx context.Context, s *session) error { return a.shell(ctx, s, path, phase, target, args) })
		},
	}
	specFlag(c, &path)
	c.Flags().StringVar(&phase, "phase", "seal", "the phase")
	c.Flags().StringVar(&target, "target", "", "one of the spec's targets; default the first")
	return c
}

func (a *app) shell(ctx context.Context, s *session, path, phase, target string, args []string) error {
	in, err := s.inputs(ctx, path, false)
	if err != nil {
		return err
	}
	if target == "" {
		target = in.Spec.Spec.Targets[0]
	}
	phases, err := in.Phases(target)
	if err != nil {
		return err
	}
	steps := build.Steps(in.Spec.Spec.OS.Arch, phases)
	n := slices.IndexFunc(steps, func(st build.Step) bool { return st.Phase.Name == phase })
	if n < 0 {
		return fault.New(fault.Input, "there is no phase %q; the phases are %v", phase, build.Order())
	}
	engine := build.Engine{Store: s.store, Epoch: in.Lock.Epoch}
	layers, err := engine.Layers(ctx, steps[:n+1])
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"bash", "-i"}
	}
	return engine.WithRoot(ctx, layers, true, func(root string) error {
		return sandbox.Run(ctx, sandbox.Command{
			Root: root, Args: args, Env: []string{"TERM=" + os.Getenv("TERM"), "PS1=" + phase + ":\\w# "},
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Terminal: true,
		})
	})
}
