package format

import (
	"fmt"
	"math/bits"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/format/deflate"
)

// Compression is how the clusters of an image are compressed.
type Compression int

// The compressions of qcow2. Every QEMU reads Zlib; Zstd needs 5.1.
const (
	None Compression = iota
	Zlib
	Zstd
)

// String returns the compression's usual name.
func (c Compression) String() string {
	switch c {
	case None:
		return "none"
	case Zlib:
		return "zlib"
	case Zstd:
		return "zstd"
	default:
		return fmt.Sprintf("compression %d", int(c))
	}
}

// Options say how an image is written.
type Options struct {
	Compression Compression
	// Level is zstd's, 1 to 22 as on its command line; 0 is the default. Zlib
	// has one level, 0.
	Level int
	// ClusterSize is in bytes, a power of two from 8 KiB to 2 MiB; 0 is 64 KiB.
	ClusterSize int
	// Workers is how many goroutines compress; 0 is one per CPU. It does not
	// change what is written.
	Workers int
}

const (
	defaultClusterSize = 64 << 10
	minClusterSize     = 8 << 10
	maxClusterSize     = 2 << 20
)

// check returns o with its defaults filled in.
func (o Options) check() (Options, error) {
	if o.ClusterSize == 0 {
		o.ClusterSize = defaultClusterSize
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	switch {
	case o.ClusterSize < minClusterSize || o.ClusterSize > maxClusterSize || bits.OnesCount(uint(o.ClusterSize)) != 1:
		return o, fault.New(fault.Input, "cluster size %d is not a power of two from %d to %d", o.ClusterSize, minClusterSize, maxClusterSize)
	case o.Workers < 0:
		return o, fault.New(fault.Input, "%d workers", o.Workers)
	case o.Compression < None || o.Compression > Zstd:
		return o, fault.New(fault.Input, "%v is unknown: none, zlib and zstd are known", o.Compression)
	case o.Level < 0 || o.Level > 22 || o.Level != 0 && o.Compression != Zstd:
		return o, fault.New(fault.Input, "compression level %d does not exist for %v", o.Level, o.Compression)
	}
	// Many cores with large clusters must not take more memory than promised.
	o.Workers = max(1, min(o.Workers, memoryBudget/o.workerMemory()))
	return o, nil
}

// memoryBudget bounds the workers and their queues, in bytes. The garbage
// collector lets a process grow to nearly twice what it holds.
const memoryBudget = 56 << 20

// workerMemory is what one worker needs: its share of clusters under way, raw
// and compressed, and the compressor's tables.
func (o Options) workerMemory() int {
	n := queuePerWorker * 2 * o.ClusterSize
	switch o.Compression {
	case Zlib:
		n += 4*o.ClusterSize + 1<<19
	case Zstd:
		n += 3*o.ClusterSize + 2<<20
	}
	return n
}

// compressor compresses one cluster. It is used by one goroutine.
type compressor interface {
	// compress appends to dst.
	compress(dst, src []byte) []byte
}

type zlibCompressor struct{ *deflate.Encoder }

func (c zlibCompressor) compress(dst, src []byte) []byte { return c.Encode(dst, src) }

type zstdCompressor struct{ *zstd.Encoder }

func (c zstdCompressor) compress(dst, src []byte) []byte { return c.EncodeAll(src, dst) }

// newCompressor returns nil for None.
func (o Options) newCompressor() (compressor, error) {
	switch o.Compression {
	case Zlib:
		return zlibCompressor{deflate.NewEncoder()}, nil
	case Zstd:
		level := zstd.SpeedDefault
		if o.Level != 0 {
			level = zstd.EncoderLevelFromZstd(o.Level)
		}
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithWindowSize(o.ClusterSize))
		return zstdCompressor{e}, err
	default:
		return nil, nil
	}
}
