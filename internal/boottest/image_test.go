package boottest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
)

// sector returns a raw disk's first two sectors.
func sectors(edit func(b []byte)) []byte {
	b := make([]byte, 1024)
	b[510], b[511] = 0x55, 0xaa
	edit(b)
	return b
}

func TestDetect(t *testing.T) {
	gpt := sectors(func(b []byte) { copy(b[512:], "EFI PART") })
	for _, c := range []struct {
		name, format, why string
		head              []byte
	}{
		{"qcow2 v3", "qcow2", "", []byte("QFI\xfb\x00\x00\x00\x03rest")},
		{"qcow2 v2", "qcow2", "", []byte("QFI\xfb\x00\x00\x00\x02rest")},
		{"qcow v1", "", "version", []byte("QFI\xfb\x00\x00\x00\x01rest")},
		{"qcow2 cut", "", "cut off", []byte("QFI\xfb\x00")},
		{"gpt", "raw", "", gpt},
		{"mbr", "raw", "", sectors(func(b []byte) { b[450] = 0x83 })},
		{"no partition", "", "empty", sectors(func([]byte) {})},
		{"no signature", "", "no known magic", sectors(func(b []byte) { b[511] = 0; copy(b[512:], "EFI PART") })},
		{"short disk", "", "smaller", gpt[:1000]},
		{"empty", "", "empty", nil},
		{"vmdk", "", "VMDK", []byte("KDMV\x01")},
		{"vhdx", "", "VHDX", []byte("vhdxfile")},
		{"text", "", "no known magic", bytes.Repeat([]byte("kind: Image\n"), 200)[:1024]},
	} {
		format, why := detect(c.head)
		if format != c.format || !strings.Contains(why, c.why) || (why == "") != (format != "") {
			t.Errorf("%s: format %q, why %q", c.name, format, why)
		}
	}
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"))
	f.Add(sectors(func(b []byte) { copy(b[512:], "EFI PART") }))
	f.Fuzz(func(t *testing.T, head []byte) {
		if format, why := detect(head); (format == "") == (why == "") {
			t.Errorf("format %q, why %q", format, why)
		}
	})
}

// A file that is no disk image is refused before anything is made or started:
// the tools root does not even exist.
func TestRunRefusesWhatIsNoImage(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.qcow2")
	if err := os.WriteFile(text, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"text": text, "folder": dir, "missing": filepath.Join(dir, "none")} {
		out := filepath.Join(dir, "out-"+name)
		_, err := Run(t.Context(), Options{Image: path, Tools: "/nonexistent", WorkDir: dir, Output: out})
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: the output folder was made", name)
		}
	}
}

func TestRunRefusesBadOptions(t *testing.T) {
	for _, o := range []Options{{Firmware: []Firmware{"coreboot"}}, {Accel: "warp"}} {
		if _, err := Run(t.Context(), o); fault.KindOf(err) != fault.Input {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestDigest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "abc")
	if err := os.WriteFile(path, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := (&image{path: path, real: path}).digest(t.Context())
	// The example of FIPS 180-2, appendix B.1.
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; err != nil || sum != want {
		t.Errorf("digest %s, %v", sum, err)
	}
}
