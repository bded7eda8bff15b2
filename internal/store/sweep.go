package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// partialAge is how long an unfinished download is kept for resuming.
const partialAge = 7 * 24 * time.Hour

// runPrefix begins the name of a run's lock, and of all its temporary files.
const runPrefix = "run-"

// begin takes a lock that lasts as long as the process and by which other runs
// know that its temporary files are in use. Process ids would not do: every
// container has a process 1.
func (s *Store) begin() error {
	id := make([]byte, 8)
	rand.Read(id)
	s.run = runPrefix + hex.EncodeToString(id)
	for {
		f, err := s.tryLock(s.run, os.O_CREATE)
		if err != nil {
			return err
		}
		if f == nil {
			continue // another run examines it this very moment
		}
		// A bare descriptor: it must not be closed when the Store is collected.
		_, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		return errors.Join(err, f.Close())
	}
}

func (s *Store) tempName(pattern string) string { return s.run + "." + pattern + "-" }

// sweep removes the temporary files of runs that are gone, and stale downloads.
func (s *Store) sweep() {
	tmp := filepath.Join(s.dir, "tmp")
	entries, _ := os.ReadDir(tmp)
	left := map[string][]string{}
	for _, e := range entries {
		path := filepath.Join(tmp, e.Name())
		if run, _, ok := strings.Cut(e.Name(), "."); ok && strings.HasPrefix(run, runPrefix) {
			left[run] = append(left[run], path)
		} else if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > partialAge {
			RemoveAll(path)
		}
	}
	for _, run := range s.runs() {
		left[run] = append(left[run], s.lockPath(run))
	}
	for run, paths := range left {
		s.sweepRun(run, paths)
	}
	s.sweepLocks()
}

// sweepLocks removes the files of other locks that killed runs have held.
func (s *Store) sweepLocks() {
	entries, _ := os.ReadDir(filepath.Join(s.dir, "locks"))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), runPrefix) || strings.HasPrefix(e.Name(), unsettledPrefix) {
			continue
		}
		if f, _ := s.tryLock(e.Name(), 0); f != nil {
			os.Remove(f.Name())
			f.Close()
		}
	}
}

func (s *Store) sweepRun(run string, paths []string) {
	if run == s.run {
		return
	}
	f, err := s.tryLock(run, 0)
	if f != nil {
		defer f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return // it lives
	}
	for _, p := range paths {
		RemoveAll(p)
	}
}

// runs lists the locks of runs, dead and alive, this one included.
func (s *Store) runs() (names []string) {
	entries, _ := os.ReadDir(filepath.Join(s.dir, "locks"))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), runPrefix) {
			names = append(names, e.Name())
		}
	}
	return names
}

// oldestOther returns when the oldest of the other runs that live has begun,
// or the given time if that is earlier.
func (s *Store) oldestOther(t time.Time) time.Time {
	for _, run := range s.runs() {
		info, err := os.Stat(s.lockPath(run))
		if run == s.run || err != nil || !info.ModTime().Before(t) {
			continue
		}
		f, err := s.tryLock(run, 0)
		if f != nil {
			f.Close()
		} else if err == nil {
			t = info.ModTime()
		}
	}
	return t
}

// RemoveAll is os.RemoveAll that also gets rid of folders without permission
// bits, as unpacked packages and overlay work folders have.
func RemoveAll(path string) error {
	if err := os.RemoveAll(path); err == nil {
		return nil
	}
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
