package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"imagebuilder.dev/internal/fault"
)

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Store) blobPath(digest string) string {
	return filepath.Join(s.dir, "blobs", digest[:2], digest)
}

// Blob returns the path of the blob with a SHA-256 digest (hex), if it is
// there, and marks it as used.
func (s *Store) Blob(digest string) (path string, ok bool) {
	if !hexDigest.MatchString(digest) {
		return "", false
	}
	p := s.blobPath(digest)
	st, err := os.Stat(p)
	if err != nil || !st.Mode().IsRegular() {
		return p, false
	}
	s.touchOld(p, st.ModTime())
	return p, true
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
		return "", fmt.Errorf("read %s: %w", tmp, err)
	}
	digest = hex.EncodeToString(h.Sum(nil))
	return digest, s.Adopt(tmp, digest)
}

// Adopt is PutFile for a file whose digest the caller has just computed.
//
// The file is synced first: a blob is believed by its name, so a crash of the
// machine must not leave one whose content was never written. That takes 3 ms
// a file on a virtual disk, and downloads run in parallel.
func (s *Store) Adopt(tmp, digest string) error {
	if !hexDigest.MatchString(digest) {
		return fault.New(fault.Internal, "store %s: %q is no SHA-256 digest", tmp, digest)
	}
	if err := syncFile(tmp); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o444); err != nil {
		return err
	}
	p := s.blobPath(digest)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	touch(tmp)
	return os.Rename(tmp, p)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// PutBlob stores what r yields and returns its digest and size in bytes.
func (s *Store) PutBlob(r io.Reader) (digest string, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), s.tempName("blob"))
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(io.MultiWriter(f, h), r); err != nil {
		return "", 0, fmt.Errorf("store a blob: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", 0, fmt.Errorf("store a blob: %w", err)
	}
	digest = hex.EncodeToString(h.Sum(nil))
	if err := s.Adopt(f.Name(), digest); err != nil {
		return "", 0, err
	}
	return digest, size, nil
}

// Partial returns the path where a download of a digest is collected, so that
// a later run can resume it.
func (s *Store) Partial(digest string) string {
	return filepath.Join(s.dir, "tmp", "partial-"+digest)
}
