package format

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"golang.org/x/sync/errgroup"
)

// Artifact describes a finished image file.
type Artifact struct {
	Path   string `json:"path"`
	Format string `json:"format"` // raw, qcow2 ...
	Size   int64  `json:"size"`   // bytes, as the file's length
	SHA256 string `json:"sha256"` // hex
}

// Describe reads a finished file and returns its description. A qcow2 file's
// digest cannot be had while it is written, as its header comes last; holes
// are not read from disk.
func Describe(ctx context.Context, path, format string) (Artifact, error) {
	r, err := OpenRaw(path)
	if err != nil {
		return Artifact{}, err
	}
	defer r.Close()
	extents, err := r.Extents()
	if err != nil {
		return Artifact{}, err
	}
	s := newSummer(r.size)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.run(ctx) })
	g.Go(func() error {
		defer close(s.pieces)
		return s.feed(ctx, r, extents)
	})
	if err := g.Wait(); err != nil {
		return Artifact{}, fmt.Errorf("compute the digest of %s: %w", path, err)
	}
	return Artifact{Path: path, Format: format, Size: r.size, SHA256: s.hex()}, nil
}

// summer computes a digest beside the work that produces the data. It is given
// pieces in ascending order; what lies between them is zero.
type summer struct {
	pieces chan piece
	free   chan []byte
	hash   hash.Hash
	at     int64 // bytes summed
	size   int64
}

type piece struct {
	off  int64
	data []byte
}

func newSummer(size int64) *summer {
	s := &summer{pieces: make(chan piece, 4), free: make(chan []byte, 4), hash: sha256.New(), size: size}
	for range cap(s.free) {
		s.free <- make([]byte, copyWindow)
	}
	return s
}

// buffer returns a free buffer of copyWindow bytes.
func (s *summer) buffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-s.free:
		return b[:copyWindow], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// add hands over a piece whose buffer came from s.
func (s *summer) add(ctx context.Context, p piece) error {
	select {
	case s.pieces <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// feed adds everything that src has.
func (s *summer) feed(ctx context.Context, src Source, extents []Extent) (err error) {
	blocks(extents, copyWindow, func(i int64) bool {
		var buf []byte
		if buf, err = s.buffer(ctx); err != nil {
			return false
		}
		off := i * copyWindow
		buf = buf[:min(copyWindow, src.Size()-off)]
		if err = readBlock(src, buf, off); err == nil {
			err = s.add(ctx, piece{off, buf})
		}
		return err == nil
	})
	return err
}

// run sums until pieces is closed and then up to the size.
func (s *summer) run(ctx context.Context) error {
	zeros := make([]byte, copyWindow)
	for p := range s.pieces {
		if err := s.zeros(ctx, zeros, p.off); err != nil {
			return err
		}
		s.hash.Write(p.data)
		s.at += int64(len(p.data))
		s.free <- p.data
	}
	return s.zeros(ctx, zeros, s.size)
}

func (s *summer) zeros(ctx context.Context, zeros []byte, to int64) error {
	for s.at < to {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n := min(to-s.at, int64(len(zeros)))
		s.hash.Write(zeros[:n])
		s.at += n
	}
	return nil
}

func (s *summer) hex() string { return hex.EncodeToString(s.hash.Sum(nil)) }
