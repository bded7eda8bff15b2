package disk

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"imagebuilder.dev/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	flag.Parse()
	if os.Getenv(toolsVariable) != "" {
		if err := sandbox.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// toolsVariable names a directory with an unpacked Debian 13: e2fsprogs,
// libarchive13t64, grub-pc-bin, grub-efi-amd64-signed and shim-signed.
const toolsVariable = "IMAGE_BUILDER_TEST_TOOLS"

func toolsRoot(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(toolsVariable)
	if dir == "" {
		t.Skipf("%s names no tools root", toolsVariable)
	}
	return dir
}

// hostTool returns a program of the host that checks what we wrote.
func hostTool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, name); exists(p) {
			return p
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return p
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// must runs a program of the host and returns its output.
func must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(hostTool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// sparseFile returns a new file of a size, removed with the test.
func sparseFile(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func seed() (s [32]byte) {
	copy(s[:], "a seed for tests, 32 bytes long.")
	return s
}

func epoch() time.Time { return time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC) }

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
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
		t.Errorf("%s differs; run with -update and look at the diff\ngot:\n%s", path, got)
	}
}
