package oci

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// Folders of containerd's data root; each is named after the plugin that owns it.
const (
	contentFolder  = "io.containerd.content.v1.content"
	metadataFolder = "io.containerd.metadata.v1.bolt"
	snapshotFolder = "io.containerd.snapshotter.v1.overlayfs"

	snapshotterName = "overlayfs"
	criNamespace    = "k8s.io"
)

// Labels that containerd's garbage collector and its CRI plugin go by.
const (
	labelConfig   = "containerd.io/gc.ref.content.config"
	labelSnapshot = "containerd.io/gc.ref.snapshot." + snapshotterName
	labelManaged  = "io.cri-containerd.image"
	labelPinned   = "io.cri-containerd.pinned"
)

// Options of WriteContainerd.
type Options struct {
	Epoch       time.Time // of every record, and mtime of every file that no layer dates
	PinnedNames []string  // images that the kubelet must never collect: the sandbox image
}

// WriteContainerd fills root, the future /var/lib/containerd, with images for
// containerd's CRI plugin, unpacked for the overlayfs snapshotter. The folder
// must be absent or empty. Same images, in whatever order, and same options
// give the same bytes, modes and mtimes.
//
// Layers are not kept as blobs, as with containerd's own discard_unpacked_layers:
// their content is in the snapshots, and keeping both would double the disk.
//
// It mounts nothing and needs no privilege beyond a user namespace that maps the
// owners found in the layers. See snapshots for images that delete files.
func WriteContainerd(ctx context.Context, root string, imgs []Image, o Options) (err error) {
	ctx, task := event.Start(ctx, "unpack container images")
	defer func() { task.Done(err) }()
	if err := makeEmpty(root); err != nil {
		return err
	}
	w, err := openWriter(ctx, root, o)
	if err != nil {
		return fmt.Errorf("preparing containerd's data root %s: %w", root, err)
	}
	sorted := slices.SortedStableFunc(slices.Values(imgs), func(a, b Image) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.Manifest.Digest, b.Manifest.Digest))
	})
	for i, m := range sorted {
		task.Detail(m.title())
		if err = w.image(m); err != nil {
			err = fmt.Errorf("unpacking image %s: %w", m.title(), err)
			break
		}
		task.Progress(int64(i+1), int64(len(sorted)), event.Items)
	}
	if e := w.db.close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return w.freeze()
}

func (m Image) title() string {
	if len(m.Names) > 0 {
		return m.Names[0]
	}
	return m.Manifest.Digest.String()
}

// writer is a containerd data root that is being filled.
type writer struct {
	ctx     context.Context // carries containerd's namespace
	root    string
	options Options
	pinned  map[string]bool
	db      *backend
	images  images.Store
}

func openWriter(ctx context.Context, root string, o Options) (*writer, error) {
	w := &writer{ctx: namespaces.WithNamespace(ctx, criNamespace), root: root, options: o, pinned: map[string]bool{}}
	for _, name := range o.PinnedNames {
		full, err := fullName(name)
		if err != nil {
			return nil, err
		}
		w.pinned[full.String()] = true
	}
	// The modes are those that containerd gives these folders.
	if err := os.Chmod(root, 0o700); err != nil {
		return nil, err
	}
	for dir, mode := range map[string]fs.FileMode{metadataFolder: 0o711, snapshotFolder: 0o700, contentFolder: 0o755} {
		if err := makeDir(filepath.Join(root, dir), mode); err != nil {
			return nil, err
		}
	}
	var err error
	if w.db, err = openBackend(root); err != nil {
		return nil, err
	}
	w.images = metadata.NewImageStore(w.db.DB)
	return w, w.db.Init(w.ctx)
}

// makeDir makes a folder with exactly this mode, whatever the umask.
func makeDir(dir string, mode fs.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

// image unpacks an image and records it.
func (w *writer) image(m Image) error {
	if len(m.Names) == 0 {
		return fault.New(fault.Input, "the image has no name")
	}
	if err := w.snapshots(m); err != nil {
		return err
	}
	chain := identity.ChainID(m.Config.RootFS.DiffIDs).String()
	if err := w.content(m.ConfigDesc, m.RawConfig, map[string]string{labelSnapshot: chain}); err != nil {
		return err
	}
	// No reference to the layers: they are not here, and never to be fetched.
	if err := w.content(m.Manifest, m.RawManifest, map[string]string{labelConfig: m.ConfigDesc.Digest.String()}); err != nil {
		return err
	}
	return w.references(m)
}

func (w *writer) content(d v1.Descriptor, data []byte, labels map[string]string) error {
	err := content.WriteBlob(w.ctx, w.db.ContentStore(), d.Digest.String(), bytes.NewReader(data), d, content.WithLabels(labels))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("writing document %s: %w", d.Digest, err)
	}
	return nil
}

// references makes the three kinds of name under which the CRI plugin knows an
// image: its tags, its digest in each repository, and its config's digest.
func (w *writer) references(m Image) error {
	target := m.Manifest
	target.Platform = nil // as after a pull of a single manifest
	target.Annotations = nil
	labels := map[string]string{labelManaged: "managed"}
	var names []string
	for _, name := range m.Names {
		full, err := fullName(name)
		if err != nil {
			return err
		}
		if w.pinned[full.String()] {
			labels[labelPinned] = "pinned"
		}
		names = append(names, full.String(), full.Name()+"@"+m.Manifest.Digest.String())
	}
	names = append(names, m.ConfigDesc.Digest.String())
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := w.reference(images.Image{Name: name, Target: target, Labels: labels}); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) reference(i images.Image) error {
	_, err := w.images.Create(w.ctx, i)
	if !errdefs.IsAlreadyExists(err) {
		return err
	}
	old, err := w.images.Get(w.ctx, i.Name)
	if err != nil {
		return err
	}
	if old.Target.Digest != i.Target.Digest {
		return fault.New(fault.Input, "two images are called %s", i.Name)
	}
	_, err = w.images.Update(w.ctx, i)
	return err
}
