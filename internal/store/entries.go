package store

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is something that the store holds.
type Entry struct {
	Kind string    `json:"kind"` // blobs, layer or scratch
	Name string    `json:"name"`
	Size int64     `json:"size"` // bytes on disk
	Used time.Time `json:"used"` // last
}

// Entries lists the layers, the blobs as one sum, and the tools' own caches.
func (s *Store) Entries() ([]Entry, error) {
	var out []Entry
	for _, kind := range []struct{ dir, name string }{{"layers", "layer"}, {"scratch", "scratch"}} {
		list, err := os.ReadDir(filepath.Join(s.dir, kind.dir))
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			path := filepath.Join(s.dir, kind.dir, e.Name())
			info, err := e.Info()
			if err != nil {
				continue // it went meanwhile
			}
			size, _ := usage(path)
			out = append(out, Entry{kind.name, e.Name(), size, info.ModTime()})
		}
	}
	size, used := usage(filepath.Join(s.dir, "blobs"))
	out = append(out, Entry{"blobs", "all", size, used})
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), b.Used.Compare(a.Used)) })
	return out, nil
}

// usage returns the bytes on disk below path, and the newest modification.
func usage(path string) (size int64, newest time.Time) {
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(p, &st) == nil {
			size += st.Blocks * 512
			if t := time.Unix(st.Mtim.Unix()); d.Type().IsRegular() && t.After(newest) {
				newest = t
			}
		}
		return nil
	})
	return size, newest
}

// Prune removes what was last used before a time and returns the bytes freed.
// What another run that is still going has used or made is left alone.
func (s *Store) Prune(ctx context.Context, before time.Time) (freed int64, err error) {
	before = s.oldestOther(before)
	for _, dir := range []string{"layers", "scratch"} {
		list, err := os.ReadDir(filepath.Join(s.dir, dir))
		if err != nil {
			return freed, err
		}
		for _, e := range list {
			info, err := e.Info()
			if err != nil || !info.ModTime().Before(before) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return freed, err
			}
			n, err := s.discard(filepath.Join(s.dir, dir, e.Name()))
			freed += n
			if err != nil {
				return freed, err
			}
		}
	}
	n, err := s.pruneBlobs(ctx, before)
	return freed + n, err
}

// discard removes a folder: out of the way first, so that it is never seen half.
func (s *Store) discard(path string) (int64, error) {
	tmp, err := s.TempDir("prune")
	if err != nil {
		return 0, err
	}
	size, _ := usage(path)
	if err := os.Rename(path, filepath.Join(tmp, "gone")); err != nil {
		return 0, err
	}
	return size, RemoveAll(tmp)
}

func (s *Store) pruneBlobs(ctx context.Context, before time.Time) (freed int64, err error) {
	err = filepath.WalkDir(filepath.Join(s.dir, "blobs"), func(p string, d fs.DirEntry, err error) error {
		if err := cmp.Or(err, ctx.Err()); err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.ModTime().Before(before) {
			return nil
		}
		freed += info.Size()
		return os.Remove(p)
	})
	return freed, err
}
