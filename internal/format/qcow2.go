package format

import (
	"encoding/binary"
	"math/bits"
)

// The layout of a qcow2 image, from docs/interop/qcow2.rst of QEMU. All
// numbers are big-endian.
const (
	qcow2Magic = "QFI\xfb"

	headerLengthV2 = 72
	headerLengthV3 = 104
	headerLength   = 112 // as written: with the compression type, padded to 8

	// Incompatible features.
	featureDirty       = 1 << 0 // reference counts may be stale
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3 // the header's compression type is not zlib
	featureExtendedL2  = 1 << 4

	// compressionZstd is the header's compression type; zlib is 0.
	compressionZstd = 1

	// Bits of an L1 or L2 entry.
	entryCopied     = 1 << 63 // the reference count is exactly one
	entryCompressed = 1 << 62 // L2 only
	entryZero       = 1 << 0  // L2 only, version 3
	entryOffset     = 1<<56 - 1<<9

	// refcountOrder 4 means 16 bits.
	refcountOrder = 4
	maxRefcount   = 1<<16 - 1

	sector = 512
	// maxL1Entries is QEMU's limit of a 32 MiB table.
	maxL1Entries = 32 << 20 / 8
)

// geometry is what follows from the cluster size.
type geometry struct{ clusterBits uint }

func geometryOf(clusterSize int) geometry {
	return geometry{uint(bits.TrailingZeros(uint(clusterSize)))}
}

func (g geometry) clusterSize() int64 { return 1 << g.clusterBits }

// l2Entries is how many clusters an L2 table maps.
func (g geometry) l2Entries() int64 { return g.clusterSize() / 8 }

// l1Entries is how many L2 tables a disk of size bytes needs.
func (g geometry) l1Entries(size int64) int64 {
	return divUp(divUp(size, g.clusterSize()), g.l2Entries())
}

// compressedOffsetBits is the width of the offset in a compressed cluster's
// entry; the number of additional sectors is above it, up to bit 61.
func (g geometry) compressedOffsetBits() uint { return 62 - (g.clusterBits - 8) }

// compressedEntry returns the L2 entry of n compressed bytes at host offset off.
func (g geometry) compressedEntry(off, n int64) uint64 {
	more := (off+n-1)/sector - off/sector
	return entryCompressed | uint64(more)<<g.compressedOffsetBits() | uint64(off)
}

// compressedRange returns where a compressed cluster's data is: from off up to
// the end of its last sector.
func (g geometry) compressedRange(entry uint64) (off, n int64) {
	x := g.compressedOffsetBits()
	off = int64(entry & (1<<x - 1))
	more := int64(entry &^ (entryCopied | entryCompressed) >> x)
	return off, (more+1)*sector - off%sector
}

func divUp(a, b int64) int64 {
	n := a / b
	if a%b != 0 {
		n++
	}
	return n
}

// bigEndian returns the table as its bytes in a multiple of unit.
func bigEndian(table []uint64, unit int64) []byte {
	p := make([]byte, 0, divUp(int64(len(table))*8, unit)*unit)
	for _, v := range table {
		p = binary.BigEndian.AppendUint64(p, v)
	}
	return p[:cap(p)]
}
