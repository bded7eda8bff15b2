// Package cli is the command line: a file per command, which turns flags into
// options and makes one call.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/resolve"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/store"
	"imagebuilder.dev/internal/ui"
)

// app is what the commands share.
type app struct {
	out, err io.Writer
	progress string
	verbose  bool
	json     bool
	offline  bool
}

// Run runs one command line and returns the exit code: 0 ok, 1 internal,
// 2 input, 3 environment, 4 network, 5 integrity, 6 a check failed, 130 interrupted.
func Run(args []string, out, errw io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{out: out, err: errw}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var usage *usageError
	if !errors.As(err, &usage) && ctx.Err() != nil {
		err = context.Canceled
	}
	ui.PrintError(errw, err, a.json || a.progress == "json")
	return fault.ExitCode(err)
}

// usageError is a wrong command line.
type usageError struct{ error }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "image-builder",
		Short:         "Kubernetes node images for every infrastructure, composed offline from one YAML file",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fault.Hint(&usageError{fault.New(fault.Input, "%w", err)}, "see '%s --help'", c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.progress, "progress", "auto", "how progress is shown: auto, tty, plain or json")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "show what the tools print")
	flags.BoolVar(&a.offline, "offline", false, "use only what is in the store")
	root.AddCommand(a.initCommand(), a.validateCommand(), a.lockCommand(), a.planCommand(), a.buildCommand(), a.shellCommand(),
		a.testCommand(), a.cacheCommand(), a.doctorCommand(), a.catalogCommand(), a.versionCommand())
	for _, c := range root.Commands() {
		if c.Args == nil {
			c.Args = noArgs
		}
	}
	return root
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fault.Hint(fault.New(fault.Input, "unexpected argument %q", args[0]), "see '%s --help'", c.CommandPath())
	}
	return nil
}

// session is a command that works on a store.
type session struct {
	fetch    *fetch.Fetcher
	store    *store.Store
	resolver resolve.Resolver
}

// work runs fn with progress shown and the store open, inside the builder's
// namespaces.
func (a *app) work(ctx context.Context, fn func(ctx context.Context, s *session) error) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	display, err := ui.New(ui.Mode(a.progress), a.err, ui.Options{Verbose: a.verbose})
	if err != nil {
		return err
	}
	err = a.inStore(event.With(ctx, display), fn)
	return errors.Join(err, display.Close())
}

func (a *app) inStore(ctx context.Context, fn func(ctx context.Context, s *session) error) error {
	dir, err := store.DefaultDir()
	if err != nil {
		return err
	}
	st, err := store.Open(dir)
	if err != nil {
		return err
	}
	f := fetch.New(st, fetch.Options{Offline: a.offline})
	config, err := os.UserConfigDir()
	if err != nil {
		config = "/nonexistent"
	}
	return fn(ctx, &session{fetch: f, store: st, resolver: resolve.Resolver{
		Fetch: f, ConfigDir: filepath.Join(config, "image-builder"), HostRoot: "/", Now: time.Now(),
	}})
}

// specFlag adds -f.
func specFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "file", "f", "image.yaml", "the spec")
}

// loadSpec reads a spec. Its size is limited before it is read.
func loadSpec(path string) (*spec.Image, *spec.Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fault.Hint(fault.New(fault.Input, "read the spec: %w", err), "name it with -f, or write one with 'image-builder init'")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2<<20)) // more than Load accepts
	if err != nil {
		return nil, nil, fault.New(fault.Input, "read the spec: %w", err)
	}
	return spec.Load(path, data)
}
