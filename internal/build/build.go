package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/disk"
	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/format"
	"imagebuilder.dev/internal/tools"
)

// diskVersion changes when the same root would give another disk or artifact.
const diskVersion = 1

// Options of a build.
type Options struct {
	Out     string   // folder for artifacts and manifest.json
	Targets []string // of the spec's; empty is all
	Until   string   // stop after this phase; no artifact is made
}

// Build makes the artifacts of a spec, or finds them made, and writes the
// manifest that lists them.
func Build(ctx context.Context, in Inputs, o Options) (*Manifest, error) {
	targets := o.Targets
	if len(targets) == 0 {
		targets = in.Spec.Spec.Targets
	}
	for _, t := range targets {
		if !slices.Contains(in.Spec.Spec.Targets, t) {
			return nil, unknownTarget(t, in.Spec.Spec.Targets)
		}
	}
	if o.Until == "" {
		if err := PrepareOut(o.Out); err != nil {
			return nil, err
		}
		sweepOut(o.Out)
	}
	b := &builder{in: in, out: o.Out, engine: Engine{Store: in.Fetch.Store(), Epoch: in.Lock.Epoch}}
	manifest := &Manifest{Name: in.Spec.Metadata.Name, Lock: in.Lock.Hash(), Kubernetes: in.Lock.Kubernetes.Version, Epoch: in.Lock.Epoch}
	old := readManifest(o.Out)
	for _, t := range targets {
		a, err := b.target(ctx, t, o.Until, old)
		if err != nil {
			return nil, err
		}
		if a != nil {
			manifest.Artifacts = append(manifest.Artifacts, *a)
		}
	}
	if o.Until != "" {
		return manifest, nil
	}
	return manifest, manifest.write(o.Out)
}

// partPrefix begins the name of an artifact that is not finished. Its writer
// holds a lock on it.
const partPrefix = ".image-builder-"

// createPart makes the file that an artifact is written to.
func createPart(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, partPrefix+"*")
	if err != nil {
		return nil, fault.New(fault.Environment, "write the artifact: %w", err)
	}
	return f, unix.Flock(int(f.Fd()), unix.LOCK_EX)
}

// sweepOut removes what killed builds have left in the folder.
func sweepOut(dir string) {
	parts, _ := filepath.Glob(filepath.Join(dir, partPrefix+"*"))
	for _, p := range parts {
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(p)
		}
		f.Close()
	}
}

// PrepareOut makes the output folder and finds out early that it cannot be
// written to.
func PrepareOut(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".write-"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return fault.Hint(fault.New(fault.Environment, "write to the output folder: %w", err), "choose another one with -o")
	}
	return nil
}

type builder struct {
	in     Inputs
	out    string
	engine Engine
}

// target makes the artifact of one target.
func (b *builder) target(ctx context.Context, name, until string, old *Manifest) (*Artifact, error) {
	phases, err := b.in.Phases(name)
	if err != nil {
		return nil, err
	}
	steps := Steps(b.in.Spec.Spec.OS.Arch, b.in.Lock.Epoch, phases)
	if until != "" {
		n := slices.IndexFunc(steps, func(s Step) bool { return s.Phase.Name == until })
		if n < 0 {
			return nil, fault.New(fault.Input, "there is no phase %q; the phases are %v", until, Order())
		}
		_, err := b.engine.Layers(ctx, steps[:n+1])
		return nil, err
	}
	a := b.artifact(name, steps[len(steps)-1].Key)
	if old.current(a, b.out) {
		for _, s := range steps {
			_, task := event.Start(ctx, s.Phase.Name)
			task.Cached()
			task.Done(nil)
		}
		_, task := event.Start(ctx, a.File)
		task.Cached()
		task.Done(nil)
		return old.find(a.Target), nil
	}
	started := time.Now()
	layers, err := b.engine.Layers(ctx, steps)
	if err != nil {
		return nil, err
	}
	if err := b.write(ctx, a, layers); err != nil {
		return nil, err
	}
	a.Seconds = time.Since(started).Seconds()
	return a, nil
}

// artifact says what the artifact of a target will be.
func (b *builder) artifact(target, rootKey string) *Artifact {
	s := b.in.Spec
	ext := map[string]string{"qemu": "qcow2", "raw": "raw"}[target]
	return &Artifact{
		Target: target, Format: ext,
		File: fmt.Sprintf("%s-%s-%s.%s", s.Metadata.Name, s.Spec.Kubernetes.Version, s.Spec.OS.Arch, ext),
		Key:  digest(fmt.Sprint(diskVersion), rootKey, b.diskKey(), ext, s.Spec.Disk.Compression),
	}
}

// compressions are the values of disk.compression.
func compressions() map[string]format.Compression {
	return map[string]format.Compression{"zlib": format.Zlib, "zstd": format.Zstd, "none": format.None}
}

// diskKey stands for what decides about a disk besides its root.
func (b *builder) diskKey() string {
	s := b.in.Spec.Spec
	parts := []string{fmt.Sprint(int64(s.Disk.Size)), s.Disk.Root.Filesystem, b.in.Lock.Epoch.UTC().Format(time.RFC3339), tools.Key("build", b.in.Lock.For("build"))}
	if release, err := catalog.FindRelease(s.OS.Name, s.OS.Version); err == nil {
		parts = append(parts, release.Ext4Features, release.EFIVendor)
	}
	return digest(parts...)
}

// write composes the disk and writes it in the target's format. The artifact
// appears by rename when it is whole.
func (b *builder) write(ctx context.Context, a *Artifact, layers []string) (err error) {
	tmp, err := b.in.Fetch.Store().TempDir("disk")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	raw := filepath.Join(tmp, "disk.raw")
	err = b.engine.WithRoot(ctx, layers, false, func(root string) error { return b.compose(ctx, raw, root) })
	if err != nil {
		return err
	}
	ctx, task := event.Start(ctx, a.File)
	defer func() { task.Done(err) }()
	out, err := createPart(b.out)
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	src, err := format.OpenRaw(raw)
	if err != nil {
		return err
	}
	defer src.Close()
	if a.Format == "raw" {
		_, err = format.CopyRaw(ctx, out, src)
	} else {
		err = format.WriteQcow2(ctx, out, src, format.Options{Compression: compressions()[b.in.Spec.Spec.Disk.Compression]})
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", a.File, err)
	}
	if a.SHA256, a.Size, err = sum(out); err != nil {
		return err
	}
	if err := errors.Join(out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	return a.publish(out.Name(), b.out)
}

func (b *builder) compose(ctx context.Context, path, root string) error {
	s := b.in.Spec.Spec
	release, err := catalog.FindRelease(s.OS.Name, s.OS.Version)
	if err != nil {
		return err
	}
	toolsRoot, err := b.in.tools(ctx, "build")
	if err != nil {
		return err
	}
	seed := b.in.Seed()
	return disk.Compose(ctx, path, disk.Options{
		Size: int64(s.Disk.Size), Seed: seed, Epoch: b.in.Lock.Epoch, Ext4Features: release.Ext4Features,
		Root: root, ESP: disk.SignedESP(release.EFIVendor, disk.UUIDs(seed).Root), Tools: toolsRoot,
	})
}

func sum(f *os.File) (digest string, size int64, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}
