package oci

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/fault"
)

// maxUnpacked is the most bytes that one layer may unpack to.
const maxUnpacked = 32 << 30

// plain returns the tar inside r, which is plain, gzip or zstd, told by its
// first bytes, and the media type of such a layer. Containerd's own reader is
// not used: it would start a helper program.
func plain(r io.Reader) (io.ReadCloser, string, error) {
	br := bufio.NewReaderSize(r, 128<<10)
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, "", fault.New(fault.Integrity, "reading a gzip layer: %w", err)
		}
		return bounded(zr), v1.MediaTypeImageLayerGzip, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		zr, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, "", fault.New(fault.Integrity, "reading a zstd layer: %w", err)
		}
		return bounded(zr.IOReadCloser()), v1.MediaTypeImageLayerZstd, nil
	}
	return bounded(io.NopCloser(br)), v1.MediaTypeImageLayer, nil
}

// limited fails, instead of ending, when a layer unpacks to more than it may.
type limited struct {
	io.ReadCloser
	left int64
}

func bounded(r io.ReadCloser) io.ReadCloser { return &limited{r, maxUnpacked} }

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fault.New(fault.Input, "layer unpacks to more than %d bytes", int64(maxUnpacked))
	}
	return n, err
}

// describeLayer returns the descriptor of the layer in f and the digest of the
// tar inside.
func describeLayer(ctx context.Context, f *os.File) (v1.Descriptor, digest.Digest, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	raw := digest.SHA256.Digester()
	tee := io.TeeReader(io.NewSectionReader(f, 0, size), raw.Hash())
	r, mediaType, err := plain(tee)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer r.Close()
	sum := digest.SHA256.Digester()
	into := io.Writer(sum.Hash())
	if mediaType == v1.MediaTypeImageLayer {
		sum, into = raw, io.Discard // the same bytes: hash them once
	}
	if _, err := io.Copy(into, withContext(ctx, r)); err != nil {
		return v1.Descriptor{}, "", fault.New(fault.Integrity, "reading a layer: %w", err)
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // bytes after the end of the compressed stream
		return v1.Descriptor{}, "", err
	}
	return v1.Descriptor{MediaType: mediaType, Digest: raw.Digest(), Size: size}, sum.Digest(), nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// withContext returns a reader that fails once ctx is done.
func withContext(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
