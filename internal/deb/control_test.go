package deb_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"imagebuilder.dev/internal/deb"
)

func parse(text string) ([]deb.Stanza, error) {
	var out []deb.Stanza
	err := deb.ParseControl(strings.NewReader(text), func(s deb.Stanza) error { out = append(out, s); return nil })
	return out, err
}

func TestParseControl(t *testing.T) {
	got, err := parse("\n\n# a remark\nPackage: a\nDepends:b ,\n c\nDescription: short\n long\n .\n end\n \t\nPackage:\r\nX: 1: 2")
	if err != nil {
		t.Fatal(err)
	}
	want := []deb.Stanza{
		{{"Package", "a"}, {"Depends", "b ,\n c"}, {"Description", "short\n long\n .\n end"}},
		{{"Package", ""}, {"X", "1: 2"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	equal(t, "a field in other letters", got[0].Get("pACKAGE"), "a")
	equal(t, "a missing field", got[0].Get("Version"), "")
	got[0].Set("package", "z")
	got[0].Set("Version", "1")
	var b strings.Builder
	got[0].WriteTo(&b)
	equal(t, "the text", b.String(), "Package: z\nDepends: b ,\n c\nDescription: short\n long\n .\n end\nVersion: 1\n")
}

func TestParseControlErrors(t *testing.T) {
	for text, want := range map[string]string{
		" continued\n":     "line 1 continues a field",
		"A: b\n\n\tc\n":    "line 3 continues a field",
		"A: b\nno colon\n": "line 2 is not a field",
		": b\n":            "line 1 is not a field",
		"A: " + strings.Repeat("x", 5<<20) + "\n": "too long",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q gives %v, want %q", text, err, want)
		}
	}
	stop := errors.New("stop")
	err := deb.ParseControl(strings.NewReader("A: b\n\nC: d\n"), func(deb.Stanza) error { return stop })
	if err != stop {
		t.Errorf("an error of the callback becomes %v", err)
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add("Package: a\nDescription: b\n c\n .\n\n# d\nE:\n f\n")
	f.Add(" x")
	f.Add("a\x00:b\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := parse(text)
		if err != nil {
			return
		}
		var b bytes.Buffer
		for _, s := range first {
			s.WriteTo(&b)
			b.WriteByte('\n')
		}
		second, err := parse(b.String())
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("written and read again: %v\n%q\n%q", err, first, second)
		}
	})
}

func entry(name, version, more string) string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\n%sFilename: pool/%s.deb\nSize: 7\nSHA256: %064x\n", name, version, more, name, len(name))
}

func TestParsePackages(t *testing.T) {
	text := "\n" + entry("a", "1:2-3", "Essential: yes\nPre-Depends: b\nDepends: c, d\nProvides: e (= 1)\nDescription: x\n Package: not\n") + "\n\n\n" + entry("b", "1..2", "")
	got, err := deb.ParsePackages(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("%d packages, want 2", len(got))
	}
	a := *got[0]
	equal(t, "the entry", "\n"+a.Stanza+"\n", text[:len(a.Stanza)+2])
	a.Stanza = ""
	equal(t, "a", a, deb.Package{Name: "a", Version: "1:2-3", Arch: "amd64", Filename: "pool/a.deb", Size: 7, SHA256: fmt.Sprintf("%064x", 1),
		Essential: true, PreDepends: "b", Depends: "c, d", Provides: "e (= 1)"})
	equal(t, "its name", a.ID(), "a_1:2-3_amd64")
}

func TestParsePackagesErrors(t *testing.T) {
	good := entry("a", "1", "")
	for what, text := range map[string]string{
		"no size":         strings.Replace(good, "Size: 7\n", "", 1),
		"a size below 1":  strings.Replace(good, "Size: 7", "Size: -7", 1),
		"a bad name":      strings.Replace(good, "Package: a", "Package: ../a", 1),
		"no version":      strings.Replace(good, "Version: 1\n", "", 1),
		"a short digest":  strings.Replace(good, "SHA256: 0", "SHA256: ", 1),
		"a bad digest":    strings.Replace(good, "SHA256: 0", "SHA256: /", 1),
		"a way out":       strings.Replace(good, "pool/", "pool/../", 1),
		"no architecture": strings.Replace(good, "Architecture: amd64\n", "", 1),
		"no file name":    strings.Replace(good, "Filename: pool/a.deb\n", "", 1),
	} {
		if got, err := deb.ParsePackages(text); err == nil {
			t.Errorf("%s is accepted: %+v", what, got[0])
		}
	}
}

func FuzzParsePackages(f *testing.F) {
	f.Add(entry("a", "1", "Depends: b | c (>= 1) [amd64], d:any\nProvides: e (= 1)\n") + "\n" + entry("b", "1", ""))
	f.Add("\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := deb.ParsePackages(text)
		if err != nil {
			return
		}
		u := deb.NewUniverse(list)
		for _, p := range list {
			if u.Find(p.Name, p.Version, p.Arch) == nil || !u.Has(p.Name) || deb.CompareVersions(u.Newest(p.Name).Version, p.Version) < 0 {
				t.Errorf("%s is not found, or not newest", p.ID())
			}
			u.Closure([]string{p.Name})
		}
	})
}

func universe(t *testing.T, entries ...string) *deb.Universe {
	t.Helper()
	return deb.NewUniverse(must[[]*deb.Package](t)(deb.ParsePackages(strings.Join(entries, "\n"))))
}

func TestClosure(t *testing.T) {
	u := universe(t,
		entry("app", "1", "Pre-Depends: early\nDepends: libc (>= 2), none | virtual | real, other:any, loop\n"),
		entry("early", "1", ""), entry("libc", "1", ""), entry("libc", "2", "Depends: base\n"), entry("libc", "1.5", ""), entry("base", "1", ""),
		entry("real", "1", "Provides: virtual (= 3)\n"), entry("other", "1", ""),
		entry("loop", "1", "Depends: app\n"), entry("broken", "1", "Depends: missing\n"),
		entry("chooser", "1", "Depends: other | early\n"),
	)
	names := func(start ...string) []string {
		var out []string
		for _, p := range must[[]*deb.Package](t)(u.Closure(start)) {
			out = append(out, p.Name+"_"+p.Version)
		}
		return out
	}
	equalList(t, "the closure", names("app"), []string{"early_1", "base_1", "libc_2", "real_1", "other_1", "loop_1", "app_1"})
	equalList(t, "an alternative that is there already", names("early", "chooser"), []string{"early_1", "chooser_1"})
	equalList(t, "a virtual name", names("virtual"), []string{"real_1"})
	if _, err := u.Closure([]string{"broken"}); err == nil || err.Error() != "no package missing, which broken needs" {
		t.Errorf("a missing dependency gives %v", err)
	}
	equalList(t, "the names", deb.Names("a (>= 1) | b, c:any [amd64]"), []string{"a", "b", "c"})
}
