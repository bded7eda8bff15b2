package deb

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// dirs resolves folders of a root as the root itself would see them: symbolic
// links such as /bin or /var/run are followed inside it. It remembers results,
// for most files share few folders.
type dirs struct {
	root string
	mu   sync.Mutex
	real map[string]string // clean absolute path inside -> path on the host
	made map[string]bool   // host paths of folders that were not there before
}

func newDirs(root string) *dirs {
	root = filepath.Clean(root)
	return &dirs{root: root, real: map[string]string{"/": root}, made: map[string]bool{}}
}

// ensure returns the host path of a folder inside the root, making it with
// mode 0755 where it is missing.
func (d *dirs) ensure(path string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resolve(path, 0)
}

func (d *dirs) resolve(path string, depth int) (string, error) {
	if p, ok := d.real[path]; ok {
		return p, nil
	}
	if depth > 40 {
		return "", fmt.Errorf("%s: too many symbolic links", path)
	}
	parent, err := d.resolve(filepath.Dir(path), depth+1)
	if err != nil {
		return "", err
	}
	host := filepath.Join(parent, filepath.Base(path))
	st, err := os.Lstat(host)
	switch {
	case os.IsNotExist(err):
		if err := os.Mkdir(host, 0o755); err != nil {
			return "", err
		}
		if err := os.Chmod(host, 0o755); err != nil { // whatever the umask
			return "", err
		}
		d.made[host] = true
	case err != nil:
		return "", err
	case st.Mode()&os.ModeSymlink != 0:
		dest, err := os.Readlink(host)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(dest) {
			dest = filepath.Join("/"+strings.TrimPrefix(parent, d.root), dest)
		}
		if host, err = d.resolve(filepath.Clean(dest), depth+1); err != nil {
			return "", err
		}
	case !st.IsDir():
		return "", fmt.Errorf("%s is not a folder", path)
	}
	d.real[path] = host
	return host, nil
}

// forget drops what is remembered about folders that were removed.
func (d *dirs) forget(removed func(host string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.real = map[string]string{"/": d.root}
	maps.DeleteFunc(d.made, func(host string, _ bool) bool { return removed(host) })
}
