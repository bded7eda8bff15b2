package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// partialAge is how long an unfinished download is kept for resuming.
const partialAge = 7 * 24 * time.Hour

// sweep removes temporary folders whose process is gone, and stale downloads.
func (s *Store) sweep() {
	tmp := filepath.Join(s.dir, "tmp")
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(tmp, e.Name())
		if pid, _, ok := strings.Cut(e.Name(), "-"); ok && e.IsDir() {
			if n, err := strconv.Atoi(pid); err == nil && !alive(n) {
				RemoveAll(path)
			}
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > partialAge {
			os.Remove(path)
		}
	}
}

func alive(pid int) bool {
	if pid == os.Getpid() {
		return true
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
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
