package format

import (
	"encoding/binary"
	"io"
	"math"
	"slices"

	"imagebuilder.dev/internal/fault"
)

// Qcow2 reads a qcow2 image of version 2 or 3. It implements Source.
type Qcow2 struct {
	geometry
	in       io.ReaderAt
	fileSize int64
	size     int64
	version  uint32
	zstd     bool
	l1       []uint64

	tables   *cache[[]uint64] // L2 tables by host offset
	unpacked *cache[[]byte]   // decompressed clusters by L2 entry
	decoders *decoders
}

const (
	minQcow2ClusterBits, maxQcow2ClusterBits = 9, 21
	// cacheBytes bounds each of the caches.
	cacheBytes = 8 << 20
)

// OpenQcow2 reads the header and the L1 table of an image of fileSize bytes.
// It refuses what would make the content depend on more than the image: a
// backing file, an external data file, encryption and features unknown here.
// Snapshots and reference counts are ignored. The file is not trusted: what is
// wrong in it is an error of kind fault.Input or fault.Integrity, here or when
// the damaged place is read. It uses at most about 70 MiB.
func OpenQcow2(r io.ReaderAt, fileSize int64) (*Qcow2, error) {
	head := make([]byte, min(max(fileSize, 0), headerLength))
	if err := readFull(r, head, 0); err != nil {
		return nil, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	q := &Qcow2{geometry: geometry{h.clusterBits}, in: r, fileSize: fileSize, size: int64(h.size),
		version: h.version, zstd: h.zstd, decoders: newDecoders(h.zstd)}
	entries := int(max(1, cacheBytes>>h.clusterBits))
	q.tables, q.unpacked = newCache[[]uint64](entries), newCache[[]byte](entries)
	return q, q.readL1(h)
}

type qcow2Header struct {
	version     uint32
	clusterBits uint
	size        uint64
	l1Size      uint32
	l1Offset    uint64
	zstd        bool
}

// parseHeader reads the header from the image's first bytes.
func parseHeader(p []byte) (h qcow2Header, err error) {
	if len(p) < headerLengthV2 || string(p[:4]) != qcow2Magic {
		return h, fault.New(fault.Input, "not a qcow2 image")
	}
	be := binary.BigEndian
	h = qcow2Header{version: be.Uint32(p[4:]), clusterBits: uint(be.Uint32(p[20:])), size: be.Uint64(p[24:]),
		l1Size: be.Uint32(p[36:]), l1Offset: be.Uint64(p[40:])}
	crypt := be.Uint32(p[32:])
	switch {
	case h.version != 2 && h.version != 3:
		return h, fault.New(fault.Input, "qcow2 version %d is not supported", h.version)
	case be.Uint64(p[8:]) != 0:
		return h, fault.New(fault.Input, "qcow2 image with a backing file is not supported: flatten it first")
	case crypt != 0:
		return h, fault.New(fault.Input, "encrypted qcow2 image (method %d) is not supported", crypt)
	case h.clusterBits < minQcow2ClusterBits || h.clusterBits > maxQcow2ClusterBits:
		return h, fault.New(fault.Integrity, "qcow2 header: clusters of 2^%d bytes", h.clusterBits)
	case h.size > math.MaxInt64-1<<maxQcow2ClusterBits:
		return h, fault.New(fault.Integrity, "qcow2 header: a disk of %d bytes", h.size)
	case h.version == 2:
		return h, nil
	case len(p) < headerLengthV3 || be.Uint32(p[100:]) < headerLengthV3:
		return h, fault.New(fault.Integrity, "qcow2 header is cut short")
	}
	return h, h.parseFeatures(p)
}

// parseFeatures reads the incompatible features of a version 3 header.
func (h *qcow2Header) parseFeatures(p []byte) error {
	features := binary.BigEndian.Uint64(p[72:])
	var compression byte
	if len(p) >= headerLength && binary.BigEndian.Uint32(p[100:]) >= headerLength {
		compression = p[104]
	}
	switch known := uint64(featureDirty | featureCompression); {
	case features&featureCorrupt != 0:
		return fault.New(fault.Integrity, "qcow2 image is marked corrupt")
	case features&featureDataFile != 0:
		return fault.New(fault.Input, "qcow2 image with an external data file is not supported")
	case features&featureExtendedL2 != 0:
		return fault.New(fault.Input, "qcow2 image with extended L2 entries is not supported")
	case features&^known != 0:
		return fault.New(fault.Input, "qcow2 image has unknown incompatible features %#x", features&^known)
	case features&featureCompression == 0 && compression == 0:
		return nil
	case features&featureCompression == 0 || compression != compressionZstd:
		return fault.New(fault.Input, "qcow2 image has compression type %d with feature bits %#x", compression, features)
	}
	h.zstd = true
	return nil
}

// readL1 reads the part of the L1 table that the disk needs.
func (q *Qcow2) readL1(h qcow2Header) error {
	n := q.l1Entries(q.size)
	if n > maxL1Entries || n > int64(h.l1Size) {
		return fault.New(fault.Integrity, "qcow2 header: an L1 table of %d entries for a disk of %d bytes", h.l1Size, q.size)
	}
	if h.l1Offset > math.MaxInt64 || int64(h.l1Offset) > q.fileSize-8*n || h.l1Offset&uint64(q.clusterSize()-1) != 0 {
		return fault.New(fault.Integrity, "qcow2 header: L1 table at %#x of a file of %d bytes", h.l1Offset, q.fileSize)
	}
	l1, err := q.readTable(int64(h.l1Offset), n)
	if err != nil {
		return err
	}
	for i := range l1 {
		if l1[i] &= entryOffset; int64(l1[i])&(q.clusterSize()-1) != 0 || int64(l1[i]) > q.fileSize-q.clusterSize() {
			return fault.New(fault.Integrity, "qcow2 image: L2 table %d at %#x of a file of %d bytes", i, l1[i], q.fileSize)
		}
	}
	q.l1 = l1
	return q.checkDistinct()
}

// checkDistinct refuses an L2 table that serves twice: no writer makes such an
// image, and a small one could then claim unbounded work.
func (q *Qcow2) checkDistinct() error {
	sorted := slices.Clone(q.l1)
	slices.Sort(sorted)
	for i, off := range sorted {
		if i > 0 && off != 0 && off == sorted[i-1] {
			return fault.New(fault.Integrity, "qcow2 image: the L2 table at %#x is used twice", off)
		}
	}
	return nil
}

// readTable reads n entries at host offset off.
func (q *Qcow2) readTable(off, n int64) ([]uint64, error) {
	p := make([]byte, 8*n)
	if err := readFull(q.in, p, off); err != nil {
		return nil, err
	}
	table := make([]uint64, n)
	for i := range table {
		table[i] = binary.BigEndian.Uint64(p[8*i:])
	}
	return table, nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	if n, err := r.ReadAt(p, off); n < len(p) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fault.New(fault.Input, "read %d bytes at %#x of a qcow2 image: %w", len(p), off, err)
	}
	return nil
}

