package boottest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"imagebuilder.dev/internal/fault"
)

func sample() *Record {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	return &Record{
		Layout: 1, Builder: "v0.1.0", QEMU: "10.0.2", Accel: TCG, Memory: 4096, CPUs: 2, Kubernetes: true, Started: at, Finished: at.Add(90 * time.Second),
		Image: Image{Path: "out/a.qcow2", Format: "qcow2", Size: 1234, VirtualSize: 8 << 30, SHA256: "ab12"},
		Boots: []Boot{{
			Name: "1-bios", Firmware: BIOS, Accel: TCG, Console: "console-1-bios.log", Started: at, Seconds: 89.5, Facts: map[string]string{"machine-id": "1", "kernel": "6.12"},
			Checks: []Check{
				{Name: "started", Title: "the guest starts", Result: Passed, Seconds: 20.25},
				{Name: "root-grew", Title: "the root fills the disk", Result: Passed, Detail: "12000 MiB", Seconds: 1},
				{Name: "boot", Title: "no unit <failed>", Result: Failed, Detail: "failed units: x", Log: []string{"x: a & b", "x: end"}, Seconds: 3},
			},
		}},
	}
}

func TestRecordGolden(t *testing.T) {
	r := sample()
	r.Passed, r.Error = false, "test out/a.qcow2: boot 1-bios: boot: failed units: x"
	b, err := r.json()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "record.json", b)
	if b, err = r.junit(); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", b)
}

// A test that fails before any boot must not look like a success in CI.
func TestJUnitWithoutBoots(t *testing.T) {
	r := sample()
	r.Boots, r.Error = nil, "start QEMU: no such file"
	b, err := r.junit()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "junit-no-boot.xml", b)
}

func TestWriteReplacesAnOldRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "out")
	for range 2 {
		if err := prepareOutput(dir); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%v is left of the earlier test", left)
		}
		if err := sample().write(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "console-9-bios.log"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("%v", entries)
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := prepareOutput(filepath.Join(file, "out")); fault.KindOf(err) != fault.Environment {
		t.Errorf("%v", err)
	}
}
