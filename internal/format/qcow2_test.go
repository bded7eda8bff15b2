package format_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/format"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestQcow2RoundTrip(t *testing.T) {
	d := mixedDisk()
	for name, o := range variants() {
		t.Run(name, func(t *testing.T) {
			image := qcow2(t, d, o)
			q := open(t, image)
			if q.Size() != d.Size() {
				t.Fatalf("size %d, want %d", q.Size(), d.Size())
			}
			if !bytes.Equal(content(t, q), d.data) {
				t.Fatal("another content came back")
			}
			if again := qcow2(t, q, o); !bytes.Equal(again, image) {
				t.Error("the image written from the image differs")
			}
		})
	}
}

func TestQcow2ExtentsCoverTheData(t *testing.T) {
	d := mixedDisk()
	extents, err := open(t, qcow2(t, d, format.Options{Compression: format.Zlib})).Extents()
	if err != nil {
		t.Fatal(err)
	}
	rest, last := bytes.Clone(d.data), int64(-1)
	for _, e := range extents {
		if e.Offset <= last || e.Length <= 0 || e.End() > d.Size() {
			t.Fatalf("extent %v after offset %d of %d", e, last, d.Size())
		}
		clear(rest[e.Offset:e.End()])
		last = e.End()
	}
	if len(bytes.Trim(rest, "\x00")) != 0 {
		t.Error("there is data outside of the extents")
	}
	if last := extents[0]; last.Length >= d.Size() {
		t.Error("holes are not shown")
	}
}

func TestQcow2SameBytesWithAnyWorkers(t *testing.T) {
	d := mixedDisk()
	for name, o := range variants() {
		o.Workers = 1
		want := sha256.Sum256(qcow2(t, d, o))
		for _, o.Workers = range []int{2, 3, 16} {
			if sha256.Sum256(qcow2(t, d, o)) != want {
				t.Errorf("%s: %d workers write other bytes than one", name, o.Workers)
			}
		}
	}
}

