package kube

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/store"
)

// pauseSource is the program that holds a pod's namespaces, in the Kubernetes module.
const pauseSource = "build/pause/linux/pause.c"

// CCompiler is an unpacked root with gcc, binutils and a static libc.
type CCompiler struct {
	Root string // folder on the host
	Key  string // identifies what is in it, e.g. the hash of its package list
}

// Pause compiles the pause program of the locked Kubernetes, statically, with
// upstream's flags (build/pause/Makefile), or finds it in the store.
func (s *Source) Pause(ctx context.Context, l Lock, c CCompiler) (Binary, error) {
	key := "programs-pause-" + hashOf(compileVersion, l.Source.Sum, l.Plan.Constants.Pause, c.Key)[:32]
	dir, err := s.fetch.Store().Make(ctx, key, func(dir string) (err error) {
		ctx, task := event.Start(ctx, "compile pause")
		defer func() { task.Done(err) }()
		inputs, err := s.network.Inputs([]Module{l.Source})
		if err != nil {
			return err
		}
		if err := s.fetch.Blobs(ctx, "download the source of pause", inputs); err != nil {
			return err
		}
		return compilePause(ctx, s.fetch, l, c, dir)
	})
	if err != nil {
		return Binary{}, err
	}
	programs, err := readPrograms(dir)
	return programs["pause"], err
}

func compilePause(ctx context.Context, f *fetch.Fetcher, l Lock, c CCompiler, dir string) error {
	archive, ok := f.Store().Blob(l.Source.Zip.SHA256)
	if !ok {
		return fault.New(fault.Internal, "the zip of %s is not in the store", at(l.Source.Path, l.Source.Version))
	}
	text, err := readZip(archive, at(l.Source.Path, l.Source.Version)+"/"+pauseSource)
	if err != nil {
		return err
	}
	work, err := f.Store().TempDir("pause")
	if err != nil {
		return err
	}
	defer store.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pause.c"), text, 0o644); err != nil {
		return err
	}
	err = sandbox.Run(ctx, sandbox.Command{
		Root:     c.Root,
		ReadOnly: true,
		Args: []string{"gcc", "-Os", "-Wall", "-Werror", "-static", "-s", "-Wl,--build-id=none",
			"-DVERSION=v" + l.Plan.Constants.Pause, "-o", "pause", "pause.c"},
		Dir:    "/run/pause",
		Mounts: []sandbox.Mount{{Source: work, Target: "/run/pause"}},
	})
	if err != nil {
		return fmt.Errorf("compiling pause: %w", err)
	}
	if err := checkStatic(filepath.Join(work, "pause")); err != nil {
		return err
	}
	return collect(Workspace{Programs: []Program{{"pause", "pause"}}}, work, dir)
}

// checkStatic makes sure that a program needs no dynamic linker: its image has
// none.
func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fault.New(fault.Integrity, "reading %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fault.New(fault.Internal, "%s is linked dynamically", filepath.Base(path))
		}
	}
	return nil
}
