package disk

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// setAttributes adds the extended attributes that mke2fs does not take from a
// tar stream (all but security.capability). Few trees have any, so that this
// is a second pass by debugfs.
func setAttributes(ctx context.Context, run runner, t *Tree, o ext4Options) error {
	script, err := t.attributeScript(o.Work)
	if err != nil || script == "" {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.Work, "xattrs"), []byte(script), 0o644); err != nil {
		return err
	}
	var out strings.Builder
	err = run(ctx, sandbox.Command{
		Root: o.Tools, ReadOnly: true,
		Args:   []string{"debugfs", "-w", "-f", toolWork + "/xattrs", fmt.Sprintf("%s?offset=%d", toolDisk, o.Offset)},
		Env:    []string{fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", o.Epoch.Unix())},
		Mounts: []sandbox.Mount{{Source: o.Disk, Target: toolDisk}, {Source: o.Work, Target: toolWork, ReadOnly: true}},
		Stdout: &out, Stderr: &out,
	})
	if err != nil {
		return fmt.Errorf("set extended attributes: %w: %s", err, out.String())
	}
	return attributeFailure(out.String())
}

// attributeScript returns debugfs commands and writes the values they read.
func (t *Tree) attributeScript(work string) (string, error) {
	var b strings.Builder
	n := 0
	for i := range t.entries {
		e := &t.entries[i]
		for _, name := range slices.Sorted(maps.Keys(e.xattrs)) {
			if strings.ContainsAny(e.path+name, "\"\n") {
				return "", fault.New(fault.Input, "attribute %q of /%q: no quote or line break is possible in the name", name, e.path)
			}
			file := fmt.Sprintf("xattr-%d", n)
			n++
			if err := os.WriteFile(filepath.Join(work, file), []byte(e.xattrs[name]), 0o644); err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "ea_set -f %s/%s \"/%s\" \"%s\"\n", toolWork, file, e.path, name)
		}
	}
	return b.String(), nil
}

// attributeFailure finds the first complaint in debugfs' output, which ends
// with status 0 whatever happened: all lines but the echo of commands and the
// version are complaints.
func attributeFailure(out string) error {
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "debugfs") {
			return fault.New(fault.Internal, "set extended attributes: %s", line)
		}
	}
	return nil
}
