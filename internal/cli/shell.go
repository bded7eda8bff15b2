package cli

import (
	"context"
	"errors"
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
		Use:   "shell [COMMAND [ARG]...]",
		Short: "Open a shell, or run a command, in the root as a phase leaves it; changes are lost",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			sp, _, err := loadSpec(path)
			if err == nil {
				err = choosePhase(c, phase)
			}
			if err == nil {
				err = chooseTarget(c, sp, &target)
			}
			if err != nil {
				return err // before anything is started
			}
			return a.work(c.Context(), func(ctx context.Context, s *session) error { return a.shell(ctx, s, path, phase, target, args) })
		},
	}
	specFlag(c, &path)
	c.Flags().StringVar(&phase, "phase", "seal", "the phase: "+words(build.Order()))
	c.Flags().SetInterspersed(false) // what follows the command is its own
	c.Flags().StringVar(&target, "target", "", "one of the spec's targets; default the first")
	return c
}

func (a *app) shell(ctx context.Context, s *session, path, phase, target string, args []string) error {
	in, err := s.inputs(ctx, path, false)
	if err != nil {
		return err
	}
	phases, err := in.Phases(target)
	if err != nil {
		return err
	}
	steps := build.Steps(in.Spec.Spec.OS.Arch, in.Lock.Epoch, phases)
	n := slices.IndexFunc(steps, func(st build.Step) bool { return st.Phase.Name == phase })
	engine := build.Engine{Store: s.store, Epoch: in.Lock.Epoch}
	layers, err := engine.Layers(ctx, steps[:n+1])
	if err != nil {
		return err
	}
	interactive := len(args) == 0
	if interactive {
		args = []string{"bash", "-i"}
	}
	return engine.WithRoot(ctx, layers, true, func(root string) error {
		err := sandbox.Run(ctx, sandbox.Command{
			Root: root, Args: args, Env: []string{"TERM=" + os.Getenv("TERM"), "PS1=" + phase + ":\\w# "},
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Terminal: true,
		})
		var exit *sandbox.ExitError
		switch {
		case errors.As(err, &exit) && interactive: // the status of whatever was typed last
			return nil
		case errors.As(err, &exit):
			return fault.New(fault.Check, "%s ended with status %d", exit.Command, exit.Code)
		}
		return err
	})
}
