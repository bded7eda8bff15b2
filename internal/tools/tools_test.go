package tools_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/store"
	"imagebuilder.dev/internal/tools"
)

// Packages keep their owners, so the tests run in the namespace.
func TestMain(m *testing.M) {
	sandbox.Main()
	flag.Parse()
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// deb makes a small package with one file, called after the package.
func deb(t *testing.T, name string, files ...tar.Header) []byte {
	t.Helper()
	pack := func(headers []tar.Header, text string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if h.Typeflag == tar.TypeReg {
				h.Size = int64(len(text))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				fmt.Fprint(w, text)
			}
		}
		w.Close()
		return b.Bytes()
	}
	b := bytes.NewBufferString("!<arch>\n")
	member := func(name string, data []byte) {
		fmt.Fprintf(b, "%-48s%-10d`\n%s", name, len(data), data)
		if len(data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("control.tar", pack([]tar.Header{{Typeflag: tar.TypeReg, Name: "./control", Mode: 0o644}}, "Package: "+name+"\nVersion: 1\nArchitecture: all\n"))
	member("data.tar", pack(append([]tar.Header{{Typeflag: tar.TypeReg, Name: "./" + name, Mode: 0o755}}, files...), "tool\n"))
	return b.Bytes()
}

type server struct {
	files map[string][]byte
	hits  atomic.Int64
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.hits.Add(1)
	if b, ok := s.files[r.URL.Path]; ok {
		w.Write(b)
		return
	}
	http.NotFound(w, r)
}

// serve returns a server of packages, what a lock says of them, and where they are.
func serve(t *testing.T, debs map[string][]byte) (*server, []lock.Package, func(lock.Package) []string) {
	t.Helper()
	s := &server{files: map[string][]byte{}}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	var list []lock.Package
	for _, name := range []string{"a", "b", "c"} {
		if b, ok := debs[name]; ok {
			s.files["/"+name] = b
			list = append(list, lock.Package{Name: name, Version: "1", Size: int64(len(b)), SHA256: fmt.Sprintf("%x", sha256.Sum256(b)), Path: name})
		}
	}
	return s, list, func(p lock.Package) []string { return []string{web.URL + "/" + p.Path} }
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKey(t *testing.T) {
	list := []lock.Package{{Name: "a", SHA256: "1"}, {Name: "b", SHA256: "2"}}
	key := tools.Key("build", list)
	if want := "tools-build-"; !strings.HasPrefix(key, want) || len(key) != len(want)+32 {
		t.Errorf("the key is %s", key)
	}
	for what, other := range map[string]string{
		"another name":    tools.Key("test", list),
		"another package": tools.Key("build", []lock.Package{{SHA256: "1"}, {SHA256: "3"}}),
		"another order":   tools.Key("build", []lock.Package{{SHA256: "2"}, {SHA256: "1"}}),
		"fewer packages":  tools.Key("build", list[:1]),
	} {
		if other == key {
			t.Errorf("%s has the same key", what)
		}
	}
	if tools.Key("build", []lock.Package{{SHA256: "1", Path: "elsewhere"}, {SHA256: "2"}}) != key {
		t.Error("where a package comes from changes the key")
	}
}

func TestRoot(t *testing.T) {
	web, list, urls := serve(t, map[string][]byte{"a": deb(t, "a"), "b": deb(t, "b", tar.Header{Typeflag: tar.TypeReg, Name: "./etc/passwd", Mode: 0o644}, tar.Header{Typeflag: tar.TypeSymlink, Name: "./etc/group", Linkname: "passwd"})})
	s := newStore(t)
	dir, err := tools.Root(context.Background(), fetch.New(s, fetch.Options{}), "build", list, urls)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "proc", "sys", "dev", "run", "tmp", tools.Work, "var/lib/dpkg/status", "var/lib/apt/lists/partial"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "etc/passwd")); string(b) != "tool\n" {
		t.Errorf("a package's file was replaced by %q", b)
	}
	hits := web.hits.Load()
	again, err := tools.Root(context.Background(), fetch.New(s, fetch.Options{Offline: true}), "build", list, urls)
	if err != nil || again != dir || web.hits.Load() != hits {
		t.Errorf("the second time: %s, %v, %d requests", again, err, web.hits.Load()-hits)
	}
	// Another root of the same packages fetches nothing.
	if _, err := tools.Root(context.Background(), fetch.New(s, fetch.Options{Offline: true}), "test", list, urls); err != nil {
		t.Error(err)
	}
}

func TestRootFails(t *testing.T) {
	good := map[string][]byte{"a": deb(t, "a"), "b": deb(t, "b")}
	for what, c := range map[string]struct {
		change  func(s *server, list []lock.Package)
		offline bool
		kind    fault.Kind
	}{
		"another file": {func(s *server, _ []lock.Package) { s.files["/b"] = bytes.Repeat([]byte("x"), len(s.files["/b"])) }, false, fault.Integrity},
		"no file":      {func(s *server, _ []lock.Package) { delete(s.files, "/a") }, false, fault.Network},
		"no network":   {func(*server, []lock.Package) {}, true, fault.Network},
	} {
		web, list, urls := serve(t, good)
		c.change(web, list)
		s := newStore(t)
		_, err := tools.Root(context.Background(), fetch.New(s, fetch.Options{Offline: c.offline}), "build", list, urls)
		if err == nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s gives %s fault %v, want %s", what, fault.KindOf(err), err, c.kind)
		}
		if _, ok := s.Layer(tools.Key("build", list)); ok {
			t.Errorf("%s: the root is there", what)
		}
	}
	bad := map[string][]byte{"a": deb(t, "a"), "b": []byte("not a package")}
	_, list, urls := serve(t, bad)
	s := newStore(t)
	if _, err := tools.Root(context.Background(), fetch.New(s, fetch.Options{}), "build", list, urls); err == nil || !strings.Contains(err.Error(), "not an ar archive") {
		t.Errorf("a file that is no package gives %v", err)
	}
	if _, ok := s.Layer(tools.Key("build", list)); ok {
		t.Error("half a root is there")
	}
}

// A link that a package brings must not lead what is added out of the root.
func TestRootStaysInside(t *testing.T) {
	outside := t.TempDir()
	_, list, urls := serve(t, map[string][]byte{"a": deb(t, "a", tar.Header{Typeflag: tar.TypeSymlink, Name: "./etc", Linkname: outside}, tar.Header{Typeflag: tar.TypeSymlink, Name: "./work", Linkname: outside + "/new"})})
	tools.Root(context.Background(), fetch.New(newStore(t), fetch.Options{}), "build", list, urls)
	if names, _ := os.ReadDir(outside); len(names) > 0 {
		t.Errorf("written outside: %v", names)
	}
}
