package oci

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
)

func TestReadDockerArchive(t *testing.T) {
	layer := makeTar(t, tarEntry{name: "bin/app", body: "app"})
	entries := dockerArchive(t, "registry.k8s.io/kube-apiserver-amd64:v1.36.3", layer, layer)
	entries[1] = tarEntry{name: "1/layer.tar", body: "../0/layer.tar", kind: tar.TypeSymlink}
	path := write(t, "kube-apiserver.tar", makeTar(t, entries...))
	for strip, want := range map[bool]string{
		true:  "registry.k8s.io/kube-apiserver:v1.36.3",
		false: "registry.k8s.io/kube-apiserver-amd64:v1.36.3",
	} {
		images, err := ReadArchive(t.Context(), path, ReadOptions{Arch: "amd64", StripArch: strip})
		if err != nil {
			t.Fatal(err)
		}
		if len(images) != 1 || images[0].Names[0] != want || len(images[0].Layers) != 2 {
			t.Errorf("strip %v: got %+v", strip, images)
		}
	}
	_, err := ReadArchive(t.Context(), path, ReadOptions{Arch: "arm64"})
	wantKind(t, err, fault.Input, `no image for architecture "arm64"`)
}

// A layout, the same in a tar, and the same with a docker manifest beside it
// all give the manifest that was built.
func TestReadLayout(t *testing.T) {
	built := build(t, "registry.k8s.io/app:v1", Layer{Files: []File{file("/a", "a")}})
	dir := built.blobs[0].dir
	config, layer := blobName(built.ConfigDesc.Digest), blobName(built.Layers[0].Digest)
	docker := tarEntry{name: "manifest.json", body: `[{"Config":"` + config + `","RepoTags":["a.io/b:v2"],"Layers":["` + layer + `"]}]`}
	for path, name := range map[string]string{
		dir: "registry.k8s.io/app:v1",
		write(t, "oci.tar", makeTar(t, layoutEntries(t, dir)...)):                    "registry.k8s.io/app:v1",
		write(t, "docker.tar", makeTar(t, append(layoutEntries(t, dir), docker)...)): "a.io/b:v2",
	} {
		images, err := ReadArchive(t.Context(), path, ReadOptions{Arch: "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		m := images[0]
		if m.Manifest.Digest != built.Manifest.Digest || m.ConfigDesc.Digest != built.ConfigDesc.Digest || m.Names[0] != name {
			t.Errorf("%s: got %v", path, m)
		}
	}
}

// layoutEntries is the layout in dir as entries of a tar.
func layoutEntries(t testing.TB, dir string) (entries []tarEntry) {
	t.Helper()
	files, err := listLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, tarEntry{name: "./" + name, body: string(data)})
	}
	return entries
}

func TestReadTampered(t *testing.T) {
	built := build(t, "a.io/b:v1", Layer{Files: []File{file("/a", "a")}})
	dir := built.blobs[0].dir
	for _, name := range []string{blobName(built.ConfigDesc.Digest), blobName(built.Manifest.Digest), blobName(built.Layers[0].Digest)} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		os.WriteFile(path, bad, 0o644)
		_, err = ReadArchive(t.Context(), dir, ReadOptions{})
		wantKind(t, err, fault.Integrity, "digest")
		os.Remove(path)
		_, err = ReadArchive(t.Context(), dir, ReadOptions{})
		wantKind(t, err, fault.Input, "missing")
		os.WriteFile(path, good, 0o644)
	}
	entries := dockerArchive(t, "a.io/b:v1", makeTar(t))
	for i := range entries {
		if strings.HasSuffix(entries[i].name, ".json") && entries[i].name != "manifest.json" {
			entries[i].body = " " + entries[i].body
		}
	}
	_, err := ReadArchive(t.Context(), write(t, "a.tar", makeTar(t, entries...)), ReadOptions{})
	wantKind(t, err, fault.Integrity, "digest")
}

func TestReadRefuses(t *testing.T) {
	secret := write(t, "secret", []byte("{}"))
	escape := t.TempDir()
	if err := os.Symlink(secret, filepath.Join(escape, "index.json")); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		"/does/not/exist":              "no such file",
		write(t, "x", []byte("hello")): "no tar archive",
		write(t, "x.tar", makeTar(t)):  "neither",
		t.TempDir():                    "neither",
		escape:                         "neither",
		write(t, "l.tar", makeTar(t, tarEntry{name: "manifest.json", body: secret, kind: tar.TypeSymlink})):                                                               "neither",
		write(t, "j.tar", makeTar(t, tarEntry{name: "manifest.json", body: "{"})):                                                                                         "parsing manifest.json",
		write(t, "p.tar", makeTar(t, tarEntry{name: "manifest.json", body: `[{"Config":"../../etc/passwd"}]`})):                                                           "is missing",
		write(t, "b.tar", makeTar(t, tarEntry{name: "manifest.json", body: strings.Repeat(" ", maxDocument+1)})):                                                          "more than",
		write(t, "d.tar", makeTar(t, tarEntry{name: "index.json", body: `{"manifests":[{"digest":"sha256:../../x"}]}`})):                                                  "no SHA-256",
		write(t, "t.tar", makeTar(t, dockerArchive(t, "no-tag", makeTar(t))...)):                                                                                          "no tag",
		write(t, "e.tar", makeTar(t, tarEntry{name: "manifest.json", body: `[{"Config":"c"}]`}, tarEntry{name: "c", body: `{"os":"linux","rootfs":{"diff_ids":["x"]}}`})): "names 1 layers",
	} {
		_, err := ReadArchive(t.Context(), path, ReadOptions{})
		wantKind(t, err, fault.Input, words)
	}
}

func FuzzReadArchive(f *testing.F) {
	layer := makeTar(f, tarEntry{name: "a", body: "a"})
	f.Add(makeTar(f, dockerArchive(f, "a.io/b:v1", layer, gzipped(f, layer))...))
	m := build(f, "a.io/b:v1", Layer{Files: []File{file("/a", "a")}})
	f.Add(makeTar(f, layoutEntries(f, m.blobs[0].dir)...))
	f.Add([]byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "a.tar")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		images, err := ReadArchive(t.Context(), path, ReadOptions{StripArch: true})
		if err == nil && len(images) == 0 {
			t.Error("no image and no error")
		}
		for _, m := range images {
			if len(m.Layers) != len(m.Config.RootFS.DiffIDs) || len(m.Layers) != len(m.blobs) {
				t.Errorf("inconsistent image %+v", m)
			}
		}
		if err != nil && fault.KindOf(err) == fault.Internal {
			t.Errorf("bad data is not our defect: %v", err)
		}
	})
}
