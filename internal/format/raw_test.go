package format_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/format"
)

// copyRaw copies src into a new file.
func copyRaw(t *testing.T, src format.Source) (format.Artifact, *format.Raw) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "copy.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := format.CopyRaw(context.Background(), f, src)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := format.OpenRaw(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return a, raw
}

func onDisk(t *testing.T, path string) int64 {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}

func TestCopyRaw(t *testing.T) {
	d := mixedDisk()
	sum := sha256.Sum256(d.data)
	var sizes []int64
	for name, src := range map[string]format.Source{
		"memory": d, "file": sparseFile(t, d),
		"full":  disk{d.data, []format.Extent{{Length: d.Size()}}},
		"qcow2": open(t, qcow2(t, d, format.Options{Compression: format.Zlib})),
	} {
		a, raw := copyRaw(t, src)
		if !bytes.Equal(content(t, raw), d.data) {
			t.Errorf("%s: another content", name)
		}
		if a.SHA256 != hex.EncodeToString(sum[:]) || a.Size != d.Size() || a.Format != "raw" {
			t.Errorf("%s: described as %+v", name, a)
		}
		again, err := format.Describe(context.Background(), a.Path, "raw")
		if err != nil || again != a {
			t.Errorf("%s: described again as %+v, %v", name, again, err)
		}
		sizes = append(sizes, onDisk(t, a.Path))
	}
	for _, n := range sizes {
		if n != sizes[0] || n > d.Size()*2/3 {
			t.Errorf("the copies of a disk of %d bytes take %d: holes are missing or differ", d.Size(), sizes)
			break
		}
	}
}

func TestCopyRawKeepsSmallHoles(t *testing.T) {
	d := disk{data: make([]byte, 64<<10+100), extents: []format.Extent{{Length: 64<<10 + 100}}}
	d.data[8192], d.data[40000] = 1, 1
	a, raw := copyRaw(t, d)
	if !bytes.Equal(content(t, raw), d.data) {
		t.Error("another content")
	}
	if n := onDisk(t, a.Path); n > 2*4096 {
		t.Errorf("two blocks of data take %d bytes", n)
	}
}

func TestOpenRawRefuses(t *testing.T) {
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none"), os.DevNull} {
		if _, err := format.OpenRaw(path); fault.KindOf(err) != fault.Input {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

func TestRawExtents(t *testing.T) {
	raw := sparseFile(t, mixedDisk())
	extents, err := raw.Extents()
	if err != nil || len(extents) == 0 {
		t.Fatalf("extents %v, error %v", extents, err)
	}
	end := int64(-1)
	for _, e := range extents {
		if e.Offset <= end || e.Length <= 0 || e.End() > raw.Size() {
			t.Errorf("extents %v", extents)
		}
		end = e.End()
	}
}
