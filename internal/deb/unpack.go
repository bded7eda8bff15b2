package deb

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Unpacked is what became of one package.
type Unpacked struct {
	Archive   *Archive
	Files     []string          // paths inside, "/." first, in the package's order
	Conffiles map[string]string // path -> MD5 (hex) of the content that was unpacked
}

// Name returns the package's name.
func (u *Unpacked) Name() string { return u.Archive.Control.Get("Package") }

// Unpack writes the files of packages, .deb files in the order in which dpkg
// would unpack them, into root, many at once. It runs nothing. A folder keeps
// the owner and mode that the first package gives it, a file that several
// packages have is the last one's, and diversions in root are honoured: as with
// dpkg, whatever the timing. progress is called with each finished index.
func Unpack(ctx context.Context, root string, paths []string, progress func(i int)) ([]*Unpacked, error) {
	diversions, err := readDiversions(root)
	if err != nil {
		return nil, err
	}
	u := &unpacker{dirs: newDirs(root), diversions: diversions, owner: map[string]int{}, folders: map[string]folder{}}
	out := make([]*Unpacked, len(paths))
	order, err := largestFirst(paths)
	if err != nil {
		return nil, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range order {
		group.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			r, err := u.archive(gctx, i, paths[i], nil)
			if err != nil {
				return fmt.Errorf("unpack %s: %w", filepath.Base(paths[i]), err)
			}
			out[i] = r
			progress(i)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := u.settle(ctx, paths, out); err != nil {
		return nil, err
	}
	return out, u.setFolders()
}

// largestFirst keeps the processors busy to the end.
func largestFirst(paths []string) ([]int, error) {
	type sized struct {
		i    int
		size int64
	}
	list := make([]sized, len(paths))
	for i, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		list[i] = sized{i, st.Size()}
	}
	slices.SortStableFunc(list, func(a, b sized) int { return cmp.Compare(b.size, a.size) })
	out := make([]int, len(list))
	for k, s := range list {
		out[k] = s.i
	}
	return out, nil
}

type unpacker struct {
	dirs       *dirs
	diversions map[string]diversion

	mu       sync.Mutex
	owner    map[string]int    // path -> index of the package that wrote it
	disputed map[string]bool   // paths that more than one package has
	folders  map[string]folder // host path -> metadata of the first package
}

type folder struct {
	index    int
	uid, gid int
	mode     uint32
}

// claim says whether package i may write path now. A path that two packages
// want is left to settle.
func (u *unpacker) claim(path string, i int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o, ok := u.owner[path]; ok && o != i {
		if u.disputed == nil {
			u.disputed = map[string]bool{}
		}
		u.disputed[path] = true
		u.owner[path] = max(o, i)
		return false
	}
	u.owner[path] = i
	return true
}

// settle writes each disputed path again from the last package that has it and
// takes it off the lists of the others, as dpkg does for Replaces.
func (u *unpacker) settle(ctx context.Context, paths []string, out []*Unpacked) error {
	winners := map[int]map[string]bool{}
	for path := range u.disputed {
		w := u.owner[path]
		if winners[w] == nil {
			winners[w] = map[string]bool{}
		}
		winners[w][path] = true
	}
	for i, r := range out {
		if want := winners[i]; want != nil {
			if _, err := u.archive(ctx, i, paths[i], want); err != nil {
				return err
			}
		}
		r.Files = slices.DeleteFunc(r.Files, func(p string) bool { return u.disputed[p] && u.owner[p] != i })
	}
	return nil
}

// archive unpacks one package, or only some of its paths.
func (u *unpacker) archive(ctx context.Context, i int, path string, only map[string]bool) (*Unpacked, error) {
	a, err := OpenArchive(path)
	if err != nil {
		return nil, err
	}
	r := &Unpacked{Archive: a, Conffiles: map[string]string{}}
	for line := range strings.Lines(string(a.Members["conffiles"].Data)) {
		if p := strings.TrimSpace(line); strings.HasPrefix(p, "/") {
			r.Conffiles[p] = ""
		}
	}
	name := r.Name()
	err = a.Data(func(tr *tar.Reader) error {
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := u.entry(r, i, name, h, tr, only); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
	})
	return r, err
}

// cleanName turns a tar entry's name into an absolute path inside the root.
func cleanName(name string) string { return filepath.Clean("/" + name) }

func (u *unpacker) entry(r *Unpacked, i int, pkg string, h *tar.Header, content io.Reader, only map[string]bool) error {
	path := cleanName(h.Name)
	if only == nil {
		if path == "/" {
			r.Files = append(r.Files, "/.")
		} else {
			r.Files = append(r.Files, path)
		}
	} else if !only[path] {
		return nil
	}
	if h.Typeflag == tar.TypeDir {
		return u.folder(path, i, h)
	}
	if only == nil && !u.claim(path, i) {
		return nil
	}
	host, err := u.host(path, pkg)
	if err != nil {
		return err
	}
	if only != nil {
		os.Remove(host)
	}
	if err := u.write(r, host, path, pkg, h, content); err != nil {
		return err
	}
	return setMetadata(host, h)
}

// host returns where a path is written, its diversion considered.
func (u *unpacker) host(path, pkg string) (string, error) {
	if d, ok := u.diversions[path]; ok && d.by != pkg {
		path = d.to
	}
	dir, err := u.dirs.ensure(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

func (u *unpacker) folder(path string, i int, h *tar.Header) error {
	host, err := u.dirs.ensure(path)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if f, ok := u.folders[host]; !ok || i < f.index {
		u.folders[host] = folder{i, h.Uid, h.Gid, uint32(h.Mode & 0o7777)}
	}
	return nil
}

// setFolders gives new folders the owner and mode of the first package that has
// them; one that was there before keeps its own.
func (u *unpacker) setFolders() error {
	for host, f := range u.folders {
		if !u.dirs.made[host] {
			continue
		}
		if f.uid != 0 || f.gid != 0 {
			if err := os.Lchown(host, f.uid, f.gid); err != nil {
				return err
			}
		}
		if f.mode != 0o755 {
			if err := unix.Chmod(host, f.mode); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *unpacker) write(r *Unpacked, host, path, pkg string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(r, host, path, h, content)
	case tar.TypeSymlink:
		if st, err := os.Lstat(host); err == nil && st.IsDir() {
			return nil // dpkg keeps a folder where a package has a link
		}
		return replace(host, func() error { return os.Symlink(h.Linkname, host) })
	case tar.TypeLink:
		old, err := u.host(cleanName(h.Linkname), pkg)
		if err != nil {
			return err
		}
		return replace(host, func() error { return os.Link(old, host) })
	default:
		return fmt.Errorf("entry of type %q", h.Typeflag)
	}
}

// replace runs make, and once more after removing what stands in its way.
func replace(host string, make func() error) error {
	err := make()
	if os.IsExist(err) {
		if err := os.Remove(host); err != nil {
			return err
		}
		return make()
	}
	return err
}

func (u *unpacker) file(r *Unpacked, host, path string, h *tar.Header, content io.Reader) error {
	var f *os.File
	err := replace(host, func() (err error) {
		f, err = os.OpenFile(host, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	var w io.Writer = f
	sum := md5.New()
	_, conf := r.Conffiles[path]
	if conf {
		w = io.MultiWriter(f, sum)
	}
	if _, err := io.Copy(w, content); err != nil {
		f.Close()
		return err
	}
	if conf {
		r.Conffiles[path] = hex.EncodeToString(sum.Sum(nil))
	}
	return f.Close()
}

// setMetadata sets owner, mode and time; the mode last, for chown clears setuid bits.
func setMetadata(host string, h *tar.Header) error {
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	if h.Uid != 0 || h.Gid != 0 {
		if err := os.Lchown(host, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeReg {
		if err := unix.Chmod(host, uint32(h.Mode&0o7777)); err != nil { // os.Chmod has other bits for setuid
			return err
		}
	}
	ts := unix.NsecToTimespec(h.ModTime.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, host, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// diversion is an entry of dpkg's diversions file.
type diversion struct{ to, by string }

// readDiversions reads /var/lib/dpkg/diversions: three lines an entry.
func readDiversions(root string) (map[string]diversion, error) {
	b, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/diversions"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	out := map[string]diversion{}
	for ; len(lines) >= 3; lines = lines[3:] {
		by := lines[2]
		if by == ":" {
			by = ""
		}
		out[lines[0]] = diversion{to: lines[1], by: by}
	}
	return out, nil
}
