package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imagebuilder.dev/internal/fault"
)

const (
	helloDigest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // SHA-256 of "hello"
	emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// list returns the names in a folder of the store.
func list(t *testing.T, s *Store, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func checkClean(t *testing.T, s *Store) {
	t.Helper()
	if left := list(t, s, "tmp"); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	for _, l := range list(t, s, "locks") {
		if !strings.HasPrefix(l, runPrefix) && !strings.HasPrefix(l, unsettledPrefix) {
			t.Errorf("left in locks: %v", l)
		}
	}
}

func TestPutBlob(t *testing.T) {
	s := open(t, t.TempDir())
	for range 2 { // again is no harm
		digest, size, err := s.PutBlob(strings.NewReader("hello"))
		if err != nil || digest != helloDigest || size != 5 {
			t.Fatalf("%s, %d, %v", digest, size, err)
		}
	}
	path, ok := s.Blob(helloDigest)
	if b, err := os.ReadFile(path); !ok || err != nil || string(b) != "hello" {
		t.Fatalf("%q, %v, %v", b, ok, err)
	}
	if info, _ := os.Stat(path); info.Mode() != 0o444 {
		t.Errorf("mode %v", info.Mode())
	}
	if digest, size, err := s.PutBlob(bytes.NewReader(nil)); digest != emptyDigest || size != 0 || err != nil {
		t.Errorf("%s, %d, %v", digest, size, err)
	}
	if err := s.Remove(helloDigest); err != nil {
		t.Error(err)
	}
	if _, ok := s.Blob(helloDigest); ok {
		t.Error("removed, and still there")
	}
	checkClean(t, s)
}

// brokenReader fails after some bytes.
type brokenReader struct{ rest int }

func (r *brokenReader) Read(b []byte) (int, error) {
	if r.rest == 0 {
		return 0, errors.New("cable cut")
	}
	n := min(r.rest, len(b))
	r.rest -= n
	return n, nil
}

func TestPutBlobOfABrokenReader(t *testing.T) {
	s := open(t, t.TempDir())
	digest, _, err := s.PutBlob(&brokenReader{100_000})
	if err == nil || digest != "" || !strings.Contains(err.Error(), "cable cut") {
		t.Fatalf("%q, %v", digest, err)
	}
	checkClean(t, s)
	if left := list(t, s, "blobs"); len(left) != 0 {
		t.Errorf("blobs: %v", left)
	}
}

func TestPutFileAndAdopt(t *testing.T) {
	s := open(t, t.TempDir())
	tmp, err := s.TempDir("test")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tmp, "file")
	os.WriteFile(file, []byte("hello"), 0o600)
	for _, bad := range []string{"", "a", "..", strings.ToUpper(helloDigest), helloDigest + "/x", strings.Repeat("/", 64)} {
		if err := s.Adopt(file, bad); fault.KindOf(err) != fault.Internal || err == nil {
			t.Errorf("adopt as %q: %v", bad, err)
		}
		if _, ok := s.Blob(bad); ok {
			t.Errorf("there is a blob %q", bad)
		}
		if err := s.Remove(bad); err != nil {
			t.Errorf("remove %q: %v", bad, err)
		}
	}
	digest, err := s.PutFile(file)
	if err != nil || digest != helloDigest {
		t.Fatalf("%s, %v", digest, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still at its old place: %v", err)
	}
	if _, err := s.PutFile(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("put what is not there: %v", err)
	}
}

func TestMakeOnceAcrossGoroutines(t *testing.T) {
	s := open(t, t.TempDir())
	var made atomic.Int64
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			dir, err := s.Make(t.Context(), "key", func(dir string) error {
				made.Add(1)
				return os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644)
			})
			if b, _ := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "x" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	group.Wait()
	dir, ok := s.Layer("key")
	info, err := os.Stat(dir)
	if made.Load() != 1 || !ok || err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("made %d times; there: %v, mode %v", made.Load(), ok, info.Mode())
	}
	checkClean(t, s)
}

