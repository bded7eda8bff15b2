package deb_test

import (
	"archive/tar"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"imagebuilder.dev/internal/deb"
)

func unpack(t testing.TB, root string, packages ...pkg) ([]*deb.Unpacked, error) {
	t.Helper()
	done := map[int]bool{}
	out, err := deb.Unpack(context.Background(), root, buildAll(t, packages...), func(i int) { done[i] = true })
	if err == nil && len(done) != len(packages) {
		t.Errorf("progress told of %d packages, of %d", len(done), len(packages))
	}
	return out, err
}

func mustUnpack(t testing.TB, root string, packages ...pkg) []*deb.Unpacked {
	t.Helper()
	return must[[]*deb.Unpacked](t)(unpack(t, root, packages...))
}

// list describes a tree: type, mode, owner, links, and what a file holds.
func list(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		fmt.Fprintf(&b, "%06o %d:%d %s", st.Mode, st.Uid, st.Gid, name)
		switch d.Type() {
		case fs.ModeSymlink:
			to, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %s", to)
		case 0:
			text, _ := os.ReadFile(path)
			fmt.Fprintf(&b, " %q", text)
			if one := first[st.Ino]; one != "" {
				fmt.Fprintf(&b, " = %s", one)
			}
			first[st.Ino] = name
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func top() tar.Header { return dir("./", 0o755) }

// world is a set of packages with everything that the order decides about.
func world() []pkg {
	return []pkg{
		{name: "base", files: []tar.Header{
			top(), dir("./bin/", 0o755), file("./bin/su", 0o4755), dir("./etc/", 0o755), file("./etc/conf", 0o644), dir("./usr/", 0o755), dir("./usr/bin/", 0o755),
			owned(dir("./var/", 0o2775), 0, 8), owned(file("./var/mail", 0o600), 8, 8), link("./var/run", "/run"), dir("./tmp/", 0o1777),
			link("./usr/share-link", "./share"), dir("./alpha/", 0o755), file("./alpha/x", 0o644),
		}, members: map[string]string{"conffiles": "/etc/conf\n"}},
		{name: "links", files: []tar.Header{
			top(), dir("./usr/", 0o700), dir("./usr/bin/", 0o700), file("./usr/bin/perl", 0o755), hardLink("./usr/bin/perl5", "./usr/bin/perl"),
			hardLink("./usr/bin/perl6", "usr/bin/perl5"),
			file("./usr/bin/git", 0o755), hardLink("./usr/bin/git-x", "./usr/bin/git"), owned(dir("./srv/", 0o2770), 7, 8), link("./alpha", "beta"), link("./gamma", "delta"),
		}},
		{name: "replacer", files: []tar.Header{
			top(), dir("./etc/", 0o755), file("./etc/conf", 0o600), dir("./usr/", 0o755), dir("./usr/bin/", 0o755), file("./usr/bin/perl", 0o711),
			dir("./var/", 0o755), dir("./var/run/", 0o755), file("./var/run/pid", 0o644), dir("./gamma/", 0o755), file("./gamma/y", 0o644),
		}, members: map[string]string{"conffiles": "/etc/conf\n"}},
		{name: "last", files: []tar.Header{
			top(), dir("./usr/", 0o755), dir("./usr/bin/", 0o755), dir("./srv/", 0o755), file("./usr/bin/perl6", 0o700), file("./usr/bin/sh", 0o755),
		}, contents: map[string]string{"./usr/bin/perl6": strings.Repeat("long ", 20000)[:10]}},
	}
}

// prepared is a root as the base phase makes it, with a folder and a diversion.
func prepared(t testing.TB) string {
	root := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{"usr/bin", "delta", "var/lib/dpkg"} {
		os.MkdirAll(filepath.Join(root, d), 0o750)
	}
	os.Symlink("usr/bin", filepath.Join(root, "bin"))
	diversions := "/usr/bin/sh\n/usr/bin/sh.distrib\nother\n/usr/bin/perl5\n/usr/bin/perl5.links\n:\n"
	os.WriteFile(filepath.Join(root, "var/lib/dpkg/diversions"), []byte(diversions), 0o644)
	for _, d := range []string{".", "usr", "delta"} {
		os.Chmod(filepath.Join(root, d), 0o750)
	}
	return root
}

func TestUnpack(t *testing.T) {
	root := prepared(t)
	old := syscall.Umask(0o077)
	out, err := unpack(t, root, world()...)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	text := list(t, root)
	for _, u := range out {
		text += fmt.Sprintf("\n%s\n  %s\n", u.Name(), strings.Join(u.Files, "\n  "))
		for path, sum := range u.Conffiles {
			text += fmt.Sprintf("conffile %s %s\n", path, sum)
		}
	}
	golden(t, "unpacked.txt", text)
	st, _ := os.Lstat(filepath.Join(root, "etc/conf"))
	equal(t, "the time of a file", st.ModTime().UTC(), fileTime())
	equal(t, "its sum", out[2].Conffiles["/etc/conf"], fmt.Sprintf("%x", md5.Sum([]byte("replacer ./etc/conf\n"))))
}

// Whatever the number of processors and the sizes, which decide who comes
// first, the result is that of one after another.
func TestUnpackTiming(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	oneByOne := prepared(t)
	var lists [][]string
	for _, p := range world() {
		mustUnpack(t, oneByOne, p)
	}
	want := list(t, oneByOne)
	for run := range 16 {
		runtime.GOMAXPROCS(1 + 3*(run%2))
		packages := world()
		k := run / 2 % len(packages) // the largest is unpacked first
		packages[k].members = map[string]string{"padding": random(200_000), "conffiles": packages[k].members["conffiles"]}
		root := prepared(t)
		out := mustUnpack(t, root, packages...)
		if got := list(t, root); got != want {
			t.Fatalf("run %d differs from one by one:\n%s\nwant\n%s", run, got, want)
		}
		var files []string
		for _, u := range out {
			files = append(files, fmt.Sprint(u.Files, u.Conffiles))
		}
		if lists = append(lists, files); fmt.Sprint(lists[0]) != fmt.Sprint(files) {
			t.Fatalf("run %d has other lists:\n%s\nthan the first\n%s", run, files, lists[0])
		}
	}
}

// random is text that does not compress.
func random(n int) string {
	b := make([]byte, 0, n)
	for sum := md5.Sum(nil); len(b) < n; sum = md5.Sum(sum[:]) {
		b = append(b, sum[:]...)
	}
	return string(b)
}

// Nothing in a package may touch what is outside the root.
func TestUnpackStaysInside(t *testing.T) {
	for what, files := range map[string][]tar.Header{
		"dots":                                {file("../../evil", 0o644), dir("./../../evil-dir/", 0o755), file("a/../../../evil2", 0o644)},
		"an absolute name":                    {file("/evil", 0o644)},
		"through a link":                      {link("./out", "../outside"), file("./out/evil", 0o644)},
		"through an absolute link":            {link("./out", "OUTSIDE"), file("./out/evil", 0o644), dir("./out/evil-dir/", 0o700)},
		"through a chain":                     {link("./a", "b/.."), link("./b", "../../../.."), file("./a/OUTSIDE/evil", 0o644), file("./b/OUTSIDE/evil", 0o644)},
		"over a link":                         {link("./evil", "OUTSIDE/victim"), file("./evil", 0o777)},
		"a link to a folder":                  {link("./evil", "OUTSIDE"), owned(dir("./evil/", 0o777), 7, 7)},
		"a hard link":                         {hardLink("./evil", "../outside/victim")},
		"an absolute hard link":               {hardLink("./evil", "OUTSIDE/victim")},
		"a hard link over a link":             {link("./l", "OUTSIDE/victim"), hardLink("./evil", "./l"), file("./evil", 0o777)},
		"a folder that becomes a link":        {dir("./x/", 0o755), file("./x", 0o644), link("./x", "OUTSIDE"), file("./x/evil", 0o644)},
		"an empty folder that becomes a link": {dir("./x/", 0o755), link("./x", "OUTSIDE"), file("./x/evil", 0o644)},
		"the root itself":                     {link("./", "OUTSIDE"), file("./evil", 0o644)},
	} {
		t.Run(what, func(t *testing.T) {
			base := t.TempDir()
			outside := filepath.Join(base, "outside")
			os.MkdirAll(outside, 0o755)
			os.WriteFile(filepath.Join(outside, "victim"), []byte("safe"), 0o600)
			root := filepath.Join(base, "root")
			os.Mkdir(root, 0o755)
			before := list(t, outside)
			for i := range files {
				files[i].Name = strings.Replace(files[i].Name, "OUTSIDE", outside, 1)
				files[i].Linkname = strings.Replace(files[i].Linkname, "OUTSIDE", outside, 1)
			}
			_, err := unpack(t, root, pkg{name: "evil", files: files})
			t.Log(err)
			if got := list(t, outside); got != before {
				t.Errorf("outside changed:\n%s", got)
			}
			if names, _ := filepath.Glob(filepath.Join(base, "*")); len(names) != 2 {
				t.Errorf("beside the root: %v", names)
			}
			if link, err := os.Lstat(filepath.Join(root, "evil")); err == nil && link.Mode().IsRegular() {
				if n := link.Sys().(*syscall.Stat_t).Nlink; n != 1 {
					t.Errorf("evil has %d names", n)
				}
			}
		})
	}
}

func TestUnpackDiversionStaysInside(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	os.MkdirAll(filepath.Join(root, "var/lib/dpkg"), 0o755)
	os.WriteFile(filepath.Join(root, "var/lib/dpkg/diversions"), []byte("/a\n/..\nx\n/b\n../../b\nx\n"), 0o644)
	unpack(t, root, pkg{name: "p", files: []tar.Header{file("./a", 0o644), file("./b", 0o644)}})
	if names, _ := filepath.Glob(filepath.Join(base, "*")); len(names) != 1 {
		t.Errorf("beside the root: %v", names)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		files []tar.Header
		want  string
	}{
		"a device":             {[]tar.Header{{Typeflag: tar.TypeChar, Name: "./null", Devmajor: 1, Devminor: 3}}, "type"},
		"a disk":               {[]tar.Header{{Typeflag: tar.TypeBlock, Name: "./sda", Devmajor: 8}}, "type"},
		"a pipe":               {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "./pipe"}}, "type"},
		"a line break":         {[]tar.Header{file("./a\nb", 0o644)}, "line break"},
		"a file over a folder": {[]tar.Header{dir("./a/", 0o755), file("./a", 0o644)}, "a: replace what is there"},
		"a folder over a file": {[]tar.Header{file("./a", 0o644), dir("./a/", 0o755)}, ""},
		"a loop":               {[]tar.Header{link("./a", "b"), link("./b", "a"), file("./a/x", 0o644)}, "too many"},
		"a link to nothing":    {[]tar.Header{hardLink("./a", "./b")}, "no such file"},
	} {
		_, err := unpack(t, t.TempDir(), pkg{name: "odd", files: c.files})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "odd 1.0") {
			t.Errorf("%s gives %v, want %q", what, err, c.want)
		}
	}
}

func TestUnpackSparse(t *testing.T) {
	p := sample()
	path := writeFile(t, "x.deb", arOf(arMember{"debian-binary", []byte("2.0\n")}, arMember{"control.tar", p.controlTar(t)},
		arMember{"data.tar", sparseTar(t, "./huge", 1<<40)}))
	_, err := deb.Unpack(context.Background(), t.TempDir(), []string{path}, func(int) {})
	if err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("a file with holes gives %v", err)
	}
}

func TestUnpackInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := deb.Unpack(ctx, t.TempDir(), buildAll(t, world()...), func(int) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted run gives %v", err)
	}
}
