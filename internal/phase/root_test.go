package phase

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWrite(t *testing.T) {
	r, _ := newRoot(t)
	defer syscall.Umask(syscall.Umask(0o077))
	put(t, r, map[string]string{"old": "a longer text", "target": "kept"})
	os.Symlink("target", filepath.Join(r.Dir(), "link"))
	os.Mkdir(filepath.Join(r.Dir(), "empty"), 0o700)
	for path, mode := range map[string]os.FileMode{"/a/b/c": 0o640, "old": 0o755, "/link": 0o600, "/empty": 0o644, "/../up": 0o644} {
		if err := r.Write(path, []byte("new"), mode); err != nil {
			t.Fatal(err)
		}
		st, err := os.Lstat(filepath.Join(r.Dir(), filepath.Clean("/"+path)))
		if err != nil || st.Mode() != mode {
			t.Errorf("%s is %v, %v", path, st.Mode(), err)
		}
		if b, err := r.Read(path); string(b) != "new" || err != nil {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}
	if b, _ := r.Read("/target"); string(b) != "kept" {
		t.Errorf("a link was followed: %q", b)
	}
	put(t, r, map[string]string{"full/x": ""})
	if err := r.Write("/full", nil, 0o644); err == nil {
		t.Error("a file replaced a folder with files")
	}
}

func TestMkdirLinkRemove(t *testing.T) {
	r, _ := newRoot(t)
	defer syscall.Umask(syscall.Umask(0o077))
	steps := []error{
		r.Mkdir("/a/b", 0o700), r.Mkdir("/a/b", 0o711), r.Mkdir("/", 0o755),
		r.Link("../target", "/x/link"), r.Link("/elsewhere", "/x/link"),
		r.Write("/log/one.log", nil, 0o644), r.Write("/log/.hidden", nil, 0o644), r.Write("/log/two.txt", nil, 0o644), r.Write("/log/sub/three.log", nil, 0o644),
		r.Remove("/log/*.log", "/nothing/*", "/none"),
	}
	for i, err := range steps {
		if err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	for path, want := range map[string]bool{"/log/one.log": false, "/log/.hidden": true, "/log/two.txt": true, "/log/sub/three.log": true, "/x/link": true, "/none": false} {
		if r.Exists(path) != want {
			t.Errorf("%s exists: %v", path, !want)
		}
	}
	if to, _ := os.Readlink(filepath.Join(r.Dir(), "x/link")); to != "/elsewhere" {
		t.Errorf("the link goes to %s", to)
	}
	if st, _ := os.Stat(filepath.Join(r.Dir(), "a/b")); st.Mode().Perm() != 0o711 {
		t.Errorf("the folder is %v", st.Mode())
	}
}

// Nothing that a phase does leaves the root, whatever links stand in it.
func TestRootStaysInside(t *testing.T) {
	for what, do := range map[string]func(r *Root, outside string) error{
		"write":         func(r *Root, _ string) error { return r.Write("/out/victim", []byte("x"), 0o777) },
		"write new":     func(r *Root, _ string) error { return r.Write("/out/a/b", []byte("x"), 0o777) },
		"write at link": func(r *Root, _ string) error { return r.Write("/file", []byte("x"), 0o777) },
		"write dots":    func(r *Root, _ string) error { return r.Write("/../outside/victim", []byte("x"), 0o777) },
		"write over up": func(r *Root, _ string) error { return r.Write("/up/outside/victim", []byte("x"), 0o777) },
		"copy":          func(r *Root, o string) error { return r.Copy("/file", o+"/victim", 0o777) },
		"mkdir":         func(r *Root, _ string) error { return r.Mkdir("/out/new", 0o777) },
		"mkdir itself":  func(r *Root, _ string) error { return r.Mkdir("/out", 0o777) },
		"link":          func(r *Root, _ string) error { return r.Link("x", "/out/victim") },
		"remove":        func(r *Root, _ string) error { return r.Remove("/out/victim") },
		"remove all":    func(r *Root, _ string) error { return r.Remove("/out/*", "/up/outside/*", "/*/victim") },
		"remove link":   func(r *Root, _ string) error { return r.Remove("/out", "/up", "/file") },
		"chown":         func(r *Root, _ string) error { return r.Chown("/out/victim", 7, 7) },
		"logs": func(r *Root, o string) error {
			os.MkdirAll(filepath.Join(r.Dir(), "var/log"), 0o755)
			os.Symlink(o+"/victim", filepath.Join(r.Dir(), "var/log/a"))
			os.Symlink(o, filepath.Join(r.Dir(), "var/log/b"))
			return removeLogs(r)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r, outside := newRoot(t)
			for name, to := range map[string]string{"out": outside, "up": "..", "file": "../outside/victim"} {
				if err := os.Symlink(to, filepath.Join(r.Dir(), name)); err != nil {
					t.Fatal(err)
				}
			}
			t.Log(do(r, outside))
			names, _ := os.ReadDir(outside)
			st, err := os.Stat(filepath.Join(outside, "victim"))
			if err != nil || st.Mode() != 0o600 || len(names) != 1 || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
				t.Fatalf("outside changed: %v, %v", names, err)
			}
			if b, _ := os.ReadFile(filepath.Join(outside, "victim")); string(b) != "safe" {
				t.Errorf("the file outside holds %q", b)
			}
			if d, _ := os.Stat(outside); d.Mode().Perm() != 0o755 {
				t.Errorf("the folder outside is %v", d.Mode())
			}
		})
	}
	r, outside := newRoot(t)
	os.Symlink(outside, filepath.Join(r.Dir(), "out"))
	if b, err := r.Read("/out/victim"); err == nil {
		t.Errorf("a file outside is read: %q", b)
	}
}

