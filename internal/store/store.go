// Package store is content-addressed storage on disk: inputs by digest under
// blobs/, results of phases by key under layers/. Everything appears by rename,
// whole or not at all, so the store stays right when the builder is killed or
// the machine crashes.
package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"imagebuilder.dev/internal/fault"
)

// Store is a folder. Many processes may use it at once.
type Store struct {
	dir    string
	run    string // names what this run leaves in tmp/
	opened time.Time
	settle sync.Mutex
}

// DefaultDir returns $IMAGE_BUILDER_HOME, or image-builder in the user's cache folder.
func DefaultDir() (string, error) {
	if d := os.Getenv("IMAGE_BUILDER_HOME"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Hint(fault.New(fault.Environment, "find the user's cache folder: %w", err), "set IMAGE_BUILDER_HOME")
	}
	return filepath.Join(d, "image-builder"), nil
}

// Open opens the store in dir, which is made if missing, and removes what
// killed runs and crashes of the machine have left. The caller counts as
// running until its process ends.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, opened: time.Now()}
	for _, d := range []string{"blobs", "layers", "tmp", "locks", "scratch"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, unusable(err)
		}
	}
	if err := s.begin(); err != nil {
		return nil, unusable(err)
	}
	s.dropUnsettled()
	s.sweep()
	return s, nil
}

func unusable(err error) error {
	err = fault.New(fault.Environment, "open the store: %w", err)
	if fault.HintOf(err) != "" { // e.g. the disk is full
		return err
	}
	return fault.Hint(err, "set IMAGE_BUILDER_HOME to a folder on a local disk that this user can write to")
}

// Dir returns the store's folder.
func (s *Store) Dir() string { return s.dir }

// Scratch returns a folder for tools that keep a cache of their own there. What
// it holds is for speed only; nothing trusts it.
func (s *Store) Scratch(name string) (string, error) {
	d := filepath.Join(s.dir, "scratch", name)
	if err := os.MkdirAll(d, 0o755); err != nil {
		return "", err
	}
	touch(d)
	return d, nil
}

// TempDir makes a folder on the store's file system. The caller removes it; if
// it is killed, a later run does.
func (s *Store) TempDir(pattern string) (dir string, err error) {
	return os.MkdirTemp(filepath.Join(s.dir, "tmp"), s.tempName(pattern))
}

var layerKey = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}$`)

// Layer returns the folder of a finished result and marks it as used now.
func (s *Store) Layer(key string) (dir string, ok bool) {
	if !layerKey.MatchString(key) {
		return "", false
	}
	dir = filepath.Join(s.dir, "layers", key)
	st, err := os.Stat(dir)
	if err != nil || !st.IsDir() {
		return dir, false
	}
	s.touchOld(dir, st.ModTime())
	return dir, true
}

// Make returns the folder of a finished result. If it is missing, make fills an
// empty folder, which becomes the result by rename. Of several processes that
// want the same key one makes it and the others wait.
func (s *Store) Make(ctx context.Context, key string, make func(dir string) error) (dir string, err error) {
	if !layerKey.MatchString(key) {
		return "", fault.New(fault.Internal, "store: %q is no key of a layer", key)
	}
	if dir, ok := s.Layer(key); ok {
		return dir, nil
	}
	unlock, err := s.Lock(ctx, "layer-"+key)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir, ok := s.Layer(key)
	if ok {
		return dir, nil
	}
	tmp, err := s.TempDir("layer")
	if err != nil {
		return "", err
	}
	defer RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := make(tmp); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return dir, s.finish(tmp, dir, key)
}

// finish makes a filled folder the result.
func (s *Store) finish(tmp, dir, key string) error {
	touch(tmp) // what was unpacked there may have given it an old time
	if err := s.markUnsettled(key); err != nil {
		return fmt.Errorf("finish layer %s: %w", key, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("finish layer %s: %w", key, err)
	}
	go s.settleLayers()
	return nil
}

// Touch marks a result as used now, for the order in which prune forgets.
func (s *Store) Touch(key string) { touch(filepath.Join(s.dir, "layers", key)) }

func touch(path string) {
	now := time.Now()
	os.Chtimes(path, now, now)
}

// touchOld marks what this run has not marked or made yet.
func (s *Store) touchOld(path string, used time.Time) {
	if used.Before(s.opened) {
		touch(path)
	}
}
