package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// Archive is a .deb file: its control members and a way to its data.
type Archive struct {
	Control Stanza            // the control file
	Members map[string]Member // the other control members: postinst, conffiles, md5sums …
	path    string
	data    member
}

// Member is a file of the control archive.
type Member struct {
	Mode int64
	Data []byte
}

type member struct {
	name         string
	offset, size int64
}

const (
	maxArchive = 1 << 40  // bytes of one member
	maxControl = 64 << 20 // bytes of all control members together, unpacked
	// maxWindow bounds what a stream can make its reader allocate, in bytes:
	// xz -9 needs 64 MiB, zstd --ultra -22 needs 128 MiB.
	maxWindow = 128 << 20
)

// OpenArchive reads the control part of a .deb file.
func OpenArchive(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	members, err := arMembers(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	a := &Archive{path: path, Members: map[string]Member{}}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return nil, fmt.Errorf("%s is not a Debian package: it does not begin with debian-binary", path)
	}
	for _, m := range members {
		switch {
		case strings.HasPrefix(m.name, "control.tar"):
			if err := a.readControl(f, m); err != nil {
				return nil, fmt.Errorf("read control of %s: %w", path, err)
			}
		case strings.HasPrefix(m.name, "data.tar"):
			a.data = m
		}
	}
	if a.Control == nil || a.data.name == "" {
		return nil, fmt.Errorf("%s is not a Debian package: it lacks control or data", path)
	}
	return a, nil
}

// arMembers lists the members of an ar archive, format of ar(5).
func arMembers(r io.ReaderAt) ([]member, error) {
	head := make([]byte, 60)
	if _, err := r.ReadAt(head[:8], 0); err != nil || string(head[:8]) != "!<arch>\n" {
		return nil, errors.New("not an ar archive")
	}
	var out []member
	for off := int64(8); len(out) < 16; {
		if n, err := r.ReadAt(head, off); err == io.EOF && n == 0 {
			return out, nil
		} else if n < len(head) {
			return nil, fmt.Errorf("read the member header at byte %d: %w", off, err)
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(head[48:58])), 10, 64)
		if err != nil || size < 0 || size > maxArchive || string(head[58:60]) != "`\n" {
			return nil, fmt.Errorf("bad member header at byte %d", off)
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(head[:16])), "/")
		out = append(out, member{name, off + 60, size})
		off += 60 + size + size&1
	}
	return nil, errors.New("too many members")
}

func (a *Archive) readControl(f io.ReaderAt, m member) error {
	r, closer, err := decompress(m.name, io.NewSectionReader(f, m.offset, m.size))
	if err != nil {
		return err
	}
	defer closer()
	tr := tar.NewReader(io.LimitReader(r, maxControl))
	for left := int64(maxControl); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimPrefix(h.Name, "./")
		if !validMember.MatchString(name) || name == "list" {
			return fmt.Errorf("control member %q", name)
		}
		b, err := readAll(tr, left) // a sparse member can be larger than the archive
		if err != nil {
			return fmt.Errorf("control member %s: %w", name, err)
		}
		left -= int64(len(b))
		a.Members[name] = Member{h.Mode, b}
	}
	control, ok := a.Members["control"]
	if !ok {
		return errors.New("no control file")
	}
	delete(a.Members, "control")
	err = ParseControl(bytes.NewReader(control.Data), func(s Stanza) error {
		if a.Control != nil {
			return errors.New("more than one paragraph")
		}
		a.Control = s
		return checkControl(s)
	})
	if err == nil && a.Control == nil {
		err = errors.New("an empty control file")
	}
	return err
}

var (
	validMember = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	validArch   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
)

// checkControl refuses a package whose name or architecture could not be part
// of a file's name or of a script.
func checkControl(s Stanza) error {
	name, arch := s.Get("Package"), s.Get("Architecture")
	if !validName.MatchString(name) || !validArch.MatchString(arch) || s.Get("Version") == "" {
		return fmt.Errorf("bad package %q, architecture %q, version %q", name, arch, s.Get("Version"))
	}
	return nil
}

// Data calls fn with the package's files, as a tar stream.
func (a *Archive) Data(fn func(*tar.Reader) error) error {
	f, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, closer, err := decompress(a.data.name, io.NewSectionReader(f, a.data.offset, a.data.size))
	if err != nil {
		return err
	}
	defer closer()
	return fn(tar.NewReader(r))
}

// Decompress returns a reader of a stream whose compression its name tells:
// .xz, .gz, .zst or none.
func decompress(name string, r io.Reader) (io.Reader, func(), error) {
	none := func() {}
	br := bufio.NewReaderSize(r, 256<<10)
	switch {
	case strings.HasSuffix(name, ".xz"):
		x, err := xz.NewReader(br, maxWindow)
		return x, none, err
	case strings.HasSuffix(name, ".gz"):
		g, err := gzip.NewReader(br)
		return g, none, err
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case strings.HasSuffix(name, ".tar"), !strings.Contains(name, "."):
		return br, none, nil
	default:
		return nil, nil, fmt.Errorf("%s: unknown compression", name)
	}
}

// readAll is io.ReadAll with a limit.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return b, err
}

// ReadIndex returns the unpacked bytes of an index file such as Packages.xz,
// at most limit of them.
func ReadIndex(path, name string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, closer, err := decompress(name, f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer closer()
	b, err := readAll(r, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
