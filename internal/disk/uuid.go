package disk

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// UUID is a UUID in the byte order of its text (RFC 9562).
type UUID [16]byte

// String returns the UUID as lower-case text.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// ParseUUID reads the 36-character text of a UUID, in either case.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("read UUID %q: want 8-4-4-4-12 hexadecimal digits", s)
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return u, fmt.Errorf("read UUID %q: %w", s, err)
	}
	return u, nil
}

// mixedEndian returns the UUID as GPT stores it: the first three fields
// little-endian, the rest as written (UEFI specification, appendix A).
func (u UUID) mixedEndian() [16]byte {
	return [16]byte{
		u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6],
		u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15],
	}
}

// IDs are the identifiers on a disk.
type IDs struct {
	Disk     UUID    // the partition table
	Parts    [3]UUID // partition entries (PARTUUID): BIOS boot, ESP, root
	Root     UUID    // root filesystem: fstab, grub.cfg
	HashSeed UUID    // ext4's directory hash
	ESP      uint32  // volume id of the ESP's FAT
}

// ESPUUID returns the ESP's volume id as blkid and fstab spell it, e.g. 1A2B-3C4D.
func (i IDs) ESPUUID() string { return fmt.Sprintf("%04X-%04X", i.ESP>>16, i.ESP&0xffff) }

// UUIDs derives the identifiers from a seed. Each is an HMAC-SHA-256 of its
// name, keyed by the seed, so that none says anything about another.
func UUIDs(seed [32]byte) IDs {
	esp := derive(seed, "esp volume")
	return IDs{
		Disk: derive(seed, "disk"),
		Parts: [3]UUID{
			derive(seed, "partition bios"), derive(seed, "partition esp"), derive(seed, "partition root"),
		},
		Root:     derive(seed, "root filesystem"),
		HashSeed: derive(seed, "root hash seed"),
		ESP:      binary.BigEndian.Uint32(esp[:4]),
	}
}

func derive(seed [32]byte, name string) UUID {
	mac := hmac.New(sha256.New, seed[:])
	mac.Write([]byte("imagebuilder disk: " + name))
	var u UUID
	copy(u[:], mac.Sum(nil))
	u[6] = u[6]&0x0f | 0x40 // version 4
	u[8] = u[8]&0x3f | 0x80 // RFC variant
	return u
}
