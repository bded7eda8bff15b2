package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
)

// contents returns the paths below a folder with the content of files.
func contents(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(filepath.Join(dir, p))
			out = append(out, p+"="+string(b))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func checkContents(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := contents(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

func overlay(t *testing.T, target string, lower []string, upper, work string) (unmount func()) {
	t.Helper()
	u, err := Overlay(target, lower, upper, work)
	if err != nil {
		t.Fatal(err)
	}
	done := false
	unmount = func() {
		if err := u(); !done && err != nil {
			t.Error(err)
		}
		done = true
	}
	t.Cleanup(unmount)
	return unmount
}

// dirs makes folders in a place whose name has what separates mount options.
func dirs(t *testing.T, names ...string) (out []string) {
	base := filepath.Join(t.TempDir(), `a:b,c\d e`)
	for _, n := range names {
		out = append(out, tree(t, base, map[string]string{n + "/": ""})+"/"+n)
	}
	return out
}

func TestOverlayIsALayer(t *testing.T) {
	d := dirs(t, "base", "upper", "work", "merged", "again")
	base, upper, work, merged, again := d[0], d[1], d[2], d[3], d[4]
	tree(t, base, map[string]string{"keep": "1", "change": "1", "gone": "1", "dir/old": "1", "away/x": "1"})
	unmount := overlay(t, merged, []string{base}, upper, work)
	c := probeCommand(t, "remove", "/gone") // changes come from commands
	c.Root = merged
	checkLines(t, c, "ok")
	tree(t, merged, map[string]string{"change": "2", "new/f": "2"})
	for _, p := range []string{"dir", "away", "probe", "lib", "lib64"} {
		if err := os.RemoveAll(filepath.Join(merged, p)); err != nil {
			t.Fatal(err)
		}
	}
	tree(t, merged, map[string]string{"dir/new": "2"}) // a folder in place of another: opaque
	want := []string{"change=2", "dir/new=2", "keep=1", "new/f=2"}
	checkContents(t, merged, want...)
	unmount()
	checkContents(t, merged)
	checkContents(t, base, "away/x=1", "change=1", "dir/old=1", "gone=1", "keep=1")
	if err := os.RemoveAll(work); err != nil {
		t.Error(err)
	}
	overlay(t, again, []string{base, upper}, "", "") // what was upper is now a lower layer
	checkContents(t, again, want...)
	if err := os.WriteFile(filepath.Join(again, "f"), nil, 0o644); err == nil {
		t.Error("an overlay without an upper directory can be written to")
	}
}

func TestOverlayOfOneLayer(t *testing.T) {
	d := dirs(t, "base", "merged")
	tree(t, d[0], map[string]string{"f": "1"})
	unmount := overlay(t, d[1], d[:1], "", "")
	checkContents(t, d[1], "f=1")
	unmount()
	checkContents(t, d[1])
}

func TestOverlayOrder(t *testing.T) {
	d := dirs(t, "1", "2", "3", "merged")
	for i, name := range []string{"a", "b", "c"} {
		for j := i; j < 3; j++ {
			tree(t, d[j], map[string]string{name: filepath.Base(d[j])})
		}
	}
	overlay(t, d[3], d[:3], "", "")
	checkContents(t, d[3], "a=3", "b=3", "c=3")
}

func TestOverlayThatCannotBe(t *testing.T) {
	d := dirs(t, "base", "merged")
	_, err := Overlay(d[1], nil, "", "")
	checkFault(t, err, fault.Internal, d[1])
	if _, err = Overlay(d[1], []string{d[0], d[0] + "/none"}, "", ""); err == nil || !strings.Contains(err.Error(), d[1]) {
		t.Errorf("%v", err)
	}
	long := slices.Repeat([]string{d[0]}, 200)
	_, err = Overlay(d[1], long, "", "")
	checkFault(t, err, fault.Environment, "too long")
}