// Size implements Source.
func (q *Qcow2) Size() int64 { return q.size }

// table returns the L2 table with an index in the L1 table, nil if there is none.
func (q *Qcow2) table(index int64) ([]uint64, error) {
	off := q.l1[index]
	if off == 0 {
		return nil, nil
	}
	return q.tables.get(off, func() ([]uint64, error) { return q.readTable(int64(off), q.l2Entries()) })
}

// isZero says whether an L2 entry stands for zeros.
func (q *Qcow2) isZero(entry uint64) bool {
	if entry&entryCompressed != 0 {
		return false
	}
	return entry&entryOffset == 0 || q.version >= 3 && entry&entryZero != 0
}

// maxExtents bounds what Extents returns: 16 MiB.
const maxExtents = 1 << 20

// Extents implements Source. In an image with very many ranges, the last one
// reaches from the first that is too many to the end.
func (q *Qcow2) Extents() ([]Extent, error) {
	var list []Extent
	for i := range q.l1 {
		table, err := q.table(int64(i))
		if err != nil {
			return nil, err
		}
		for j, entry := range table {
			off := (int64(i)*q.l2Entries() + int64(j)) << q.clusterBits
			if off >= q.size {
				break
			}
			if q.isZero(entry) {
				continue
			}
			list = appendExtent(list, Extent{off, min(q.clusterSize(), q.size-off)})
		}
	}
	return list, nil
}

func appendExtent(list []Extent, e Extent) []Extent {
	if n := len(list) - 1; n >= 0 && (list[n].End() == e.Offset || n+1 == maxExtents) {
		list[n].Length = e.End() - list[n].Offset
		return list
	}
	return append(list, e)
}