// TestQcow2SameBytesWithAnyExtents: how a file system lays a disk out must not show.
func TestQcow2SameBytesWithAnyExtents(t *testing.T) {
	d := mixedDisk()
	o := format.Options{Compression: format.Zstd}
	want := qcow2(t, d, o)
	for name, src := range map[string]format.Source{
		"one extent": disk{d.data, []format.Extent{{Length: d.Size()}}},
		"file":       sparseFile(t, d),
	} {
		if !bytes.Equal(qcow2(t, src, o), want) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

// TestQcow2Golden holds the layout of a tiny image: a compressed, a whole and
// a zero cluster.
func TestQcow2Golden(t *testing.T) {
	data := make([]byte, 3*8192)
	copy(data, bytes.Repeat([]byte("golden"), 8192/6))
	x := uint32(1)
	for i := range 8192 {
		x = x*1664525 + 1013904223
		data[8192+i] = byte(x >> 24)
	}
	d := disk{data, []format.Extent{{Length: 3 * 8192}}}
	for name, c := range map[string]format.Compression{"zlib": format.Zlib, "zstd": format.Zstd} {
		image := qcow2(t, d, format.Options{Compression: c, ClusterSize: 8192})
		got := hexdump(image)
		path := filepath.Join("testdata", "tiny-"+name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the image differs from %s:\n%s", name, path, got)
		}
	}
}

// hexdump is hex.Dump without lines of zeros and, as it is noise, the third
// host cluster.
func hexdump(p []byte) string {
	var b strings.Builder
	for i, line := range strings.SplitAfter(hex.Dump(p), "\n") {
		if i/(8192/16) == 2 || i*16 >= len(p) || len(bytes.Trim(p[i*16:i*16+16], "\x00")) == 0 {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestWriteQcow2Refuses(t *testing.T) {
	d := mixedDisk()
	for name, c := range map[string]struct {
		src  format.Source
		o    format.Options
		want string
	}{
		"cluster size":       {d, format.Options{ClusterSize: 12345}, "power of two"},
		"small clusters":     {d, format.Options{ClusterSize: 4096}, "power of two"},
		"compression":        {d, format.Options{Compression: 9}, "unknown"},
		"level":              {d, format.Options{Compression: format.Zlib, Level: 9}, "level 9"},
		"workers":            {d, format.Options{Workers: -1}, "workers"},
		"empty disk":         {disk{}, format.Options{}, "empty"},
		"enormous for 8 KiB": {hugeDisk{}, format.Options{ClusterSize: 8192}, "larger than 8192"},
	} {
		err := format.WriteQcow2(context.Background(), &buffer{}, c.src, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Input {
			t.Errorf("%s: error %v (%v), want input with %q", name, err, fault.KindOf(err), c.want)
		}
	}
}

type hugeDisk struct{ disk }

func (hugeDisk) Size() int64 { return 1 << 60 }

var errBroken = errors.New("broken")

// brokenDisk fails to read from the middle on.
type brokenDisk struct{ disk }

func (d brokenDisk) ReadAt(p []byte, off int64) (int, error) {
	if off > d.Size()/2 {
		return 0, errBroken
	}
	return d.disk.ReadAt(p, off)
}

type fullDevice struct{}

func (f *fullDevice) WriteAt(p []byte, off int64) (int, error) { return 0, errBroken }

func TestWriteQcow2PassesErrorsOn(t *testing.T) {
	for name, c := range map[string]struct {
		src format.Source
		out io.WriterAt
	}{
		"read":  {brokenDisk{mixedDisk()}, &buffer{}},
		"write": {mixedDisk(), &fullDevice{}},
	} {
		for variant, o := range variants() {
			if err := format.WriteQcow2(context.Background(), c.out, c.src, o); !errors.Is(err, errBroken) {
				t.Errorf("%s, %s: error %v", name, variant, err)
			}
		}
	}
}

// cancelling cancels at the first progress.
type cancelling struct{ cancel func() }

func (c cancelling) Emit(e event.Event) {
	if e.Type == event.Progress {
		c.cancel()
	}
}

func TestWriteQcow2Cancelled(t *testing.T) {
	big := disk{data: make([]byte, 32<<20), extents: []format.Extent{{Length: 32 << 20}}}
	ctx, cancel := context.WithCancel(context.Background())
	ctx, _ = event.Start(event.With(ctx, cancelling{cancel}), "write")
	out := &buffer{}
	err := format.WriteQcow2(ctx, out, big, format.Options{Compression: format.Zlib})
	if fault.KindOf(err) != fault.Interrupted {
		t.Errorf("error %v", err)
	}
	if bytes.HasPrefix(out.data, []byte("QFI")) {
		t.Error("an interrupted image has a header")
	}
}

// set returns a copy of image with a big-endian number of n bytes at off.
func set(image []byte, off, n int, v uint64) []byte {
	p := bytes.Clone(image)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	copy(p[off:off+n], b[8-n:])
	return p
}

func TestOpenQcow2Refuses(t *testing.T) {
	good := qcow2(t, mixedDisk(), format.Options{Compression: format.Zlib})
	l1 := int(binary.BigEndian.Uint64(good[40:]))
	for name, c := range map[string]struct {
		image []byte
		want  string
		kind  fault.Kind
	}{
		"empty":            {nil, "not a qcow2", fault.Input},
		"raw":              {make([]byte, 4096), "not a qcow2", fault.Input},
		"cut header":       {good[:80], "cut short", fault.Integrity},
		"version":          {set(good, 4, 4, 4), "version 4", fault.Input},
		"backing file":     {set(good, 8, 8, 200), "backing file", fault.Input},
		"encrypted":        {set(good, 32, 4, 2), "encrypted", fault.Input},
		"tiny clusters":    {set(good, 20, 4, 8), "2^8", fault.Integrity},
		"huge clusters":    {set(good, 20, 4, 63), "2^63", fault.Integrity},
		"negative disk":    {set(good, 24, 8, 1<<63), "a disk of", fault.Integrity},
		"huge disk":        {set(good, 24, 8, 1<<60), "L1 table of", fault.Integrity},
		"short L1":         {set(good, 36, 4, 0), "L1 table of 0", fault.Integrity},
		"L1 outside":       {set(good, 40, 8, 1<<40), "L1 table at", fault.Integrity},
		"L1 negative":      {set(good, 40, 8, 1<<63|1<<16), "L1 table at", fault.Integrity},
		"L1 unaligned":     {set(good, 40, 8, uint64(l1)+512), "L1 table at", fault.Integrity},
		"L2 outside":       {set(good, l1, 8, 1<<63|1<<40), "L2 table 0", fault.Integrity},
		"L2 unaligned":     {set(good, l1, 8, 1<<63|1<<9), "L2 table 0", fault.Integrity},
		"corrupt bit":      {set(good, 72, 8, 2), "marked corrupt", fault.Integrity},
		"data file":        {set(good, 72, 8, 4), "external data file", fault.Input},
		"extended L2":      {set(good, 72, 8, 16), "extended L2", fault.Input},
		"unknown feature":  {set(good, 72, 8, 1<<40), "unknown incompatible", fault.Input},
		"compression 7":    {set(set(good, 72, 8, 8), 104, 1, 7), "compression type 7", fault.Input},
		"compression 0":    {set(good, 72, 8, 8), "compression type 0", fault.Input},
		"compression flag": {set(good, 104, 1, 1), "compression type 1", fault.Input},
		"header length":    {set(good, 100, 4, 80), "cut short", fault.Integrity},
	} {
		_, err := format.OpenQcow2(bytes.NewReader(c.image), int64(len(c.image)))
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != c.kind {
			t.Errorf("%s: error %v (%v), want %v with %q", name, err, fault.KindOf(err), c.kind, c.want)
		}
	}
}

func TestOpenQcow2RefusesSharedL2(t *testing.T) {
	d := disk{data: make([]byte, 9<<20), extents: []format.Extent{{Length: 9 << 20}}}
	d.data[0], d.data[9<<20-1] = 1, 1
	image := qcow2(t, d, format.Options{ClusterSize: 8192})
	l1 := int(binary.BigEndian.Uint64(image[40:]))
	copy(image[l1+8:l1+16], image[l1:l1+8])
	if _, err := format.OpenQcow2(bytes.NewReader(image), int64(len(image))); fault.KindOf(err) != fault.Integrity {
		t.Errorf("error %v", err)
	}
}

// TestReadQcow2Refuses damages what is looked at when it is read only.
func TestReadQcow2Refuses(t *testing.T) {
	for name, o := range map[string]format.Options{"zlib": {Compression: format.Zlib}, "zstd": {Compression: format.Zstd}} {
		good := qcow2(t, mixedDisk(), o)
		l1 := binary.BigEndian.Uint64(good[40:])
		l2 := int(binary.BigEndian.Uint64(good[l1:]) &^ (1 << 63))
		for what, image := range map[string][]byte{
			"whole outside":      set(good, l2, 8, 1<<63|1<<40),
			"whole unaligned":    set(good, l2, 8, 1<<63|1<<10),
			"compressed outside": set(good, l2, 8, 1<<62|1<<40),
			"compressed header":  set(good, l2, 8, 1<<62|7),
		} {
			q := open(t, image)
			if _, err := q.ReadAt(make([]byte, 10), 5); fault.KindOf(err) != fault.Integrity {
				t.Errorf("%s, %s: error %v", name, what, err)
			}
		}
	}
}

// qemuImages are images of the same disk that qemu-img 7.2 made, with clusters
// of 512 bytes: version 2 and 3, zlib and zstd.
func qemuImages(t testing.TB) []string {
	t.Helper()
	list, err := filepath.Glob("testdata/qemu-*.qcow2")
	if err != nil || len(list) != 3 {
		t.Fatalf("images %v, error %v", list, err)
	}
	return list
}

func TestReadQemuImages(t *testing.T) {
	const want = "8c033f463ec994b0cc327c8b95ef75a392eff737c5f7e3d492074cb9a2189d6b"
	for _, path := range qemuImages(t) {
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content(t, open(t, image)))
		if hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s: another content", path)
		}
	}
}

func FuzzOpenQcow2(f *testing.F) {
	// Small seeds: the fuzzer is slow with large ones.
	for _, path := range qemuImages(f) {
		image, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(image)
	}
	d := disk{mixedDisk().data[:20_000], []format.Extent{{Length: 10_000}, {Offset: 18_000, Length: 2_000}}}
	f.Add(qcow2(f, d, format.Options{Compression: format.Zlib, ClusterSize: 8 << 10}))
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, image []byte) {
		q, err := format.OpenQcow2(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			return
		}
		extents, err := q.Extents()
		if err != nil {
			return
		}
		buf := make([]byte, 100_000)
		for _, e := range extents[:min(len(extents), 50)] {
			if e.Length <= 0 || e.Offset < 0 || e.End() > q.Size() {
				t.Fatalf("extent %v of a disk of %d bytes", e, q.Size())
			}
			n, err := q.ReadAt(buf[:min(e.Length, int64(len(buf)))], e.Offset)
			if err == nil && int64(n) < min(e.Length, int64(len(buf))) {
				t.Fatalf("a short read of %d bytes of %v without an error", n, e)
			}
		}
		if _, err := q.ReadAt(buf, q.Size()); err != io.EOF {
			t.Fatalf("read behind the end: %v", err)
		}
	})
}
