package oci

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"

	"imagebuilder.dev/internal/fault"
)

// samples are images that share a layer, one with a second name, and a foreign
// one whose second layer deletes files of its first.
func samples(t testing.TB) []Image {
	t.Helper()
	base := Layer{Files: []File{file("/etc/os-release", "ID=ours\n"), {Path: "/usr/lib", Dir: true, Mode: 0o700}}}
	app := build(t, "registry.k8s.io/kube-apiserver:v1.36.3", base, Layer{Files: []File{{Path: "/bin/app", Content: []byte("app"), Mode: 0o755}}})
	app.Names = append(app.Names, "registry.k8s.io/kube-apiserver:latest")
	pause := build(t, "registry.k8s.io/pause:3.10.2", base, Layer{Files: []File{{Path: "/usr/lib/pause", Content: []byte("pause"), Mode: 0o755, UID: os.Getuid()}}})
	return []Image{pause, foreign(t), app}
}

func foreign(t testing.TB) Image {
	t.Helper()
	lower := makeTar(t, tarEntry{name: "keep/", kind: '5'}, tarEntry{name: "keep/gone", body: "1"}, tarEntry{name: "keep/stays", body: "2"},
		tarEntry{name: "opaque/", kind: '5'}, tarEntry{name: "opaque/old", body: "3"})
	upper := makeTar(t, tarEntry{name: "keep/.wh.gone"}, tarEntry{name: "opaque/new", body: "4"}, tarEntry{name: "opaque/.wh..wh..opq"}, tarEntry{name: "implied/x", body: "5"},
		tarEntry{name: "dev/null", kind: '3'})
	path := write(t, "foreign.tar", makeTar(t, dockerArchive(t, "docker.io/library/foreign:1", lower, upper)...))
	images, err := ReadArchive(t.Context(), path, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return images[0]
}

func fill(t testing.TB, imgs []Image) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "containerd")
	if err := WriteContainerd(t.Context(), root, imgs, Options{Epoch: epoch, PinnedNames: []string{"registry.k8s.io/pause:3.10.2"}}); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestWriteContainerdIsDeterministic(t *testing.T) {
	imgs := samples(t)
	a := listing(t, fill(t, imgs))
	slices.Reverse(imgs)
	b := listing(t, fill(t, imgs))
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(la), len(lb)) {
		if la[i] != lb[i] {
			t.Errorf("two builds differ:\n%s\n%s", la[i], lb[i])
		}
	}
	if len(la) != len(lb) {
		t.Errorf("two builds have %d and %d files", len(la)-1, len(lb)-1)
	}
	if os.Getuid() == 0 {
		golden(t, "containerd.txt", a)
	}
}