func TestMakeThatFails(t *testing.T) {
	s := open(t, t.TempDir())
	cause := errors.New("cause")
	_, err := s.Make(t.Context(), "key", func(dir string) error {
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755)
		os.WriteFile(filepath.Join(dir, "a/b/c"), nil, 0o644)
		os.Chmod(filepath.Join(dir, "a"), 0) // RemoveAll must cope
		return cause
	})
	if !errors.Is(err, cause) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Make(ctx, "key", func(string) error { cancel(); return nil })
	if fault.KindOf(err) != fault.Interrupted {
		t.Fatal(err)
	}
	if _, err = s.Make(ctx, "key", func(string) error { t.Error("made although cancelled"); return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, ok := s.Layer("key"); ok {
		t.Error("there is a layer")
	}
	checkClean(t, s)
}

func TestKeys(t *testing.T) {
	s := open(t, t.TempDir())
	for _, key := range []string{"", ".", "..", "../blobs", "a/b", ".hidden", "a b", strings.Repeat("k", 201)} {
		if _, ok := s.Layer(key); ok {
			t.Errorf("there is a layer %q", key)
		}
		_, err := s.Make(t.Context(), key, func(string) error { t.Errorf("made %q", key); return nil })
		if err == nil || fault.KindOf(err) != fault.Internal {
			t.Errorf("make %q: %v", key, err)
		}
	}
	for _, key := range []string{"a", "tools-node-0123456789abcdef", "base-1.2+3_x"} {
		if _, err := s.Make(t.Context(), key, func(string) error { return nil }); err != nil {
			t.Error(err)
		}
	}
}

func TestLock(t *testing.T) {
	s := open(t, t.TempDir())
	unlock, err := s.Lock(t.Context(), "name")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() { _, err := s.Lock(ctx, "name"); waiting <- err }()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("a waiter got %v", err)
	}
	other, err := s.Lock(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	other()
	unlock()
	var holders, most atomic.Int64
	var group sync.WaitGroup
	for range 8 { // the lock file comes and goes meanwhile
		group.Go(func() {
			for range 50 {
				unlock, err := s.Lock(t.Context(), "name")
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), holders.Add(1)))
				holders.Add(-1)
				unlock()
			}
		})
	}
	group.Wait()
	if most.Load() != 1 {
		t.Errorf("%d held the lock at once", most.Load())
	}
	checkClean(t, s)
}

func TestPartialSurvives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fresh, old := s.Partial(helloDigest), s.Partial(emptyDigest)
	for _, p := range []string{fresh, old} {
		if err := os.WriteFile(p, []byte("hel"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-partialAge - time.Hour)
	os.Chtimes(old, then, then)
	open(t, dir)
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("a fresh download is gone: %v", err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stale download is kept: %v", err)
	}
}

func TestReboot(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, key := range []string{"safe", "lost"} {
		if _, err := s.Make(t.Context(), key, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	s.settleLayers()
	if marks := s.unsettled(); len(marks) != 0 {
		t.Errorf("still unsettled: %v", marks)
	}
	os.WriteFile(s.lockPath(unsettledPrefix+"00000000-another-boot.lost"), nil, 0o644)
	s = open(t, dir)
	if _, ok := s.Layer("safe"); !ok {
		t.Error("a settled layer is gone")
	}
	if _, ok := s.Layer("lost"); ok {
		t.Error("a layer that was not written before the reboot is trusted")
	}
	if marks := s.unsettled(); len(marks) != 0 {
		t.Errorf("marks are left: %v", marks)
	}
}

// age makes everything that a test has put into the store old.
func age(t *testing.T, s *Store, old time.Time) {
	t.Helper()
	filepath.WalkDir(s.dir, func(p string, d fs.DirEntry, err error) error {
		if !strings.Contains(p, "/locks") {
			os.Chtimes(p, old, old)
		}
		return err
	})
}

func TestEntriesAndPrune(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.Scratch("cache")
	for _, key := range []string{"old", "used", "touched"} {
		if _, err := s.Make(t.Context(), key, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "f"), make([]byte, 100_000), 0o644)
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.PutBlob(strings.NewReader("hello"))
	s.PutBlob(strings.NewReader(""))
	age(t, s, time.Now().Add(-time.Hour))
	half := time.Now().Add(-30 * time.Minute)
	s = open(t, dir)
	s.Layer("used")
	s.Touch("touched")
	s.Blob(helloDigest)
	entries, err := s.Entries()
	if err != nil || len(entries) != 5 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if recent := e.Used.After(half); recent != (e.Name == "used" || e.Name == "touched" || e.Kind == "blobs") {
			t.Errorf("%+v: used recently: %v", e, recent)
		}
		if e.Kind == "layer" && e.Size < 100_000 {
			t.Errorf("%+v: too small", e)
		}
	}
	freed, err := s.Prune(t.Context(), half)
	if err != nil || freed < 100_000 {
		t.Errorf("freed %d, %v", freed, err)
	}
	if left := list(t, s, "layers"); strings.Join(left, " ") != "touched used" {
		t.Errorf("layers left: %v", left)
	}
	_, hello := s.Blob(helloDigest)
	_, empty := s.Blob(emptyDigest)
	if !hello || empty || len(list(t, s, "scratch")) != 0 {
		t.Errorf("blobs: %v %v, scratch: %v", hello, empty, list(t, s, "scratch"))
	}
	checkClean(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Prune(ctx, time.Now().Add(time.Hour)); !errors.Is(err, context.Canceled) {
		t.Errorf("pruned although cancelled: %v", err)
	}
}

func TestUnusableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	_, err := Open(filepath.Join(file, "store"))
	if fault.KindOf(err) != fault.Environment || fault.HintOf(err) == "" || !strings.Contains(err.Error(), file) {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	t.Setenv("IMAGE_BUILDER_HOME", "some/where")
	if d, err := DefaultDir(); err != nil || !filepath.IsAbs(d) || filepath.Base(d) != "where" {
		t.Errorf("%s, %v", d, err)
	}
}
