package disk

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"imagebuilder.dev/internal/fault"
)

// File is a regular file to put into a FAT volume.
type File struct {
	Path string // slash-separated, from the root of the volume; its directories are made
	Size int64  // bytes
	Open func() (io.ReadCloser, error)
}

// FAT describes a FAT volume. Its variant follows from the size: FAT32 where
// that is legal (from about 33 MiB on), else FAT16, else FAT12.
type FAT struct {
	Size  int64     // bytes
	Start int64     // sectors before the volume on its disk; 0 when it is the whole disk
	Label string    // at most 11 of A-Z, 0-9, space, - and _
	ID    uint32    // volume id
	Time  time.Time // of every file and directory: UTC, 1980 to 2107, even seconds
}

// fatGeometry is the layout of a volume in sectors, after Microsoft's FAT
// specification 1.03, whose field names the comments give.
type fatGeometry struct {
	bits        int   // 12, 16 or 32
	total       int64 // TotSec
	perCluster  int64 // SecPerClus
	reserved    int64 // RsvdSecCnt
	rootEntries int64 // RootEntCnt; 0 for FAT32, whose root is a chain
	fatSectors  int64 // FATSz
	clusters    int64
}

// The cluster counts decide which variant a reader sees. Staying 16 away from
// the borders is the specification's own advice, since readers got them wrong.
const (
	fat12Max  = 4084 - 16
	fat16Min  = 4085 + 16
	fat16Max  = 65524 - 16
	fat32Min  = 65525 + 16
	fatCopies = 2
	dirEntry  = 32
)

// geometry picks the variant and the cluster size.
func (f FAT) geometry() (fatGeometry, error) {
	total := f.Size / Sector
	for _, per := range []int64{8, 4, 2, 1} {
		if g := layFAT(32, total, per); g.clusters >= fat32Min && g.clusters < 0x0ffffff0 {
			return g, nil
		}
	}
	for _, per := range []int64{8, 4, 2, 1} {
		if g := layFAT(16, total, per); g.clusters >= fat16Min && g.clusters <= fat16Max {
			return g, nil
		}
	}
	for _, per := range []int64{1, 2, 4, 8} {
		if g := layFAT(12, total, per); g.clusters >= 1 && g.clusters <= fat12Max {
			return g, nil
		}
	}
	return fatGeometry{}, fault.New(fault.Input, "no FAT volume of %d bytes exists", f.Size)
}

// layFAT computes the layout for a variant and cluster size. The table must
// describe the clusters that remain when the table itself has been taken off.
func layFAT(bits int, total, perCluster int64) fatGeometry {
	g := fatGeometry{bits: bits, total: total, perCluster: perCluster, reserved: 1, rootEntries: 512}
	if bits == 32 {
		g.reserved, g.rootEntries = 32, 0
	}
	for {
		g.clusters = (total - g.dataStart()) / perCluster
		need := ceilDiv(ceilDiv((g.clusters+2)*int64(bits), 8), Sector)
		if g.clusters < 1 || need <= g.fatSectors {
			return g
		}
		g.fatSectors = need
	}
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

func (g fatGeometry) rootStart() int64 { return g.reserved + fatCopies*g.fatSectors }
func (g fatGeometry) dataStart() int64 { return g.rootStart() + g.rootEntries*dirEntry/Sector }
func (g fatGeometry) clusterSize() int64 {
	return g.perCluster * Sector
}

// offset returns the byte offset of a cluster; the first is number 2.
func (g fatGeometry) offset(cluster int64) int64 {
	return (g.dataStart() + (cluster-2)*g.perCluster) * Sector
}

// Write writes the volume with the files to w, which must read as zeros over
// its whole size: what is zero is not written. The bytes depend on f and on
// the files' paths and contents, not on their order. Names are stored as
// VFAT long names; paths that differ only in case are refused.
func (f FAT) Write(w io.WriterAt, files []File) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("make FAT volume: %w", err)
	}
	g, err := f.geometry()
	if err != nil {
		return err
	}
	root, err := fatTree(files)
	if err != nil {
		return fmt.Errorf("make FAT volume: %w", err)
	}
	v := &fatVolume{FAT: f, fatGeometry: g, w: w, next: 2}
	if err := v.allocate(root); err != nil {
		return fmt.Errorf("make FAT volume: %w", err)
	}
	for _, step := range []func() error{v.writeBoot, v.writeTables, func() error { return v.writeDir(root, root) }} {
		if err := step(); err != nil {
			return fmt.Errorf("write FAT volume: %w", err)
		}
	}
	return nil
}

