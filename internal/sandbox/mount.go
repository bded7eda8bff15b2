package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountSystem mounts what every command gets: /proc, an empty /sys, a minimal
// /dev, and empty /tmp and /run. /sys is empty because tools that look there
// would put the host's hardware into the image.
func mountSystem(c initConfig) error {
	root := c.Root
	if !c.ReadOnly {
		for _, d := range []string{"proc", "sys", "dev", "tmp", "run"} {
			os.Mkdir(filepath.Join(root, d), 0o755)
		}
	}
	proc := filepath.Join(root, "proc")
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		// A container with a masked /proc forbids a new one; its own does as well.
		if err2 := unix.Mount("/proc", proc, "", unix.MS_BIND|unix.MS_REC, ""); err2 != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	for _, t := range []struct{ dir, opts string }{
		{"sys", "mode=0555"}, {"tmp", "mode=1777"}, {"run", "mode=0755"}, {"dev", "mode=0755"},
	} {
		if err := unix.Mount("tmpfs", filepath.Join(root, t.dir), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, t.opts); err != nil {
			return fmt.Errorf("mount /%s: %w", t.dir, err)
		}
	}
	os.Mkdir(filepath.Join(root, "run/lock"), 0o1777)
	return makeDev(filepath.Join(root, "dev"), c.Devices)
}

func makeDev(dev string, more []string) error {
	devices := append([]string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}, more...)
	for _, d := range devices {
		target := filepath.Join(dev, strings.TrimPrefix(d, "/dev/"))
		makeTarget(target, false)
		if err := unix.Mount(d, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind device %s: %w", d, err)
		}
	}
	for name, dest := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(dest, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for _, d := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, d), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	return unix.Mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
}

// remountReadOnly keeps the flags that the host has locked on the mount.
func remountReadOnly(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY)
	for _, f := range []struct{ st, ms uintptr }{
		{unix.ST_NOSUID, unix.MS_NOSUID}, {unix.ST_NODEV, unix.MS_NODEV}, {unix.ST_NOEXEC, unix.MS_NOEXEC},
		{unix.ST_NOATIME, unix.MS_NOATIME}, {unix.ST_RELATIME, unix.MS_RELATIME}, {unix.ST_NODIRATIME, unix.MS_NODIRATIME},
	} {
		if uintptr(st.Flags)&f.st != 0 {
			flags |= f.ms
		}
	}
	return unix.Mount("", path, "", flags, "")
}

// Overlay mounts lower directories, bottom first, at target, with a writable
// upper directory unless upper is empty. Writes skip every sync: a layer that
// was not finished is thrown away anyway. The returned function unmounts.
func Overlay(target string, lower []string, upper, work string) (unmount func() error, err error) {
	top := make([]string, 0, len(lower)+1)
	for i := len(lower) - 1; i >= 0; i-- {
		top = append(top, lower[i])
	}
	opts := "userxattr,lowerdir="
	switch {
	case upper != "":
		opts = fmt.Sprintf("volatile,upperdir=%s,workdir=%s,", upper, work) + opts
	case len(top) == 1: // an overlay without an upper directory needs two lower ones
		if err := unix.Mount(top[0], target, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("bind %s at %s: %w", top[0], target, err)
		}
		return func() error { return unix.Unmount(target, unix.MNT_DETACH) }, nil
	}
	if err := unix.Mount("overlay", target, "overlay", 0, opts+strings.Join(top, ":")); err != nil {
		return nil, fmt.Errorf("overlay %d layers at %s: %w", len(lower), target, err)
	}
	return func() error { return unix.Unmount(target, unix.MNT_DETACH) }, nil
}
