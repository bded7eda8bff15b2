package store

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// nearlyFull is a rest of free space, in bytes, at which a tool that failed is
// believed to have failed for lack of it.
const nearlyFull = 16 << 20

// Explain makes an Environment fault of an error that a full disk has caused.
// A tool in the sandbox says so only in its output, if at all; so the disk is
// asked. Other errors are returned as they are.
func (s *Store) Explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	var st unix.Statfs_t
	if !full && fault.KindOf(err) == fault.Internal && unix.Statfs(s.dir, &st) == nil {
		full = int64(st.Bavail)*st.Bsize < nearlyFull || st.Files > 0 && st.Ffree == 0
	}
	if !full {
		return err
	}
	return fault.Hint(fault.New(fault.Environment, "the disk of the store %s is full: %w", s.dir, err),
		"free some space, run 'image-builder cache prune', or point IMAGE_BUILDER_HOME at a larger disk; finished phases are kept")
}
