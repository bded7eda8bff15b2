package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bind mounts one Mount below root.
func bind(root string, m Mount) error {
	target, err := inside(root, m.Target)
	if err != nil {
		return err
	}
	if m.Source == "" {
		os.MkdirAll(target, 0o755)
		return wrapMount(m.Target, unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"))
	}
	st, err := os.Stat(m.Source)
	if err != nil {
		return fmt.Errorf("bind %s: %w", m.Target, err)
	}
	makeTarget(target, st.IsDir())
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", m.Source, m.Target, err)
	}
	if m.ReadOnly {
		return wrapMount(m.Target, makeReadOnly(target, true))
	}
	return nil
}

func wrapMount(target string, err error) error {
	if err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// makeTarget makes a mount point; a read-only root must have it already, and
// then the mount itself reports what is missing.
func makeTarget(target string, dir bool) {
	if dir {
		os.MkdirAll(target, 0o755)
		return
	}
	os.MkdirAll(filepath.Dir(target), 0o755)
	if f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644); err == nil {
		f.Close()
	}
}

// inside resolves an absolute path below root without leaving it: symbolic
// links in the root are followed as if root were /.
func inside(root, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("mount target %q is not absolute", path)
	}
	parts := strings.Split(filepath.Clean(path), "/")
	cur := "/"
	for links := 0; len(parts) > 0; {
		p := parts[0]
		parts = parts[1:]
		if p == "" || p == "." {
			continue
		}
		next := filepath.Join(cur, p)
		dest, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			cur = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("mount target %s: too many symbolic links", path)
		}
		if filepath.IsAbs(dest) {
			cur = "/"
		}
		parts = append(strings.Split(dest, "/"), parts...)
	}
	return filepath.Join(root, cur), nil
}
