package sandbox

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imagebuilder.dev/internal/fault"
)

// startSleeper starts a command that ignores polite signals, and returns when it
// (and its daemon) says that it is there.
func startSleeper(ctx context.Context, t *testing.T, ready int, args ...string) *Process {
	t.Helper()
	r, w := io.Pipe()
	c := probeCommand(t, args...)
	c.Stdout = w
	p, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	go func() { p.Wait(); w.Close() }() // so that a probe that fails ends the scan
	s := bufio.NewScanner(r)
	for range ready {
		if !s.Scan() || s.Text() != "ready" {
			t.Fatalf("%q, %v", s.Text(), s.Err())
		}
	}
	go io.Copy(io.Discard, r)
	return p
}

// probesAlive counts the sleeping probes in pid namespaces other than ours.
func probesAlive(t *testing.T) (n int) {
	t.Helper()
	own, _ := os.Readlink("/proc/self/ns/pid")
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		b, _ := os.ReadFile(l)
		ns, _ := os.Readlink(filepath.Join(filepath.Dir(l), "ns/pid"))
		if strings.HasPrefix(string(b), "/probe\x00sleep") && ns != own {
			n++
		}
	}
	return n
}

func wait(t *testing.T, p *Process) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Second):
		t.Fatal("still there after 2 s")
		return nil
	}
}

func TestCancelKillsEverything(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	p := startSleeper(ctx, t, 2, "orphan", "stay")
	if probesAlive(t) != 1 {
		t.Fatalf("%d daemons before", probesAlive(t))
	}
	cancel(context.Canceled)
	err := wait(t, p)
	if fault.KindOf(err) != fault.Interrupted || !strings.Contains(err.Error(), "/probe") {
		t.Errorf("%v", err)
	}
	if n := probesAlive(t); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if _, err := Start(ctx, probeCommand(t, "id")); !errors.Is(err, context.Canceled) {
		t.Errorf("start with a cancelled context: %v", err)
	}
}

func TestDaemonEndsWithTheCommand(t *testing.T) {
	if err := Run(t.Context(), probeCommand(t, "orphan")); err != nil {
		t.Error(err)
	}
	if n := probesAlive(t); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestKillAndWaitTwice(t *testing.T) {
	p := startSleeper(t.Context(), t, 1, "sleep")
	p.Kill()
	first := wait(t, p)
	checkExit(t, first, 128+9)
	p.Kill()
	if second := wait(t, p); second != first {
		t.Errorf("%v, and then %v", first, second)
	}
}

func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	p := startSleeper(ctx, t, 1, "sleep")
	cancel()
	if err := wait(t, p); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
