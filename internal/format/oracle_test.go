package format_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imagebuilder.dev/internal/format"
)

// qemuImg runs qemu-img, the judge of what we write, and skips without it.
func qemuImg(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not in PATH; it comes with Debian's package qemu-utils")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writeFile(t testing.TB, src format.Source, o format.Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := format.WriteQcow2(context.Background(), f, src, o); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestQemuAcceptsOurs(t *testing.T) {
	d := mixedDisk()
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(raw, d.data, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, o := range variants() {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, d, o)
			out := qemuImg(t, "check", path)
			if !strings.Contains(out, "No errors were found") || strings.Contains(strings.ToLower(out), "leaked") {
				t.Errorf("qemu-img check: %s", out)
			}
			qemuImg(t, "compare", "-f", "raw", "-F", "qcow2", raw, path)
			back := filepath.Join(t.TempDir(), "back.raw")
			qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", path, back)
			if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, d.data) {
				t.Errorf("qemu-img convert reads another content (%v)", err)
			}
		})
	}
}

func TestWeReadQemus(t *testing.T) {
	d := mixedDisk()
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(raw, d.data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"-o compat=0.10", "-c -o compat=0.10", "-c", "-o cluster_size=512", "-c -o cluster_size=512", "-c -o cluster_size=2M",
		"-c -o compression_type=zstd", "-c -o compression_type=zstd,cluster_size=2M", "-o preallocation=metadata", "-o lazy_refcounts=on",
	} {
		path := filepath.Join(t.TempDir(), "disk.qcow2")
		qemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, strings.Fields(args)...), raw, path)...)
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, open(t, image)), d.data) {
			t.Errorf("%s: another content", args)
		}
	}
}

// BenchmarkQcow2 writes the file that QCOW2_BENCH names (any few hundred MB of
// real files, such as a tar of /usr/lib) and sets time and size in relation to
// those of qemu-img, run in turn with ours. Beside other work the two cores are
// not ours: run it under "chrt -r 5" then, or the ratio of times says little.
func BenchmarkQcow2(b *testing.B) {
	path := os.Getenv("QCOW2_BENCH")
	if path == "" {
		b.Skip("QCOW2_BENCH names no file")
	}
	raw, err := format.OpenRaw(path)
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	for _, c := range []struct {
		name string
		o    format.Options
		args []string
	}{
		{"zlib", format.Options{Compression: format.Zlib}, []string{"-c"}},
		{"zstd", format.Options{Compression: format.Zstd}, []string{"-c", "-m", "4", "-o", "compression_type=zstd"}},
		{"none", format.Options{}, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(raw.Size())
			var theirs time.Duration
			var ourSize, theirSize int64
			for b.Loop() {
				ourSize = fileSize(b, writeFile(b, raw, c.o))
				b.StopTimer()
				other := filepath.Join(b.TempDir(), fmt.Sprint(b.N)+".qcow2")
				start := time.Now()
				qemuImg(b, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, c.args...), path, other)...)
				theirs += time.Since(start)
				theirSize = fileSize(b, other)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed())/float64(theirs), "time-ratio")
			b.ReportMetric(float64(ourSize)/float64(theirSize), "size-ratio")
			b.ReportMetric(float64(ourSize)/1e6, "MB")
		})
	}
}

func fileSize(b *testing.B, path string) int64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}
