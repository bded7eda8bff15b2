package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"imagebuilder.dev/internal/fault"
)

func testFAT(size int64) FAT {
	return FAT{Size: size, Label: "CIDATA", ID: 0x1234abcd, Time: epoch()}
}

func testFiles() map[string]string {
	return map[string]string{
		"user-data":                 "#cloud-config\n",
		"meta-data":                 "instance-id: i-1\n",
		"EFI/BOOT/BOOTX64.EFI":      strings.Repeat("shim", 5000),
		"EFI/debian/grub.cfg":       ESPConfig(UUIDs(seed()).Root),
		"EFI/debian/empty":          "",
		"READ.ME":                   "exact 8.3\n",
		"a long name.with.dots.txt": "1",
		"a long name.with dots.txt": "2",
		"größe 漢字 🙂.conf":           "unicode\n",
		"exactly13char":             "no terminator\n",
		".hidden":                   "h",
		"x+y=[z]":                   "odd\n",
	}
}

func fatFiles(m map[string]string) []File {
	var files []File
	for path, content := range m { // random order on purpose
		files = append(files, Content(path, []byte(content)))
	}
	return files
}

func TestFATSizes(t *testing.T) {
	for size, variant := range map[int64]string{
		360 << 10: "FAT12", 1 << 20: "FAT12", 2 << 20: "FAT12", 3 << 20: "FAT16", 4 << 20: "FAT16", 32 << 20: "FAT16",
		34 << 20: "FAT32", 128 << 20: "FAT32", 1 << 30: "FAT32", 5 << 30: "FAT32",
	} {
		t.Run(fmt.Sprint(size>>10, "KiB"), func(t *testing.T) {
			f := sparseFile(t, size)
			if err := testFAT(size).Write(f, fatFiles(testFiles())); err != nil {
				t.Fatal(err)
			}
			got, label, err := readFAT(f)
			if err != nil {
				t.Fatal(err)
			}
			if label != variant+" CIDATA" {
				t.Errorf("got %q, want %s", label, variant)
			}
			if !maps.Equal(got, testFiles()) {
				t.Errorf("read back %q", got)
			}
			var st syscall.Stat_t
			if err := syscall.Stat(f.Name(), &st); err != nil || st.Blocks*512 > 4<<20 {
				t.Errorf("%d bytes on disk, error %v", st.Blocks*512, err)
			}
			if out := must(t, "fsck.vfat", "-n", "-v", f.Name()); strings.Contains(out, "ifference") {
				t.Error(out)
			}
		})
	}
}

func TestFATMtools(t *testing.T) {
	for _, size := range []int64{1 << 20, 4 << 20, 64 << 20} {
		f := sparseFile(t, size)
		if err := testFAT(size).Write(f, fatFiles(testFiles())); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		t.Setenv("LC_ALL", "C.UTF-8")
		must(t, "mcopy", "-s", "-i", f.Name(), "::EFI", "::a long name.with.dots.txt", "::user-data", dir)
		for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/debian/empty", "user-data", "a long name.with.dots.txt"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != testFiles()[name] {
				t.Errorf("%s: %v, %d bytes", name, err, len(got))
			}
		}
	}
}

func TestFATGolden(t *testing.T) {
	f := sparseFile(t, 1<<20)
	if err := testFAT(1<<20).Write(f, fatFiles(testFiles())); err != nil {
		t.Fatal(err)
	}
	golden(t, "fat12.hex", strings.Join(unique(strings.Split(dump(t, f, 1<<20), "\n")), "\n"))
}

// unique drops lines whose bytes repeat those of the line before.
func unique(lines []string) []string {
	return slices.CompactFunc(lines, func(a, b string) bool {
		return len(a) > 9 && len(b) > 9 && a[9:] == b[9:]
	})
}

func TestFATRefuses(t *testing.T) {
	ok := Content("a", nil)
	long := File{Path: "a", Size: 3, Open: Content("a", []byte("four")).Open}
	short := File{Path: "a", Size: 5, Open: Content("a", []byte("four")).Open}
	for name, c := range map[string]struct {
		fat   FAT
		files []File
		want  string
	}{
		"too much":       {testFAT(1 << 20), []File{Content("a", make([]byte, 2<<20))}, "more than a FAT12 volume"},
		"case":           {testFAT(1 << 20), []File{Content("Grub.cfg", nil), Content("grub.CFG", nil)}, "is there already"},
		"case dir":       {testFAT(1 << 20), []File{Content("EFI/a", nil), Content("efi/b", nil)}, "is there already"},
		"file as dir":    {testFAT(1 << 20), []File{ok, Content("a/b", nil)}, "is there already"},
		"twice":          {testFAT(1 << 20), []File{ok, ok}, "is there already"},
		"dot dot":        {testFAT(1 << 20), []File{Content("../a", nil)}, "not a file name"},
		"rooted":         {testFAT(1 << 20), []File{Content("/a", nil)}, "not a file name"},
		"colon":          {testFAT(1 << 20), []File{Content("a:b", nil)}, "cannot store"},
		"dot at the end": {testFAT(1 << 20), []File{Content("a.", nil)}, "ends with"},
		"not UTF-8":      {testFAT(1 << 20), []File{Content("a\xff", nil)}, "UTF-8"},
		"256 characters": {testFAT(1 << 20), []File{Content(strings.Repeat("x", 256), nil)}, "longer than"},
		"label":          {FAT{Size: 1 << 20, Label: "cidata", Time: epoch()}, nil, "label"},
		"time":           {FAT{Size: 1 << 20, Time: time.Unix(0, 0)}, nil, "1980"},
		"no room":        {testFAT(4 << 10), nil, "no FAT volume"},
		"file grew":      {testFAT(1 << 20), []File{long}, "larger than"},
		"file shrank":    {testFAT(1 << 20), []File{short}, "not the 5 announced"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.fat.Write(sparseFile(t, c.fat.Size), c.files)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzFATNames(f *testing.F) {
	for name := range testFiles() {
		f.Add(name, "second")
	}
	f.Add("A~1", "a b")
	f.Add("ab~1", "a b")
	f.Add("toolongname.text", "TOOLON~1.TEX")
	f.Add("ſ", "s")
	f.Fuzz(func(t *testing.T, a, b string) {
		want := map[string]string{a: "1", b: "2"}
		w := make(memory, 1<<20)
		err := testFAT(1<<20).Write(w, fatFiles(want))
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("%q %q: %v", a, b, err)
			}
			return
		}
		if got, _, err := readFAT(bytes.NewReader(w)); err != nil || !maps.Equal(got, want) {
			t.Fatalf("wrote %q, read %q, %v", want, got, err)
		}
	})
}

type memory []byte

func (m memory) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], b), nil
}