func (f FAT) check() error {
	if len(f.Label) > 11 || f.Label != strings.TrimRight(f.Label, " ") {
		return fault.New(fault.Input, "label %q is longer than 11 characters or ends with a space", f.Label)
	}
	for _, c := range []byte(f.Label) {
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(" -_", c) >= 0) {
			return fault.New(fault.Input, "label %q: only A-Z, 0-9, space, - and _ are possible", f.Label)
		}
	}
	if y := f.Time.UTC().Year(); y < 1980 || y > 2107 {
		return fault.New(fault.Input, "time %s is outside of what FAT can store, 1980 to 2107", f.Time.UTC().Format(time.RFC3339))
	}
	return nil
}

// writeBoot writes the boot sector and what FAT32 has besides: the FSInfo
// sector and copies of both from sector 6 on.
func (v *fatVolume) writeBoot() error {
	boot := v.bootSector()
	if v.bits != 32 {
		return v.writeAt(boot, 0)
	}
	le := binary.LittleEndian
	info := make([]byte, Sector)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], uint32(v.clusters+2-v.next)) // free clusters
	le.PutUint32(info[492:], uint32(v.next))              // where to look for one
	le.PutUint32(info[508:], 0xaa550000)
	for _, at := range []int64{0, 6 * Sector} {
		if err := v.writeAt(boot, at); err != nil {
			return err
		}
		if err := v.writeAt(info, at+Sector); err != nil {
			return err
		}
	}
	return nil
}

func (v *fatVolume) bootSector() []byte {
	le := binary.LittleEndian
	b := make([]byte, Sector)
	copy(b, "\xeb\x00\x90IMGBUILD")
	le.PutUint16(b[11:], Sector)
	b[13] = byte(v.perCluster)
	le.PutUint16(b[14:], uint16(v.reserved))
	b[16] = fatCopies
	le.PutUint16(b[17:], uint16(v.rootEntries))
	if v.bits != 32 && v.total < 0x10000 {
		le.PutUint16(b[19:], uint16(v.total))
	} else {
		le.PutUint32(b[32:], uint32(v.total))
	}
	b[21] = 0xf8 // fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], uint32(v.Start))
	ext := b[36:] // the extended block stands after the 32-bit fields
	if v.bits == 32 {
		le.PutUint32(b[36:], uint32(v.fatSectors))
		le.PutUint32(b[44:], 2) // root directory
		le.PutUint16(b[48:], 1) // FSInfo
		le.PutUint16(b[50:], 6) // backup
		ext = b[64:]
	} else {
		le.PutUint16(b[22:], uint16(v.fatSectors))
	}
	ext[0], ext[2] = 0x80, 0x29
	le.PutUint32(ext[3:], v.ID)
	copy(ext[7:], padded(v.labelOrNone(), 11))
	copy(ext[18:], fmt.Sprintf("FAT%d   ", v.bits))
	code := len(b) - len(ext) + 26
	b[1] = byte(code - 2)
	copy(b[code:], "\xf4\xeb\xfd") // halt: there is nothing to boot here
	b[510], b[511] = 0x55, 0xaa
	return b
}

func (f FAT) labelOrNone() string {
	if f.Label == "" {
		return "NO NAME"
	}
	return f.Label
}

func padded(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }
