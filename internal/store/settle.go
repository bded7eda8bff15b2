package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A crash of the machine must not leave a finished layer with unwritten files.
// Waiting for the disk at the end of each layer is the plain way, but syncfs of
// a 500 MB layer of 10,000 files took 1.2 s on a virtual disk, and it waits for
// what any other program has written as well; a sync per file is worse. So
// a layer gets a mark before it gets its name, a syncfs runs behind the build,
// and the mark goes when that is done. After a reboot a layer that still has
// its mark is forgotten and made again. The order of mark and name is kept by
// every journalling file system, so the mark needs no sync of its own. It
// carries the kernel's boot id in its name for the same reason.

const unsettledPrefix = "unsettled."

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func (s *Store) markUnsettled(key string) error {
	f, err := os.Create(filepath.Join(s.dir, "locks", unsettledPrefix+bootID()+"."+key))
	if err != nil {
		return err
	}
	return f.Close()
}

// unsettled returns the marks (paths) and the boot and layer of each.
func (s *Store) unsettled() (marks [][3]string) {
	entries, _ := os.ReadDir(filepath.Join(s.dir, "locks"))
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), unsettledPrefix)
		if boot, key, ok2 := strings.Cut(rest, "."); ok && ok2 {
			marks = append(marks, [3]string{s.lockPath(e.Name()), boot, key})
		}
	}
	return marks
}

// settleLayers writes everything to disk and removes the marks of this boot that
// were there before. What another boot has left unwritten cannot be settled.
func (s *Store) settleLayers() {
	s.settle.Lock()
	defer s.settle.Unlock()
	now := bootID()
	marks := slices.DeleteFunc(s.unsettled(), func(m [3]string) bool { return m[1] != now })
	if len(marks) == 0 || syncFS(s.dir) != nil {
		return
	}
	for _, m := range marks {
		os.Remove(m[0])
	}
}

// dropUnsettled forgets the layers that the machine may not have written before
// it went down, and settles those of a run that ended before it could.
func (s *Store) dropUnsettled() {
	now, again := bootID(), false
	for _, m := range s.unsettled() {
		path, boot, key := m[0], m[1], m[2]
		if boot == now {
			again = true
			continue
		}
		if dir, ok := s.Layer(key); ok {
			if _, err := s.discard(dir); err != nil {
				continue // the mark stays for the next run
			}
		}
		os.Remove(path)
	}
	if again {
		go s.settleLayers()
	}
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
