package oci

import (
	"archive/tar"
	"context"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"imagebuilder.dev/internal/fault"
)

// Layer is one layer of an image to build: files, or a tar archive taken as it is.
type Layer struct {
	Files []File // a later one replaces an earlier one of the same path
	Tar   string // path of a tar on the host, plain, gzip or zstd; excludes Files
}

// File is a file, folder or symbolic link of a layer. Parents that no layer has
// get mode 0755 and owner 0:0.
type File struct {
	Path      string      // absolute path in the image
	Source    string      // file or folder on the host; a folder is taken with all below it
	Content   []byte      // of a regular file, when Source and Link are empty
	Link      string      // target of a symbolic link
	Dir       bool        // an empty folder
	Mode      fs.FileMode // permission bits, setuid included; 0: those of Source, else 0644, 0755 for Dir
	UID, GID  int         // owner
	KeepOwner bool        // take owners from Source instead
}

// entry is a tar header and where its content comes from.
type entry struct {
	header  tar.Header
	source  string // host file, or "" for content
	content []byte
}

// write writes the layer as a tar: sorted paths, mtime epoch, no extended
// attributes, no names of owners. Only the bottom layer spells out parents:
// in a layer above it they would replace the modes of the folders below.
func (l Layer) write(ctx context.Context, w io.Writer, epoch time.Time, bottom bool) error {
	if l.Tar != "" {
		if len(l.Files) > 0 {
			return fault.New(fault.Internal, "layer has both files and the tar %s", l.Tar)
		}
		return copyFile(w, l.Tar)
	}
	entries := map[string]entry{}
	for _, f := range l.Files {
		if err := f.collect(entries); err != nil {
			return err
		}
	}
	if err := addParents(entries, bottom); err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, p := range slices.Sorted(maps.Keys(entries)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := entries[p]
		e.header.ModTime = epoch
		if err := e.write(tw); err != nil {
			return fault.New(fault.KindOf(err), "adding /%s: %w", p, err)
		}
	}
	return tw.Close()
}

func (e entry) write(tw *tar.Writer) error {
	if err := tw.WriteHeader(&e.header); err != nil {
		return err
	}
	if e.source != "" {
		return copyFile(tw, e.source)
	}
	_, err := tw.Write(e.content)
	return err
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// collect puts what f stands for into entries, keyed by path without the
// leading slash.
func (f File) collect(entries map[string]entry) error {
	p := path.Clean("/" + f.Path)[1:]
	if f.Source != "" {
		return f.walk(p, entries)
	}
	if p == "" {
		return fault.New(fault.Internal, "layer file has no path")
	}
	e := entry{header: tar.Header{Name: p, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.Content)), Uid: f.UID, Gid: f.GID}, content: f.Content}
	switch {
	case f.Dir:
		e = entry{header: dirHeader(p, 0o755, f.UID, f.GID)}
	case f.Link != "":
		e = entry{header: tar.Header{Name: p, Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: f.Link, Uid: f.UID, Gid: f.GID}}
	}
	if f.Mode != 0 && f.Link == "" {
		e.header.Mode = unixMode(f.Mode)
	}
	entries[p] = e
	return nil
}

// walk collects f.Source and, if it is a folder, all below it. Hard links
// become copies.
func (f File) walk(base string, entries map[string]entry) error {
	return filepath.WalkDir(f.Source, func(host string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.Source, host)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		p := path.Clean("/" + base + "/" + filepath.ToSlash(rel))[1:]
		if p == "" {
			return nil // the root of the image has no entry of its own
		}
		e, err := f.hostEntry(p, host, info, host == f.Source)
		if err != nil {
			return err
		}
		entries[p] = e
		return nil
	})
}

// hostEntry describes the host's file. Mode applies to the source itself, not
// to what is below it.
func (f File) hostEntry(p, host string, info fs.FileInfo, top bool) (entry, error) {
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(host); err != nil {
			return entry{}, err
		}
	}
	if info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
		return entry{}, fault.New(fault.Input, "adding %s to a layer: it is %s, not a file, folder or link", host, info.Mode().Type())
	}
	h := tar.Header{Name: p, Typeflag: tar.TypeReg, Mode: unixMode(info.Mode()), Size: info.Size(), Uid: f.UID, Gid: f.GID}
	if f.KeepOwner {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			h.Uid, h.Gid = int(st.Uid), int(st.Gid)
		}
	}
	if top && f.Mode != 0 {
		h.Mode = unixMode(f.Mode)
	}
	switch {
	case info.IsDir():
		return entry{header: dirHeader(p, h.Mode, h.Uid, h.Gid)}, nil
	case link != "":
		h.Typeflag, h.Linkname, h.Size, h.Mode = tar.TypeSymlink, link, 0, 0o777
		return entry{header: h}, nil
	}
	return entry{header: h, source: host}, nil
}

func dirHeader(p string, mode int64, uid, gid int) tar.Header {
	return tar.Header{Name: p + "/", Typeflag: tar.TypeDir, Mode: mode, Uid: uid, Gid: gid}
}

// unixMode returns the permission bits as the kernel numbers them.
func unixMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, n := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= n
		}
	}
	return mode
}

// addParents adds the missing folders, if asked, and refuses a file below a
// non-folder, which would land elsewhere or nowhere when unpacked.
func addParents(entries map[string]entry, add bool) error {
	for _, p := range slices.Collect(maps.Keys(entries)) {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			parent, ok := entries[dir]
			if !ok && add {
				entries[dir] = entry{header: dirHeader(dir, 0o755, 0, 0)}
			} else if ok && parent.header.Typeflag != tar.TypeDir {
				return fault.New(fault.Internal, "layer file /%s lies below /%s, which is not a folder", p, dir)
			}
		}
	}
	return nil
}
