package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// ext4Options says which filesystem to make where.
type ext4Options struct {
	Disk     string // file, at least Offset+Size bytes long, zero there
	Offset   int64
	Size     int64 // bytes
	Features string
	UUID     UUID
	HashSeed UUID
	Label    string
	Epoch    time.Time
	Tools    string // tools root
	Work     string // directory for small files
}

// Where the sandboxed tools see our files.
const (
	toolDisk = "/run/disk.raw"
	toolWork = "/run/work"
)

// mke2fsConf replaces the tools root's mke2fs.conf, so that nothing but the
// feature list on the command line depends on the version of e2fsprogs. The
// usage type is empty and stands for every size.
const mke2fsConf = `[defaults]
	base_features = none
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext4 = {
	}
	node = {
	}
`

// makeExt4 makes the filesystem and fills it with the tree: mke2fs reads the
// tree's tar stream, so that no file needs a copy and the order of everything
// on disk follows from the stream's.
func makeExt4(ctx context.Context, run runner, t *Tree, o ext4Options) error {
	conf := filepath.Join(o.Work, "mke2fs.conf")
	if err := os.WriteFile(conf, []byte(mke2fsConf), 0o644); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 1<<20) // a wish: fewer switches between the two
	streamed := make(chan error, 1)
	go func() {
		err := t.WriteTar(ctx, w, o.Epoch)
		w.Close()
		streamed <- err
	}()
	err = run(ctx, sandbox.Command{
		Root: o.Tools, ReadOnly: true,
		Args: o.mke2fs(),
		Env: []string{
			"MKE2FS_CONFIG=" + toolWork + "/mke2fs.conf",
			fmt.Sprintf("SOURCE_DATE_EPOCH=%d", o.Epoch.Unix()),
			fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", o.Epoch.Unix()),
		},
		Mounts: []sandbox.Mount{{Source: o.Disk, Target: toolDisk}, {Source: o.Work, Target: toolWork, ReadOnly: true}},
		Stdin:  r,
	})
	r.Close() // unblocks the stream when mke2fs has gone early
	return fsError(err, <-streamed)
}

// fsError says which of the two ends of the pipe is to blame.
func fsError(run, stream error) error {
	if stream != nil && !errors.Is(stream, unix.EPIPE) {
		return stream // mke2fs only saw a short stream
	}
	var exit *sandbox.ExitError
	if errors.As(run, &exit) && strings.Contains(exit.Tail, "No space left on device") { // the host's, not the new one
		return fmt.Errorf("make root filesystem: %w: %w", unix.ENOSPC, run)
	}
	if run != nil {
		return fmt.Errorf("make root filesystem: %w", run)
	}
	if stream != nil {
		return fault.New(fault.Internal, "make root filesystem: mke2fs did not read all of the rootfs")
	}
	return nil
}

func (o ext4Options) mke2fs() []string {
	extended := []string{
		fmt.Sprintf("offset=%d", o.Offset),
		"hash_seed=" + o.HashSeed.String(),
		// The file is zero there: inode tables and journal stay holes and count
		// as complete, so that nothing is left for the first mount to write.
		"assume_storage_prezeroed=1",
		"nodiscard", "root_owner=0:0",
	}
	return []string{
		"mke2fs", "-q", "-F", "-t", "ext4", "-T", "node",
		"-b", fmt.Sprint(ext4Block), "-I", fmt.Sprint(ext4InodeSize), "-i", fmt.Sprint(ext4InodeRatio),
		"-m", fmt.Sprint(ext4Reserved), "-G", "16", "-e", "remount-ro",
		"-O", "none," + o.Features, "-E", strings.Join(extended, ","),
		"-U", o.UUID.String(), "-L", o.Label, "-d", "-",
		toolDisk, fmt.Sprintf("%dk", o.Size>>10),
	}
}
