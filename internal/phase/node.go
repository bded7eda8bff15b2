package phase

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imagebuilder.dev/internal/deb"
	"imagebuilder.dev/internal/event"
)

// Node makes the distribution fit for Kubernetes: packages, kernel modules,
// sysctls, auditing, and etcd's network priority. As the last phase that has to
// install packages it also makes the initramfs, once.
func Node(p Packages) Phase {
	return Phase{Name: "node", Version: 1, Inputs: append(p.inputs(), fileInputs("node")...), Prepare: p.prepare, Run: func(ctx context.Context, r *Root) error {
		if err := r.AddFiles("node"); err != nil {
			return err
		}
		if err := r.install(ctx, p); err != nil {
			return err
		}
		if err := r.systemctl(ctx, "enable", "auditd.service", "chrony.service"); err != nil {
			return err
		}
		return r.initramfs(ctx)
	}}
}

// Kernels returns the versions of the kernels in the root, oldest first.
func (r *Root) Kernels() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, "boot"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if v, ok := strings.CutPrefix(e.Name(), "vmlinuz-"); ok {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the root has no kernel")
	}
	slices.SortFunc(out, deb.CompareVersions)
	return out, nil
}

// initramfs makes every kernel's initramfs anew.
func (r *Root) initramfs(ctx context.Context) error {
	kernels, err := r.Kernels()
	if err != nil {
		return err
	}
	for _, k := range kernels {
		event.Current(ctx).Detail("initramfs of " + k)
		verb := "-c"
		if r.Exists("/boot/initrd.img-" + k) {
			verb = "-u"
		}
		if err := r.Exec(ctx, "update-initramfs", verb, "-k", k); err != nil {
			return fmt.Errorf("make the initramfs of %s: %w", k, err)
		}
	}
	return nil
}
