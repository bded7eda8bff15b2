package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

func TestCommandIsRootInItsOwnWorld(t *testing.T) {
	c := probeCommand(t, "id")
	checkLines(t, c, "0 0 1")
	t.Setenv("SECRET", "hunter2")
	c.Args = []string{"/probe", "env"}
	c.Env = []string{"A=1", "A=2", "PATH=/bin", "EMPTY="}
	checkLines(t, c, "A=2", "EMPTY=", "HOME=/root", "LC_ALL=C.UTF-8", "PATH=/bin")
	c = probeCommand(t, "dir")
	checkLines(t, c, "/ ok")
	tree(t, c.Root, map[string]string{"a/b/": ""})
	c.Dir = "/a/b"
	checkLines(t, c, "/a/b ok")
}

func TestArgumentsSurvive(t *testing.T) {
	args := []string{"args", "", "a b", "new\nline", "\xff\xfe", "'\"\\", "ü", strings.Repeat("x", 100_000)}
	checkLines(t, probeCommand(t, args...), fmt.Sprintf("%q", args[1:]))
	c := probeCommand(t, "env")
	c.Env = []string{"B=\xff\x80"}
	if got := lines(t, c)[0]; got != "B=\xff\x80" {
		t.Errorf("environment has %q", got)
	}
	c = probeCommand(t, "read", "/\xfe/f")
	tree(t, c.Root, map[string]string{"\xfe/f": "bytes"})
	checkLines(t, c, "bytes ok")
}

func TestNoNetwork(t *testing.T) {
	checkLines(t, probeCommand(t, "net"), "lo false", "ok", "192.0.2.1:80 ENETUNREACH", "127.0.0.1:1 ENETUNREACH")
}

func TestNoHostFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(secret, []byte("hunter2"), 0o644)
	c := probeCommand(t, "list", "/", "/sys", "/tmp", "/run", "/dev")
	checkLines(t, c, "/ ok [dev probe proc run sys tmp]", "/sys ok []", "/tmp ok []", "/run ok [lock]",
		"/dev ok [fd full null ptmx pts random shm stderr stdin stdout tty urandom zero]")
	c.Args = []string{"/probe", "read", secret}
	checkLines(t, c, " ENOENT")
	c.Args = []string{"/probe", "read", "/proc/1/root" + secret}
	checkLines(t, c, " ENOENT")
	c.Args = []string{"/probe", "read", "/proc/self/mountinfo"}
	if table := strings.Join(lines(t, c), "\n"); strings.Contains(table, " / / rw") && strings.Contains(table, "/etc") {
		t.Errorf("the host's mounts are visible:\n%s", table)
	}
	for _, e := range []string{"/proc/2", "/proc/1"} { // and no other process
		c.Args = []string{"/probe", "list", e + "/task"}
		if got := lines(t, c)[0]; !strings.Contains(got, " ok ") {
			t.Error(got)
		}
	}
	c.Args = []string{"/probe", "read", fmt.Sprintf("/proc/%d/comm", os.Getppid())}
	checkLines(t, c, " ENOENT")
}

// The kernel lets uid 0 write these by ownership alone.
func TestKernelSwitchesAreReadOnly(t *testing.T) {
	c := probeCommand(t, "write", "/proc/sys/kernel/core_pattern", "/proc/fs", "/dev/null")
	checkLines(t, c, "/proc/sys/kernel/core_pattern EROFS", "/proc/fs EISDIR", "/dev/null ok")
	c.Args = []string{"/probe", "umount", "/proc/sys"}
	checkLines(t, c, "EPERM")
}

