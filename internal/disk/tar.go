package disk

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/event"
)

// WriteTar writes the tree as a tar stream: numeric owners, whole seconds, no
// time later than latest. The bytes depend on the tree's content and latest
// only. A file that has changed its size since Scan is an error.
func (t *Tree) WriteTar(ctx context.Context, w io.Writer, latest time.Time) error {
	tw := tar.NewWriter(w)
	buf := make([]byte, 1<<20)
	done, said, total := int64(0), int64(0), t.contentSize()
	for i := range t.entries {
		e := &t.entries[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := tw.WriteHeader(e.header(latest)); err != nil {
			return fmt.Errorf("stream rootfs: /%s: %w", e.path, err)
		}
		if e.mode&unix.S_IFMT != unix.S_IFREG || e.hard || e.size == 0 {
			continue
		}
		if err := t.copyFile(tw, e, buf); err != nil {
			return fmt.Errorf("stream rootfs: /%s: %w", e.path, err)
		}
		if done += e.size; done-said >= 16<<20 || done == total {
			said = done
			event.Current(ctx).Progress(done, total, event.Bytes)
		}
	}
	return tw.Close()
}

// contentSize returns the bytes of all regular files.
func (t *Tree) contentSize() (n int64) {
	for i := range t.entries {
		if e := &t.entries[i]; e.mode&unix.S_IFMT == unix.S_IFREG && !e.hard {
			n += e.size
		}
	}
	return n
}

func (t *Tree) copyFile(w io.Writer, e *treeEntry, buf []byte) error {
	name := e.source
	if name == "" {
		name = filepath.Join(t.root, e.path)
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// Hide ReadFrom and WriteTo: through them io would choose a small buffer.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, buf)
	if err == nil && n != e.size {
		err = fmt.Errorf("it had %d bytes and now has %d", e.size, n)
	}
	return err
}

// header returns the entry's tar header in the PAX format, which mke2fs reads
// through libarchive: all three times are said, or it would take 1970.
func (e *treeEntry) header(latest time.Time) *tar.Header {
	when := time.Unix(min(e.mtime, latest.Unix()), 0)
	h := &tar.Header{
		Format: tar.FormatPAX, Name: e.path, Linkname: e.link,
		Mode: int64(e.mode & 0o7777), Uid: int(e.uid), Gid: int(e.gid),
		ModTime: when, AccessTime: when, ChangeTime: when,
		PAXRecords: map[string]string{},
	}
	switch e.mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, e.size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, e.path+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	}
	if e.path == "" {
		h.Name = "./"
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(e.dev)), int64(unix.Minor(e.dev))
	}
	if e.hard {
		h.Typeflag, h.Size = tar.TypeLink, 0
	}
	if e.capability != nil {
		h.PAXRecords["SCHILY.xattr.security.capability"] = string(e.capability)
	}
	if !ascii(e.path) || !ascii(e.link) {
		h.PAXRecords["hdrcharset"] = "BINARY" // names are bytes: no reader's locale may change or refuse them
	}
	return h
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
