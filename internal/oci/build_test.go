package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
)

// sourceTree is a host folder with all that a layer may take from one.
func sourceTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"z": 0o644, "sub/a": 0o755, "sub-b": 0o600} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("sub/a", filepath.Join(dir, "link")), os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "sub"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBuildGolden(t *testing.T) {
	tree := sourceTree(t)
	layers := []Layer{
		{Files: []File{
			{Path: "/opt/tree", Source: tree, UID: 7, GID: 8},
			{Path: "/bin/app", Source: filepath.Join(tree, "sub/a"), Mode: 0o755 | os.ModeSetuid},
		}},
		{Files: []File{file("etc/passwd", "root:x:0:0::/:/\n"), {Path: "/tmp", Dir: true, Mode: 0o777 | os.ModeSticky}, {Path: "/sbin", Link: "bin"}}},
	}
	a, b := build(t, "registry.k8s.io/app:v1", layers...), build(t, "registry.k8s.io/app:v1", layers...)
	if x, y := listing(t, a.blobs[0].dir), listing(t, b.blobs[0].dir); blobsOf(x) != blobsOf(y) {
		t.Errorf("two builds differ:\n%s\n%s", x, y)
	}
	var text strings.Builder
	for i := range a.Layers {
		r, err := a.Layer(i)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		fmt.Fprintf(&text, "layer %d\n", i+1)
		tr := tar.NewReader(r)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&text, "%c %s %o %d:%d %d %s %s\n", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.UTC(), h.Linkname)
		}
	}
	fmt.Fprintf(&text, "config %s\nmanifest %s\n", a.RawConfig, a.RawManifest)
	golden(t, "build.txt", text.String())
}

// blobsOf drops the times of a layout's files, which are the host's.
func blobsOf(listing string) string {
	var b strings.Builder
	for line := range strings.Lines(listing) {
		f := strings.Fields(line)
		if !strings.HasPrefix(f[1], "d") {
			fmt.Fprintln(&b, f[0], f[1], f[len(f)-1])
		}
	}
	return b.String()
}

func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		layer Layer
		kind  fault.Kind
		words string
	}{
		{"registry.k8s.io/app", Layer{}, fault.Input, "no tag"},
		{"Bad Name:v1", Layer{}, fault.Input, "image name"},
		{"a/b:v1", Layer{Files: []File{{Path: "/bin", Link: "usr/bin"}, file("/bin/sh", "x")}}, fault.Internal, "not a folder"},
		{"a/b:v1", Layer{Files: []File{{Path: "/dev/null", Source: "/dev/null"}}}, fault.Input, "not a file"},
		{"a/b:v1", Layer{Tar: "x", Files: []File{file("/a", "")}}, fault.Internal, "both"},
	} {
		_, err := Build(t.Context(), BuildOptions{Name: c.name, Arch: "amd64", Layers: []Layer{c.layer}, Epoch: epoch, Dir: t.TempDir()})
		wantKind(t, err, c.kind, c.words)
	}
}

func TestBuildFromTar(t *testing.T) {
	path := write(t, "l.tar.gz", gzipped(t, makeTar(t, tarEntry{name: "hello", body: "x"})))
	m := build(t, "a/b:v1", Layer{Tar: path})
	if got := m.Layers[0].MediaType; got != "application/vnd.oci.image.layer.v1.tar+gzip" {
		t.Errorf("media type %s", got)
	}
	if m.Layers[0].Digest == m.Config.RootFS.DiffIDs[0] {
		t.Error("a compressed layer has the digest of its content")
	}
}
