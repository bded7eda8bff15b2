package ui_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/ui"
)

func run(t *testing.T, mode ui.Mode, o ui.Options, events []event.Event) string {
	t.Helper()
	var b bytes.Buffer
	d, err := ui.New(mode, &b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		d.Emit(e)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	n := b.Len()
	d.Emit(events[0])
	if b.Len() != n {
		t.Error("an event after Close was shown")
	}
	return b.String()
}

func TestPlain(t *testing.T) {
	golden(t, "plain", run(t, ui.Plain, ui.Options{}, build(false)))
	golden(t, "plain-failed", run(t, ui.Plain, ui.Options{}, build(true)))
	golden(t, "plain-verbose", run(t, ui.Plain, ui.Options{Verbose: true}, build(true)))
}

// Auto on something that is no terminal is Plain, and free of control codes
// even if a task's output is not.
func TestAutoInAPipe(t *testing.T) {
	got := run(t, ui.Auto, ui.Options{}, build(true))
	if got != run(t, ui.Plain, ui.Options{}, build(true)) {
		t.Error("auto into a buffer is not plain")
	}
	if strings.ContainsAny(got, "\x1b\r") {
		t.Errorf("control codes in plain output: %q", got)
	}
}

func TestJSONGivesBackTheEvents(t *testing.T) {
	want := build(true)
	sc := bufio.NewScanner(strings.NewReader(run(t, ui.JSON, ui.Options{}, want)))
	for i := 0; sc.Scan(); i++ {
		var got event.Event
		if err := json.Unmarshal(sc.Bytes(), &got); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if i >= len(want) || got != want[i] {
			t.Fatalf("line %d is %+v", i+1, got)
		}
	}
	golden(t, "json", run(t, ui.JSON, ui.Options{}, want[:8]))
}

func TestUnknownMode(t *testing.T) {
	_, err := ui.New("fancy", &bytes.Buffer{}, ui.Options{})
	if fault.KindOf(err) != fault.Input {
		t.Errorf("got %v, want an input error", err)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 17: "17 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 512 << 20: "512 MiB",
		1<<20 - 1: "1 MiB", 1288490189: "1.2 GiB", 8 << 30: "8 GiB", -2048: "-2 KiB", math.MaxInt64: "8 EiB",
		100<<20 - 1: "100 MiB",
	} {
		if got := ui.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", -time.Second: "0.0s", 449 * time.Millisecond: "0.4s", 59940 * time.Millisecond: "59.9s",
		59960 * time.Millisecond: "1m00s", 62 * time.Second: "1m02s", 3599600 * time.Millisecond: "1h00m",
		62 * time.Minute: "1h02m", 26 * time.Hour: "26h00m",
	} {
		if got := ui.Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	err := ui.Table(&b, []string{"artifact", "size", "sha-256", "time"}, [][]string{
		{"out/debian-13-kube-amd64.qcow2", "612 MiB", "9f86d081884c7d65", "1m02s"},
		{"out/日本.raw", "8 GiB", "0b822cd15d6c15b0", "3.1s"},
		{"manifest.json", "-", "", "cached"},
		{"short row"},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "table", b.String())
	if err := ui.Table(broken{}, []string{"a"}, nil); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the error of the write", err)
	}
}

func TestPrintError(t *testing.T) {
	spec := fault.New(fault.Input, "%w", errors.Join(
		errors.New("image.yaml:3:5: unknown key \"oss\"; did you mean \"os\"?"),
		errors.New("image.yaml:9:12: spec.disk.size: want a size such as 8GiB")))
	tail := fault.New(fault.Check, "running kubeadm init: exit status 1\n[preflight] \x1b[31mport 6443 is in use")
	var b bytes.Buffer
	for _, err := range []error{
		errors.New("plain"),
		fault.Hint(fault.New(fault.Environment, "entering a user namespace: %w", syscall.EPERM), "run 'image-builder doctor'"),
		fmt.Errorf("writing out/a.raw: %w", syscall.ENOSPC),
		spec, fault.Hint(spec, "see 'image-builder init'"), tail,
		fmt.Errorf("phase os: %w", context.Canceled),
	} {
		ui.PrintError(&b, err, false)
		ui.PrintError(&b, err, true)
		b.WriteString("\n")
	}
	golden(t, "errors", b.String())
}
