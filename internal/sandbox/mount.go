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
	at := map[string]string{}
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run"} {
		path, err := inside(c.Root, "/"+d) // an image may have symbolic links there
		if err != nil {
			return err
		}
		if at[d] = path; !c.ReadOnly {
			os.MkdirAll(path, 0o755)
		}
	}
	proc := at["proc"]
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		// A container with a masked /proc forbids a new one; its own does as well.
		if err2 := unix.Mount("/proc", proc, "", unix.MS_BIND|unix.MS_REC, ""); err2 != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	if err := guardKernel(proc); err != nil {
		return err
	}
	for _, t := range []struct{ dir, opts string }{
		{"sys", "mode=0555"}, {"tmp", "mode=1777"}, {"run", "mode=0755"}, {"dev", "mode=0755"},
	} {
		if err := unix.Mount("tmpfs", at[t.dir], "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, t.opts); err != nil {
			return fmt.Errorf("mount /%s: %w", t.dir, err)
		}
	}
	lock := filepath.Join(at["run"], "lock")
	os.Mkdir(lock, 0o755)
	os.Chmod(lock, os.ModeSticky|0o777)
	return makeDev(at["dev"], c.Devices)
}

// guardKernel makes the switches of the kernel read-only. When real root runs
// the builder, the command's root is the same user, and the kernel asks for
// nothing else there: /proc/sys/kernel/core_pattern would let a package's script
// run a program on the host.
func guardKernel(proc string) error {
	for _, name := range []string{"sys", "sysrq-trigger", "irq", "bus", "fs"} {
		path := filepath.Join(proc, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind /proc/%s: %w", name, err)
		}
		if err := makeReadOnly(path, true); err != nil {
			return fmt.Errorf("make /proc/%s read-only: %w", name, err)
		}
	}
	return nil
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

// makeReadOnly makes the mount at path read-only, with those below it if deep.
func makeReadOnly(path string, deep bool) error {
	flags := uint(unix.AT_SYMLINK_NOFOLLOW)
	if deep {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err == unix.ENOSYS { // before Linux 5.12
		return remountReadOnly(path)
	}
	return err
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