func TestReadOnlyRoot(t *testing.T) {
	c := probeCommand(t, "write", "/file", "/etc/file", "/tmp/file", "/run/file", "/cache/file", "/fixed/file")
	tree(t, c.Root, map[string]string{
		"etc/": "", "proc/": "", "sys/": "", "dev/": "", "tmp/": "", "run/": "", "cache/": "", "fixed/": "",
	})
	for _, m := range c.Mounts {
		tree(t, c.Root, map[string]string{m.Target: ""})
	}
	cache, fixed := t.TempDir(), t.TempDir()
	c.Mounts = append(c.Mounts, Mount{Source: cache, Target: "/cache"}, Mount{Source: fixed, Target: "/fixed", ReadOnly: true})
	c.ReadOnly = true
	checkLines(t, c, "/file EROFS", "/etc/file EROFS", "/tmp/file ok", "/run/file ok", "/cache/file ok", "/fixed/file EROFS")
	if _, err := os.Stat(filepath.Join(cache, "file")); err != nil {
		t.Error(err)
	}
	c.ReadOnly = false
	c.Args = []string{"/probe", "write", "/file"}
	checkLines(t, c, "/file ok")
	if err := os.Remove(filepath.Join(c.Root, "file")); err != nil {
		t.Error(err)
	}
	c.ReadOnly = true
	c.Mounts = append(c.Mounts, Mount{Source: cache, Target: "/missing"})
	checkFault(t, Run(t.Context(), c), fault.Environment, "/missing")
}

func TestMounts(t *testing.T) {
	host := tree(t, t.TempDir(), map[string]string{"dir/f": "one", "file": "two"})
	c := probeCommand(t, "read", "/a/b/dir/f")
	c.Mounts = append(c.Mounts,
		Mount{Source: filepath.Join(host, "dir"), Target: "/a/b/dir"},
		Mount{Source: filepath.Join(host, "file"), Target: "/a/b/file"},
		Mount{Target: "/a/empty"},
		Mount{Source: filepath.Join(host, "file"), Target: "/a/empty/in"},
		Mount{Source: filepath.Join(host, "dir"), Target: "/tmp/dir", ReadOnly: true},
	)
	checkLines(t, c, "one ok")
	for path, want := range map[string]string{"/a/b/file": "two", "/a/empty/in": "two", "/tmp/dir/f": "one"} {
		c.Args = []string{"/probe", "read", path}
		checkLines(t, c, want+" ok")
	}
	c.Args = []string{"/probe", "list", "/a/empty"}
	checkLines(t, c, "/a/empty ok [in]")
	for _, bad := range []Mount{{Source: host + "/none", Target: "/x"}, {Source: host, Target: "relative"}, {Source: host, Target: "/a/b/file/x"}} {
		wrong := probeCommand(t, "id")
		wrong.Mounts = append(wrong.Mounts, Mount{Source: filepath.Join(host, "file"), Target: "/a/b/file"}, bad)
		checkFault(t, Run(t.Context(), wrong), fault.Environment, "/probe", filepath.Base(bad.Target))
	}
}

