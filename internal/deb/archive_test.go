package deb_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"imagebuilder.dev/internal/deb"
)

func sample() pkg {
	return pkg{
		name: "sample", control: "Description: a sample\n of two lines\n",
		members: map[string]string{"postinst": "#!/bin/sh\n", "conffiles": "/etc/sample\n"},
		files:   []tar.Header{dir("./", 0o755), dir("./etc/", 0o755), file("./etc/sample", 0o640)},
	}
}

// namesOf lists the entries of a package's data.
func namesOf(t testing.TB, a *deb.Archive) (names []string) {
	t.Helper()
	err := a.Data(func(r *tar.Reader) error {
		for {
			h, err := r.Next()
			if h == nil {
				if err.Error() == "EOF" {
					return nil
				}
				return err
			}
			names = append(names, h.Name)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func checkSample(t *testing.T, path string) {
	t.Helper()
	a, err := deb.OpenArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the name", a.Control.Get("Package"), "sample")
	equal(t, "the description", a.Control.Get("Description"), "a sample\n of two lines")
	equal(t, "a script", string(a.Members["postinst"].Data), "#!/bin/sh\n")
	equal(t, "its mode", a.Members["postinst"].Mode, 0o755)
	if _, ok := a.Members["control"]; ok {
		t.Error("the control file is a member too")
	}
	equalList(t, "the data", namesOf(t, a), []string{"./", "./etc/", "./etc/sample"})
}

func TestOpenArchive(t *testing.T) {
	for _, kind := range []string{"", "gz", "zst", "xz"} {
		t.Run("tar."+kind, func(t *testing.T) {
			name := strings.TrimSuffix("tar."+kind, ".")
			p := sample()
			checkSample(t, writeFile(t, "sample.deb", arOf(
				arMember{"debian-binary", []byte("2.0\n")}, arMember{"control." + name, compress(t, kind, p.controlTar(t))},
				arMember{"_future", []byte("odd")}, arMember{"data." + name, compress(t, kind, p.dataTar(t))})))
		})
	}
}

func TestOpenArchiveOfDpkg(t *testing.T) {
	tool := hostTool(t, "dpkg-deb")
	tree := t.TempDir()
	for name, text := range map[string]string{
		"DEBIAN/control":   "Package: sample\nVersion: 1.0\nArchitecture: amd64\nMaintainer: T <t@example.org>\nDescription: a sample\n of two lines\n",
		"DEBIAN/postinst":  "#!/bin/sh\n",
		"DEBIAN/conffiles": "/etc/sample\n",
		"etc/sample":       "x\n",
	} {
		path := filepath.Join(tree, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(tree, 0o755)
	for _, kind := range []string{"xz", "gzip", "zstd", "none"} {
		out := filepath.Join(t.TempDir(), kind+".deb")
		if text, err := exec.Command(tool, "--root-owner-group", "-Z"+kind, "-b", tree, out).CombinedOutput(); err != nil {
			t.Logf("dpkg-deb cannot make %s: %s", kind, text)
			continue
		}
		checkSample(t, out)
	}
}

func TestOpenArchiveErrors(t *testing.T) {
	p := sample()
	control, data := arMember{"control.tar", p.controlTar(t)}, arMember{"data.tar", p.dataTar(t)}
	first := arMember{"debian-binary", []byte("2.0\n")}
	withControl := func(text string, more ...tar.Header) []byte {
		body := tarOf(t, append([]tar.Header{file("control", 0o644)}, more...), func(string) string { return text })
		return arOf(first, arMember{"control.tar", body}, data)
	}
	good := arOf(first, control, data)
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                   {nil, "not an ar archive"},
		"text":                    {[]byte("hello, this is no archive"), "not an ar archive"},
		"no members":              {arOf(), "does not begin with debian-binary"},
		"another archive":         {arOf(control, data), "does not begin with debian-binary"},
		"no control":              {arOf(first, data), "lacks control or data"},
		"no data":                 {arOf(first, control), "lacks control or data"},
		"a cut header":            {append(bytes.Clone(good), "rest"...), "member header"},
		"a bad header":            {append(bytes.Clone(good), bytes.Repeat([]byte("x"), 60)...), "bad member header"},
		"a huge member":           {fmt.Appendf(bytes.Clone(good), "%-48s%-10d`\n", "x", 1<<60), "bad member header"},
		"many members":            {arOf(append([]arMember{first}, make([]arMember, 20)...)...), "too many members"},
		"bz2":                     {arOf(first, arMember{"control.tar.bz2", nil}, data), "unknown compression"},
		"cut control":             {arOf(first, arMember{"control.tar.gz", compress(t, "gz", control.data)[:40]}, data), "read control"},
		"no control file":         {arOf(first, arMember{"control.tar", tarOf(t, []tar.Header{file("x", 0)}, p.content)}, data), "no control file"},
		"an empty control file":   {withControl("\n"), "empty control"},
		"two paragraphs":          {withControl("Package: a\nVersion: 1\nArchitecture: all\n\nPackage: b\n"), "more than one paragraph"},
		"a name that leads out":   {withControl("Package: ../a\nVersion: 1\nArchitecture: all\n"), "bad package"},
		"a name for a shell":      {withControl("Package: a;b\nVersion: 1\nArchitecture: all\n"), "bad package"},
		"a bad architecture":      {withControl("Package: a\nVersion: 1\nArchitecture: ../all\n"), "bad package"},
		"no version":              {withControl("Package: a\nArchitecture: all\n"), "bad package"},
		"a member in a folder":    {withControl("Package: a\nVersion: 1\nArchitecture: all\n", file("./x/y", 0o644)), "control member"},
		"a member that leads out": {withControl("Package: a\nVersion: 1\nArchitecture: all\n", file("..", 0o644)), "control member"},
		"a member called list":    {withControl("Package: a\nVersion: 1\nArchitecture: all\n", file("list", 0o644)), "control member"},
	} {
		_, err := deb.OpenArchive(writeFile(t, "x.deb", c.data))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gives %v, want %q", what, err, c.want)
		}
	}
	if _, err := deb.OpenArchive("/nonexistent/x.deb"); !os.IsNotExist(err) {
		t.Errorf("no file gives %v", err)
	}
}

// sparseTar is an archive with one file of PAX format 1.0 (sparse) that claims
// size bytes and holds none.
func sparseTar(t testing.TB, name string, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	holes := make([]byte, 512)
	copy(holes, fmt.Sprintf("1\n%d\n0\n", size))
	record := func(k, v string) string {
		for n := 0; ; n++ {
			if s := fmt.Sprintf("%d %s=%s\n", n, k, v); len(s) == n {
				return s
			}
		}
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", name) + record("GNU.sparse.realsize", fmt.Sprint(size))
	raw := func(h tar.Header, body []byte) {
		h.Size, h.Mode = int64(len(body)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(body)
		w.Flush()
	}
	// The writer does not make such headers itself: the type is set by hand.
	at := b.Len()
	raw(tar.Header{Typeflag: tar.TypeReg, Name: "pax", Format: tar.FormatUSTAR}, []byte(pax))
	retype(b.Bytes()[at:at+512], 'x')
	raw(tar.Header{Typeflag: tar.TypeReg, Name: name, Format: tar.FormatUSTAR}, holes)
	w.Close()
	return b.Bytes()
}

// retype changes the type of a tar header and mends its checksum.
func retype(header []byte, kind byte) {
	header[156] = kind
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// A few hundred bytes must not make the reader allocate what they claim.
func TestOpenArchiveHuge(t *testing.T) {
	p := sample()
	first := arMember{"debian-binary", []byte("2.0\n")}
	open := func(control arMember) error {
		_, err := deb.OpenArchive(writeFile(t, "x.deb", arOf(first, control, arMember{"data.tar", p.dataTar(t)})))
		return err
	}
	claim := tarOf(t, []tar.Header{file("control", 0o644)}, func(string) string { return "x" })
	copy(claim[124:136], "77777777777\x00") // 8 GiB
	retype(claim[:512], tar.TypeReg)
	holes := sparseTar(t, "control", 1<<40)
	zstdWindow := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 1, 0, 0} // 2 GiB window
	before := allocated()
	for _, c := range []struct {
		what string
		m    arMember
		want string
	}{
		{"a huge file", arMember{"control.tar", claim}, "unexpected EOF"},
		{"a file with holes", arMember{"control.tar", holes}, "larger than"},
		{"a window", arMember{"control.tar.zst", zstdWindow}, "window"},
	} {
		if err := open(c.m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gives %v, want %q", c.what, err, c.want)
		}
	}
	if got := allocated() - before; got > 1<<30 {
		t.Errorf("%d MiB were allocated", got>>20)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestReadIndex(t *testing.T) {
	text := []byte(strings.Repeat("Package: a\n", 1000))
	for _, kind := range []string{"", "gz", "zst", "xz"} {
		name := strings.TrimSuffix("Packages."+kind, ".")
		path := writeFile(t, "blob", compress(t, kind, text))
		equal(t, name, string(must[[]byte](t)(deb.ReadIndex(path, name, int64(len(text))))), string(text))
		if _, err := deb.ReadIndex(path, name, int64(len(text))-1); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("%s over the limit gives %v", name, err)
		}
	}
	path := writeFile(t, "blob", compress(t, "gz", text)[:50])
	if _, err := deb.ReadIndex(path, "Packages.gz", 1<<20); err == nil {
		t.Error("a cut file is accepted")
	}
}

func FuzzOpenArchive(f *testing.F) {
	p := sample()
	for _, kind := range []string{"", "gz", "zst"} {
		name := strings.TrimSuffix("tar."+kind, ".")
		f.Add(arOf(arMember{"debian-binary", []byte("2.0\n")}, arMember{"control." + name, compress(f, kind, p.controlTar(f))},
			arMember{"data." + name, compress(f, kind, p.dataTar(f))}))
	}
	f.Add(arOf(arMember{"debian-binary", []byte("2.0\n")}, arMember{"control.tar", sparseTar(f, "control", 1<<30)}, arMember{"data.tar", nil}))
	path := filepath.Join(f.TempDir(), "x.deb")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := deb.OpenArchive(path)
		if err != nil {
			return
		}
		if name := a.Control.Get("Package"); name == "" || strings.ContainsAny(name, "/ \n;") {
			t.Errorf("a package called %q", name)
		}
		a.Data(func(r *tar.Reader) error {
			for range 100 {
				if _, err := r.Next(); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
