package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/resolve"
	"imagebuilder.dev/internal/spec"
)

type lockOptions struct {
	path          string
	update, check bool
}

func (a *app) lockCommand() *cobra.Command {
	var o lockOptions
	c := &cobra.Command{
		Use:   "lock",
		Short: "Resolve a spec and write its lock file",
		RunE:  func(c *cobra.Command, _ []string) error { return a.lock(c.Context(), o) },
	}
	specFlag(c, &o.path)
	c.Flags().BoolVar(&o.update, "update", false, "resolve again although the lock fits the spec, and print what changes")
	c.Flags().BoolVar(&o.check, "check", false, "write nothing; exit 6 when the lock is missing or does not fit the spec")
	return c
}

func (a *app) lock(ctx context.Context, o lockOptions) error {
	s, src, err := loadSpec(o.path)
	if err != nil {
		return err
	}
	file := lock.FileName(o.path)
	old, err := lock.Read(file)
	if err != nil && !o.update {
		return err
	}
	fits := old != nil && old.Spec == resolve.Hash(s)
	if o.check {
		if !fits {
			return fault.Hint(fault.New(fault.Check, "the lock %s %s", file, unfit(old)), "run 'image-builder lock -f %s'", o.path)
		}
		return nil
	}
	if fits && !o.update {
		fmt.Fprintf(a.out, "%s fits %s; --update resolves again\n", file, o.path)
		return nil
	}
	return a.work(ctx, func(ctx context.Context, ses *session) error {
		ses.resolver.Dir = filepath.Dir(o.path)
		ses.resolver.Dir = filepath.Dir(o.path)
		l, err := ses.resolver.Resolve(ctx, s, src)
		if err != nil {
			return err
		}
		if err := l.Write(file); err != nil {
			return err
		}
		for _, line := range lock.Changes(old, l) {
			fmt.Fprintln(a.out, line)
		}
		return nil
	})
}

// unfit says why a lock cannot be used.
func unfit(l *lock.Lock) string {
	if l == nil {
		return "is missing"
	}
	return "does not fit the spec"
}

// inputs brings spec and lock together; a lock that is missing or does not fit
// is resolved and written, unless locked forbids it.
func (s *session) inputs(ctx context.Context, path string, locked bool) (in build.Inputs, err error) {
	in = build.Inputs{Fetch: s.fetch, Dir: filepath.Dir(path)}
	s.resolver.Dir = in.Dir
	if in.Spec, in.Source, err = loadSpec(path); err != nil {
		return in, err
	}
	if err := in.CheckFiles(); err != nil {
		return in, err
	}
	file := lock.FileName(path)
	if in.Lock, err = s.lockOf(ctx, file, in.Spec, in.Source, locked); err != nil {
		return in, err
	}
	in.Kube, err = s.resolver.Modules(in.Spec)
	return in, err
}

func (s *session) lockOf(ctx context.Context, file string, sp *spec.Image, src *spec.Source, locked bool) (l *lock.Lock, err error) {
	old, err := lock.Read(file)
	if err != nil {
		return nil, err
	}
	if old != nil && old.Spec == resolve.Hash(sp) {
		return old, nil
	}
	if locked {
		return nil, fault.Hint(fault.New(fault.Input, "the lock %s %s", file, unfit(old)), "run 'image-builder lock', review it, and commit it")
	}
	ctx, task := event.Start(ctx, "lock")
	defer func() { task.Done(err) }()
	if l, err = s.resolver.Resolve(ctx, sp, src); err != nil {
		return nil, err
	}
	return l, l.Write(file)
}
