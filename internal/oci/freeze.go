package oci

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// pageSize of the databases: bbolt would take the host's.
const pageSize = 4096

// freeze makes the data root depend on its content alone: databases without
// history and clock, and no times but the epoch and the layers' own.
func (w *writer) freeze() error {
	for name, mode := range map[string]fs.FileMode{
		filepath.Join(metadataFolder, "meta.db"):     0o644,
		filepath.Join(snapshotFolder, "metadata.db"): 0o600,
	} {
		if err := freezeDB(filepath.Join(w.root, name), mode, w.options.Epoch); err != nil {
			return fmt.Errorf("compacting %s: %w", name, err)
		}
	}
	trees := filepath.Join(w.root, snapshotFolder, "snapshots")
	return filepath.WalkDir(w.root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if filepath.Dir(filepath.Dir(name)) == trees && d.Name() == "fs" {
			return fs.SkipDir // dated by dirTimes
		}
		return setTime(name, w.options.Epoch)
	})
}

// freezeDB copies a database in the order of its keys, with all times set to
// epoch, into a new file that takes its place.
func freezeDB(name string, mode fs.FileMode, epoch time.Time) error {
	stamp, err := epoch.UTC().MarshalBinary()
	if err != nil {
		return err
	}
	src, err := bbolt.Open(name, mode, &bbolt.Options{ReadOnly: true, PreLoadFreelist: false})
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	o := dbOptions()
	o.NoFreelistSync = false // containerd opens it without rebuilding the list
	tmp := name + ".new"
	dst, err := bbolt.Open(tmp, mode, o)
	if err != nil {
		return err
	}
	if err := copyDB(dst, src, stamp); err != nil {
		dst.Close()
		return err
	}
	if err := dst.Close(); err != nil {
		return err
	}
	if err := os.Chmod(tmp, mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// copyDB copies every bucket in a transaction of its own: one transaction
// writes its buckets out in the order of a Go map, which is random, so none may
// touch two buckets that are not inside each other.
func copyDB(dst, src *bbolt.DB, stamp []byte) error {
	return src.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return copyBucket(dst, [][]byte{name}, b, stamp)
		})
	})
}

// copyBucket copies the bucket at path, then those inside it.
func copyBucket(dst *bbolt.DB, path [][]byte, src *bbolt.Bucket, stamp []byte) error {
	err := dst.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(path[0])
		for _, name := range path[1:] {
			if err != nil {
				return err
			}
			b, err = b.CreateBucketIfNotExists(name)
		}
		if err != nil {
			return err
		}
		return copyValues(b, src, stamp)
	})
	if err != nil {
		return err
	}
	return src.ForEachBucket(func(name []byte) error {
		return copyBucket(dst, append(slices.Clip(path), name), src.Bucket(name), stamp)
	})
}

func copyValues(dst, src *bbolt.Bucket, stamp []byte) error {
	if n := src.Sequence(); n > 0 {
		if err := dst.SetSequence(n); err != nil {
			return err
		}
	}
	return src.ForEach(func(k, v []byte) error {
		if v == nil {
			return nil // a bucket
		}
		if bytes.Equal(k, []byte("createdat")) || bytes.Equal(k, []byte("updatedat")) {
			v = stamp
		}
		return dst.Put(k, v)
	})
}
