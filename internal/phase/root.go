package phase

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Root is the tree that a phase changes. Paths are absolute inside it; links
// in it cannot lead out.
type Root struct {
	Epoch time.Time // no file is younger
	dir   string
	root  *os.Root
}

// OpenRoot returns the tree in a folder, which is mounted there while the phase runs.
func OpenRoot(dir string, epoch time.Time) (*Root, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Root{Epoch: epoch, dir: dir, root: r}, nil
}

// Close releases the tree.
func (r *Root) Close() error { return r.root.Close() }

// Dir returns the folder.
func (r *Root) Dir() string { return r.dir }

func rel(path string) string {
	p := strings.TrimPrefix(filepath.Clean("/"+path), "/")
	if p == "" {
		return "."
	}
	return p
}

// Write makes a file with the permission bits of mode, owned by root, and the
// folders above it. A link at path is replaced, not followed.
func (r *Root) Write(path string, data []byte, mode os.FileMode) error {
	if err := r.parents(path); err != nil {
		return err
	}
	if st, err := r.root.Lstat(rel(path)); err == nil && !st.Mode().IsRegular() {
		if err := r.root.Remove(rel(path)); err != nil {
			return err
		}
	}
	if err := r.root.WriteFile(rel(path), data, mode.Perm()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return r.root.Chmod(rel(path), mode) // whatever the umask and the file that was there
}

// Copy makes a file from one on the host.
func (r *Root) Copy(path, source string, mode os.FileMode) error {
	if err := r.parents(path); err != nil {
		return err
	}
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	r.root.Remove(rel(path)) // a link at path is replaced, not followed
	out, err := r.root.OpenFile(rel(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := out.Close(); err != nil {
		return err
	}
	return r.root.Chmod(rel(path), mode)
}

func (r *Root) parents(path string) error { return r.folders(filepath.Dir("/" + rel(path))) }

// folders makes a folder and those above it, mode 0755 whatever the umask.
// Those that are there stay as they are.
func (r *Root) folders(path string) error {
	if path == "/" {
		return nil
	}
	if _, err := r.root.Stat(rel(path)); err == nil {
		return nil
	}
	if err := r.folders(filepath.Dir(path)); err != nil {
		return err
	}
	if err := r.root.Mkdir(rel(path), 0o755); err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	return r.root.Chmod(rel(path), 0o755)
}

// Mkdir makes a folder and those above it.
func (r *Root) Mkdir(path string, mode os.FileMode) error {
	if err := r.folders("/" + rel(path)); err != nil {
		return err
	}
	return r.root.Chmod(rel(path), mode)
}

// Link makes a symbolic link, in the place of whatever file was there.
func (r *Root) Link(target, path string) error {
	if err := r.parents(path); err != nil {
		return err
	}
	r.root.Remove(rel(path))
	return r.root.Symlink(target, rel(path))
}

// Remove deletes files and folders by name or pattern; none is no error.
func (r *Root) Remove(patterns ...string) error {
	for _, p := range patterns {
		matches, err := fs.Glob(r.root.FS(), rel(p))
		if err != nil {
			return err
		}
		for _, m := range matches {
			if err := r.root.RemoveAll(m); err != nil {
				return fmt.Errorf("remove %s: %w", m, err)
			}
		}
	}
	return nil
}

// Exists reports whether something stands at path; a link counts by itself.
func (r *Root) Exists(path string) bool {
	_, err := r.root.Lstat(rel(path))
	return err == nil
}

// Read returns a file's content.
func (r *Root) Read(path string) ([]byte, error) { return r.root.ReadFile(rel(path)) }

// Chown gives a file to numeric ids.
func (r *Root) Chown(path string, uid, gid int) error { return r.root.Lchown(rel(path), uid, gid) }

//go:embed files
var files embed.FS

// AddFiles copies a tree of ours, files/<name>, into the root. Scripts are
// executable; everything else is 0644.
func (r *Root) AddFiles(name string) error {
	return fs.WalkDir(files, "files/"+name, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(p)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(string(b), "#!") {
			mode = 0o755
		}
		return r.Write(strings.TrimPrefix(p, "files/"+name), b, mode)
	})
}

// fileInputs declares a tree of ours.
func fileInputs(name string) []Input {
	var out []Input
	fs.WalkDir(files, "files/"+name, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, _ := files.ReadFile(p)
			out = append(out, content(strings.TrimPrefix(p, "files/"+name), b))
		}
		return nil
	})
	return out
}

// hashTree adds the names and contents of the regular files below a folder.
func (r *Root) hashTree(w io.Writer, dir string) error {
	err := fs.WalkDir(r.root.FS(), rel(dir), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := r.root.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Fprintf(w, "%q\n", p)
		_, err = io.Copy(w, f)
		return err
	})
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
