package boottest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// Firmware is what starts the image.
type Firmware string

// The firmwares. SecureBoot is UEFI that enforces it with Microsoft's keys.
const (
	BIOS       Firmware = "bios"
	UEFI       Firmware = "uefi"
	SecureBoot Firmware = "secureboot"
)

func (f Firmware) valid() bool { return f == BIOS || f == UEFI || f == SecureBoot }

// Accel is what runs the guest's code.
type Accel string

// The accelerators. Auto is KVM where it works, else TCG, QEMU's emulator.
const (
	Auto Accel = "auto"
	KVM  Accel = "kvm"
	TCG  Accel = "tcg"
)

func (a Accel) valid() bool { return a == Auto || a == KVM || a == TCG }

// Paths inside the sandbox. The tools root is read-only; /run is a fresh tmpfs,
// so mount points can be made there.
const (
	imageMount = "/run/image"
	workMount  = "/run/work"
	ovmf       = "/usr/share/OVMF/"
)

// portName is the virtio port that the guest's script reports to.
const portName = "imagebuilder.test"

// growth is by how much the guest's disk is larger than the image, in bytes.
const growth = 4 << 30

// vm is the settings of one boot of QEMU; names are relative to the work folder.
type vm struct {
	firmware Firmware
	accel    Accel
	memory   int // MiB
	cpus     int
	overlay  string // qcow2 file that takes all writes
	seed     string // folder with cloud-init's files
	vars     string // the firmware's variables; unused for BIOS
	console  string // what the guest prints on its serial line
}

// args returns QEMU's command line. Standard input and output are the guest's
// virtio port; standard error is QEMU's own.
//
// The user network hands out an address, a default route and a name server by
// DHCP, as a provider would (with restrict=on there is no route and no name
// server, and kubeadm and CoreDNS want both). It leads nowhere: QEMU runs in an
// empty network namespace, and the guest checks that no registry answers.
//
// QEMU presents the seed folder as a FAT disk with the label that cloud-init
// looks for.
func (v vm) args() []string {
	a := []string{"qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
		"-name", "image-builder-test", "-machine", v.machine(), "-m", fmt.Sprint(v.memory), "-smp", fmt.Sprint(v.cpus)}
	a = append(a, v.cpu()...)
	a = append(a, v.firmwareArgs()...)
	return append(a,
		"-drive", "if=none,id=root,format=qcow2,cache=unsafe,aio=threads,discard=unmap,file="+path.Join(workMount, v.overlay),
		"-device", "virtio-blk-pci,drive=root,bootindex=0",
		"-blockdev", "driver=vvfat,node-name=seed,read-only=on,label=CIDATA,dir="+path.Join(workMount, v.seed),
		"-device", "virtio-blk-pci,drive=seed",
		"-netdev", "user,id=net",
		"-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "virtio-rng-pci",
		"-device", "VGA", // the image prints on both consoles; a kernel without a screen hides mistakes there
		"-serial", "file:"+path.Join(workMount, v.console),
		"-chardev", "stdio,id=report,signal=off",
		"-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=report,name="+portName,
	)
}

// machine is q35 for all, with graphics=off, which has SeaBIOS print on the
// serial line. Secure Boot needs system management mode, which
// keeps the firmware's variables from the operating system.
func (v vm) machine() string {
	if v.firmware == SecureBoot {
		return "q35,smm=on,graphics=off"
	}
	return "q35,smm=off,graphics=off"
}

// cpu: a named model under TCG, because its "max" has features that cost much
// to emulate, such as five levels of page tables.
func (v vm) cpu() []string {
	if v.accel == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "Haswell-noTSX"}
}

func (v vm) firmwareArgs() []string {
	code, _ := v.firmware.ovmf()
	if code == "" {
		return nil
	}
	a := []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + ovmf + code,
		"-drive", "if=pflash,unit=1,format=raw,file=" + path.Join(workMount, v.vars)}
	if v.firmware == SecureBoot {
		a = append(a, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	return a
}

// ovmf names the firmware's code and its template of variables, as Debian's
// package ovmf does; none for BIOS.
func (f Firmware) ovmf() (code, vars string) {
	switch f {
	case UEFI:
		return "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"
	case SecureBoot:
		return "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"
	}
	return "", ""
}

// command is args in the tools root, with the image's folder to be read and
// the work folder to be written.
func (r *runner) command(args ...string) sandbox.Command {
	return sandbox.Command{
		Root: r.Tools, ReadOnly: true, Args: args,
		Mounts: []sandbox.Mount{
			{Source: filepath.Dir(r.image.real), Target: imageMount, ReadOnly: true},
			{Source: r.work, Target: workMount},
		},
	}
}

func (r *runner) qemuVersion(ctx context.Context) (string, error) {
	out, err := r.output(ctx, "qemu-system-x86_64", "--version")
	if err != nil {
		return "", fault.New(fault.Environment, "start QEMU from the tools root %s: %w", r.Tools, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "QEMU emulator version "), nil
}

func (r *runner) output(ctx context.Context, args ...string) ([]byte, error) {
	var out bytes.Buffer
	c := r.command(args...)
	c.Stdout = &out
	err := sandbox.Run(ctx, c)
	return out.Bytes(), err
}

// virtualSize returns the size of the disk in bytes, and refuses an image that
// is damaged or that needs other files.
func (r *runner) virtualSize(ctx context.Context) (int64, error) {
	name := r.imageInside()
	out, err := r.output(ctx, "qemu-img", "info", "--output=json", "-f", r.image.format, name)
	if err != nil {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return 0, fault.New(fault.Input, "%s is not a sound disk image: %w", r.Image, err)
	}
	var info struct {
		VirtualSize int64  `json:"virtual-size"`
		Backing     string `json:"backing-filename"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return 0, fault.New(fault.Internal, "read what qemu-img says of %s: %w", r.Image, err)
	}
	if info.Backing != "" {
		return 0, fault.New(fault.Input, "%s is an overlay over %s; give a whole image", r.Image, info.Backing)
	}
	return info.VirtualSize, nil
}

func (r *runner) imageInside() string { return path.Join(imageMount, filepath.Base(r.image.real)) }

// prepare makes the files of a boot in a folder of its own below the work
// folder: the overlay, the seed and the firmware's variables.
func (r *runner) prepare(ctx context.Context, b *Boot, accel Accel) (vm, error) {
	dir := b.Name + "-" + string(accel)
	v := vm{
		firmware: b.Firmware, accel: accel, memory: r.Memory, cpus: r.CPUs,
		overlay: dir + "/overlay.qcow2", seed: dir + "/seed", vars: dir + "/vars.fd", console: dir + "/console.log",
	}
	if err := os.MkdirAll(filepath.Join(r.work, v.seed), 0o755); err != nil {
		return v, err
	}
	if err := writeSeed(filepath.Join(r.work, v.seed), r.seedFor(b)); err != nil {
		return v, err
	}
	if _, vars := b.Firmware.ovmf(); vars != "" {
		if err := copyFile(filepath.Join(r.work, v.vars), filepath.Join(r.Tools, ovmf, vars)); err != nil {
			return v, fault.New(fault.Environment, "take the UEFI firmware from the tools root: %w", err)
		}
	}
	_, err := r.output(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", r.image.format, "-b", r.imageInside(),
		path.Join(workMount, v.overlay), fmt.Sprint(r.record.Image.VirtualSize+growth))
	if err != nil {
		return v, fmt.Errorf("make an overlay over %s: %w", r.Image, err)
	}
	return v, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
