package disk

import (
	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// The ext4 geometry that we ask mke2fs for.
const (
	ext4Block      = 4096
	ext4InodeSize  = 256
	ext4InodeRatio = 16384 // bytes of filesystem per inode
	ext4Group      = 8 * ext4Block
	ext4GroupDesc  = 64 // with the 64bit feature; 32 without, which we do not count on
	ext4Reserved   = 1  // percent that only root may use
	ext4Headroom   = 64 << 20
)

// Usage is what a tree takes in an ext4 filesystem.
type Usage struct {
	Bytes  int64 // blocks of files, directories and links, in bytes
	Inodes int64
}

// Usage counts what the tree takes in ext4 with 4 KiB blocks. Holes in files
// are counted as data, so it may be more than what is used, never less.
func (t *Tree) Usage() Usage {
	var u Usage
	for i := range t.entries {
		e := &t.entries[i]
		if e.hard {
			continue
		}
		u.Inodes++
		var blocks int64
		switch e.mode & unix.S_IFMT {
		case unix.S_IFREG:
			blocks = ceilDiv(e.size, ext4Block)
			// An extent covers 128 MiB and four fit the inode; one block holds 340 more.
			if extents := ceilDiv(e.size, 64<<20); extents > 4 {
				blocks += ceilDiv(extents, 340)
			}
		case unix.S_IFDIR:
			// Names of a block are packed to 3/4 at least, as no name is longer than 1/16 of it.
			blocks = 1 + ceilDiv(e.names*4/3, ext4Block)
		case unix.S_IFLNK:
			if len(e.link) >= 60 {
				blocks = 1
			}
		}
		if len(e.xattrs) > 0 {
			blocks++
		}
		u.Bytes += blocks * ext4Block
	}
	return u
}

// CheckSize returns an error that says what is missing when the tree does not
// fit a disk of size bytes with an ESP of espSize bytes.
func CheckSize(u Usage, size, espSize int64) error {
	if fits(u, rootSpan(size, espSize)) {
		return nil
	}
	need := MinimumSize(u, espSize)
	err := fault.New(fault.Input, "the disk is too small: the root filesystem holds %s in %d files, which needs a disk of %s; %s is %s short",
		mib(u.Bytes), u.Inodes, mib(need), mib(size), mib(need-size))
	return fault.Hint(err, "set disk.size to %dGiB or more", ceilDiv(need, 1<<30))
}

// MinimumSize returns the smallest disk, in whole MiB, that holds a tree of
// usage u beside an ESP of espSize bytes.
func MinimumSize(u Usage, espSize int64) int64 {
	low, high := int64(1), int64(1)
	for !fits(u, rootSpan(high<<20, espSize)) {
		low, high = high, 2*high
	}
	for low < high {
		mid := (low + high) / 2
		if fits(u, rootSpan(mid<<20, espSize)) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return high << 20
}

// fits tells whether a filesystem of size bytes holds u and some room for what
// the first boot writes before the root grows.
func fits(u Usage, size int64) bool {
	blocks := size / ext4Block
	if blocks < 2048 { // mke2fs makes no journal below that
		return false
	}
	inodes := ceilDiv(blocks, ext4Group) * inodesPerGroup(blocks)
	return u.Inodes+11 <= inodes && u.Bytes+ext4Headroom <= (blocks-ext4Overhead(blocks))*ext4Block
}

func inodesPerGroup(blocks int64) int64 {
	groups := ceilDiv(blocks, ext4Group)
	perBlock := int64(ext4Block / ext4InodeSize)
	return ceilDiv(ceilDiv(blocks*ext4Block/ext4InodeRatio, groups), perBlock) * perBlock
}

// ext4Overhead returns the blocks that mke2fs takes for itself: the super
// block and group descriptors with their copies, the descriptors reserved for
// growing, bitmaps, inode tables, journal (lib/ext2fs/initialize.c and
// mkjournal.c of e2fsprogs 1.47) and lost+found.
func ext4Overhead(blocks int64) int64 {
	groups := ceilDiv(blocks, ext4Group)
	desc := ceilDiv(groups*ext4GroupDesc, ext4Block)
	most := min(blocks*1024, 1<<32-1) // up to where the filesystem may grow
	grown := ceilDiv(ceilDiv(most, ext4Group)*ext4GroupDesc, ext4Block) - desc
	reserved := max(min(grown, ext4Block/4), 0)
	perGroup := 2 + inodesPerGroup(blocks)*ext4InodeSize/ext4Block
	copies := int64(0)
	for g := range groups {
		if sparseSuper(g) {
			copies++
		}
	}
	const lostAndFound, others, orphans = 4, 8, 512 // others: resize inode, extent blocks
	return copies*(1+desc+reserved) + groups*perGroup + journalBlocks(blocks) + lostAndFound + others + orphans
}

// sparseSuper tells whether a group has a copy of the super block: 0, 1 and
// the powers of 3, 5 and 7.
func sparseSuper(group int64) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

func journalBlocks(blocks int64) int64 {
	for _, s := range [][2]int64{
		{32768, 1024}, {256 << 10, 4096}, {512 << 10, 8192}, {4096 << 10, 16384},
		{8192 << 10, 32768}, {16384 << 10, 65536}, {32768 << 10, 131072},
	} {
		if blocks < s[0] {
			return s[1]
		}
	}
	return 262144
}
