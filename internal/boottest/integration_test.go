package boottest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// TestBoot boots a real image; it takes minutes. The environment says which:
//
//	BOOTTEST_IMAGE       the image
//	BOOTTEST_TOOLS       the tools root
//	BOOTTEST_FIRMWARE    such as bios,uefi,secureboot
//	BOOTTEST_ACCEL       auto, kvm or tcg
//	BOOTTEST_OUTPUT      folder for the record
//	BOOTTEST_KUBERNETES  "no" for an image without Kubernetes
func TestBoot(t *testing.T) {
	o := Options{
		Image: os.Getenv("BOOTTEST_IMAGE"), Tools: os.Getenv("BOOTTEST_TOOLS"),
		Output: os.Getenv("BOOTTEST_OUTPUT"), WorkDir: t.TempDir(),
		Accel: Accel(os.Getenv("BOOTTEST_ACCEL")), Kubernetes: os.Getenv("BOOTTEST_KUBERNETES") != "no", Builder: "test",
	}
	if o.Image == "" || o.Tools == "" {
		t.Skip("BOOTTEST_IMAGE and BOOTTEST_TOOLS are not set")
	}
	for _, f := range strings.Split(os.Getenv("BOOTTEST_FIRMWARE"), ",") {
		if f != "" {
			o.Firmware = append(o.Firmware, Firmware(f))
		}
	}
	record, err := Run(event.With(t.Context(), &printer{}), o)
	if err != nil {
		t.Fatalf("%v\nhint: %s", err, fault.HintOf(err))
	}
	if !record.Passed {
		t.Error("no error, but the record says that the test failed")
	}
}

type printer struct{ mu sync.Mutex }

func (p *printer) Emit(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Type != event.Progress {
		fmt.Fprintln(os.Stderr, e.Time.Format(time.TimeOnly), e.Type, e.Name, e.Text)
	}
}

// blankDisk is a raw disk with a partition table and nothing to boot: its boot
// sector's code is INT 18h, by which a BIOS is told that a disk does not boot.
func blankDisk(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "blank, disk.raw")
	disk := append(sectors(func(b []byte) {
		copy(b, "\xcd\x18")
		copy(b[446:], "\x80\x01\x01\x00\x83\x01\x01\x00\x01\x00\x00\x00\x00\x08\x00\x00")
	}), make([]byte, 4<<20)...)
	if err := os.WriteFile(path, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func tools(t *testing.T) string {
	dir := os.Getenv("BOOTTEST_TOOLS")
	if dir == "" {
		t.Skip("BOOTTEST_TOOLS is not set")
	}
	return dir
}

// A disk without an operating system fails at once, by what the firmware says,
// and not by the time limit.
func TestNothingToBoot(t *testing.T) {
	for _, f := range []Firmware{BIOS, UEFI} {
		work, out := t.TempDir(), t.TempDir()
		record, err := Run(t.Context(), Options{
			Image: blankDisk(t), Tools: tools(t), Firmware: []Firmware{f}, Accel: TCG, WorkDir: work, Output: out,
			Silence: time.Minute,
		})
		if fault.KindOf(err) != fault.Check || !strings.Contains(err.Error(), "the guest cannot go on") {
			t.Errorf("%s: %v", f, err)
		}
		if record == nil || record.Passed || len(record.Boots) != 1 || record.Boots[0].failures() != 1 {
			t.Errorf("%s: record %+v", f, record)
		}
		for _, name := range []string{recordFile, junitFile, "console-1-" + string(f) + ".log"} {
			if _, err := os.Stat(filepath.Join(out, name)); err != nil {
				t.Error(err)
			}
		}
		if left, _ := os.ReadDir(work); len(left) != 0 {
			t.Errorf("%s: %v is left", f, left)
		}
	}
}

// canceller ends the context when QEMU runs.
type canceller struct{ cancel func() }

func (c canceller) Emit(e event.Event) {
	if e.Type == event.Started && strings.Contains(e.Name, "the guest starts") {
		c.cancel()
	}
}

func TestInterrupt(t *testing.T) {
	work, out := t.TempDir(), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(event.With(ctx, canceller{cancel}), Options{Image: blankDisk(t), Tools: tools(t), Accel: TCG, WorkDir: work, Output: out})
	if fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v", err)
	}
	for _, dir := range []string{work, out} {
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%v is left", left)
		}
	}
}

// A file with qcow2's magic and nothing sound behind it.
func TestDamagedImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.qcow2")
	if err := os.WriteFile(path, append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 4096)...), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), Options{Image: path, Tools: tools(t), Accel: TCG, WorkDir: t.TempDir()})
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "not a sound disk image") {
		t.Errorf("%v", err)
	}
}