// Containerd's own code finds every image unpacked, and its garbage collector
// takes nothing away.
func TestContainerdKeepsImages(t *testing.T) {
	imgs := samples(t)
	root := fill(t, imgs)
	before := listing(t, filepath.Join(root, snapshotFolder, "snapshots"))
	b, err := openBackend(root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	ctx := namespaces.WithNamespace(t.Context(), criNamespace)
	if err := b.Init(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as found, and after a collection
		checkImages(t, b, imgs)
		if _, err := b.GarbageCollect(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if after := listing(t, filepath.Join(root, snapshotFolder, "snapshots")); after != before {
		t.Errorf("garbage collection changed the snapshots; before:\n%s\nafter:\n%s", before, after)
	}
}

func checkImages(t *testing.T, b *backend, imgs []Image) {
	t.Helper()
	ctx := namespaces.WithNamespace(t.Context(), criNamespace)
	store := metadata.NewImageStore(b.DB)
	for _, m := range imgs {
		names := []string{m.ConfigDesc.Digest.String()}
		for _, n := range m.Names {
			names = append(names, n, n[:strings.LastIndex(n, ":")]+"@"+m.Manifest.Digest.String())
		}
		for _, name := range names {
			i, err := store.Get(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			ids, err := i.RootFS(ctx, b.ContentStore(), platforms.Only(*m.Manifest.Platform))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Snapshotter(snapshotterName).Stat(ctx, identity.ChainID(ids).String()); err != nil {
				t.Errorf("image %s is not unpacked: %v", name, err)
			}
			ok, _, present, missing, err := images.Check(ctx, b.ContentStore(), i.Target, platforms.Only(*m.Manifest.Platform))
			if err != nil || !ok || len(present) != 1 || len(missing) != len(m.Layers) {
				t.Errorf("image %s: available %v, present %v, missing %v, error %v", name, ok, present, missing, err)
			}
			pinned := strings.Contains(m.Names[0], "pause")
			if i.Labels[labelManaged] != "managed" || (i.Labels[labelPinned] == "pinned") != pinned || !i.CreatedAt.Equal(epoch) {
				t.Errorf("image %s has labels %v, created %v", name, i.Labels, i.CreatedAt)
			}
		}
	}
}

// Deleting an image lets the collector take exactly what no other image needs:
// the references that keep the rest are real ones.
func TestContainerdCollectsDeletedImage(t *testing.T) {
	root := fill(t, samples(t))
	b, err := openBackend(root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	ctx := namespaces.WithNamespace(t.Context(), criNamespace)
	store := metadata.NewImageStore(b.DB)
	all, err := store.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pause, err := store.Get(ctx, "registry.k8s.io/pause:3.10.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Target.Digest == pause.Target.Digest {
			if err := store.Delete(ctx, i.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() (n int) {
		b.Snapshotter(snapshotterName).Walk(ctx, func(_ context.Context, _ snapshots.Info) error { n++; return nil })
		return n
	}
	before := count()
	if _, err := b.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	if after := count(); after != before-1 {
		t.Errorf("%d snapshots of %d are left, want one less", after, before)
	}
}

func TestFlattenedImage(t *testing.T) {
	root := fill(t, []Image{foreign(t)})
	dir := filepath.Join(root, snapshotFolder, "snapshots")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("got snapshots %v, %v, want one", entries, err)
	}
	var got []string
	for line := range strings.Lines(listing(t, filepath.Join(dir, entries[0].Name(), "fs"))) {
		got = append(got, strings.Fields(line)[0])
	}
	if want := []string{".", "implied", "implied/x", "keep", "keep/stays", "opaque", "opaque/new"}; !slices.Equal(got, want) {
		t.Errorf("got files %v, want %v", got, want)
	}
}

func TestWriteContainerdRefuses(t *testing.T) {
	app := build(t, "a.io/b:v1", Layer{Files: []File{file("/a", "a")}})
	other := build(t, "a.io/b:v1", Layer{Files: []File{file("/a", "b")}})
	lying := build(t, "a.io/c:v1", Layer{Files: []File{file("/a", "c")}})
	lying.Config.RootFS.DiffIDs = app.Config.RootFS.DiffIDs
	nameless := app
	nameless.Names = nil
	for _, c := range []struct {
		images []Image
		kind   fault.Kind
		words  string
	}{
		{[]Image{app, other}, fault.Input, "two images are called a.io/b:v1"},
		{[]Image{lying}, fault.Integrity, "unpacks to"},
		{[]Image{nameless}, fault.Input, "no name"},
		{[]Image{build(t, "a.io/d:v1")}, fault.Input, "no layers"},
	} {
		err := WriteContainerd(t.Context(), filepath.Join(t.TempDir(), "root"), c.images, Options{Epoch: epoch})
		wantKind(t, err, c.kind, c.words)
	}
	err := WriteContainerd(t.Context(), filepath.Dir(fill(t, nil)), nil, Options{Epoch: epoch})
	wantKind(t, err, fault.Internal, "not empty")
}

// No name or link in a layer leads out of the snapshot.
func TestLayerStaysInside(t *testing.T) {
	outside := t.TempDir()
	path := write(t, "l.tar", makeTar(t, tarEntry{name: "../../../evil", body: "1"}, tarEntry{name: "link", body: outside, kind: '2'},
		tarEntry{name: "link/evil", body: "2"}, tarEntry{name: "up", body: "../../..", kind: '2'}, tarEntry{name: "up/evil2", body: "3"}))
	root := fill(t, []Image{build(t, "a.io/b:v1", Layer{Tar: path})})
	inside := filepath.Join(root, snapshotFolder, "snapshots", "1", "fs")
	for _, name := range []string{"evil", "evil2", filepath.Join(outside, "evil")} {
		if _, err := os.Lstat(filepath.Join(inside, name)); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v outside, want nothing", entries, err)
	}
	hard := write(t, "h.tar", makeTar(t, tarEntry{name: "passwd", body: "/etc/passwd", kind: '1'}))
	err := WriteContainerd(t.Context(), filepath.Join(t.TempDir(), "root"), []Image{build(t, "a.io/b:v1", Layer{Tar: hard})}, Options{Epoch: epoch})
	wantKind(t, err, fault.Input, "unpacking")
}
