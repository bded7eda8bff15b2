package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// The feature list of Debian 13's own mke2fs.conf.
const testFeatures = "has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super," +
	"large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed,orphan_file"

// plainCapabilities is cap_net_raw=ep as the kernel stores it, revision 2.
const plainCapabilities = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// testRootfs makes a rootfs of everything that a filesystem can hold.
func testRootfs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	long := strings.Repeat("n", 255)
	for name, content := range map[string]string{
		"etc/fstab":                    "UUID=" + UUIDs(seed()).Root.String() + " / ext4 defaults 0 1\n",
		"boot/grub/grub.cfg":           "serial\nterminal_output console serial\necho menu of the test\n",
		"usr/bin/ping":                 strings.Repeat("elf", 3000),
		"usr/bin/sudo":                 "setuid",
		"usr/share/größe 漢字":           "not ASCII",
		"usr/share/\xff\xfe":           "not UTF-8",
		"usr/share/" + long:            long,
		"var/lib/" + long[:200] + "/a": "deep",
		"var/lib/empty":                "",
		"var/lib/user":                 "has an attribute",
		"var/lib/a \"b\"":              "quotes",
	} {
		write(t, filepath.Join(root, name), content)
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(root, "usr/bin/sudo"), 0o755|os.ModeSetuid),
		os.Chown(filepath.Join(root, "var/lib/user"), 33, 34),
		os.Link(filepath.Join(root, "usr/bin/sudo"), filepath.Join(root, "usr/bin/sudoedit")),
		os.Symlink("usr/bin", filepath.Join(root, "bin")),
		os.Symlink(strings.Repeat("x/", 400), filepath.Join(root, "usr/long-link")),
		os.Link(filepath.Join(root, "usr/long-link"), filepath.Join(root, "usr/zz-same-link")),
		unix.Mkfifo(filepath.Join(root, "var/lib/fifo"), 0o600),
		unix.Setxattr(filepath.Join(root, "usr/bin/ping"), "security.capability", []byte(plainCapabilities), 0),
		unix.Setxattr(filepath.Join(root, "var/lib/user"), "user.comment", []byte("kept\x00"), 0),
		os.Chmod(root, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	makeSpecial(t, root)
	return root
}

// makeSpecial adds a file with holes, a socket and, where it is allowed, devices.
func makeSpecial(t *testing.T, root string) {
	t.Helper()
	f, err := os.Create(filepath.Join(root, "var/lib/holes"))
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("end"), 70<<20)
	f.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd()) // a socket's address holds 108 bytes
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: short}); err != nil {
		t.Fatal(err)
	}
	unix.Mknod(filepath.Join(root, "var/lib/device"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1)))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func testOptions(t *testing.T, root string) Options {
	return Options{
		Size: 512 << 20, Seed: seed(), Epoch: epoch(), Ext4Features: testFeatures, ESPSize: 64 << 20,
		Root: root, Tools: toolsRoot(t),
		ESP: []ESPFile{
			{Path: "EFI/debian/grub.cfg", Content: []byte(ESPConfig(UUIDs(seed()).Root))},
			{Path: "EFI/BOOT/BOOTX64.EFI", From: "/usr/bin/ping"},
		},
	}
}

func TestCompose(t *testing.T) {
	o := testOptions(t, testRootfs(t))
	a, b := filepath.Join(t.TempDir(), "a.raw"), filepath.Join(t.TempDir(), "b.raw")
	for _, path := range []string{a, b} {
		if err := Compose(t.Context(), path, o); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".compose-*")); left != nil {
			t.Errorf("left behind: %v", left)
		}
	}
	if sum(t, a) != sum(t, b) {
		t.Error("two runs give different bytes")
	}
	var st syscall.Stat_t
	if err := syscall.Stat(a, &st); err != nil || st.Size != o.Size || st.Blocks*512 > 16<<20 {
		t.Errorf("size %d, on disk %d, %v", st.Size, st.Blocks*512, err)
	}
	t.Run("gpt", func(t *testing.T) {
		if out := must(t, "sgdisk", "--verify", a); !strings.Contains(out, "No problems found") {
			t.Error(out)
		}
	})
	t.Run("esp", func(t *testing.T) { checkESP(t, a, o) })
	t.Run("ext4", func(t *testing.T) { checkExt4(t, a, o) })
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func checkESP(t *testing.T, path string, o Options) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	span := LayOut(o.Size, o.ESPSize).ESP
	got, label, err := readFAT(io.NewSectionReader(f, span.Start, span.Size))
	want := map[string]string{
		"EFI/debian/grub.cfg":  ESPConfig(UUIDs(seed()).Root),
		"EFI/BOOT/BOOTX64.EFI": strings.Repeat("elf", 3000),
	}
	if err != nil || label != "FAT32 ESP" || !maps.Equal(got, want) {
		t.Errorf("%v %q %q", err, label, got)
	}
}

