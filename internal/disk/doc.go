// Package disk composes a rootfs into a raw, partitioned, bootable disk.
//
// The disk boots by BIOS, by UEFI and by UEFI with Secure Boot:
//
//	sector 0        protective MBR, its first 440 bytes GRUB's boot.img ─┐
//	sector 1..33    GPT header and partition array                       │ loads
//	1 MiB           p1 BIOS boot, 1 MiB: GRUB's core.img  ◀──────────────┘
//	2 MiB           p2 EFI system, FAT32: the signed shim and GRUB
//	2 MiB + ESP     p3 root, ext4: grows on first boot, so it stands last
//	...
//	last 33 sectors backup partition array and GPT header
//
// Both ways of booting find the root filesystem by its UUID and go on with its
// /boot/grub/grub.cfg.
//
// The file is sparse: what is free costs nothing. It is the same bit for bit
// for the same rootfs and Options: every identifier comes from Options.Seed,
// every time from Options.Epoch. Nothing is mounted and no loop device is
// used: GPT, FAT and the GRUB BIOS install are written here; the ext4
// filesystem is made by mke2fs of the tools root from a tar stream.
package disk
