package oci

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/log"
	"go.etcd.io/bbolt"
)

// dbOptions are for speed while filling: the files are copied by freeze, and a
// crash leaves a folder that is thrown away.
func dbOptions() *bbolt.Options {
	o := *bbolt.DefaultOptions
	o.NoSync, o.NoGrowSync, o.NoFreelistSync = true, true, true
	o.PageSize = pageSize
	return &o
}

// backend is containerd's stores on disk, and its metadata over them.
type backend struct {
	*metadata.DB
	bolt *bbolt.DB
	meta *storage.MetaStore
}

func openBackend(root string) (b *backend, err error) {
	b = &backend{}
	if b.bolt, err = bbolt.Open(filepath.Join(root, metadataFolder, "meta.db"), 0o644, dbOptions()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.bolt.Close()
		}
	}()
	// The library warns on stderr when the file system lacks fs-verity; it has
	// one logger for the process and no other way to quiet it.
	if err = log.SetLevel("error"); err != nil {
		return nil, err
	}
	blobs, err := local.NewStore(filepath.Join(root, contentFolder))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, snapshotFolder)
	b.meta, err = storage.NewMetaStore(filepath.Join(dir, "metadata.db"), func(o *bbolt.Options) error {
		*o = *dbOptions()
		return nil
	})
	if err != nil {
		return nil, err
	}
	// A mount option that is given keeps the snapshotter from mounting to find
	// out whether it is needed; we never ask it for mounts.
	s, err := overlay.NewSnapshotter(dir, overlay.WithMetaStore(b.meta), overlay.WithMountOptions([]string{"userxattr"}))
	if err != nil {
		return nil, err
	}
	sn := &snapshotter{Snapshotter: s, meta: b.meta, dir: filepath.Join(dir, "snapshots")}
	b.DB = metadata.NewDB(b.bolt, blobs, map[string]snapshots.Snapshotter{snapshotterName: sn})
	return b, nil
}

// close closes the databases.
func (b *backend) close() error {
	return errors.Join(b.meta.Close(), b.bolt.Close())
}

// snapshotter is containerd's overlayfs snapshotter, except that the usage it
// records of a snapshot does not depend on the host's file system.
type snapshotter struct {
	snapshots.Snapshotter
	meta *storage.MetaStore
	dir  string
}

// Commit implements snapshots.Snapshotter.
func (s *snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return s.meta.WithTransaction(ctx, true, func(ctx context.Context) error {
		id, _, _, err := storage.GetInfo(ctx, key)
		if err != nil {
			return err
		}
		used, err := usage(filepath.Join(s.dir, id, "fs"))
		if err != nil {
			return err
		}
		_, err = storage.CommitActive(ctx, key, name, used, opts...)
		return err
	})
}

// usage counts what a tree takes on a file system with blocks of 4096 bytes
// that stores short links in the inode.
func usage(root string) (u snapshots.Usage, err error) {
	const block = 4096
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		key := inode{uint64(st.Dev), st.Ino}
		if seen[key] {
			return nil
		}
		seen[key] = true
		u.Inodes++
		switch {
		case d.IsDir():
			u.Size += block
		case info.Mode().IsRegular():
			u.Size += (info.Size() + block - 1) / block * block
		}
		return nil
	})
	return u, err
}
