package disk

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// Where GRUB's BIOS images are in a root, and where the node's GRUB looks.
const (
	grubSource = "usr/lib/grub/i386-pc"
	grubTarget = "boot/grub/i386-pc"
)

// biosImages makes what boots by BIOS: the code of sector 0, the BIOS boot
// partition, and the files that grub-install would have left in /boot/grub.
func (c *composer) biosImages(ctx context.Context) (boot, core []byte, extras []Extra, err error) {
	root, err := c.grubRoot()
	if err != nil {
		return nil, nil, nil, err
	}
	coreImg, err := c.makeCore(ctx, root)
	if err != nil {
		return nil, nil, nil, err
	}
	source := filepath.Join(root, grubSource)
	bootImg, err := os.ReadFile(filepath.Join(source, "boot.img"))
	if err != nil {
		return nil, nil, nil, err
	}
	first, last := c.layout.BIOS.sectors()
	if boot, core, err = BIOSBoot(bootImg, coreImg, first, last-first+1); err != nil {
		return nil, nil, nil, err
	}
	corePath := filepath.Join(c.work, coreFile)
	if err := os.Chtimes(corePath, c.Epoch, c.Epoch); err != nil {
		return nil, nil, nil, err
	}
	extras, err = grubModules(source)
	return boot, core, append(extras, Extra{Path: grubTarget + "/core.img", Source: corePath}), err
}

// grubRoot returns the root whose GRUB is installed: the rootfs's own, so that
// core.img and the modules that the node has are of one version; the tools
// root's when the rootfs has no GRUB for BIOS.
func (c *composer) grubRoot() (string, error) {
	for _, root := range []string{c.Root, c.Tools} {
		_, err1 := os.Lstat(filepath.Join(root, grubSource, "kernel.img"))
		_, err2 := os.Lstat(filepath.Join(root, "usr/bin/grub-mkimage"))
		if err1 == nil && err2 == nil {
			return root, nil
		}
	}
	return "", fault.New(fault.Input, "neither the rootfs nor the tools root has GRUB for BIOS (package grub-pc-bin)")
}

const coreFile = "core.img"

// makeCore runs grub-mkimage in root. Its result stays in the work directory.
func (c *composer) makeCore(ctx context.Context, root string) ([]byte, error) {
	early := filepath.Join(c.work, "early.cfg")
	if err := os.WriteFile(early, []byte(CoreConfig(c.ids.Root)), 0o644); err != nil {
		return nil, err
	}
	args := []string{
		"/usr/bin/grub-mkimage", "--format=i386-pc", "--directory=/" + grubSource, "--prefix=/boot/grub",
		"--compression=auto", "--config=" + toolWork + "/early.cfg",
		"--output=" + toolWork + "/" + coreFile, // not a pipe: grub-mkimage syncs what it wrote
	}
	err := c.Run(ctx, sandbox.Command{
		Root: root, ReadOnly: true, Args: append(args, coreModules()...),
		Mounts: []sandbox.Mount{{Source: c.work, Target: toolWork}},
	})
	if err != nil {
		return nil, fmt.Errorf("make GRUB's core.img: %w", err)
	}
	return os.ReadFile(filepath.Join(c.work, coreFile))
}

// grubModules lists what grub-install copies to /boot/grub/i386-pc.
func grubModules(source string) ([]Extra, error) {
	list, err := os.ReadDir(source)
	if err != nil {
		return nil, err
	}
	var extras []Extra
	for _, d := range list {
		switch ext := path.Ext(d.Name()); {
		case !d.Type().IsRegular():
		case ext == ".mod" || ext == ".lst" || ext == ".o" || d.Name() == "boot.img" || strings.HasPrefix(d.Name(), "modinfo"):
			extras = append(extras, Extra{Path: path.Join(grubTarget, d.Name()), Source: filepath.Join(source, d.Name())})
		}
	}
	return extras, nil
}
