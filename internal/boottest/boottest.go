// Package boottest proves that an image is what it claims to be, by booting
// it: QEMU runs over a copy-on-write overlay, cloud-init hands the guest a
// script through a NoCloud seed, and the script reports each check over a
// virtio port. The image is never written and nobody logs in.
//
// The first boot is the whole proof: the machine comes up clean, kubeadm makes
// a cluster of it without a network, the cluster works, and it works again
// after a reboot. Every further boot is a clone of the same image, by another
// firmware if asked for, that must come up clean with an identity of its own.
package boottest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// Options says what to boot and how.
type Options struct {
	Image    string        // path of a qcow2 or raw disk image
	Tools    string        // root directory that holds qemu-system-x86_64, qemu-img and OVMF
	Firmware []Firmware    // one boot each; default BIOS. A single one is booted twice, for the clone.
	Accel    Accel         // default Auto
	Memory   int           // MiB; default 4096
	CPUs     int           // default 2
	WorkDir  string        // where the overlays go, up to a few GiB; default the system's temporary folder
	Output   string        // folder for record.json, junit.xml and the consoles; "" keeps none
	Timeout  time.Duration // for all boots together; default 90 minutes
	Silence  time.Duration // a guest that says and prints nothing for so long has failed; default 10 minutes

	Kubernetes bool   // prove a Kubernetes node, not just a machine
	Builder    string // the builder's version, for the record
}

func (o *Options) complete() error {
	if len(o.Firmware) == 0 {
		o.Firmware = []Firmware{BIOS}
	}
	if len(o.Firmware) == 1 {
		o.Firmware = append(o.Firmware, o.Firmware[0])
	}
	for _, f := range o.Firmware {
		if !f.valid() {
			return fault.New(fault.Input, "boot %s: firmware %q is none of bios, uefi, secureboot", o.Image, f)
		}
	}
	o.Accel = or(o.Accel, Auto)
	if !o.Accel.valid() {
		return fault.New(fault.Input, "boot %s: accelerator %q is none of auto, kvm, tcg", o.Image, o.Accel)
	}
	o.Memory, o.CPUs = or(o.Memory, 4096), or(o.CPUs, 2)
	o.Timeout, o.Silence = or(o.Timeout, 90*time.Minute), or(o.Silence, 10*time.Minute)
	return nil
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// errTimeout is the cause of the end of a run that took longer than Timeout.
var errTimeout = errors.New("the time limit is over")

// Run boots the image and returns what it found. A check that does not hold is
// an error of kind fault.Check, and the record says the same; a file that is no
// disk image is a fault.Input before anything is started. When ctx ends, QEMU
// is killed, the work folder removed, and no record written.
func Run(ctx context.Context, o Options) (*Record, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	img, err := openImage(o.Image)
	if err != nil {
		return nil, err
	}
	if err := prepareOutput(o.Output); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(o.WorkDir, "boottest-")
	if err != nil {
		return nil, fault.New(fault.Environment, "make a work folder for the boot proof: %w", err)
	}
	defer os.RemoveAll(work)
	limited, cancel := context.WithTimeoutCause(ctx, o.Timeout, errTimeout)
	defer cancel()
	r := &runner{Options: o, image: img, work: work}
	err = r.run(limited)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("test %s: %w", o.Image, context.Cause(ctx))
	}
	r.record.finish(err)
	if e := r.record.write(o.Output); e != nil {
		err = errors.Join(err, e)
	}
	return &r.record, err
}

// prepareOutput makes the folder and removes an earlier record, so that a
// record never stands beside an image that it does not speak of.
func prepareOutput(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.New(fault.Environment, "make the folder for the record: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "console-*.log"))
	if err != nil {
		return err
	}
	for _, f := range append(old, filepath.Join(dir, recordFile), filepath.Join(dir, junitFile)) {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.New(fault.Environment, "remove the record of an earlier test: %w", err)
		}
	}
	return nil
}

// runner is one call of Run.
type runner struct {
	Options
	image  *image
	work   string
	record Record
}

func (r *runner) run(ctx context.Context) error {
	r.record = newRecord(r.Options, r.image)
	sum, err := r.image.digest(ctx)
	if err != nil {
		return err
	}
	r.record.Image.SHA256 = sum
	if r.record.QEMU, err = r.qemuVersion(ctx); err != nil {
		return err
	}
	if r.record.Image.VirtualSize, err = r.virtualSize(ctx); err != nil {
		return err
	}
	for i, f := range r.Firmware {
		boot, err := r.boot(ctx, i+1, f)
		r.record.Boots = append(r.record.Boots, *boot)
		if err != nil {
			return err
		}
	}
	return nil
}

// boot runs one boot and, for a clone, compares it with the first.
func (r *runner) boot(ctx context.Context, n int, f Firmware) (*Boot, error) {
	b := newBoot(n, f)
	ctx, task := event.Start(ctx, fmt.Sprintf("boot %d of %d: %s", n, len(r.Firmware), b.title(r.Kubernetes)))
	err := r.bootAs(ctx, b)
	b.Seconds = time.Since(b.Started).Seconds()
	if err == nil && b.Clone {
		err = b.compare(&r.record.Boots[0])
	}
	err = b.explain(err, r.Image)
	task.Done(err)
	return b, err
}

// bootAs boots with the accelerator that is known to work. Whether KVM does
// can only be seen by using it: some hosts have a /dev/kvm on which a kernel
// dies or never starts. So with Auto a first boot that does not get as far as
// the guest script is tried again with TCG.
func (r *runner) bootAs(ctx context.Context, b *Boot) error {
	accel := r.Accel
	if accel == Auto {
		accel = KVM
		if err := canOpen("/dev/kvm"); err != nil {
			event.Current(ctx).Detail("no KVM (" + err.Error() + "); emulating")
			accel = TCG
		}
	}
	err := r.bootOnce(ctx, b, accel)
	if err != nil && ctx.Err() == nil && r.Accel == Auto && accel == KVM && !b.hello {
		event.Current(ctx).Warn(fmt.Sprintf("KVM does not work here (%v); emulating, which is slower", firstLine(err)))
		b.reset()
		accel = TCG
		err = r.bootOnce(ctx, b, accel)
	}
	if b.hello {
		r.Accel = accel // further boots need not find out again
	}
	r.record.Accel, b.Accel = accel, accel
	return err
}

func canOpen(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
