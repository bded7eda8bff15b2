package deb

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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

	places []place // of Files, one for one, until all packages are unpacked
}

// place is where a path of a package stands on the host.
type place struct {
	host   string
	folder bool
}

// Name returns the package's name.
func (u *Unpacked) Name() string { return u.Archive.Control.Get("Package") }

// Unpack writes the files of packages, .deb files in the order in which dpkg
// would unpack them, into root, many at once. It runs nothing. A folder keeps
// the owner and mode that the first package gives it, a file that several
// packages have is the last one's, a link never takes a folder's place, and
// diversions in root are honoured: as with dpkg, whatever the timing. progress
// is called with each finished index, by one goroutine at a time.
func Unpack(ctx context.Context, root string, paths []string, progress func(i int)) ([]*Unpacked, error) {
	diversions, err := readDiversions(root)
	if err != nil {
		return nil, err
	}
	u := newUnpacker(root, diversions)
	out := make([]*Unpacked, len(paths))
	order, err := largestFirst(paths)
	if err != nil {
		return nil, err
	}
	var reporting sync.Mutex
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range order {
		group.Go(func() error {
			r, err := u.archive(gctx, i, paths[i])
			if err != nil && !errors.Is(err, errLater) {
				return err
			}
			out[i] = r
			reporting.Lock()
			defer reporting.Unlock()
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
	sizes := make([]int64, len(paths))
	order := make([]int, len(paths))
	for i, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		sizes[i], order[i] = st.Size(), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sizes[b], sizes[a]) })
	return order, nil
}

type unpacker struct {
	dirs       *dirs
	diversions map[string]diversion
	claims

	meta    sync.Mutex
	folders map[string]folder // host path -> metadata of the first package
}

type folder struct {
	index    int
	uid, gid int
	mode     uint32
}

func newUnpacker(root string, diversions map[string]diversion) *unpacker {
	return &unpacker{dirs: newDirs(root), diversions: diversions, claims: newClaims(), folders: map[string]folder{}}
}

// settle unpacks the packages that dispute a path again, one after another in
// their order, and takes a file that a later package has off the lists of the
// others, as dpkg does for Replaces. Such packages are few.
func (u *unpacker) settle(ctx context.Context, paths []string, out []*Unpacked) error {
	u.ordered = true
	for known := -1; known < len(u.disputed); { // a package that had to wait may bring up more
		known = len(u.disputed)
		var again []int
		for i, r := range out {
			if r == nil || slices.ContainsFunc(r.places, func(p place) bool { return u.disputed[p.host] }) {
				again = append(again, i)
			}
		}
		if err := u.clear(); err != nil {
			return err
		}
		for _, i := range again {
			r, err := u.archive(ctx, i, paths[i])
			if err != nil {
				return err
			}
			out[i] = r
		}
	}
	for i, r := range out {
		r.drop(func(p place) bool { return !p.folder && u.disputed[p.host] && u.files[p.host] != i })
	}
	return nil
}

// clear removes links and folders that want the same place, so that the order
// decides between them.
func (u *unpacker) clear() error {
	for host := range u.disputed {
		if !u.named[host] || u.before[host] {
			continue
		}
		if err := os.RemoveAll(host); err != nil {
			return err
		}
		below := func(path string) bool { return path == host || strings.HasPrefix(path, host+"/") }
		maps.DeleteFunc(u.folders, func(path string, _ folder) bool { return below(path) })
		u.dirs.forget(below)
	}
	return nil
}

// drop takes lost files off the lists.
func (u *Unpacked) drop(lost func(place) bool) {
	var kept []string
	for k, p := range u.places {
		if lost(p) {
			delete(u.Conffiles, u.Files[k])
			continue
		}
		kept = append(kept, u.Files[k])
	}
	u.Files, u.places = kept, nil
}

// archive unpacks one package.
func (u *unpacker) archive(ctx context.Context, i int, path string) (r *Unpacked, err error) {
	a, err := OpenArchive(path)
	if err != nil {
		return nil, err
	}
	r = &Unpacked{Archive: a, Conffiles: map[string]string{}}
	for line := range strings.Lines(string(a.Members["conffiles"].Data)) {
		if p := strings.TrimSpace(line); strings.HasPrefix(p, "/") {
			r.Conffiles[p] = ""
		}
	}
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
			if err := u.entry(r, i, h, tr); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("unpack %s %s from %s: %w", r.Name(), a.Control.Get("Version"), path, err)
	}
	return r, nil
}

// cleanName turns a tar entry's name into an absolute path inside the root.
func cleanName(name string) string { return filepath.Clean("/" + name) }

func (u *unpacker) entry(r *Unpacked, i int, h *tar.Header, content io.Reader) error {
	if err := checkEntry(h); err != nil {
		return err
	}
	path := cleanName(h.Name)
	if h.Typeflag == tar.TypeDir {
		return u.folder(r, path, i, h)
	}
	host, err := u.host(path, r.Name())
	if err != nil {
		return err
	}
	r.add(path, place{host: host})
	if !u.claim(host, i, h.Typeflag == tar.TypeSymlink) {
		return nil
	}
	return u.write(r, host, path, h, content)
}

func (u *Unpacked) add(path string, p place) {
	if path == "/" {
		path = "/."
	}
	u.Files, u.places = append(u.Files, path), append(u.places, p)
}

// checkEntry refuses what no package holds: names that a list of files cannot
// hold, and files with holes, which could claim any size.
func checkEntry(h *tar.Header) error {
	if strings.ContainsRune(h.Name, '\n') {
		return errors.New("line break in a name")
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errors.New("sparse file")
		}
	}
	return nil
}

// host returns where a path is written, its diversion considered.
func (u *unpacker) host(path, pkg string) (string, error) {
	if d, ok := u.diversions[path]; ok && d.by != pkg {
		path = cleanName(d.to)
	}
	dir, err := u.dirs.ensure(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

func (u *unpacker) folder(r *Unpacked, path string, i int, h *tar.Header) error {
	dir, err := u.dirs.ensure(filepath.Dir(path))
	if err != nil {
		return err
	}
	named := filepath.Join(dir, filepath.Base(path))
	r.add(path, place{named, true})
	if !u.claimFolder(named, i) {
		return errLater
	}
	host, err := u.dirs.ensure(path)
	if err != nil {
		return err
	}
	u.meta.Lock()
	defer u.meta.Unlock()
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

func (u *unpacker) write(r *Unpacked, host, path string, h *tar.Header, content io.Reader) error {
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		err = u.file(r, host, path, content)
	case tar.TypeSymlink:
		err = replace(host, func() error { return os.Symlink(h.Linkname, host) })
		if errors.Is(err, unix.EISDIR) {
			return nil // dpkg keeps a folder where a package has a link
		}
	case tar.TypeLink:
		old, err := u.host(cleanName(h.Linkname), r.Name())
		if err != nil {
			return err
		}
		if !u.settled(old) { // it may be missing, or another package's
			return errLater
		}
		return replace(host, func() error { return os.Link(old, host) })
	default:
		err = fmt.Errorf("entry of type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return setMetadata(host, h)
}

// replace runs create, and once more after removing what stands in its way,
// unless that is a folder: the error is EISDIR then.
func replace(host string, create func() error) error {
	err := create()
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Unlink(host); err != nil {
		return fmt.Errorf("replace what is there: %w", err)
	}
	return create()
}

func (u *unpacker) file(r *Unpacked, host, path string, content io.Reader) error {
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