// readFAT is a reader of its own, from the specification: the files, and the
// variant with the label.
func readFAT(r io.ReaderAt) (map[string]string, string, error) {
	le := binary.LittleEndian
	b := make([]byte, Sector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, "", err
	}
	v := &fatReader{r: r, files: map[string]string{}}
	v.cluster = int64(b[13]) * Sector
	reserved, entries := int64(le.Uint16(b[14:])), int64(le.Uint16(b[17:]))
	fat := int64(le.Uint16(b[22:]))
	label := b[43:54]
	if fat == 0 {
		fat, label = int64(le.Uint32(b[36:])), b[71:82]
	}
	total := int64(le.Uint16(b[19:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	rootAt := (reserved + int64(b[16])*fat) * Sector
	v.data = rootAt + entries*32
	clusters := (total*Sector - v.data) / v.cluster
	v.bits = 32
	if clusters < 4085 {
		v.bits = 12
	} else if clusters < 65525 {
		v.bits = 16
	}
	v.table = make([]byte, fat*Sector)
	if _, err := r.ReadAt(v.table, reserved*Sector); err != nil {
		return nil, "", err
	}
	root := make([]byte, entries*32)
	if v.bits == 32 {
		root = v.chain(int64(le.Uint32(b[44:])))
	} else if _, err := r.ReadAt(root, rootAt); err != nil {
		return nil, "", err
	}
	err := v.dir("", root)
	return v.files, fmt.Sprintf("FAT%d %s", v.bits, strings.TrimRight(string(label), " ")), err
}

type fatReader struct {
	r       io.ReaderAt
	bits    int
	cluster int64
	data    int64
	table   []byte
	files   map[string]string
}

func (v *fatReader) chain(c int64) (out []byte) {
	for c >= 2 {
		b := make([]byte, v.cluster)
		v.r.ReadAt(b, v.data+(c-2)*v.cluster)
		out = append(out, b...)
		switch v.bits {
		case 32:
			c = int64(binary.LittleEndian.Uint32(v.table[c*4:]) & 0x0fffffff)
			if c >= 0x0ffffff8 {
				return out
			}
		case 16:
			if c = int64(binary.LittleEndian.Uint16(v.table[c*2:])); c >= 0xfff8 {
				return out
			}
		default:
			e := binary.LittleEndian.Uint16(v.table[c*3/2:])
			if c%2 == 1 {
				e >>= 4
			}
			if c = int64(e & 0xfff); c >= 0xff8 {
				return out
			}
		}
	}
	return out
}

func (v *fatReader) dir(path string, b []byte) error {
	var long []uint16
	seen := map[string]bool{}
	for ; len(b) >= 32 && b[0] != 0; b = b[32:] {
		if b[11] == 0x0f {
			var part []uint16
			for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
				if u := binary.LittleEndian.Uint16(b[at:]); u != 0xffff {
					part = append(part, u)
				}
			}
			long = append(part, long...)
			continue
		}
		name := strings.TrimRight(string(b[:8]), " ")
		if ext := strings.TrimRight(string(b[8:11]), " "); ext != "" {
			name += "." + ext
		}
		if seen[name] && b[11] != 0x08 {
			return fmt.Errorf("%s: %q stands twice", path, name)
		}
		seen[name] = b[11] != 0x08
		if long != nil {
			name = strings.TrimRight(string(utf16.Decode(long)), "\x00")
			long = nil
			if seen[foldName(name)] {
				return fmt.Errorf("%s: %q is the alias of another", path, name)
			}
			seen[foldName(name)] = true
		}
		if err := v.node(path, name, b); err != nil {
			return err
		}
	}
	return nil
}

func (v *fatReader) node(path, name string, b []byte) error {
	le := binary.LittleEndian
	first := int64(le.Uint16(b[20:]))<<16 | int64(le.Uint16(b[26:]))
	size := int64(le.Uint32(b[28:]))
	switch {
	case b[11] == 0x08 || name == "." || name == "..":
	case b[11] == 0x10:
		return v.dir(path+name+"/", v.chain(first))
	default:
		data := v.chain(first)
		if size > int64(len(data)) {
			return errors.New("chain is too short for " + path + name)
		}
		v.files[path+name] = string(data[:size])
	}
	return nil
}
