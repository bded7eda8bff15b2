package boottest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConsoleTail(t *testing.T) {
	for name, c := range map[string]struct {
		console string
		n       int
		want    []string
	}{
		"nothing":       {"", 5, nil},
		"last lines":    {"a\nb\r\n\nc\n", 2, []string{"b", "c"}},
		"no escapes":    {"\x1b[=3h\x1b[2J\x1b[01;01H[\x1b[0;32m  OK  \x1b[0m] up\x07\n", 5, []string{"[  OK  ] up"}},
		"panic, before": {"1\n2\n3\nKernel panic - not syncing: x\n4\n5\n6\n7\n", 4, []string{"2", "3", "Kernel panic - not syncing: x", "4"}},
		"last telling":  {"[FAILED] a\n1\n2\n3\n4\n[FAILED] b\n5\n6\n7\n", 3, []string{"4", "[FAILED] b"}},
	} {
		got := consoleTail([]byte(c.console), c.n)
		if name == "last telling" {
			got = got[len(got)-2:]
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzConsoleTail(f *testing.F) {
	f.Add([]byte("\x1b[31mKernel panic\n"), 3)
	f.Fuzz(func(t *testing.T, console []byte, n int) {
		n = n&63 + 2
		lines := consoleTail(console, n)
		if len(lines) > n {
			t.Errorf("%d lines of at most %d", len(lines), n)
		}
		if strings.ContainsAny(strings.Join(lines, ""), "\x1b\r\n\x00") {
			t.Errorf("control characters in %q", lines)
		}
	})
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console")
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWatch(path, t0)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	f.WriteString("Linux version 6\nKernel pa")
	if err := w.look(at(10)); err != nil || w.silence(at(15)) != 5*time.Second {
		t.Errorf("%v, silent for %s", err, w.silence(at(15)))
	}
	if err := w.look(at(20)); err != nil || w.silence(at(20)) != 10*time.Second {
		t.Errorf("%v, silent for %s", err, w.silence(at(20)))
	}
	f.WriteString("nic - not syncing: VFS\r\nmore")
	if err := w.look(at(30)); err == nil || !strings.HasSuffix(err.Error(), "Kernel panic - not syncing: VFS") {
		t.Errorf("a panic cut in two: %v", err)
	}
}

func TestWatchKnowsWhatIsFatal(t *testing.T) {
	for _, line := range []string{
		"[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs",
		"Gave up waiting for root file system device.  Common problems:",
		"You are in emergency mode. After logging in",
		"grub rescue> ", "No bootable device.", "Verification failed: (0x1A) Security Violation",
		`BdsDxe: failed to load Boot0002 "UEFI Misc Device" from Pci: Access Denied`,
		`BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0): Not Found`, "UEFI Interactive Shell v2.2",
	} {
		path := filepath.Join(t.TempDir(), "console")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if newWatch(path, time.Time{}).look(time.Time{}) == nil {
			t.Errorf("not fatal: %s", line)
		}
	}
}
