package format_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"imagebuilder.dev/internal/format"
)

// disk is a Source in memory that admits to its extents only.
type disk struct {
	data    []byte
	extents []format.Extent
}

func (d disk) Size() int64                           { return int64(len(d.data)) }
func (d disk) Extents() ([]format.Extent, error)     { return d.extents, nil }
func (d disk) ReadAt(p []byte, o int64) (int, error) { return bytes.NewReader(d.data).ReadAt(p, o) }

// buffer is an io.WriterAt in memory.
type buffer struct{ data []byte }

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	if grow := int(off) + len(p) - len(b.data); grow > 0 {
		b.data = append(b.data, make([]byte, grow)...)
	}
	return copy(b.data[off:], p), nil
}

// mixedDisk has text, noise, zeros within an extent, holes, and a size that is
// no multiple of a cluster.
func mixedDisk() disk {
	rng := rand.New(rand.NewPCG(3, 4))
	d := disk{data: make([]byte, 5<<20+1536)}
	var text bytes.Buffer
	for text.Len() < 1<<20 {
		fmt.Fprintf(&text, "/usr/share/doc/%x/copyright %d\n", rng.Uint32(), text.Len())
	}
	text.Truncate(1 << 20)
	noise := make([]byte, 700_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	put := func(off int, p []byte, length int) {
		copy(d.data[off:], p)
		d.extents = append(d.extents, format.Extent{Offset: int64(off), Length: int64(length)})
	}
	put(0, text.Bytes(), 1<<20)
	put(1<<20+4096, noise, 1<<20)
	put(3<<20+512, text.Bytes()[:300_000], 400_000)
	put(len(d.data)-100_000, noise[:100_000], 100_000)
	return d
}

// qcow2 writes src and returns the image.
func qcow2(t testing.TB, src format.Source, o format.Options) []byte {
	t.Helper()
	var b buffer
	if err := format.WriteQcow2(context.Background(), &b, src, o); err != nil {
		t.Fatal(err)
	}
	return b.data
}

func open(t testing.TB, image []byte) *format.Qcow2 {
	t.Helper()
	q, err := format.OpenQcow2(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// content reads all of a source.
func content(t testing.TB, src format.Source) []byte {
	t.Helper()
	p, err := io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sparseFile writes d as a file with holes and opens it.
func sparseFile(t testing.TB, d disk) *format.Raw {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(d.Size()); err != nil {
		t.Fatal(err)
	}
	for _, e := range d.extents {
		if _, err := f.WriteAt(d.data[e.Offset:e.End()], e.Offset); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := format.OpenRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return raw
}

// variants are the options worth a test of their own.
func variants() map[string]format.Options {
	return map[string]format.Options{
		"none":       {},
		"zlib":       {Compression: format.Zlib},
		"zlib-8k":    {Compression: format.Zlib, ClusterSize: 8 << 10},
		"zlib-2m":    {Compression: format.Zlib, ClusterSize: 2 << 20},
		"zstd":       {Compression: format.Zstd},
		"zstd-19-1m": {Compression: format.Zstd, Level: 19, ClusterSize: 1 << 20},
	}
}
