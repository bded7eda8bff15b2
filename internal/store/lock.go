package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock takes an advisory lock that other processes respect and that the kernel
// drops when this one dies. Waiting for it ends with ctx.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := s.tryLock(name, os.O_CREATE)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() {
				os.Remove(f.Name()) // while it is ours; the folder would only grow
				f.Close()
			}, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (s *Store) lockPath(name string) string { return filepath.Join(s.dir, "locks", name) }

// tryLock returns the open and locked file, or nil when somebody else holds it.
// Without os.O_CREATE in flags a lock that nobody has taken is fs.ErrNotExist.
func (s *Store) tryLock(name string, flags int) (*os.File, error) {
	path := s.lockPath(name)
	for {
		f, err := os.OpenFile(path, flags|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, path) {
			return f, nil
		}
		f.Close()
		switch {
		case err == nil, errors.Is(err, unix.EINTR): // the holder before us removed the file: open the new one
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, nil
		default:
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// isAt reports whether an open file still has its name.
func isAt(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}
