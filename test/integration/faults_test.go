package integration

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/resolve"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/store"
)

func resolveErr(t *testing.T, s *store.Store, source, where string) error {
	t.Helper()
	text := "apiVersion: imagebuilder.dev/v1alpha1\nkind: Image\nspec:\n  kubernetes: {version: " + version + ", source: " + source + ", " + where + "}\n"
	sp, src, err := spec.Load("image.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := resolve.Resolver{Fetch: fetch.New(s, fetch.Options{}), HostRoot: "/", ConfigDir: t.TempDir(), Now: time.Now(), Dir: t.TempDir()}
	_, err = r.Resolve(t.Context(), sp, src)
	return err
}

// program starts the builder on the quickstart, up to a phase, with a store of
// its own that has all inputs but no layer.
type program struct {
	cmd  *exec.Cmd
	home string
	out  *bufio.Reader
}

func start(t *testing.T, home, out, until string) program {
	t.Helper()
	args := []string{"build", "-f", quickstart, "-o", out, "--locked", "--progress", "plain"}
	if until != "" {
		args = append(args, "--until", until)
	}
	cmd := exec.Command("/proc/self/exe", args...)
	// Another time zone and language: neither may be seen in the result.
	cmd.Env = append(os.Environ(), asProgram+"=1", "IMAGE_BUILDER_HOME="+home, "TZ=Asia/Kolkata", "LC_ALL=C", "LANG=de_DE.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return program{cmd, home, bufio.NewReader(pipe)}
}

// waitFor reads what the builder prints until a line holds all words.
func (p program) waitFor(t *testing.T, words ...string) {
	t.Helper()
	var seen []string
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the builder ended before it said %v:\n%s", words, strings.Join(seen, ""))
		}
		seen = append(seen, line)
		if all(line, words) {
			return
		}
	}
}

func all(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

func (p program) wait() (code int, output string) {
	rest, _ := io.ReadAll(p.out)
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(rest)
	}
	return 0, string(rest)
}

// privateStore links the inputs, tools roots and programs of the shared store
// into a new one on the same disk.
func privateStore(t *testing.T) string {
	t.Helper()
	shared := os.Getenv("IMAGE_BUILDER_TEST_STORE")
	home, err := os.MkdirTemp(filepath.Dir(shared), "store-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.RemoveAll(home) })
	fillStore(t, shared, home)
	return home
}

func fillStore(t *testing.T, shared, home string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(home, "layers"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-al", filepath.Join(shared, "blobs"), home).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, kind := range []string{"tools-*", "programs-*"} {
		dirs, _ := filepath.Glob(filepath.Join(shared, "layers", kind))
		for _, d := range dirs {
			if out, err := exec.Command("cp", "-al", d, filepath.Join(home, "layers")).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
}

// gone waits until nobody uses a store any more, and returns who does after 10 s.
// A killed builder's processes are killed by the kernel, one after the other.
func gone(home string) (left []string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if left = users(home); len(left) == 0 {
			return nil
		}
	}
	return left
}

// users returns the processes that have something of a store open or mounted.
func users(home string) (out []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		mounts, _ := os.ReadFile(filepath.Join(d, "mountinfo"))
		cwd, _ := os.Readlink(filepath.Join(d, "cwd"))
		if strings.Contains(string(mounts), home) || strings.HasPrefix(cwd, home) {
			cmd, _ := os.ReadFile(filepath.Join(d, "cmdline"))
			out = append(out, filepath.Base(d)+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
		}
	}
	return out
}

// TestInterrupt stops a build in the middle of a phase, by Ctrl-C and by
// kill -9: nothing is left running or mounted, no half artifact stands there,
// and the next run goes on after the last finished phase.
func TestInterrupt(t *testing.T) {
	home, out := privateStore(t), filepath.Join(t.TempDir(), "out")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		p := start(t, home, out, "os")
		p.waitFor(t, "os", "configuring")
		began := time.Now()
		if sig == syscall.SIGKILL {
			p.cmd.Process.Signal(sig) // of the outer process alone
		} else {
			syscall.Kill(-p.cmd.Process.Pid, sig) // as a terminal does
		}
		code, text := p.wait()
		t.Logf("%v: ended after %v with %d", sig, time.Since(began), code)
		if sig == syscall.SIGINT && (code != 130 || !strings.Contains(text, "interrupted")) {
			t.Errorf("after Ctrl-C: exit %d, %s", code, text)
		}
		if u := gone(home); len(u) > 0 {
			t.Errorf("%v left %v", sig, u)
		}
		if left, _ := filepath.Glob(filepath.Join(out, "*")); len(left) > 0 {
			t.Errorf("%v left %v", sig, left)
		}
	}
	p := start(t, home, out, "os")
	code, text := p.wait()
	if code != 0 || !strings.Contains(text, "cached") {
		t.Errorf("the next run: exit %d\n%s", code, text)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "tmp", "*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// TestFullDisk runs out of space in the middle of a phase, and goes on when
// there is some.
func TestFullDisk(t *testing.T) {
	shared, home := os.Getenv("IMAGE_BUILDER_TEST_STORE"), t.TempDir()
	if err := unix.Mount("tmpfs", home, "tmpfs", 0, "size=60m,mode=0755"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(home, unix.MNT_DETACH)
	if err := os.Symlink(filepath.Join(shared, "blobs"), filepath.Join(home, "blobs")); err != nil {
		t.Fatal(err)
	}
	p := start(t, home, filepath.Join(t.TempDir(), "out"), "base")
	code, text := p.wait()
	if code != 3 || !strings.Contains(text, "full") || !strings.Contains(text, "hint:") {
		t.Errorf("on a full disk: exit %d\n%s", code, text)
	}
	if layers, _ := filepath.Glob(filepath.Join(home, "layers", "*")); len(layers) > 0 {
		t.Errorf("a half layer is left: %v", layers)
	}
	if err := unix.Mount("", home, "", unix.MS_REMOUNT, "size=1g"); err != nil {
		t.Fatal(err)
	}
	if code, text := start(t, home, filepath.Join(t.TempDir(), "out"), "base").wait(); code != 0 {
		t.Errorf("with space again: exit %d\n%s", code, text)
	}
}