func TestReadOnlyMountIsDeep(t *testing.T) {
	dir := tree(t, t.TempDir(), map[string]string{"sub/": ""})
	unmount, err := Overlay(filepath.Join(dir, "sub"), []string{t.TempDir()}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	c := probeCommand(t, "write", "/m/f", "/m/sub/f")
	c.Mounts = append(c.Mounts, Mount{Source: dir, Target: "/m", ReadOnly: true})
	checkLines(t, c, "/m/f EROFS", "/m/sub/f EROFS")
}

func TestSymbolicLinksStayInside(t *testing.T) {
	outside, host := t.TempDir(), tree(t, t.TempDir(), map[string]string{"f": "x"})
	c := probeCommand(t, "list", "/etc", "/up", "/abs"+outside, "/var/run")
	root := c.Root
	tree(t, root, map[string]string{"etc/": "", "d/": ""})
	for name, dest := range map[string]string{
		"abs": "/", "up": "d/../../../../etc", "out": outside, "rel": strings.Repeat("../", 20) + outside[1:],
		"run": "../../var/run", "tmp": "../../../var/tmp", "loop": "loop",
	} {
		if err := os.Symlink(dest, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"/out/a", "/rel/b", "/abs/out/c", "/up/d", "/run/e"} {
		c.Mounts = append(c.Mounts, Mount{Source: host, Target: target})
	}
	got := lines(t, c)
	if got[0] != "/etc ok [d]" || got[1] != "/up ok [d]" {
		t.Errorf("%q", got)
	}
	if !strings.HasSuffix(got[2], " ok [a b c]") || got[3] != "/var/run ok [e lock]" {
		t.Errorf("not below the root: %q", got)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("made outside of the root: %v", left)
	}
	c.Mounts = append(c.Mounts, Mount{Source: host, Target: "/loop/x"})
	checkFault(t, Run(t.Context(), c), fault.Environment, "symbolic links")
}

func TestExitCodes(t *testing.T) {
	for _, code := range []string{"1", "42", "255"} {
		c := probeCommand(t, "exit", code)
		var n int
		fmt.Sscan(code, &n)
		if exit := checkExit(t, Run(t.Context(), c), n); exit.Tail != "last words\n" || exit.Command != "/probe" {
			t.Errorf("%+v", exit)
		}
	}
	checkExit(t, Run(t.Context(), probeCommand(t, "kill")), 128+int(syscall.SIGTERM))
	c := probeCommand(t)
	c.Args = []string{"missing"}
	if exit := checkExit(t, Run(t.Context(), c), 127); !strings.Contains(exit.Error(), "missing") {
		t.Error(exit)
	}
	tree(t, c.Root, map[string]string{"usr/bin/text": "no program"})
	os.Chmod(filepath.Join(c.Root, "usr/bin/text"), 0o755)
	c.Args = []string{"text"}
	if exit := checkExit(t, Run(t.Context(), c), 126); !strings.Contains(exit.Error(), "exec format") {
		t.Error(exit)
	}
	c = probeCommand(t, "id")
	c.Dir = "/none"
	checkExit(t, Run(t.Context(), c), 126)
	for _, bad := range []Command{{}, {Root: t.TempDir()}, {Args: []string{"x"}}} {
		checkFault(t, Run(t.Context(), bad), fault.Internal, "root")
	}
	checkFault(t, Run(t.Context(), Command{Root: "/none/such", Args: []string{"x"}}), fault.Environment, "/none/such")
}

func TestOutputs(t *testing.T) {
	var out, err bytes.Buffer
	c := probeCommand(t, "both")
	c.Stdout, c.Stderr = &out, &err
	exit := checkExit(t, Run(t.Context(), c), 3)
	if out.String() != "out\n" || err.String() != "err\n" || len(exit.Tail) != len("out\nerr\n") {
		t.Errorf("%q, %q, tail %q", out.String(), err.String(), exit.Tail)
	}
	out.Reset()
	c.Stderr = &out // the same writer, without a lock of its own
	checkExit(t, Run(t.Context(), c), 3)
	if out.String() != "out\nerr\n" {
		t.Errorf("%q", out.String())
	}
	c = probeCommand(t, "exit", "9")
	c.Stdout, c.Stderr = uncomparable{}, uncomparable{}
	checkExit(t, Run(t.Context(), c), 9)
}

type uncomparable []byte

func (uncomparable) Write(b []byte) (int, error) { return len(b), nil }

// lateWriter takes the first bytes only when it is told to.
type lateWriter struct {
	bytes.Buffer
	may chan bool
}

func (w *lateWriter) Write(b []byte) (int, error) {
	<-w.may
	return w.Buffer.Write(b)
}

func TestSlowReaderGetsEverything(t *testing.T) {
	w := &lateWriter{may: make(chan bool)}
	c := probeCommand(t, "cat")
	c.Stdin, c.Stdout = strings.NewReader(strings.Repeat("x", 60_000)), w // fits a pipe
	p, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo // until it is dead; Wait reaps it
	if err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	close(w.may)
	if err := p.Wait(); err != nil || w.Len() != 60_000 {
		t.Errorf("%d bytes, %v", w.Len(), err)
	}
	if p.cmd.WaitDelay != 0 {
		t.Error("output is cut after a while")
	}
}

// fullWriter is a disk that fills up.
type fullWriter struct{ rest int }

func (w *fullWriter) Write(b []byte) (int, error) {
	if w.rest -= len(b); w.rest < 0 {
		return 0, &os.PathError{Op: "write", Path: "disk", Err: syscall.ENOSPC}
	}
	return len(b), nil
}

func TestOutputThatCannotBeTaken(t *testing.T) {
	c := probeCommand(t, "flood")
	c.Stdout = &fullWriter{10_000}
	err := Run(t.Context(), c)
	checkFault(t, err, fault.Environment, "no space left")
}

func TestTail(t *testing.T) {
	c := probeCommand(t, "flood")
	p, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	got := p.tail.String()
	if !strings.HasPrefix(got, "line ") || !strings.HasSuffix(got, "line 99999\n") || len(got) > 4096 {
		t.Errorf("%d bytes: %.40q", len(got), got)
	}
}

func TestStreaming(t *testing.T) {
	in, feed := io.Pipe()
	read, out := io.Pipe()
	c := probeCommand(t, "cat")
	c.Stdin, c.Stdout = in, out
	p, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // each answer before the next question
		fmt.Fprintln(feed, "ping")
		b := make([]byte, 5)
		if _, err := io.ReadFull(read, b); err != nil || string(b) != "ping\n" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	feed.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestInputThatNobodyReads(t *testing.T) {
	in, _ := io.Pipe() // blocks for ever
	c := probeCommand(t, "id")
	c.Stdin = in
	if err := Run(t.Context(), c); err != nil {
		t.Error(err)
	}
	c.Stdin = strings.NewReader(strings.Repeat("x", 1<<20))
	if err := Run(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestLoopback(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a free port; other processes may have it for all we care
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	url := fmt.Sprintf("http://127.0.0.1:%d/path", port)
	handlers := map[int]http.Handler{}
	for i := range 20 {
		handlers[port+i] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if i == 0 {
				if _, err := http.Get(url); err == nil {
					t.Error("the port is open on the host")
				}
			}
			if i == 2 {
				panic("a defect")
			}
			fmt.Fprint(w, i, r.URL.Path)
		})
	}
	at := func(i int) string { return fmt.Sprintf("http://127.0.0.1:%d/path", port+i) }
	c := probeCommand(t, "get", at(0), at(1), at(2), at(19))
	c.Loopback = handlers
	got := lines(t, c)
	if len(got) != 4 || got[0] != "200 0/path" || got[1] != "200 1/path" || got[2] == "" || got[3] != "200 19/path" {
		t.Errorf("%q", got)
	}
	c.Args = []string{"/probe", "net"}
	checkLines(t, c, "lo true", "ok", "192.0.2.1:80 ENETUNREACH", "127.0.0.1:1 ECONNREFUSED")
	handlers[70_000] = http.NotFoundHandler()
	if err := Run(t.Context(), c); err == nil {
		t.Error("listens on port 70000")
	}
}

func TestNothingIsMountedOutside(t *testing.T) {
	before := mounts(os.Getpid())
	if err := Run(t.Context(), probeCommand(t, "id")); err != nil {
		t.Fatal(err)
	}
	Run(t.Context(), Command{Root: "/none", Args: []string{"x"}})
	if after := mounts(os.Getpid()); after != before {
		t.Errorf("the builder's mounts have changed:\n%s", after)
	}
	if host := os.Getenv("HOST_MOUNTS"); host != "" && host != mounts(os.Getppid()) {
		t.Errorf("the host's mounts have changed:\n%s", mounts(os.Getppid()))
	}
}

func checkFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("error is %v (%v), want a %v fault", err, fault.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not say %q: %v", w, err)
		}
	}
}
