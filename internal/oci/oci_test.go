package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// build makes an image with the given layers in a folder of its own.
func build(t testing.TB, name string, layers ...Layer) Image {
	t.Helper()
	m, err := Build(t.Context(), BuildOptions{
		Name: name, Arch: "amd64", Layers: layers, Epoch: epoch, Dir: t.TempDir(),
		Config: v1.ImageConfig{Entrypoint: []string{"/bin/app"}, Env: []string{"PATH=/bin"}, User: "65532:65532", WorkingDir: "/", Labels: map[string]string{"a": "b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func file(path, content string) File { return File{Path: path, Content: []byte(content)} }

// listing describes every file below root: mode, owner, mtime, size, link, digest.
func listing(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %s %d:%d %s", rel, info.Mode(), st.Uid, st.Gid, info.ModTime().UTC().Format(time.RFC3339Nano))
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			link, _ := os.Readlink(name)
			fmt.Fprintf(&b, " -> %s", link)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

// tarEntry is a file of an archive that a test makes; a type of 0 is a regular file.
type tarEntry struct {
	name, body string
	kind       byte
}

func makeTar(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o644, ModTime: epoch}
		switch e.kind {
		case 0:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.body))
		case tar.TypeDir:
			h.Mode = 0o750
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == 0 {
			if _, err := w.Write([]byte(e.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func hexDigest(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// dockerArchive is what `docker save` writes of an image with these layers.
func dockerArchive(t testing.TB, tag string, layers ...[]byte) []tarEntry {
	t.Helper()
	var config v1.Image
	config.Platform = v1.Platform{OS: "linux", Architecture: "amd64"}
	config.RootFS.Type = "layers"
	doc := dockerEntry{RepoTags: []string{tag}}
	var entries []tarEntry
	for i, l := range layers {
		name := fmt.Sprintf("%d/layer.tar", i)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, describe("", l).Digest)
		doc.Layers = append(doc.Layers, name)
		entries = append(entries, tarEntry{name: name, body: string(l)})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	doc.Config = hexDigest(raw) + ".json"
	manifest, err := json.Marshal([]dockerEntry{doc})
	if err != nil {
		t.Fatal(err)
	}
	return append(entries, tarEntry{name: doc.Config, body: string(raw)}, tarEntry{name: "manifest.json", body: string(manifest)})
}

func wantKind(t *testing.T, err error, kind fault.Kind, words string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v (%s), want %s with %q", err, fault.KindOf(err), kind, words)
	}
}
