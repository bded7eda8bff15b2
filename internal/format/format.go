// Package format writes and reads disk image formats.
//
// What goes in is a Source: a disk as a sequence of bytes of which some ranges
// are allocated and the rest reads as zeros. Writers stream it once, in order,
// leave out what is zero, compress on all cores and hold a bounded amount of
// memory. The bytes they write depend on the source's content and the options
// alone. Readers give a Source back and trust nothing in the file.
package format

import (
	"bytes"
	"io"
)

// Source is the content of a disk. ReadAt may be called from many goroutines
// at once.
type Source interface {
	io.ReaderAt
	// Size is the size of the disk in bytes.
	Size() int64
	// Extents lists the allocated ranges in ascending order, none empty and
	// none touching the next. Bytes outside are zero; bytes inside may be.
	Extents() ([]Extent, error)
}

// Extent is a range of a disk, in bytes.
type Extent struct{ Offset, Length int64 }

// End is the offset of the first byte behind e.
func (e Extent) End() int64 { return e.Offset + e.Length }

// blocks calls yield with the number of each block of size bytes that an
// extent touches, ascending and each once, until yield returns false.
func blocks(extents []Extent, size int64, yield func(int64) bool) {
	next := int64(0)
	for _, e := range extents {
		for next = max(next, e.Offset/size); next*size < e.End(); next++ {
			if !yield(next) {
				return
			}
		}
	}
}

// allocated is the number of bytes in the extents.
func allocated(extents []Extent) int64 {
	n := int64(0)
	for _, e := range extents {
		n += e.Length
	}
	return n
}

// readBlock fills p from offset off of src; what lies behind the end is zero.
func readBlock(src Source, p []byte, off int64) error {
	n := max(0, min(int64(len(p)), src.Size()-off))
	clear(p[n:])
	if k, err := src.ReadAt(p[:n], off); int64(k) < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// isZero compares p with itself moved by a byte, which the library does with
// wide instructions.
func isZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}
