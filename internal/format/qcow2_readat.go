package format

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"imagebuilder.dev/internal/fault"
)

// ReadAt implements Source.
func (q *Qcow2) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fault.New(fault.Internal, "read qcow2 image at offset %d", off)
	}
	n := 0
	for n < len(p) && off < q.size {
		in := off & (q.clusterSize() - 1)
		k := int(min(int64(len(p)-n), q.clusterSize()-in, q.size-off))
		if err := q.readCluster(p[n:n+k], off>>q.clusterBits, in); err != nil {
			return n, err
		}
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readCluster fills p from byte in of a cluster of the disk.
func (q *Qcow2) readCluster(p []byte, index, in int64) error {
	table, err := q.table(index / q.l2Entries())
	if err != nil {
		return err
	}
	var entry uint64
	if table != nil {
		entry = table[index%q.l2Entries()]
	}
	switch {
	case q.isZero(entry):
		clear(p)
		return nil
	case entry&entryCompressed == 0:
		return q.readWhole(p, index, int64(entry&entryOffset), in)
	}
	data, err := q.unpacked.get(entry, func() ([]byte, error) { return q.unpack(index, entry) })
	if err == nil {
		copy(p, data[in:])
	}
	return err
}

// readWhole reads from a cluster stored as it is. The file may end within it,
// as QEMU lets the last one.
func (q *Qcow2) readWhole(p []byte, index, host, in int64) error {
	if host&(q.clusterSize()-1) != 0 || host >= q.fileSize {
		return fault.New(fault.Integrity, "qcow2 image: cluster %d at %#x of a file of %d bytes", index, host, q.fileSize)
	}
	n := max(0, min(int64(len(p)), q.fileSize-host-in))
	clear(p[n:])
	return readFull(q.in, p[:n], host+in)
}

// unpack reads and decompresses a cluster.
func (q *Qcow2) unpack(index int64, entry uint64) ([]byte, error) {
	off, n := q.compressedRange(entry)
	if off >= q.fileSize {
		return nil, fault.New(fault.Integrity, "qcow2 image: compressed cluster %d at %#x of a file of %d bytes", index, off, q.fileSize)
	}
	packed := make([]byte, min(n, q.fileSize-off))
	if err := readFull(q.in, packed, off); err != nil {
		return nil, err
	}
	data := make([]byte, q.clusterSize())
	if err := q.decoders.decode(data, packed); err != nil {
		return nil, fault.New(fault.Integrity, "qcow2 image: decompress cluster %d at %#x: %w", index, off, err)
	}
	return data, nil
}

// decoders keeps idle decompressors for use by many goroutines.
type decoders struct {
	zstd bool
	idle sync.Pool
}

func newDecoders(zstd bool) *decoders { return &decoders{zstd: zstd} }

// maxZstdWindow is the largest window that is accepted. A writer that does not
// say the content's size beforehand asks for more than a cluster.
const maxZstdWindow = 8 << 20

// decode fills dst from the start of packed. What follows in packed belongs to
// other clusters, so it is not looked at: hence a stream and no frame decoder.
func (d *decoders) decode(dst, packed []byte) (err error) {
	r := bytes.NewReader(packed)
	if !d.zstd {
		z, _ := d.idle.Get().(io.ReadCloser)
		if z == nil {
			z = flate.NewReader(r)
		} else if err = z.(flate.Resetter).Reset(r, nil); err != nil {
			return err
		}
		_, err = io.ReadFull(z, dst)
		d.idle.Put(z)
		return err
	}
	z, _ := d.idle.Get().(*zstd.Decoder)
	if z == nil {
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
	} else {
		err = z.Reset(r)
	}
	if err == nil {
		_, err = io.ReadFull(z, dst)
		d.idle.Put(z)
	}
	return err
}

// cache keeps the last few values, each made once at a time per caller.
type cache[V any] struct {
	mu     sync.Mutex
	values map[uint64]V
	ring   []uint64 // keys in the order in which they came
	next   int
}

func newCache[V any](n int) *cache[V] {
	return &cache[V]{values: map[uint64]V{}, ring: make([]uint64, 0, n)}
}

// get returns the value of key, making it if it is not there. Two callers may
// both make it.
func (c *cache[V]) get(key uint64, make func() (V, error)) (V, error) {
	c.mu.Lock()
	v, ok := c.values[key]
	c.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := make()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.values[key]; ok {
		return v, nil
	}
	if len(c.ring) < cap(c.ring) {
		c.ring = append(c.ring, key)
	} else {
		delete(c.values, c.ring[c.next])
		c.ring[c.next] = key
		c.next = (c.next + 1) % len(c.ring)
	}
	c.values[key] = v
	return v, nil
}
