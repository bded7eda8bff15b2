package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"imagebuilder.dev/internal/fault"
)

// Attributes of a directory entry.
const (
	attrVolume  = 0x08
	attrDir     = 0x10
	attrArchive = 0x20
)

// fatVolume is a volume that is being written. Every file and directory lies in
// one run of clusters, given out in the order of the tree.
type fatVolume struct {
	FAT
	fatGeometry
	w    io.WriterAt
	next int64      // first free cluster
	runs [][2]int64 // first cluster and length, ascending
}

// allocate gives the root, then everything below it, its clusters, or says how
// much is missing.
func (v *fatVolume) allocate(root *fatNode) error {
	if v.bits == 32 {
		v.take(root, v.dirSize(root, true))
	} else if n := v.dirSize(root, true); n > v.rootEntries*dirEntry {
		return fault.New(fault.Input, "the root directory holds %d entries at most, the files need %d", v.rootEntries, n/dirEntry)
	}
	if err := v.allocateBelow(root); err != nil {
		return err
	}
	if used := v.next - 2; used > v.clusters {
		return fault.New(fault.Input, "the files need %d bytes, %d more than a FAT%d volume of %d bytes can hold",
			used*v.clusterSize(), (used-v.clusters)*v.clusterSize(), v.bits, v.Size)
	}
	return nil
}

func (v *fatVolume) allocateBelow(dir *fatNode) error {
	for _, c := range dir.children {
		size := v.dirSize(c, false)
		if c.file != nil {
			size = c.file.Size
		}
		if size < 0 || size > 0xffffffff {
			return fault.New(fault.Input, "file %q has %d bytes, FAT holds 4 GiB at most", c.file.Path, size)
		}
		v.take(c, size)
		if err := v.allocateBelow(c); err != nil {
			return err
		}
	}
	return nil
}

func (v *fatVolume) take(n *fatNode, size int64) {
	if size == 0 {
		return // an empty file has no cluster
	}
	n.cluster, n.count = v.next, ceilDiv(size, v.clusterSize())
	v.next += n.count
	v.runs = append(v.runs, [2]int64{n.cluster, n.count})
}

// dirSize returns the bytes of a directory's entries. The root has the label
// where others have "." and "..".
func (v *fatVolume) dirSize(n *fatNode, root bool) int64 {
	size := int64(2 * dirEntry)
	if root {
		size = dirEntry // room for the label, written or not: an empty chain is not legal
	}
	for _, c := range n.children {
		size += int64(len(c.long)) + dirEntry
	}
	return size
}

// writeTables writes both copies of the used part of the allocation table.
func (v *fatVolume) writeTables() error {
	table := make([]byte, ceilDiv(v.next*int64(v.bits), 8)+1)
	v.link(table, 0, 0x0fffff00|0xf8) // the media byte
	v.link(table, 1, 0x0fffffff)      // clean, no errors
	for _, r := range v.runs {
		for c := r[0]; c < r[0]+r[1]-1; c++ {
			v.link(table, c, uint32(c+1))
		}
		v.link(table, r[0]+r[1]-1, 0x0fffffff)
	}
	table = table[:min(int64(len(table)), v.fatSectors*Sector)]
	for i := range int64(fatCopies) {
		if err := v.writeAt(table, (v.reserved+i*v.fatSectors)*Sector); err != nil {
			return err
		}
	}
	return nil
}

// link sets the table's entry of a cluster to value, cut to the variant's bits.
func (v *fatVolume) link(table []byte, cluster int64, value uint32) {
	switch v.bits {
	case 32:
		binary.LittleEndian.PutUint32(table[cluster*4:], value&0x0fffffff)
	case 16:
		binary.LittleEndian.PutUint16(table[cluster*2:], uint16(value))
	default: // two entries share three bytes
		e := table[cluster*3/2:]
		if cluster%2 == 0 {
			e[0], e[1] = byte(value), e[1]&0xf0|byte(value>>8)&0x0f
		} else {
			e[0], e[1] = e[0]&0x0f|byte(value)<<4, byte(value>>4)
		}
	}
}

// writeDir writes a directory and everything below it.
func (v *fatVolume) writeDir(dir, parent *fatNode) error {
	var b []byte
	at := v.offset(dir.cluster)
	switch {
	case dir != parent:
		up := *parent // ".." of a first-level directory says cluster 0, also on FAT32
		if parent.name == "" {
			up.cluster = 0
		}
		b = v.entry(b, packShort(".", ""), attrDir, dir.cluster, 0)
		b = v.entry(b, packShort("..", ""), attrDir, up.cluster, 0)
	case v.bits != 32:
		at = v.rootStart() * Sector
	}
	if dir == parent && v.Label != "" {
		var label [shortName]byte
		copy(label[:], padded(v.Label, shortName))
		b = v.entry(b, label, attrVolume, 0, 0)
	}
	for _, c := range dir.children {
		b = append(b, c.long...)
		if c.file != nil {
			b = v.entry(b, c.alias, attrArchive, c.cluster, c.file.Size)
		} else {
			b = v.entry(b, c.alias, attrDir, c.cluster, 0)
		}
	}
	if err := v.writeAt(b, at); err != nil {
		return err
	}
	for _, c := range dir.children {
		if err := v.writeNode(c, dir); err != nil {
			return err
		}
	}
	return nil
}

func (v *fatVolume) writeNode(n, parent *fatNode) error {
	if n.file == nil {
		return v.writeDir(n, parent)
	}
	if err := v.writeFile(n); err != nil {
		return fmt.Errorf("file %q: %w", n.file.Path, err)
	}
	return nil
}

// entry appends the short directory entry of a file or directory.
func (v *fatVolume) entry(b []byte, name [shortName]byte, attr byte, cluster, size int64) []byte {
	le := binary.LittleEndian
	t := v.Time.UTC()
	date := uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	clock := uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	e := make([]byte, dirEntry)
	copy(e, name[:])
	e[11] = attr
	if attr != attrVolume {
		le.PutUint16(e[14:], clock) // made
		le.PutUint16(e[16:], date)
		le.PutUint16(e[18:], date) // read
	}
	le.PutUint16(e[20:], uint16(cluster>>16))
	le.PutUint16(e[22:], clock) // written
	le.PutUint16(e[24:], date)
	le.PutUint16(e[26:], uint16(cluster))
	le.PutUint32(e[28:], uint32(size))
	return append(b, e...)
}

// writeFile copies a file's content, which must have exactly the size that was
// announced, since its clusters were given out by it.
func (v *fatVolume) writeFile(n *fatNode) error {
	r, err := n.file.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, 128<<10)
	var done int64
	for {
		k, err := io.ReadFull(r, buf)
		if done+int64(k) > n.file.Size {
			return fmt.Errorf("it is larger than the %d bytes announced", n.file.Size)
		}
		if werr := v.writeAt(buf[:k], v.offset(n.cluster)+done); werr != nil {
			return werr
		}
		done += int64(k)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			if done != n.file.Size {
				return fmt.Errorf("it has %d bytes, not the %d announced", done, n.file.Size)
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// writeAt writes b unless it is all zero, which the volume is already.
func (v *fatVolume) writeAt(b []byte, at int64) error {
	if len(bytes.TrimLeft(b, "\x00")) == 0 {
		return nil
	}
	_, err := v.w.WriteAt(b, at)
	return err
}
