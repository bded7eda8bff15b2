package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Sector is the size of a logical sector in bytes.
const Sector = 512

// Partition types (UEFI specification; Discoverable Partitions Specification).
const (
	TypeBIOSBoot  = "21686148-6449-6e6f-744e-656564454649"
	TypeESP       = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	TypeRootAMD64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
)

// Sizes of the on-disk structures.
const (
	gptEntries      = 128
	gptEntrySize    = 128
	gptHeaderSize   = 92
	gptArraySectors = gptEntries * gptEntrySize / Sector
	gptNameUnits    = 36
	mbrTable        = 446 // offset of the partition table; the code before it belongs to the boot loader
)

// Partition is one entry of a GPT.
type Partition struct {
	Name        string // at most 36 UTF-16 units
	Type        string // UUID as text
	ID          UUID
	First, Last int64 // sectors, both inclusive
}

// GPT is a partition table for a disk of Size bytes.
type GPT struct {
	ID         UUID
	Size       int64
	Partitions []Partition
}

// WriteTo writes the protective MBR (its partition table and signature, not
// the 446 bytes before them) and the primary and backup table, as the UEFI
// specification 2.10 chapter 5 lays them out for 512-byte sectors.
func (g GPT) WriteTo(w io.WriterAt) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("lay out partition table: %w", err)
	}
	array, err := g.array()
	if err != nil {
		return fmt.Errorf("lay out partition table: %w", err)
	}
	last := g.Size/Sector - 1
	sum := crc32.ChecksumIEEE(array)
	chunks := []struct {
		at   int64
		data []byte
	}{
		{mbrTable, protectiveMBR(last)},
		{Sector, g.header(1, last, 2, sum)},
		{2 * Sector, array},
		{(last - gptArraySectors) * Sector, array},
		{last * Sector, g.header(last, 1, last-gptArraySectors, sum)},
	}
	for _, c := range chunks {
		if _, err := w.WriteAt(c.data, c.at); err != nil {
			return fmt.Errorf("write partition table at byte %d: %w", c.at, err)
		}
	}
	return nil
}

// usable returns the first and last sector that a partition may use.
func (g GPT) usable() (first, last int64) {
	return 2 + gptArraySectors, g.Size/Sector - 2 - gptArraySectors
}

func (g GPT) check() error {
	if g.Size%Sector != 0 {
		return fmt.Errorf("disk size %d is not a multiple of %d", g.Size, Sector)
	}
	if len(g.Partitions) > gptEntries {
		return fmt.Errorf("%d partitions, at most %d fit", len(g.Partitions), gptEntries)
	}
	first, last := g.usable()
	for i, p := range g.Partitions {
		if p.First < first || p.Last > last || p.Last < p.First {
			return fmt.Errorf("partition %d: sectors %d..%d are not within %d..%d", i+1, p.First, p.Last, first, last)
		}
		for j, q := range g.Partitions[:i] {
			if p.First <= q.Last && q.First <= p.Last {
				return fmt.Errorf("partitions %d and %d overlap", j+1, i+1)
			}
		}
	}
	return nil
}

func (g GPT) array() ([]byte, error) {
	le := binary.LittleEndian
	b := make([]byte, gptEntries*gptEntrySize)
	for i, p := range g.Partitions {
		t, err := ParseUUID(p.Type)
		if err != nil {
			return nil, fmt.Errorf("type of partition %d: %w", i+1, err)
		}
		name := utf16.Encode([]rune(p.Name))
		if len(name) > gptNameUnits {
			return nil, fmt.Errorf("name of partition %d is longer than %d characters: %q", i+1, gptNameUnits, p.Name)
		}
		e := b[i*gptEntrySize:][:gptEntrySize]
		typ, id := t.mixedEndian(), p.ID.mixedEndian()
		copy(e, typ[:])
		copy(e[16:], id[:])
		le.PutUint64(e[32:], uint64(p.First))
		le.PutUint64(e[40:], uint64(p.Last))
		for j, u := range name {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	return b, nil
}

// header returns the sector of a GPT header that stands at sector self.
func (g GPT) header(self, other, array int64, arraySum uint32) []byte {
	le := binary.LittleEndian
	first, last := g.usable()
	id := g.ID.mixedEndian()
	b := make([]byte, Sector)
	copy(b, "EFI PART")
	le.PutUint32(b[8:], 0x00010000) // revision 1.0
	le.PutUint32(b[12:], gptHeaderSize)
	le.PutUint64(b[24:], uint64(self))
	le.PutUint64(b[32:], uint64(other))
	le.PutUint64(b[40:], uint64(first))
	le.PutUint64(b[48:], uint64(last))
	copy(b[56:], id[:])
	le.PutUint64(b[72:], uint64(array))
	le.PutUint32(b[80:], gptEntries)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], arraySum)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeaderSize])) // computed with its own field zero
	return b
}

// protectiveMBR returns the last 66 bytes of sector 0: one partition of type
// 0xEE over the whole disk, and the signature.
func protectiveMBR(last int64) []byte {
	b := make([]byte, Sector-mbrTable)
	copy(b, []byte{0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff}) // not active, CHS 0/0/2 to "too large"
	binary.LittleEndian.PutUint32(b[8:], 1)
	binary.LittleEndian.PutUint32(b[12:], uint32(min(last, 0xffffffff)))
	b[64], b[65] = 0x55, 0xaa
	return b
}
