package format

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// WriteQcow2 writes src as a qcow2 image of version 3 (compat 1.1) to w, which
// must be empty. Clusters of zeros take no space; compressed ones lie back to
// back; one that does not get shorter is stored as it is. The bytes written
// depend on the content of src and the options but Workers. The size of a disk
// is rounded up to 512 bytes.
//
// The header is written last, so an interrupted write leaves no valid image.
// Memory is bounded by about 120 MiB on any number of cores, plus two bytes per cluster of the image.
// Progress goes to the task that ctx carries.
func WriteQcow2(ctx context.Context, w io.WriterAt, src Source, o Options) error {
	o, err := o.check()
	if err != nil {
		return fmt.Errorf("write qcow2 image: %w", err)
	}
	q, err := newQcow2Writer(w, src.Size(), o)
	if err != nil {
		return fmt.Errorf("write qcow2 image: %w", err)
	}
	extents, err := src.Extents()
	if err != nil {
		return fmt.Errorf("write qcow2 image: %w", err)
	}
	progress := newProgress(ctx, allocated(extents))
	p := pipeline{src: src, extents: extents, options: o}
	err = p.run(ctx, func(c *cluster) error {
		progress.add(int64(len(c.raw)))
		return q.add(c)
	})
	if err == nil {
		err = q.finish()
	}
	if err != nil {
		return fmt.Errorf("write qcow2 image: %w", err)
	}
	progress.end()
	return nil
}

// progress reports bytes, not more often than each few MiB.
type progress struct {
	task                  *event.Task
	done, reported, total int64
}

func newProgress(ctx context.Context, total int64) *progress {
	return &progress{task: event.Current(ctx), total: total}
}

func (p *progress) add(n int64) {
	if p.done += n; p.done-p.reported >= 4<<20 {
		p.reported = p.done
		p.task.Progress(min(p.done, p.total), p.total, event.Bytes)
	}
}

func (p *progress) end() { p.task.Progress(p.total, p.total, event.Bytes) }

// qcow2Writer lays out an image. Host clusters are allocated in ascending order
// and nothing is written twice but the header's cluster.
//
// Compressed data forms a stream that may run across host clusters only while
// nothing else is allocated. So clusters stored whole and L2 tables wait until
// there are enough of them; then the stream ends, they follow, and a new stream
// begins behind them.
type qcow2Writer struct {
	geometry
	out     io.WriterAt
	size    int64
	options Options

	refs []uint16 // reference counts of the host clusters allocated so far
	l1   []uint64

	stream  streamBuffer
	whole   []byte    // clusters stored as they are that wait
	wholeOf []int64   // their indexes on the disk
	tables  []l2Table // that wait; the last is still being filled
}

type l2Table struct {
	index   int64 // in the L1 table
	entries []uint64
}

// wholeBatch is how many bytes of whole clusters and tables make it worth to
// end the stream, which leaves half a host cluster unused on average.
const wholeBatch = 4 << 20

func newQcow2Writer(out io.WriterAt, size int64, o Options) (*qcow2Writer, error) {
	q := &qcow2Writer{geometry: geometryOf(o.ClusterSize), out: out, options: o}
	q.size = divUp(size, sector) * sector
	n := q.l1Entries(q.size)
	switch {
	case size <= 0:
		return nil, fault.New(fault.Input, "the disk is empty")
	case n > maxL1Entries:
		return nil, fault.New(fault.Input, "a disk of %d bytes needs clusters larger than %d bytes", size, o.ClusterSize)
	}
	q.l1 = make([]uint64, n)
	q.stream.out = out
	q.allocate(1) // the header's
	return q, nil
}

// allocate returns the host offset of n new clusters in a row.
func (q *qcow2Writer) allocate(n int64) int64 {
	off := int64(len(q.refs)) << q.clusterBits
	for range n {
		q.refs = append(q.refs, 1)
	}
	return off
}

// entry returns the L2 entry of a cluster of the disk, in a table that waits.
func (q *qcow2Writer) entry(cluster int64) *uint64 {
	index, slot := cluster/q.l2Entries(), cluster%q.l2Entries()
	for i := len(q.tables) - 1; i >= 0; i-- {
		if q.tables[i].index == index {
			return &q.tables[i].entries[slot]
		}
	}
	q.tables = append(q.tables, l2Table{index, make([]uint64, q.l2Entries())})
	return &q.tables[len(q.tables)-1].entries[slot]
}

func (q *qcow2Writer) add(c *cluster) error {
	if c.zero {
		return nil
	}
	e := q.entry(c.index)
	if len(c.packed) == 0 {
		q.whole = append(q.whole, c.raw...)
		q.wholeOf = append(q.wholeOf, c.index)
		if q.options.Compression == None || q.waiting() >= 2*wholeBatch {
			return q.flushIfOver(wholeBatch)
		}
		return nil
	}
	if !q.stream.fits(int64(len(c.packed)), q.allocated()) {
		// The stream needs another host cluster, so little is lost here.
		if err := q.flushIfOver(wholeBatch); err != nil {
			return err
		}
	}
	off, err := q.pack(c.packed)
	*e = q.compressedEntry(off, int64(len(c.packed)))
	return err
}

