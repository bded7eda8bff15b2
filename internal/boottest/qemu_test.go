package boottest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func TestArgs(t *testing.T) {
	for _, c := range []struct {
		firmware Firmware
		accel    Accel
	}{{BIOS, KVM}, {BIOS, TCG}, {UEFI, TCG}, {SecureBoot, TCG}} {
		v := vm{firmware: c.firmware, accel: c.accel, memory: 4096, cpus: 2,
			overlay: "b/overlay.qcow2", seed: "b/seed", vars: "b/vars.fd", console: "b/console.log"}
		lines := strings.Join(v.args(), "\n")
		golden(t, "args-"+string(c.firmware)+"-"+string(c.accel)+".txt", []byte(lines+"\n"))
	}
}

func TestQEMUMessages(t *testing.T) {
	got := qemuMessages("qemu-system-x86_64: warning: TCG doesn't support\nqemu-system-x86_64: Could not open '/srv/x': No such file\n\n")
	if got != "Could not open '/srv/x': No such file" {
		t.Errorf("%q", got)
	}
}