// trees are the folders of files/.
func trees(t *testing.T) []string {
	t.Helper()
	entries, err := fs.ReadDir(files, "files")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestAddFiles(t *testing.T) {
	r, _ := newRoot(t)
	defer syscall.Umask(syscall.Umask(0o022))
	for _, name := range trees(t) {
		if err := r.AddFiles(name); err != nil {
			t.Fatal(err)
		}
		if len(fileInputs(name)) == 0 {
			t.Errorf("the files of %s are no inputs", name)
		}
	}
	var b strings.Builder
	err := filepath.WalkDir(r.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == r.Dir() {
			return err
		}
		info, err := d.Info()
		fmt.Fprintf(&b, "%s %s\n", info.Mode(), strings.TrimPrefix(path, r.Dir()))
		if strings.Contains(path, "/bin/") != (info.Mode()&0o111 != 0) && d.Type().IsRegular() && !strings.HasPrefix(readFile(t, path), "#!") {
			t.Errorf("%s is %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "files.txt", b.String())
	if err := r.AddFiles("none"); err == nil {
		t.Error("a tree that is not there was added")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A spec may ask for setuid and the like.
func TestWriteSpecialModes(t *testing.T) {
	r, _ := newRoot(t)
	for _, mode := range []os.FileMode{0o755 | os.ModeSetuid, 0o755 | os.ModeSetgid, 0o644 | os.ModeSticky} {
		if err := r.Write("/special", []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		if st, _ := os.Stat(filepath.Join(r.Dir(), "special")); st.Mode() != mode {
			t.Errorf("the mode is %v, want %v", st.Mode(), mode)
		}
	}
}

// The folders above a file are the same whatever the umask of the host's user.
func TestFoldersWhateverTheUmask(t *testing.T) {
	r, _ := newRoot(t)
	defer syscall.Umask(syscall.Umask(0o077))
	if err := r.Write("/a/b/c", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.Mkdir("/d/e", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "a/b", "d", "d/e"} {
		if st, _ := os.Stat(filepath.Join(r.Dir(), name)); st.Mode().Perm() != 0o755 {
			t.Errorf("%s is %v", name, st.Mode())
		}
	}
}