// allocated is the host offset behind the last cluster.
func (q *qcow2Writer) allocated() int64 { return int64(len(q.refs)) << q.clusterBits }

// waiting is how many bytes wait for the stream to end.
func (q *qcow2Writer) waiting() int64 {
	return int64(len(q.whole)) + int64(len(q.tables))<<q.clusterBits
}

func (q *qcow2Writer) flushIfOver(limit int64) error {
	if q.waiting() < limit {
		return nil
	}
	return q.flush(false)
}

// pack appends compressed data to the stream and returns its host offset.
func (q *qcow2Writer) pack(p []byte) (int64, error) {
	if q.stream.open && q.refs[len(q.refs)-1] == maxRefcount {
		if err := q.stream.close(); err != nil {
			return 0, err
		}
	}
	if !q.stream.open {
		q.stream.begin(q.allocated())
	}
	off := q.stream.end
	end := off + int64(len(p))
	for q.allocated() < end {
		q.refs = append(q.refs, 0)
	}
	for c := off >> q.clusterBits; c<<q.clusterBits < end; c++ {
		q.refs[c]++
	}
	return off, q.stream.write(p)
}

// flush ends the stream and writes what waits: whole clusters, then the tables
// that are full. The last table stays unless all is said.
func (q *qcow2Writer) flush(all bool) error {
	if err := q.stream.close(); err != nil {
		return err
	}
	off := q.allocate(int64(len(q.wholeOf)))
	for i, c := range q.wholeOf {
		*q.entry(c) = entryCopied | uint64(off+int64(i)<<q.clusterBits)
	}
	if err := q.write(q.whole, off); err != nil {
		return err
	}
	q.whole, q.wholeOf = q.whole[:0], q.wholeOf[:0]
	keep := 1
	if all {
		keep = 0
	}
	for len(q.tables) > keep {
		t := q.tables[0]
		off := q.allocate(1)
		q.l1[t.index] = entryCopied | uint64(off)
		if err := q.write(bigEndian(t.entries, q.clusterSize()), off); err != nil {
			return err
		}
		q.tables = q.tables[1:]
	}
	return nil
}

func (q *qcow2Writer) write(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	_, err := q.out.WriteAt(p, off)
	return err
}

// finish writes what waits, the L1 table, the reference counts and the header.
func (q *qcow2Writer) finish() error {
	if err := q.flush(true); err != nil {
		return err
	}
	l1 := bigEndian(q.l1, q.clusterSize())
	l1Off := q.allocate(int64(len(l1)) >> q.clusterBits)
	if err := q.write(l1, l1Off); err != nil {
		return err
	}
	tableOff, tableClusters, err := q.writeRefcounts()
	if err != nil {
		return err
	}
	return q.write(q.header(l1Off, tableOff, tableClusters), 0)
}

// writeRefcounts writes the reference count blocks, which count themselves and
// the table that follows them.
func (q *qcow2Writer) writeRefcounts() (tableOff, tableClusters int64, err error) {
	perBlock := q.clusterSize() / 2
	used, blocks := int64(len(q.refs)), int64(0)
	for {
		tableClusters = divUp(blocks*8, q.clusterSize())
		n := divUp(used+blocks+tableClusters, perBlock)
		if n == blocks {
			break
		}
		blocks = n
	}
	off := q.allocate(blocks)
	tableOff = q.allocate(tableClusters)
	table := make([]uint64, blocks)
	block := make([]byte, q.clusterSize())
	for i := range blocks {
		table[i] = uint64(off + i<<q.clusterBits)
		clear(block)
		for j, n := range q.refs[i*perBlock : min((i+1)*perBlock, int64(len(q.refs)))] {
			binary.BigEndian.PutUint16(block[2*j:], n)
		}
		if err := q.write(block, int64(table[i])); err != nil {
			return 0, 0, err
		}
	}
	return tableOff, tableClusters, q.write(bigEndian(table, q.clusterSize()), tableOff)
}

// header returns the header's cluster.
func (q *qcow2Writer) header(l1Off, tableOff, tableClusters int64) []byte {
	p := make([]byte, q.clusterSize())
	be := binary.BigEndian
	copy(p, qcow2Magic)
	be.PutUint32(p[4:], 3)
	be.PutUint32(p[20:], uint32(q.clusterBits))
	be.PutUint64(p[24:], uint64(q.size))
	be.PutUint32(p[36:], uint32(len(q.l1)))
	be.PutUint64(p[40:], uint64(l1Off))
	be.PutUint64(p[48:], uint64(tableOff))
	be.PutUint32(p[56:], uint32(tableClusters))
	if q.options.Compression == Zstd {
		be.PutUint64(p[72:], featureCompression)
		p[104] = compressionZstd
	}
	be.PutUint32(p[96:], refcountOrder)
	be.PutUint32(p[100:], headerLength)
	// The extensions end at once: zeros follow.
	return p
}
