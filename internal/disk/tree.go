package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// Extra is a file that a Tree shows besides those of its directory: content
// of a file elsewhere, owned by root, mode 0644.
type Extra struct {
	Path   string // from the root of the tree, slash-separated, not rooted; its directory may be missing
	Source string // regular file on the host
}

// Tree is what a rootfs directory holds, in the order in which it is written:
// sorted by name, each directory before what is in it. It keeps the metadata
// of every file, about 200 bytes each, and no content.
type Tree struct {
	root    string
	entries []treeEntry
}

// treeEntry is one name. A hard link after the first has the first's path in
// link; a symbolic link its target.
type treeEntry struct {
	path       string // from the root; "" is the root itself
	source     string // where the content is, when not at root/path
	link       string
	mode       uint32
	uid, gid   uint32
	size       int64
	mtime      int64 // seconds
	dev        uint64
	hard       bool
	capability []byte            // security.capability
	xattrs     map[string]string // other attributes to keep
	names      int64             // directories: bytes of entries in ext4's form
}

// inode identifies a file while hard links are looked for.
type inode struct{ dev, ino uint64 }

type scanner struct {
	ctx   context.Context
	tree  *Tree
	links map[inode]string
	extra map[string][]Extra // by directory
	buf   []byte
}

// Scan reads the metadata of everything below root. Sockets are left out.
// Where the directory and extras have the same path, the directory wins.
func Scan(ctx context.Context, root string, extras []Extra) (*Tree, error) {
	s := &scanner{
		ctx: ctx, tree: &Tree{root: root}, links: map[inode]string{},
		extra: map[string][]Extra{}, buf: make([]byte, 64<<10),
	}
	for _, e := range extras {
		dir := path.Dir(e.Path)
		s.extra[dir] = append(s.extra[dir], e)
		for ; dir != "."; dir = path.Dir(dir) { // a directory without a source is made
			s.extra[path.Dir(dir)] = append(s.extra[path.Dir(dir)], Extra{Path: dir})
		}
	}
	if err := s.add("", ""); err != nil {
		return nil, fmt.Errorf("read rootfs %s: %w", root, err)
	}
	return s.tree, nil
}

// add appends the entry of a path and, for a directory, all below it.
// A source other than "" stands for the file.
func (s *scanner) add(name, source string) error {
	full := filepath.Join(s.tree.root, name)
	if source != "" {
		full = source
	}
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: full, Err: err}
	}
	e := treeEntry{
		path: name, source: source, mode: st.Mode, uid: st.Uid, gid: st.Gid,
		size: st.Size, mtime: st.Mtim.Sec, dev: st.Rdev,
	}
	switch {
	case source != "":
		e.mode, e.uid, e.gid = unix.S_IFREG|0o644, 0, 0
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK:
		return nil
	case st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1:
		first, seen := s.links[inode{st.Dev, st.Ino}]
		if seen {
			e.hard, e.link = true, first
		} else {
			s.links[inode{st.Dev, st.Ino}] = name
		}
	}
	return s.finish(e, full, source == "")
}

// finish reads what lstat does not say, if the entry is on disk as it is, and
// goes down into a directory.
func (s *scanner) finish(e treeEntry, full string, onDisk bool) (err error) {
	kind := e.mode & unix.S_IFMT
	if kind == unix.S_IFLNK && !e.hard {
		if e.link, err = os.Readlink(full); err != nil {
			return err
		}
	}
	if onDisk && kind != unix.S_IFLNK && !e.hard {
		if err := s.attributes(&e, full); err != nil {
			return fmt.Errorf("extended attributes of %s: %w", full, err)
		}
	}
	at := len(s.tree.entries)
	s.tree.entries = append(s.tree.entries, e)
	if kind != unix.S_IFDIR {
		return nil
	}
	names, err := s.walk(e.path, full)
	s.tree.entries[at].names = names
	return err
}

// walk adds what is in a directory, from disk and from the extras, and returns
// the bytes that its names take in ext4.
func (s *scanner) walk(dir, full string) (names int64, err error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	list, err := os.ReadDir(full)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a directory that only extras have
		return 0, err
	}
	extra := map[string]string{} // name to source
	for _, x := range s.extra[path.Join(".", dir)] {
		extra[path.Base(x.Path)] = x.Source
	}
	all := make([]string, 0, len(list)+len(extra))
	for _, d := range list {
		delete(extra, d.Name())
		all = append(all, d.Name())
	}
	all = slices.AppendSeq(all, maps.Keys(extra))
	slices.Sort(all)
	for _, name := range all {
		names += int64(8+len(name)+3) &^ 3
		child := path.Join(dir, name)
		if source, ok := extra[name]; ok && source == "" {
			made := treeEntry{path: child, mode: unix.S_IFDIR | 0o755, mtime: math.MaxInt64}
			err = s.finish(made, filepath.Join(full, name), false)
		} else {
			err = s.add(child, source)
		}
		if err != nil {
			return names, err
		}
	}
	return names, nil
}

// attributes reads a file's extended attributes. Those of the overlay that
// shows the rootfs are no part of it.
func (s *scanner) attributes(e *treeEntry, full string) error {
	n, err := unix.Llistxattr(full, s.buf)
	if n == 0 || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(s.buf[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "user.overlay.") || strings.HasPrefix(name, "trusted.overlay.") || name == "security.selinux" {
			continue
		}
		n, err := unix.Lgetxattr(full, name, s.buf)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		value := slices.Clone(s.buf[:n])
		if name == "security.capability" {
			e.capability, err = plainCapability(value)
			if err != nil {
				return err
			}
			continue
		}
		if e.xattrs == nil {
			e.xattrs = map[string]string{}
		}
		e.xattrs[name] = string(value)
	}
	return nil
}

// plainCapability turns file capabilities of revision 3, which a user namespace
// makes and which name its root user, into those of revision 2, which say the
// same for the host's root (linux/capability.h).
func plainCapability(v []byte) ([]byte, error) {
	const revision2, revision3, mask = 0x02000000, 0x03000000, 0xff000000
	le := binary.LittleEndian
	if len(v) < 20 {
		return nil, fault.New(fault.Input, "security.capability has %d bytes, want 20 or 24", len(v))
	}
	magic := le.Uint32(v)
	if magic&mask == revision3 {
		v = slices.Clone(v[:20])
		le.PutUint32(v, magic&^mask|revision2)
	}
	return v, nil
}
