package kube

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/store"
)

// makeRelease writes files in a release server's layout below the returned
// folder, with a SHA-256 beside each, or a SHA-512 beside those of sha512.
func makeRelease(t *testing.T, sha512ed ...string) (base, files string) {
	base = t.TempDir()
	files = filepath.Join(base, "v1.36.3/bin/linux/amd64")
	for _, name := range []string{"kubeadm", "kubectl", "kubelet", "kube-apiserver.tar", "kube-controller-manager.tar", "kube-proxy.tar", "kube-scheduler.tar", "etcd.tar"} {
		text := "content of " + name
		write(t, filepath.Join(files, name), text)
		if slices.Contains(sha512ed, name) {
			write(t, filepath.Join(files, name+".sha512"), fmt.Sprintf("%x  %s\n", sha512.Sum512([]byte(text)), name))
		} else {
			write(t, filepath.Join(files, name+".sha256"), fmt.Sprintf("%x", sha256.Sum256([]byte(text))))
		}
	}
	return base, files
}

func testStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fromServer and fromFolder are the two ways to the same files.
func fromServer(ctx context.Context, t *testing.T, s *store.Store, base string) (Files, error) {
	server := httptest.NewServer(http.FileServer(http.Dir(base)))
	defer server.Close()
	r := Release{Base: server.URL, Version: "v1.36.3", Arch: "amd64", Fetch: fetch.New(s, fetch.Options{})}
	f, err := r.Resolve(ctx)
	if err != nil {
		return f, err
	}
	return r.Download(ctx, f)
}

func fromFolder(ctx context.Context, t *testing.T, s *store.Store, base string) (Files, error) {
	return Directory{Path: base, Version: "v1.36.3", Arch: "amd64", Store: s}.Resolve(ctx)
}

var filesSources = map[string]func(context.Context, *testing.T, *store.Store, string) (Files, error){"server": fromServer, "folder": fromFolder}

func TestFiles(t *testing.T) {
	for how, get := range filesSources {
		base, _ := makeRelease(t, "kubelet", "kube-proxy.tar")
		s := testStore(t)
		f, err := get(t.Context(), t, s, base)
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if got := f.Lacks(); !slices.Equal(got, []string{"coredns", "pause"}) {
			t.Errorf("%s: lacks %v", how, got)
		}
		if got, want := f.Archives["etcd"].Size, int64(len("content of etcd.tar")); got != want {
			t.Errorf("%s: etcd.tar has %d bytes in the lock, want %d", how, got, want)
		}
		programs, archives, err := f.Open(t.Context(), s)
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		for path, want := range map[string]string{programs["kubelet"].Path: "content of kubelet", archives["kube-proxy"]: "content of kube-proxy.tar"} {
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("%s: %s holds %q, %v", how, path, got, err)
			}
		}
		if info, err := os.Stat(programs["kubelet"].Path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: kubelet is not executable: %v, %v", how, info.Mode(), err)
		}
	}
}

func TestFilesRefuse(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(t *testing.T, files string)
		kind  fault.Kind
		names string
	}{
		"a missing program": {func(t *testing.T, files string) { remove(t, files, "kubelet", "kubelet.sha256") }, fault.Input, "kubelet"},
		"a missing archive": {func(t *testing.T, files string) { remove(t, files, "kube-proxy.tar", "kube-proxy.tar.sha256") }, fault.Input, "kube-proxy.tar"},
		"another content":   {func(t *testing.T, files string) { write(t, filepath.Join(files, "kubeadm"), "changed") }, fault.Integrity, "kubeadm"},
		"another SHA-512":   {func(t *testing.T, files string) { write(t, filepath.Join(files, "kubectl"), "changed") }, fault.Integrity, "kubectl"},
		"a broken checksum": {func(t *testing.T, files string) { write(t, filepath.Join(files, "kubeadm.sha256"), "<html>") }, fault.Integrity, "kubeadm"},
	} {
		for how, get := range filesSources {
			base, files := makeRelease(t, "kubectl")
			c.spoil(t, files)
			_, err := get(t.Context(), t, testStore(t), base)
			if fault.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.names) {
				t.Errorf("%s, %s: got %v (%s)", what, how, err, fault.KindOf(err))
			}
		}
	}
}

func remove(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParseChecksum(f *testing.F) {
	f.Add([]byte(strings.Repeat("a0", 32)))
	f.Add([]byte(strings.Repeat("A0", 32) + "  kubelet\n"))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		digest, err := parseChecksum(text, 32)
		if err == nil && (len(digest) != 64 || !hexDigits.MatchString(digest)) {
			t.Errorf("%q was read as %q", text, digest)
		}
	})
}
