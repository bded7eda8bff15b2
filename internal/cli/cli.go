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
	"strings"
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
	root.SetOut(out)
	root.SetErr(errw)
	err := execute(ctx, root, args)
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

// execute runs the command that args name. An unknown one is found before the
// flags are read, because they are flags of the command that was meant.
func execute(ctx context.Context, root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	completing := len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd)
	if _, _, err := root.Find(args); err != nil && !completing {
		return unknownCommand(root, err)
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:                "image-builder",
		Short:              "Kubernetes node images, composed offline from one YAML file",
		Version:            version(),
		SilenceUsage:       true,
		SilenceErrors:      true,
		DisableSuggestions: true, // ours are in the hint
		RunE:               func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, "%w", err) })
	root.SetVersionTemplate("image-builder {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.progress, "progress", "auto", "how progress is shown: "+words(progressModes()))
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "show what the tools print")
	flags.BoolVar(&a.offline, "offline", false, "use only what is in the store")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		return choice(c, "value of --progress", a.progress, progressModes())
	}
	groups := a.groups()
	for _, g := range groups {
		for _, c := range g.commands {
			if c.Args == nil {
				c.Args = takes(0, 0)
			}
			root.AddCommand(c)
		}
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(helpCommand(root))
	otherHelp := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if c != root {
			otherHelp(c, args)
			return
		}
		a.help(root, groups)
	})
	return root
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
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fault.Hint(fault.New(fault.Input, "there is no spec %s", path), "name one with -f, or write one with 'image-builder init'")
	}
	if err != nil {
		return nil, nil, fault.Hint(fault.New(fault.Input, "read the spec: %w", err), "name another with -f")
	}
	defer f.Close()
	const limit = 2 << 20 // more than Load accepts, which names the exact limit
	if st, err := f.Stat(); err == nil && st.Size() > limit {
		return nil, nil, fault.New(fault.Input, "%s is %s large; a spec is at most 1 MiB: is it another file?", path, ui.Bytes(st.Size()))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, nil, fault.New(fault.Input, "read the spec: %w", err)
	}
	return spec.Load(path, data)
}
