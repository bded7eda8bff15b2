package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

const labelSnapshotRef = "containerd.io/snapshot.ref"

// snapshots makes an image's snapshots, those that are not there yet.
//
// Usually a layer is a snapshot. But a layer that deletes something of a layer
// below would need marks that cannot be made here: an opaque folder is a trusted
// attribute, which a user namespace may not set, and a deleted file is a device
// 0:0, which the overlay mount that composes the node's root would take for its
// own. So all layers of such an image go into one snapshot, under the chain ID
// of the last: containerd asks for that ID alone, and image and digests stay
// what they were. Only the sharing of its lower layers is lost.
func (w *writer) snapshots(m Image) error {
	flat, err := m.deletes(w.ctx)
	if err != nil {
		return err
	}
	ids := m.Config.RootFS.DiffIDs
	if len(ids) == 0 {
		return fault.New(fault.Input, "the image has no layers")
	}
	if flat {
		return w.snapshot(m, 0, len(ids), "")
	}
	parent := ""
	for i := range ids {
		if err := w.snapshot(m, i, i+1, parent); err != nil {
			return err
		}
		parent = identity.ChainID(ids[:i+1]).String()
	}
	return nil
}

// deletes says whether a layer above the first deletes files.
func (m Image) deletes(ctx context.Context) (bool, error) {
	for i := 1; i < len(m.blobs); i++ {
		found := false
		err := m.readLayer(ctx, i, func(r io.Reader) error {
			tr := tar.NewReader(r)
			for {
				h, err := tr.Next()
				if err == io.EOF || found {
					return nil
				}
				if err != nil {
					return fault.New(fault.Input, "reading layer %d: %w", i+1, err)
				}
				found = strings.HasPrefix(path.Base(path.Clean(h.Name)), ".wh.")
			}
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// readLayer calls read with the tar of layer i.
func (m Image) readLayer(ctx context.Context, i int, read func(io.Reader) error) error {
	f, err := m.Layer(i)
	if err != nil {
		return err
	}
	defer f.Close()
	r, _, err := plain(withContext(ctx, f))
	if err != nil {
		return err
	}
	defer r.Close()
	return read(r)
}

// snapshot unpacks layers first to end-1 into a snapshot over parent.
func (w *writer) snapshot(m Image, first, end int, parent string) error {
	chain := identity.ChainID(m.Config.RootFS.DiffIDs[:end]).String()
	sn := w.db.Snapshotter(snapshotterName)
	if _, err := sn.Stat(w.ctx, chain); err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	labels := snapshots.WithLabels(map[string]string{labelSnapshotRef: chain})
	key := "unpack " + chain
	mounts, err := sn.Prepare(w.ctx, key, parent, labels)
	if err != nil {
		return fmt.Errorf("preparing snapshot %s: %w", chain, err)
	}
	dirs := treeOf(mounts[0].Source, mounts[0].Options)
	times := dirTimes{}
	for i := first; i < end; i++ {
		if err := m.unpack(w.ctx, i, dirs, times); err != nil {
			return fmt.Errorf("layer %d (%s): %w", i+1, m.Layers[i].Digest, err)
		}
	}
	if err := times.set(dirs[0], w.options.Epoch); err != nil {
		return err
	}
	return sn.Commit(w.ctx, chain, key, labels)
}

// treeOf reads from a snapshot's mount where its own files go, first, and where
// those of its parents are, next one first.
func treeOf(source string, options []string) []string {
	var upper string
	var lower []string
	for _, o := range options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = dir
		}
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = strings.Split(dirs, ":")
		}
	}
	if upper == "" {
		return []string{source} // a bind mount: no parents
	}
	return append([]string{upper}, lower...)
}

// unpack writes layer i into dirs[0] and checks its diff ID.
func (m Image) unpack(ctx context.Context, i int, dirs []string, times dirTimes) error {
	return m.readLayer(ctx, i, func(r io.Reader) error {
		sum := digest.SHA256.Digester()
		tee := io.TeeReader(r, sum.Hash())
		_, err := archive.Apply(ctx, dirs[0], tee, archive.WithParents(dirs[1:]), archive.WithFilter(func(h *tar.Header) (bool, error) {
			return times.accept(ctx, h)
		}))
		if err != nil {
			return fault.New(unpackKind(err), "unpacking: %w", err)
		}
		if _, err := io.Copy(io.Discard, tee); err != nil {
			return err
		}
		if want := m.Config.RootFS.DiffIDs[i]; sum.Digest() != want {
			return fault.New(fault.Integrity, "it unpacks to %s, the image's config says %s", sum.Digest(), want)
		}
		return nil
	})
}

// unpackKind classifies what stopped an unpacking: a full disk, an owner that
// the user namespace does not map, or else the layer itself.
func unpackKind(err error) fault.Kind {
	if k := fault.KindOf(err); k != fault.Internal {
		return k
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return fault.Environment
	}
	return fault.Input
}

// dirTimes are the times that layers give to folders. Unpacking into a folder
// changes its time again, so all are set at the end.
type dirTimes map[string]time.Time

// accept notes a folder's time and leaves out device nodes: a user namespace
// cannot make them, and a runtime mounts its own /dev.
func (t dirTimes) accept(ctx context.Context, h *tar.Header) (bool, error) {
	switch h.Typeflag {
	case tar.TypeDir:
		t[path.Clean("/"+h.Name)] = h.ModTime
	case tar.TypeBlock, tar.TypeChar:
		event.Current(ctx).Warn("device node /" + h.Name + " of a container image left out")
		return false, nil
	}
	return true, nil
}

// set dates every folder below root: as a layer says, else epoch.
func (t dirTimes) set(root string, epoch time.Time) error {
	return filepath.WalkDir(root, func(host string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, host)
		if err != nil {
			return err
		}
		when, ok := t[path.Clean("/"+rel)]
		if !ok {
			when = epoch
		}
		return setTime(host, when)
	})
}

// setTime sets access and modification time of name, not of what it links to.
func setTime(name string, when time.Time) error {
	ts := unix.NsecToTimespec(when.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}
