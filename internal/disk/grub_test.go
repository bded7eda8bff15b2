package disk

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
)

// bootImages returns stand-ins for GRUB's images: every byte that must stay is
// not zero, so that a byte too many or too few shows.
func bootImages() (boot, core []byte) {
	boot = bytes.Repeat([]byte{0xbb}, Sector)
	boot[510], boot[511] = 0x55, 0xaa
	core = bytes.Repeat([]byte{0xcc}, 3*Sector+100)
	copy(core[coreList-coreListEntry:], make([]byte, coreListEntry))
	copy(core[coreList:], "\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x20\x08")
	return boot, core
}

func TestBIOSBootGolden(t *testing.T) {
	boot, core := bootImages()
	code, padded, err := BIOSBoot(boot, core, 2048, 2048)
	if err != nil {
		t.Fatal(err)
	}
	wantBoot, wantCore := bootImages()
	if !bytes.Equal(boot, wantBoot) || !bytes.Equal(core, wantCore) {
		t.Error("the arguments were changed")
	}
	if len(code) != 440 || len(padded) != 4*Sector {
		t.Errorf("%d bytes of code, %d of core", len(code), len(padded))
	}
	var b strings.Builder
	changed(&b, "boot.img", wantBoot[:440], code)
	changed(&b, "core.img", append(wantCore, make([]byte, Sector-100)...), padded)
	golden(t, "bios.txt", b.String())
}

// changed prints the bytes that differ.
func changed(b *strings.Builder, name string, before, after []byte) {
	for i := range before {
		if before[i] != after[i] {
			fmt.Fprintf(b, "%s %#x: %s -> %s\n", name, i, hex.EncodeToString(before[i:i+1]), hex.EncodeToString(after[i:i+1]))
		}
	}
}

func TestBIOSBootRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil    func(boot, core []byte) ([]byte, []byte)
		capacity int64
		want     string
	}{
		"no boot sector": {func(b, c []byte) ([]byte, []byte) { b[511] = 0; return b, c }, 2048, "boot.img"},
		"short boot.img": {func(b, c []byte) ([]byte, []byte) { return b[:440], c }, 2048, "boot.img"},
		"short core.img": {func(b, c []byte) ([]byte, []byte) { return b, c[:600] }, 2048, "too short"},
		"no block list":  {func(b, c []byte) ([]byte, []byte) { c[coreList+11] = 9; return b, c }, 2048, "block list"},
		"other version":  {func(b, c []byte) ([]byte, []byte) { c[0x214], c[0x215] = 0xff, 0xff; return b, c }, 2048, "another version"},
		"no room":        {func(b, c []byte) ([]byte, []byte) { return b, c }, 3, "only 3 can"},
		"too large":      {func(b, c []byte) ([]byte, []byte) { return b, append(c, make([]byte, 480<<10)...) }, 2048, "only 888 can"},
	} {
		t.Run(name, func(t *testing.T) {
			boot, core := c.spoil(bootImages())
			if _, _, err := BIOSBoot(boot, core, 2048, c.capacity); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestGRUBConfigs(t *testing.T) {
	root := UUIDs(seed()).Root
	golden(t, "grub.txt", CoreConfig(root)+"--\n"+ESPConfig(root))
}

func TestNoGRUB(t *testing.T) {
	c := &composer{Options: Options{Root: t.TempDir(), Tools: t.TempDir()}}
	if _, err := c.grubRoot(); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "grub-pc-bin") {
		t.Errorf("got %v", err)
	}
}
