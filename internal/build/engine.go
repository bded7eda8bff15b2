// Package build turns a lock into artifacts: a list of keyed phases, which is
// pure, and the engine that runs it.
package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/phase"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/store"
)

// Step is a phase with the key of its result, which follows from everything
// below it.
type Step struct {
	Phase phase.Phase
	Key   string
}

// Steps keys phases in their order. The epoch is below all of them: what
// they stamp files with follows from it.
func Steps(arch string, epoch time.Time, phases []phase.Phase) []Step {
	out := make([]Step, len(phases))
	parent := epoch.UTC().Format(time.RFC3339)
	for i, p := range phases {
		parent = p.Key(parent, arch)
		out[i] = Step{p, parent}
	}
	return out
}

// Engine runs steps.
type Engine struct {
	Store *store.Store
	Epoch time.Time
}

// Layers returns the folders of the steps' results, bottom first, and makes
// those that are missing.
func (e Engine) Layers(ctx context.Context, steps []Step) ([]string, error) {
	if err := e.prepare(ctx, steps); err != nil {
		return nil, err
	}
	var layers []string
	for _, s := range steps {
		dir, err := e.layer(ctx, s, layers)
		if err != nil {
			return nil, err
		}
		layers = append(layers, filepath.Join(dir, "fs"))
	}
	return layers, nil
}

// prepare brings all inputs of missing steps here before the first of them
// runs, so that what cannot be had is known at once.
func (e Engine) prepare(ctx context.Context, steps []Step) (err error) {
	var missing []Step
	for _, s := range steps {
		if _, ok := e.Store.Layer(s.Key); !ok && s.Phase.Prepare != nil {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	ctx, task := event.Start(ctx, "inputs")
	defer func() { task.Done(err) }()
	for _, s := range missing {
		if err := s.Phase.Prepare(ctx); err != nil {
			return fmt.Errorf("inputs of phase %s: %w", s.Phase.Name, err)
		}
	}
	return nil
}

func (e Engine) layer(ctx context.Context, s Step, below []string) (dir string, err error) {
	ctx, task := event.Start(ctx, s.Phase.Name)
	defer func() { task.Done(err) }()
	if dir, ok := e.Store.Layer(s.Key); ok {
		task.Cached()
		e.Store.Touch(s.Key)
		return dir, nil
	}
	dir, err = e.Store.Make(ctx, s.Key, func(dir string) error { return e.run(ctx, s.Phase, dir, below) })
	if err != nil {
		return "", fmt.Errorf("phase %s: %w", s.Phase.Name, e.Store.Explain(err))
	}
	return dir, nil
}

// run makes a layer in dir: what the phase changes in an overlay over below.
func (e Engine) run(ctx context.Context, p phase.Phase, dir string, below []string) (err error) {
	for _, d := range []string{"fs", "work", "root", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if len(below) == 0 {
		below = []string{filepath.Join(dir, "empty")}
	}
	root := filepath.Join(dir, "root")
	unmount, err := sandbox.Overlay(root, below, filepath.Join(dir, "fs"), filepath.Join(dir, "work"))
	if err != nil {
		return err
	}
	err = runIn(ctx, p, root, e.Epoch)
	if e := unmount(); err == nil && e != nil {
		err = fmt.Errorf("unmount the root: %w", e)
	}
	for _, d := range []string{"work", "root", "empty"} { // root is an empty mount point by now
		if e := store.RemoveAll(filepath.Join(dir, d)); err == nil {
			err = e
		}
	}
	return err
}

func runIn(ctx context.Context, p phase.Phase, root string, epoch time.Time) error {
	r, err := phase.OpenRoot(root, epoch)
	if err != nil {
		return err
	}
	defer r.Close()
	return p.Run(ctx, r)
}

// WithRoot calls fn with a folder in which the steps' results are mounted as
// one tree, read-only, or writable when scratch is true; changes are lost.
func (e Engine) WithRoot(ctx context.Context, layers []string, scratch bool, fn func(root string) error) (err error) {
	tmp, err := e.Store.TempDir("root")
	if err != nil {
		return err
	}
	defer store.RemoveAll(tmp)
	dirs := map[string]string{}
	for _, d := range []string{"root", "upper", "work"} {
		dirs[d] = filepath.Join(tmp, d)
		if err := os.Mkdir(dirs[d], 0o755); err != nil {
			return err
		}
	}
	upper, work := "", ""
	if scratch {
		upper, work = dirs["upper"], dirs["work"]
	}
	unmount, err := sandbox.Overlay(dirs["root"], layers, upper, work)
	if err != nil {
		return err
	}
	err = fn(dirs["root"])
	if e := unmount(); err == nil {
		err = e
	}
	return err
}
