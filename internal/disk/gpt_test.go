package disk

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
)

func testGPT() GPT {
	ids := UUIDs(seed())
	l := LayOut(256<<20, 64<<20)
	g := GPT{ID: ids.Disk, Size: 256 << 20}
	for i, s := range []Span{l.BIOS, l.ESP, l.Root} {
		first, last := s.sectors()
		g.Partitions = append(g.Partitions, Partition{
			Name: []string{"bios", "esp", "größe"}[i],
			Type: []string{TypeBIOSBoot, TypeESP, TypeRootAMD64}[i],
			ID:   ids.Parts[i], First: first, Last: last,
		})
	}
	return g
}

func TestGPTGolden(t *testing.T) {
	f := sparseFile(t, testGPT().Size)
	if err := testGPT().WriteTo(f); err != nil {
		t.Fatal(err)
	}
	golden(t, "gpt.hex", dump(t, f, testGPT().Size))
}

// dump prints every 16 bytes that are not zero.
func dump(t *testing.T, r io.ReaderAt, size int64) string {
	t.Helper()
	var b strings.Builder
	buf, zero := make([]byte, 1<<20), string(make([]byte, 16))
	for at := int64(0); at < size; at += int64(len(buf)) {
		n, err := r.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for i := 0; i < n; i += 16 {
			if string(buf[i:i+16]) != zero {
				fmt.Fprintf(&b, "%08x %s\n", at+int64(i), hex.EncodeToString(buf[i:i+16]))
			}
		}
	}
	return b.String()
}

func TestGPTAgainstTools(t *testing.T) {
	f := sparseFile(t, testGPT().Size)
	if err := testGPT().WriteTo(f); err != nil {
		t.Fatal(err)
	}
	t.Run("sgdisk", func(t *testing.T) {
		if out := must(t, "sgdisk", "--verify", f.Name()); !strings.Contains(out, "No problems found") {
			t.Error(out)
		}
	})
	t.Run("sfdisk", func(t *testing.T) {
		out := must(t, "sfdisk", "--dump", f.Name())
		ids := UUIDs(seed())
		for _, want := range []string{ids.Disk.String(), ids.Parts[2].String(), TypeESP, `name="gr`, "start=        4096"} {
			if !strings.Contains(strings.ToLower(out), want) {
				t.Errorf("no %s in\n%s", want, out)
			}
		}
		if out := must(t, "sfdisk", "--verify", f.Name()); !strings.Contains(out, "No errors detected") {
			t.Error(out)
		}
	})
}

func TestGPTRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*GPT){
		"overlap":      func(g *GPT) { g.Partitions[1].First = g.Partitions[0].Last },
		"past the end": func(g *GPT) { g.Partitions[2].Last = g.Size/Sector - 1 },
		"reversed":     func(g *GPT) { g.Partitions[0].Last = g.Partitions[0].First - 1 },
		"on the table": func(g *GPT) { g.Partitions[0].First = 33 },
		"type":         func(g *GPT) { g.Partitions[0].Type = "linux" },
		"long name":    func(g *GPT) { g.Partitions[0].Name = strings.Repeat("x", 37) },
		"odd size":     func(g *GPT) { g.Size++ },
	} {
		t.Run(name, func(t *testing.T) {
			g := testGPT()
			spoil(&g)
			if err := g.WriteTo(sparseFile(t, g.Size)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestUUIDs(t *testing.T) {
	a := UUIDs(seed())
	if a != UUIDs(seed()) {
		t.Error("not deterministic")
	}
	golden(t, "uuids.txt", fmt.Sprintf("%v\n%v\n%v\n%v\n%s\n", a.Disk, a.Parts, a.Root, a.HashSeed, a.ESPUUID()))
	other := seed()
	other[0]++
	if b := UUIDs(other); b.Disk == a.Disk || b.Root == a.Root || b.ESP == a.ESP {
		t.Error("another seed gives the same identifiers")
	}
}

func FuzzParseUUID(f *testing.F) {
	f.Add(TypeESP)
	f.Add("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	f.Add("c12a7328f81f11d2ba4b00a0c93ec93b")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUUID(s)
		if err == nil && u.String() != strings.ToLower(s) {
			t.Errorf("%q read as %s", s, u)
		}
	})
}
