package ui

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"imagebuilder.dev/internal/fault"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[1;31mb\x1b[0m":            "ab",
		"\x1b]0;title\x07x":              "x",
		"\x1b]8;;http://x\x1b\\l":        "l",
		"10%\r50%\r100%\r":               "100%",
		"a\tb\r\n":                       "a b",
		"bad \xff byte":                  "bad \uFFFD byte",
		"cut \x1b[":                      "cut",
		"left\u202eto right\u2066\x00\a": "leftto right",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// Whatever a program prints, cleaned it has no control character, and cut or
// wrapped it fits.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "a\x1b[31mb", "\x1b]0;x", "日本語 text", "瑐00", "      far in", "e\u0301", "a\rb", "\xff\x1b", "\u202e"} {
		f.Add(s, 7)
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = 1 + max(0, n)%200
		got := clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("clean(%q) = %q", s, got)
		}
		if c := cut(got, n, "…"); cells(c) > n {
			t.Errorf("cut to %d: %q has %d cells", n, c, cells(c))
		}
		for _, l := range wrap(got, n) {
			if cells(l) > max(n, 2) {
				t.Errorf("wrapped at %d: %q has %d cells", n, l, cells(l))
			}
		}
	})
}

func TestErrorIsWrapped(t *testing.T) {
	err := fault.Hint(fault.New(fault.Network, "fetching https://deb.example/dists/trixie/InRelease: all 3 mirrors answered 503"),
		"set spec.os.mirrors to one that works, or run again later")
	var got []string
	for _, l := range errorLines(err, 50) {
		if l.cells() > 50 {
			t.Errorf("%d cells: %q", l.cells(), l.render(false))
		}
		got = append(got, l.render(false))
	}
	want := "error: fetching\n       https://deb.example/dists/trixie/InRelease:\n" +
		"       all 3 mirrors answered 503\n" +
		"hint: set spec.os.mirrors to one that works, or\n      run again later"
	if strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

func TestSpeaksUnicode(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LC_CTYPE": "C.utf8", "LANG": "C"}, true},
		{map[string]string{"LANG": "C.UTF-8", "TERM": "linux"}, false},
		{nil, false},
	} {
		if got := speaksUnicode(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %v, want %v", c.env, got, c.want)
		}
	}
}
