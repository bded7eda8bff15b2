package sandbox

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// runOutside runs the test binary as a program that a user starts: "doctor" or
// "run". It returns what it printed, and its status.
func runOutside(t *testing.T, uid, gid uint32, what string, env ...string) (string, int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "binary") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	program := filepath.Join(dir, "program")
	copyFile(t, "/proc/self/exe", program)
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", outsideVariable + "=" + what}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
}

// needIDs skips unless we have been started by real root, who may become anybody.
func needIDs(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/uid_map")
	var inside, outside, count int64
	fmt.Sscan(string(b), &inside, &outside, &count)
	if err != nil || inside != 0 || outside != 0 || count < 1<<31 {
		t.Skip("becoming an ordinary user needs real root")
	}
}

// ordinaryUser returns a user of this host with subordinate ids.
func ordinaryUser(t *testing.T) (uid, gid uint32) {
	t.Helper()
	needIDs(t)
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Skip("newuidmap is not installed")
	}
	b, _ := os.ReadFile("/etc/subuid")
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(line, ":")
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return uint32(uid), uint32(gid)
		}
	}
	t.Skip("no user has subordinate ids in /etc/subuid")
	return 0, 0
}

func TestOrdinaryUser(t *testing.T) {
	uid, gid := ordinaryUser(t)
	for what, want := range map[string]string{"doctor": "", "run": "0 0 1\n"} {
		if out, code := runOutside(t, uid, gid, what); out != want || code != 0 {
			t.Errorf("%s: status %d, %q", what, code, out)
		}
	}
}

func checkRefusal(t *testing.T, uid, gid uint32, message, hint string, env ...string) {
	t.Helper()
	for _, what := range []string{"doctor", "run"} {
		out, code := runOutside(t, uid, gid, what, env...)
		if code != 3 || strings.Count(out, "\n") != 3 || !strings.HasPrefix(out, "error: ") || !strings.Contains(out, message) ||
			!strings.Contains(out, "kind: environment\nhint: ") || !strings.Contains(out, hint) {
			t.Errorf("%s: status %d, %s", what, code, out)
		}
	}
}

func TestUserWithoutSubordinateIDs(t *testing.T) {
	needIDs(t)
	checkRefusal(t, 54321, 54321, "subordinate ids", "usermod --add-subuids", "USER=somebody", "HOME=/")
}

func TestMissingMapHelper(t *testing.T) {
	uid, gid := ordinaryUser(t)
	checkRefusal(t, uid, gid, "newuidmap is not installed", "uidmap", "PATH=/none")
}

// The limit belongs to the user namespace that the tests run in, not to the host.
func TestNamespacesAreForbidden(t *testing.T) {
	needIDs(t)
	const limit = "/proc/sys/user/max_user_namespaces"
	before, err := os.ReadFile(limit)
	if err != nil {
		t.Skip(err)
	}
	host, _ := os.Readlink("/proc/1/ns/user")
	if own, _ := os.Readlink("/proc/self/ns/user"); own == host {
		t.Fatal("not in a user namespace: this would change the host")
	}
	if err := os.WriteFile(limit, []byte("0"), 0); err != nil {
		t.Skip(err)
	}
	defer os.WriteFile(limit, before, 0)
	checkRefusal(t, 0, 0, "max_user_namespaces", "sysctl")
}
