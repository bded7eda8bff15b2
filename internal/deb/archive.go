package deb

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
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
	maxControl  = 64 << 20 // bytes of all control members together, unpacked
	maxXZWindow = 256 << 20
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
		if _, err := r.ReadAt(head, off); err == io.EOF {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(head[48:58])), 10, 64)
		if err != nil || size < 0 || string(head[58:60]) != "`\n" {
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
	for {
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
		b, err := readAll(tr, maxControl)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if strings.ContainsRune(name, '/') {
			return fmt.Errorf("control member %q", name)
		}
		a.Members[name] = Member{h.Mode, b}
	}
	control, ok := a.Members["control"]
	if !ok {
		return errors.New("no control file")
	}
	delete(a.Members, "control")
	return ParseControl(strings.NewReader(string(control.Data)), func(s Stanza) error { a.Control = s; return nil })
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
		x, err := xz.NewReader(br, maxXZWindow)
		return x, none, err
	case strings.HasSuffix(name, ".gz"):
		g, err := gzip.NewReader(br)
		return g, none, err
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxXZWindow))
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
