package sandbox

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// Overlay mounts lower directories, bottom first, at target, with a writable
// upper directory unless upper is empty. Writes skip every sync: a layer that
// was not finished is thrown away anyway. The returned function unmounts.
func Overlay(target string, lower []string, upper, work string) (unmount func() error, err error) {
	if len(lower) == 0 {
		return nil, fault.New(fault.Internal, "overlay at %s: no lower directory", target)
	}
	if upper == "" && len(lower) == 1 { // an overlay without an upper directory needs two lower ones
		if err := unix.Mount(lower[0], target, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("bind %s at %s: %w", lower[0], target, err)
		}
		return unmounter(target), nil
	}
	opts := "userxattr,"
	if upper != "" {
		opts += "volatile,upperdir=" + quote(upper) + ",workdir=" + quote(work) + ","
	}
	opts += "lowerdir="
	for i := len(lower) - 1; i >= 0; i-- {
		opts += quote(lower[i])
		if i > 0 {
			opts += ":"
		}
	}
	if len(opts) >= os.Getpagesize() { // the kernel would cut it
		return nil, fault.Hint(fault.New(fault.Environment, "overlay %d layers at %s: their paths are too long for mount", len(lower), target),
			"set IMAGE_BUILDER_HOME to a folder with a shorter path")
	}
	if err := unix.Mount("overlay", target, "overlay", 0, opts); err != nil {
		return nil, fmt.Errorf("overlay %d layers at %s: %w", len(lower), target, err)
	}
	return unmounter(target), nil
}

func unmounter(target string) func() error {
	return func() error { return unix.Unmount(target, unix.MNT_DETACH) }
}

// quote escapes what separates options and directories.
func quote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}
