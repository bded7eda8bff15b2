package format

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// Raw is a disk in a file of its own size.
type Raw struct {
	file *os.File
	size int64
}

// OpenRaw opens a raw disk. The file must be regular and not change while the
// disk is in use.
func OpenRaw(path string) (*Raw, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Input, "open raw disk: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, fault.New(fault.Input, "open raw disk %s: %w", path, err)
	}
	return &Raw{f, info.Size()}, nil
}

// Close closes the file.
func (r *Raw) Close() error { return r.file.Close() }

// Size implements Source.
func (r *Raw) Size() int64 { return r.size }

// ReadAt implements Source.
func (r *Raw) ReadAt(p []byte, off int64) (int, error) { return r.file.ReadAt(p, off) }

// Extents implements Source. It asks the file system where data is; one that
// cannot tell reports the whole file.
func (r *Raw) Extents() ([]Extent, error) {
	var list []Extent
	fd := int(r.file.Fd())
	for off := int64(0); off < r.size; {
		start, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && start >= r.size {
			break
		}
		end := r.size
		if err == nil {
			end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
		}
		if errors.Is(err, unix.EINVAL) {
			return []Extent{{0, r.size}}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("find the data of %s: %w", r.file.Name(), err)
		}
		off = min(end, r.size)
		list = append(list, Extent{start, off - start})
	}
	return list, nil
}

const (
	copyWindow = 1 << 20
	// holeGrain is the least run of zeros that becomes a hole: a page, which
	// is a block of every usual file system.
	holeGrain = 4096
)

// CopyRaw writes src to dst as a raw disk, in place of what the file held, and
// returns its description. Every aligned block of 4 KiB that is zero becomes a hole, so the
// layout depends on the content alone. The digest is computed on the way.
// Progress goes to the task that ctx carries.
func CopyRaw(ctx context.Context, dst *os.File, src Source) (Artifact, error) {
	extents, err := src.Extents()
	if err != nil {
		return Artifact{}, err
	}
	for _, size := range []int64{0, src.Size()} {
		if err := dst.Truncate(size); err != nil {
			return Artifact{}, fmt.Errorf("copy raw disk: %w", err)
		}
	}
	c := rawCopy{dst: dst, src: src, extents: extents, sum: newSummer(src.Size())}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.sum.run(ctx) })
	g.Go(func() error {
		defer close(c.sum.pieces)
		return c.copy(ctx)
	})
	if err := g.Wait(); err != nil {
		return Artifact{}, fmt.Errorf("copy raw disk to %s: %w", dst.Name(), err)
	}
	return Artifact{Path: dst.Name(), Format: "raw", Size: src.Size(), SHA256: c.sum.hex()}, nil
}

type rawCopy struct {
	dst     *os.File
	src     Source
	extents []Extent
	sum     *summer
}

func (c *rawCopy) copy(ctx context.Context) (err error) {
	task, total := event.Current(ctx), allocated(c.extents)
	done := int64(0)
	blocks(c.extents, copyWindow, func(i int64) bool {
		var buf []byte
		if buf, err = c.sum.buffer(ctx); err != nil {
			return false
		}
		off := i * copyWindow
		buf = buf[:min(copyWindow, c.src.Size()-off)]
		if err = readBlock(c.src, buf, off); err != nil {
			return false
		}
		if err = writeSparse(c.dst, buf, off); err != nil {
			return false
		}
		err = c.sum.add(ctx, piece{off, buf})
		done += int64(len(buf))
		task.Progress(min(done, total), total, event.Bytes)
		return err == nil
	})
	return err
}

// writeSparse writes the blocks of p that are not zero.
func writeSparse(dst *os.File, p []byte, off int64) error {
	start := 0
	for at := 0; at <= len(p); at += holeGrain {
		end := min(at+holeGrain, len(p))
		if at < end && !isZero(p[at:end]) {
			continue
		}
		if at = min(at, len(p)); start < at {
			if _, err := dst.WriteAt(p[start:at], off+int64(start)); err != nil {
				return err
			}
		}
		start = end
	}
	if start < len(p) {
		_, err := dst.WriteAt(p[start:], off+int64(start))
		return err
	}
	return nil
}
