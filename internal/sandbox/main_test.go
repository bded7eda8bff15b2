package sandbox

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain makes one binary of three: outside, the test runner enters its own
// namespace; inside, at /probe, it is the command of a test.
func TestMain(m *testing.M) {
	Main()
	if strings.HasPrefix(os.Args[0], "/probe") || os.Getenv("PROBE") != "" {
		os.Exit(probe(os.Args[1:]))
	}
	if os.Getenv(outsideVariable) != "" {
		os.Exit(outside())
	}
	host := mounts(os.Getpid())
	if os.Getenv(enteredVar) == "" {
		os.Setenv("HOST_MOUNTS", host)
	}
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot enter a user namespace:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// mounts returns the mount table of a process.
func mounts(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		panic(err)
	}
	return string(b)
}

// probeCommand runs the probe with arguments, over an empty root.
func probeCommand(t testing.TB, args ...string) Command {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Command{
		Root: t.TempDir(), Args: append([]string{"/probe"}, args...),
		Mounts: append([]Mount{{Source: exe, Target: "/probe", ReadOnly: true}}, libraries(t, exe)...),
	}
}

// libraries binds in, at /lib and /lib64, what a program with cgo (as the race
// detector needs) is linked to.
func libraries(t testing.TB, exe string) (out []Mount) {
	f, err := elf.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if interp := f.Section(".interp"); err == nil && interp != nil {
		b, _ := interp.Data()
		loader := string(bytes.TrimRight(b, "\x00"))
		out = append(out, Mount{Source: loader, Target: loader, ReadOnly: true})
	}
	for _, n := range names {
		for _, dir := range []string{"/lib/*-linux-gnu*/", "/lib64/", "/usr/lib64/", "/usr/lib/"} {
			if found, _ := filepath.Glob(dir + n); len(found) > 0 {
				out = append(out, Mount{Source: found[0], Target: "/lib/" + n, ReadOnly: true})
				break
			}
		}
	}
	return out
}

// lines runs a command and returns the lines that it printed.
func lines(t testing.TB, c Command) []string {
	t.Helper()
	out, err := Output(t.Context(), c)
	if err != nil {
		t.Fatalf("%q: %v", c.Args[1:], err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// checkLines runs the probe and compares what it prints.
func checkLines(t *testing.T, c Command, want ...string) {
	t.Helper()
	if got := lines(t, c); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q printed %q, want %q", c.Args[1:], got, want)
	}
}

func checkExit(t *testing.T, err error, code int) *ExitError {
	t.Helper()
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != code {
		t.Fatalf("error is %v, want status %d", err, code)
	}
	return exit
}

// tree makes files below a folder; a name that ends in / is a folder.
func tree(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
