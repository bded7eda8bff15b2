package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/sandbox"
)

// smallTree makes a directory whose times and owners do not depend on who runs
// the test, and the extras that go with it.
func smallTree(t *testing.T) (string, []Extra) {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"b/new", "b/old", "a-file", "boot/grub/grub.cfg", "boot/grub/i386-pc/mine.mod", "größe"} {
		write(t, filepath.Join(root, name), "content of "+name)
	}
	extra := filepath.Join(t.TempDir(), "x")
	write(t, extra, "extra")
	old := epoch().Add(-time.Hour + 500*time.Millisecond)
	for _, err := range []error{
		os.Link(filepath.Join(root, "b/new"), filepath.Join(root, "z-link")),
		os.Symlink("b/new", filepath.Join(root, "sym")),
		unix.Mkfifo(filepath.Join(root, "fifo"), 0o640),
		os.Chmod(filepath.Join(root, "b"), 0o777|os.ModeSticky),
		os.Chmod(root, 0o755),
		os.Chtimes(filepath.Join(root, "b/old"), old, old),
		os.Chtimes(extra, old, old),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"user.kept": "1", "user.overlay.opaque": "y"} {
		if err := unix.Setxattr(filepath.Join(root, "b/old"), name, []byte(value), 0); err != nil {
			t.Skipf("no extended attributes in %s: %v", root, err)
		}
	}
	return root, []Extra{
		{Path: "boot/grub/i386-pc/core.img", Source: extra},
		{Path: "boot/grub/i386-pc/mine.mod", Source: extra},
		{Path: "opt/made/here", Source: extra},
	}
}

func TestWriteTarGolden(t *testing.T) {
	root, extras := smallTree(t)
	tree, err := Scan(t.Context(), root, extras)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tree.WriteTar(t.Context(), &out, epoch()); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		if h.Uid != os.Getuid() && h.Uid != 0 {
			t.Errorf("%s: owner %d", h.Name, h.Uid)
		}
		fmt.Fprintf(&list, "%c %04o %s %q -> %q %q %q\n", h.Typeflag, h.Mode, h.ModTime.UTC().Format(time.RFC3339), h.Name, h.Linkname, data, h.PAXRecords["hdrcharset"])
	}
	golden(t, "tree.txt", list.String())
	for _, e := range tree.entries {
		if want := map[string]string{"user.kept": "1"}; e.path == "b/old" && !maps.Equal(e.xattrs, want) {
			t.Errorf("attributes %q, want %q", e.xattrs, want)
		}
	}
}

func TestWriteTarSeesAChange(t *testing.T) {
	root, _ := smallTree(t)
	tree, err := Scan(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(root, "b/old"), 3); err != nil {
		t.Fatal(err)
	}
	if err := tree.WriteTar(t.Context(), io.Discard, epoch()); err == nil || !strings.Contains(err.Error(), "/b/old: it had 16 bytes and now has 3") {
		t.Errorf("got %v", err)
	}
}

func TestScanStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, t.TempDir(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPlainCapability(t *testing.T) {
	revision3 := "\x01\x00\x00\x03" + plainCapabilities[4:] + "\xa0\x86\x01\x00"
	for _, in := range []string{plainCapabilities, revision3} {
		if got, err := plainCapability([]byte(in)); err != nil || string(got) != plainCapabilities {
			t.Errorf("%x became %x, %v", in, got, err)
		}
	}
	if _, err := plainCapability([]byte("short")); err == nil {
		t.Error("accepted 5 bytes")
	}
}

// The estimate may be a little high, so that nobody is sent into a failing
// mke2fs, and never low.
func TestOverheadAgainstMke2fs(t *testing.T) {
	tools := toolsRoot(t)
	empty, err := Scan(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{200 << 20, 900 << 20, 8 << 30, 40<<30 + 5<<20, 300 << 30} {
		f := sparseFile(t, size)
		o := ext4Options{
			Disk: f.Name(), Size: size, Features: testFeatures, Epoch: epoch(), Tools: tools, Work: t.TempDir(),
			UUID: UUIDs(seed()).Root, HashSeed: UUIDs(seed()).HashSeed, Label: RootLabel,
		}
		if err := makeExt4(t.Context(), sandbox.Run, empty, o); err != nil {
			t.Fatal(err)
		}
		stats := tool(t, Options{Tools: tools}, f.Name(), "debugfs", "-R", "stats -h", toolDisk)
		blocks := size / ext4Block
		used, estimate := blocks-field(t, stats, "Free blocks:"), ext4Overhead(blocks)
		if used > estimate || estimate-used > 1024+blocks/200 {
			t.Errorf("%d MiB: mke2fs takes %d blocks, estimated %d", size>>20, used, estimate)
		}
		if n := ceilDiv(blocks, ext4Group) * inodesPerGroup(blocks); field(t, stats, "Inode count:") < n-2*ext4Group/4 {
			t.Errorf("%d MiB: %d inodes estimated\n%s", size>>20, n, stats)
		}
	}
}

func field(t *testing.T, text, name string) (n int64) {
	t.Helper()
	_, rest, found := strings.Cut(text, name)
	if _, err := fmt.Sscan(rest, &n); err != nil || !found {
		t.Fatalf("no %s in\n%s", name, text)
	}
	return n
}

func TestMinimumSize(t *testing.T) {
	u := Usage{Bytes: 1500 << 20, Inodes: 30000}
	least := MinimumSize(u, DefaultESPSize)
	if CheckSize(u, least, DefaultESPSize) != nil || CheckSize(u, least-1<<20, DefaultESPSize) == nil {
		t.Errorf("%d MiB is not the least", least>>20)
	}
	many := MinimumSize(Usage{Bytes: 1500 << 20, Inodes: 1 << 20}, DefaultESPSize)
	if many < 16<<30 {
		t.Errorf("a million files fit %d MiB with an inode for every 16 KiB", many>>20)
	}
	if sizes := []int64{least, many}; !slices.IsSorted(sizes) {
		t.Error(sizes)
	}
}

func TestLayout(t *testing.T) {
	for _, size := range []int64{1 << 30, 8 << 30, 8<<30 + 1<<20} {
		l := LayOut(size, DefaultESPSize)
		if l.Root.Start != l.ESP.Start+l.ESP.Size || l.Root.Size%alignment != 0 || size-l.Root.Start-l.Root.Size > alignment {
			t.Errorf("%d: %+v", size, l)
		}
	}
}