// tool runs a program of the tools root on the disk and returns its output.
func tool(t *testing.T, o Options, disk string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	err := sandbox.Run(t.Context(), sandbox.Command{
		Root: o.Tools, ReadOnly: true, Args: args, Stdout: &out, Stderr: &out,
		Mounts: []sandbox.Mount{{Source: disk, Target: toolDisk}},
	})
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

func checkExt4(t *testing.T, path string, o Options) {
	at := fmt.Sprintf("%s?offset=%d", toolDisk, LayOut(o.Size, o.ESPSize).Root.Start)
	tool(t, o, path, "e2fsck", "-fn", at)
	ask := func(request string) string { return tool(t, o, path, "debugfs", "-R", request, at) }
	for request, want := range map[string][]string{
		"stat /":                                          {"Mode:  0755", "Links: 7"},
		"stat /usr/bin/sudo":                              {"Mode:  04755", "Links: 2"},
		"stat /usr/bin/sudoedit":                          {"Links: 2"},
		"stat /var/lib/user":                              {"User:    33   Group:    34", "user.comment (5)", "mtime: 0x698173f2"},
		"ea_get /var/lib/user user.comment":               {"6b 65 70 74 00"},
		"ea_get -x /usr/bin/ping security.capability":     {"01 00 00 02 00 20 00 00"},
		"stat /bin":                                       {`Fast link dest: "usr/bin"`},
		"stat /usr/zz-same-link":                          {"Links: 2", "Size: 800"},
		"stat /var/lib/holes":                             {"Size: 73400323", "Blockcount: 8\n"},
		"stat /var/lib/fifo":                              {"Type: FIFO"},
		`cat "/usr/share/größe 漢字"`:                       {"not ASCII"},
		"ls -l /usr/share":                                {`9  3-Feb-2026 04:05 \xff\xfe`},
		"cat /usr/share/" + strings.Repeat("n", 255):      {"nnn"},
		"cat /var/lib/" + strings.Repeat("n", 200) + "/a": {"deep"},
		"stat /boot/grub/i386-pc":                         {"Mode:  0755", "mtime: 0x698173f2"},
		"stat /boot/grub/i386-pc/core.img":                {"Mode:  0644", "mtime: 0x698173f2"},
		"stat /boot/grub/i386-pc/normal.mod":              {"Type: regular"},
		"stat /lost+found":                                {"Mode:  0700", "mtime: 0x698173f2"},
		"stats":                                           {UUIDs(seed()).Root.String(), UUIDs(seed()).HashSeed.String(), "Filesystem volume name:   root", "resize_inode", "Filesystem created:"},
	} {
		got := ask(request)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", request, w, got)
			}
		}
	}
	if got := ask("stat /socket"); !strings.Contains(got, "File not found") {
		t.Errorf("the socket is there:\n%s", got)
	}
}

func TestComposeTooSmall(t *testing.T) {
	o := testOptions(t, testRootfs(t))
	write(t, filepath.Join(o.Root, "big"), strings.Repeat("x", 1<<20))
	if err := os.Truncate(filepath.Join(o.Root, "big"), 1<<30); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.raw")
	err := Compose(t.Context(), path, o)
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "MiB short") || fault.HintOf(err) != "set disk.size to 2GiB or more" {
		t.Errorf("got %v (%s)", err, fault.HintOf(err))
	}
	if exists(path) {
		t.Error("the disk is there")
	}
}

func TestComposeReportsTheToolsError(t *testing.T) {
	o := testOptions(t, testRootfs(t))
	o.Ext4Features = "no_such_feature"
	err := Compose(t.Context(), filepath.Join(t.TempDir(), "a.raw"), o)
	var exit *sandbox.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "no_such_feature") {
		t.Errorf("got %v", err)
	}
}

func TestESPFileMissing(t *testing.T) {
	_, err := openESP(t.TempDir(), SignedESP("debian", UUIDs(seed()).Root))
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "shimx64.efi.signed") {
		t.Errorf("got %v", err)
	}
}

func TestComposeDiskFull(t *testing.T) {
	o := testOptions(t, testRootfs(t))
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	err := Compose(t.Context(), filepath.Join(dir, "a.raw"), o)
	if !errors.Is(err, syscall.ENOSPC) || fault.KindOf(err) != fault.Environment || fault.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestComposeInterrupted(t *testing.T) {
	o := testOptions(t, testRootfs(t))
	ctx, cancel := context.WithCancel(t.Context())
	o.Run = func(ctx context.Context, c sandbox.Command) error {
		if c.Args[0] == "mke2fs" {
			time.AfterFunc(20*time.Millisecond, cancel)
			c.Args = []string{"sleep", "60"} // does not read the stream, which is larger than the pipe
		}
		return sandbox.Run(ctx, c)
	}
	if err := Compose(ctx, filepath.Join(t.TempDir(), "a.raw"), o); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("got %v", err)
	}
}
