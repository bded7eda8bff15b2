package store

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// roleVariable makes the test binary another process of a test; its arguments
// are the test's.
const roleVariable = "STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	sandbox.Main()
	switch os.Getenv(roleVariable) {
	case "maker":
		maker(os.Args[1])
	case "full":
		if err := sandbox.Enter(); err != nil {
			fmt.Println("cannot enter:", err)
			os.Exit(3)
		}
		full()
	}
	os.Exit(m.Run())
}

// maker opens the store, begins to make a layer, says so, and goes on when its
// standard input ends.
func maker(dir string) {
	s, err := Open(dir)
	if err == nil {
		_, err = s.Make(context.Background(), "key", func(dir string) error {
			os.WriteFile(filepath.Join(dir, "who"), []byte("maker"), 0o644)
			fmt.Println("making")
			io.Copy(io.Discard, os.Stdin)
			return nil
		})
	}
	fmt.Println("done:", err)
	os.Exit(0)
}

// start starts the test binary in a role, and waits until it makes a layer.
func start(t *testing.T, dir string) (cmd *exec.Cmd, stdin io.WriteCloser) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe", dir)
	cmd.Env = append(os.Environ(), roleVariable+"=maker")
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "making\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd, stdin
}

func TestMakeOnceAcrossProcesses(t *testing.T) {
	dir := t.TempDir()
	_, stdin := start(t, dir)
	s := open(t, dir)
	if left := list(t, s, "tmp"); len(left) != 1 {
		t.Errorf("the temporary folder of a run that lives is gone: %v", left)
	}
	result := make(chan error)
	go func() {
		_, err := s.Make(t.Context(), "key", func(string) error { return errors.New("made again") })
		result <- err
	}()
	stdin.Close()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	layer, _ := s.Layer("key")
	if b, _ := os.ReadFile(filepath.Join(layer, "who")); string(b) != "maker" {
		t.Errorf("made by %q", b)
	}
}

func TestKilledMakerLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	cmd, _ := start(t, dir)
	cmd.Process.Kill()
	cmd.Wait()
	s := open(t, dir)
	checkClean(t, s)
	if runs := s.runs(); len(runs) != 1 || runs[0] != s.run {
		t.Errorf("locks of dead runs are left: %v", runs)
	}
	if _, ok := s.Layer("key"); ok {
		t.Fatal("half a layer is there")
	}
	if _, err := s.Make(t.Context(), "key", func(string) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestPruneSparesARunThatLives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Make(t.Context(), "unused", func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	age(t, s, time.Now().Add(-time.Hour))
	cmd, _ := start(t, dir)
	if _, err := s.Make(t.Context(), "used", func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if left := list(t, s, "layers"); len(left) != 1 || left[0] != "used" {
		t.Errorf("layers left beside a run that lives: %v", left)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := s.Prune(t.Context(), time.Now().Add(time.Minute)); err != nil || len(list(t, s, "layers")) != 0 {
		t.Errorf("layers left: %v, %v", list(t, s, "layers"), err)
	}
}

func TestFullDisk(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=full")
	out, err := cmd.CombinedOutput()
	switch {
	case strings.HasPrefix(string(out), "cannot enter"):
		t.Skip(string(out))
	case err != nil || len(out) > 0:
		t.Errorf("%v\n%s", err, out)
	}
}

// full fills a store on a disk of 1 MiB, in a mount namespace of its own, and
// prints what is wrong.
func full() {
	dir, err := os.MkdirTemp("", "full")
	if err != nil {
		panic(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		panic(err)
	}
	s, err := Open(dir)
	if err != nil {
		panic(err)
	}
	_, _, err = s.PutBlob(io.LimitReader(rand.Reader, 2<<20))
	complain("put a blob", s, err)
	_, err = s.Make(context.Background(), "key", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "f"), make([]byte, 2<<20), 0o644)
	})
	complain("make a layer", s, err)
	_, err = s.Make(context.Background(), "key", func(dir string) error {
		os.WriteFile(filepath.Join(dir, "f"), make([]byte, 2<<20), 0o644)
		return s.Explain(errors.New("tool failed with status 1"))
	})
	complain("run a tool", s, err)
	if _, _, err := s.PutBlob(strings.NewReader("hello")); err != nil {
		fmt.Println("after that:", err)
	}
	unix.Unmount(dir, unix.MNT_DETACH)
	os.Remove(dir)
	os.Exit(0)
}

func complain(what string, s *Store, err error) {
	if err == nil || fault.KindOf(err) != fault.Environment || !strings.Contains(fault.HintOf(err), "prune") {
		fmt.Printf("%s: error %v, hint %q\n", what, err, fault.HintOf(err))
	}
	for _, d := range []string{"tmp", "blobs", "layers"} {
		if left, _ := os.ReadDir(filepath.Join(s.dir, d)); len(left) != 0 {
			fmt.Printf("%s: left in %s: %v\n", what, d, left)
		}
	}
}
