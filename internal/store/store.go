// Package store is content-addressed storage on disk: inputs by digest under
// blobs/, results of phases by key under layers/. Everything appears by rename,
// whole or not at all, so the store stays right when the builder is killed.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// Store is a folder. Many processes may use it at once.
type Store struct{ dir string }

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
// killed runs have left in its temporary folder.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	for _, d := range []string{"blobs", "layers", "tmp", "locks", "scratch"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fault.Hint(fault.New(fault.Environment, "open the store: %w", err), "set IMAGE_BUILDER_HOME to a folder that this user can write to")
		}
	}
	s.sweep()
	return s, nil
}

// Dir returns the store's folder.
func (s *Store) Dir() string { return s.dir }

// Scratch returns a folder for tools that keep a cache of their own there. What
// it holds is for speed only; nothing trusts it.
func (s *Store) Scratch(name string) (string, error) {
	d := filepath.Join(s.dir, "scratch", name)
	return d, os.MkdirAll(d, 0o755)
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Store) blobPath(digest string) string {
	return filepath.Join(s.dir, "blobs", digest[:2], digest)
}

// Blob returns the path of the blob with a SHA-256 digest (hex), if it is there.
func (s *Store) Blob(digest string) (path string, ok bool) {
	if !hexDigest.MatchString(digest) {
		return "", false
	}
	p := s.blobPath(digest)
	st, err := os.Stat(p)
	return p, err == nil && st.Mode().IsRegular()
}

// Remove deletes a blob, e.g. one found to be damaged.
func (s *Store) Remove(digest string) error {
	if !hexDigest.MatchString(digest) {
		return nil
	}
	return os.Remove(s.blobPath(digest))
}

// PutFile moves a finished temporary file, on the store's file system, in and
// returns its digest.
func (s *Store) PutFile(tmp string) (digest string, err error) {
	f, err := os.Open(tmp)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	digest = hex.EncodeToString(h.Sum(nil))
	return digest, s.Adopt(tmp, digest)
}

// Adopt is PutFile for a file whose digest the caller has just computed.
func (s *Store) Adopt(tmp, digest string) error {
	p := s.blobPath(digest)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o444); err != nil {
		return err
	}
	return os.Rename(tmp, p)
}

// PutBlob stores what r yields and returns its digest and size in bytes.
func (s *Store) PutBlob(r io.Reader) (digest string, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), "blob-")
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(io.MultiWriter(f, h), r); err != nil {
		return "", 0, err
	}
	if err := f.Close(); err != nil {
		return "", 0, err
	}
	digest = hex.EncodeToString(h.Sum(nil))
	return digest, size, s.Adopt(f.Name(), digest)
}

// Partial returns the path where a download of a digest is collected, so that
// a later run can resume it.
func (s *Store) Partial(digest string) string {
	return filepath.Join(s.dir, "tmp", "partial-"+digest)
}

// TempDir makes a folder on the store's file system. The caller removes it; if
// it is killed, a later run does.
func (s *Store) TempDir(pattern string) (dir string, err error) {
	return os.MkdirTemp(filepath.Join(s.dir, "tmp"), fmt.Sprintf("%d-%s-", os.Getpid(), pattern))
}

// Layer returns the folder of a finished result.
func (s *Store) Layer(key string) (dir string, ok bool) {
	dir = filepath.Join(s.dir, "layers", key)
	_, err := os.Stat(dir)
	return dir, err == nil
}

// Make returns the folder of a finished result. If it is missing, make fills an
// empty folder, which becomes the result by rename. Of several processes that
// want the same key one makes it and the others wait.
func (s *Store) Make(ctx context.Context, key string, make func(dir string) error) (dir string, err error) {
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
	// A crash of the machine must not leave a result with unwritten files.
	if err := syncFS(s.dir); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// Lock takes an advisory lock that other processes respect and that the kernel
// drops when this one dies.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "locks", name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Touch marks a result as used now, for the order in which prune forgets.
func (s *Store) Touch(key string) {
	now := time.Now()
	os.Chtimes(filepath.Join(s.dir, "layers", key), now, now)
}
