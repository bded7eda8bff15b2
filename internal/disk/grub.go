package disk

import (
	"encoding/binary"
	"fmt"
	"slices"

	"imagebuilder.dev/internal/fault"
)

// Where GRUB 2 keeps, in the i386-pc images, what its installer fills in
// (include/grub/i386/pc/boot.h, include/grub/offsets.h, boot/i386/pc/diskboot.S
// of GRUB 2.00 and later).
const (
	bootCode         = 440    // bytes of boot.img before the disk signature and the partition table
	bootKernelSector = 0x5c   // u64: sector of core.img
	bootDrive        = 0x64   // u8: BIOS drive to load core.img from; 0xff is the one booted from
	bootDriveCheck   = 0x66   // two bytes: a jump that skips the check for BIOSes that pass a wrong drive
	coreList         = 0x1f4  // first entry of the block list in core.img's first sector: u64 sector, u16 count, u16 segment
	coreListEntry    = 12     // the list grows downwards
	coreSegment      = 0x0820 // the second sector of core.img is loaded at 0x8200
	coreNoRSLength   = 0x14   // u16 in the second sector: 0xffff marks images of another layout
	coreMaxSectors   = (0x78000 - 0x9000) / Sector
)

// BIOSBoot patches GRUB's boot.img and core.img for a disk on which core.img
// stands in one run from the given sector on, as grub-bios-setup does for a
// BIOS boot partition of capacity sectors. It returns the code for the first
// 440 bytes of sector 0, so that the partition table stays, and core.img padded
// to whole sectors. Its arguments are not changed.
func BIOSBoot(bootImg, coreImg []byte, sector, capacity int64) (code, core []byte, err error) {
	if err := checkBootImages(bootImg, coreImg); err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	n := ceilDiv(int64(len(coreImg)), Sector)
	if limit := min(capacity, coreMaxSectors); n > limit {
		return nil, nil, fault.New(fault.Internal, "GRUB's core.img has %d sectors, only %d can be loaded from the BIOS boot partition", n, limit)
	}
	code = slices.Clone(bootImg[:bootCode])
	le.PutUint64(code[bootKernelSector:], uint64(sector))
	code[bootDrive] = 0xff
	code[bootDriveCheck], code[bootDriveCheck+1] = 0x90, 0x90 // nop: do the check, this is a hard disk

	core = make([]byte, n*Sector)
	copy(core, coreImg)
	le.PutUint64(core[coreList:], uint64(sector+1))
	le.PutUint16(core[coreList+8:], uint16(n-1))
	le.PutUint16(core[coreList+10:], coreSegment)
	clear(core[coreList-coreListEntry : coreList]) // the entry that ends the list
	return code, core, nil
}

func checkBootImages(bootImg, coreImg []byte) error {
	le := binary.LittleEndian
	switch {
	case len(bootImg) != Sector || bootImg[510] != 0x55 || bootImg[511] != 0xaa:
		return fault.New(fault.Input, "GRUB's boot.img is no boot sector (%d bytes)", len(bootImg))
	case len(coreImg) < 2*Sector:
		return fault.New(fault.Input, "GRUB's core.img is too short (%d bytes)", len(coreImg))
	case le.Uint16(coreImg[coreList+10:]) != coreSegment:
		return fault.New(fault.Input, "GRUB's core.img has no block list where GRUB 2 keeps it")
	case le.Uint16(coreImg[Sector+coreNoRSLength:]) == 0xffff:
		return fault.New(fault.Input, "GRUB's core.img has a layout of another version")
	}
	return nil
}

// rootHint is where firmware shows the root partition of the disk it booted:
// GRUB looks there first, so a second disk with a clone of this one does no harm.
const rootHint = "hd0,gpt3"

// CoreConfig returns the commands that core.img runs before it shows anything:
// they find the root filesystem and its GRUB modules.
func CoreConfig(root UUID) string {
	return fmt.Sprintf("search.fs_uuid %s root %s\nset prefix=($root)'/boot/grub'\n", root, rootHint)
}

// ESPConfig returns the grub.cfg on the ESP, which hands over to the one in
// the root filesystem, as grub-install writes it beside a signed GRUB.
func ESPConfig(root UUID) string {
	return CoreConfig(root) + "configfile $prefix/grub.cfg\n"
}

// coreModules are built into core.img: enough to load a kernel by BIOS from a
// GPT disk's ext4 and to show a menu on screen and serial line, even if the
// modules in /boot/grub/i386-pc are gone.
func coreModules() []string {
	return []string{
		"biosdisk", "part_gpt", "ext2", "search_fs_uuid", "search_fs_file", "search_label", "search",
		"normal", "configfile", "linux", "echo", "test", "true", "sleep", "reboot", "halt", "ls", "cat",
		"gzio", "loadenv", "serial", "terminal", "terminfo", "all_video", "gfxterm", "minicmd",
	}
}
