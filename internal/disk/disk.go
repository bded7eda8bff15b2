package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// DefaultESPSize holds shim and GRUB some ten times over, for updates and for
// kernels that boot by themselves. Free space in it costs nothing.
const DefaultESPSize = 128 << 20

// RootLabel is the label of the root filesystem.
const RootLabel = "root"

// Alignment of partitions, and the size of the BIOS boot partition, in bytes.
const alignment = 1 << 20

// runner is sandbox.Run, or what a test puts in its place.
type runner func(context.Context, sandbox.Command) error

// Options say what disk to compose.
type Options struct {
	Size         int64     // of the disk in bytes, a multiple of 1 MiB
	Seed         [32]byte  // of all identifiers, see UUIDs
	Epoch        time.Time // of everything that has a time; no file is newer
	Ext4Features string    // mke2fs' -O list, complete
	ESPSize      int64     // in bytes, a multiple of 1 MiB; 0 is DefaultESPSize
	Root         string    // directory of the merged rootfs, with /etc/fstab and /boot/grub/grub.cfg that name UUIDs(Seed)
	ESP          []ESPFile // content of the ESP, see SignedESP
	Tools        string    // tools root with mke2fs and libarchive; also GRUB where the rootfs has none

	Run func(context.Context, sandbox.Command) error // nil is sandbox.Run
}

// Layout is where the partitions are, in bytes.
type Layout struct {
	BIOS, ESP, Root Span
}

// Span is a range of a disk in bytes.
type Span struct{ Start, Size int64 }

func (s Span) sectors() (first, last int64) {
	return s.Start / Sector, (s.Start+s.Size)/Sector - 1
}

// LayOut returns the layout of a disk of size bytes. The root takes what the
// others leave, in whole MiB; it is negative on a disk too small for them.
func LayOut(size, espSize int64) Layout {
	esp := Span{2 * alignment, espSize}
	start := esp.Start + esp.Size
	end := (size - (1+gptArraySectors)*Sector) / alignment * alignment
	return Layout{BIOS: Span{alignment, alignment}, ESP: esp, Root: Span{start, end - start}}
}

func rootSpan(size, espSize int64) int64 { return LayOut(size, espSize).Root.Size }

// Compose writes the disk to a new file at path. A file that stands there, or
// that Compose could not finish, is the caller's to remove.
func Compose(ctx context.Context, path string, o Options) (err error) {
	ctx, task := event.Start(ctx, "compose disk")
	defer func() { task.Done(err) }()
	if o.ESPSize == 0 {
		o.ESPSize = DefaultESPSize
	}
	if o.Run == nil {
		o.Run = sandbox.Run
	}
	if err := o.check(); err != nil {
		return fmt.Errorf("compose disk: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(path), ".compose-")
	if err != nil {
		return fmt.Errorf("compose disk: %w", err)
	}
	defer os.RemoveAll(work)
	c := &composer{Options: o, path: path, work: work, task: task, ids: UUIDs(o.Seed), layout: LayOut(o.Size, o.ESPSize)}
	if err := c.compose(ctx); err != nil {
		return fmt.Errorf("compose disk %s: %w", path, err)
	}
	return nil
}

func (o Options) check() error {
	switch {
	case o.Size%alignment != 0 || o.ESPSize%alignment != 0:
		return fault.New(fault.Internal, "sizes %d and %d must be multiples of 1 MiB", o.Size, o.ESPSize)
	case o.Ext4Features == "":
		return fault.New(fault.Internal, "the ext4 features must be given")
	case o.Epoch.Year() < 1980:
		return fault.New(fault.Internal, "the epoch %s is before 1980, where FAT's time begins", o.Epoch)
	}
	return nil
}

type composer struct {
	Options
	path, work string
	task       *event.Task
	ids        IDs
	layout     Layout
	file       *os.File
}

// compose runs the steps. What can be refused is refused before anything is written.
func (c *composer) compose(ctx context.Context) (err error) {
	c.task.Detail("GRUB for BIOS")
	boot, core, modules, err := c.biosImages(ctx)
	if err != nil {
		return err
	}
	c.task.Detail("reading the rootfs")
	tree, err := Scan(ctx, c.Root, modules)
	if err != nil {
		return err
	}
	if err := CheckSize(tree.Usage(), c.Size, c.ESPSize); err != nil {
		return err
	}
	if c.file, err = os.OpenFile(c.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.file.Close()) }()
	if err := c.file.Truncate(c.Size); err != nil {
		return err
	}
	if err := c.writeStart(boot, core); err != nil {
		return err
	}
	c.task.Detail("EFI system partition")
	if err := c.writeESP(); err != nil {
		return err
	}
	c.task.Detail("root filesystem")
	return c.writeRoot(ctx, tree)
}

// writeStart writes what stands before the filesystems, and the backup table.
func (c *composer) writeStart(boot, core []byte) error {
	if _, err := c.file.WriteAt(boot, 0); err != nil {
		return err
	}
	if _, err := c.file.WriteAt(core, c.layout.BIOS.Start); err != nil {
		return err
	}
	g := GPT{ID: c.ids.Disk, Size: c.Size}
	for i, p := range []struct {
		name, typ string
		span      Span
	}{
		{"bios", TypeBIOSBoot, c.layout.BIOS}, {"esp", TypeESP, c.layout.ESP}, {"root", TypeRootAMD64, c.layout.Root},
	} {
		first, last := p.span.sectors()
		g.Partitions = append(g.Partitions, Partition{Name: p.name, Type: p.typ, ID: c.ids.Parts[i], First: first, Last: last})
	}
	return g.WriteTo(c.file)
}

func (c *composer) writeESP() error {
	files, err := openESP(c.Root, c.ESP)
	if err != nil {
		return err
	}
	esp := FAT{
		Size: c.layout.ESP.Size, Start: c.layout.ESP.Start / Sector,
		Label: "ESP", ID: c.ids.ESP, Time: c.Epoch,
	}
	return esp.Write(io.NewOffsetWriter(c.file, c.layout.ESP.Start), files)
}

func (c *composer) writeRoot(ctx context.Context, tree *Tree) error {
	o := ext4Options{
		Disk: c.path, Offset: c.layout.Root.Start, Size: c.layout.Root.Size,
		Features: c.Ext4Features, UUID: c.ids.Root, HashSeed: c.ids.HashSeed, Label: RootLabel,
		Epoch: c.Epoch, Tools: c.Tools, Work: c.work,
	}
	if err := makeExt4(ctx, c.Run, tree, o); err != nil {
		return err
	}
	return setAttributes(ctx, c.Run, tree, o)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", ceilDiv(n, 1<<20)) }
