package kube

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"imagebuilder.dev/internal/store"
)

// Files are the finished programs and image archives of a release server or a
// folder, as a lock lists them. containerd and the CNI plugins are not among
// them: those come from modules in any case.
type Files struct {
	Origin   string          `json:"origin" yaml:"origin"` // base URL or folder
	Programs map[string]Blob `json:"programs" yaml:"programs"`
	// Archives are image archives (of docker save or OCI) by the image's short
	// name. Those of kubeadm's images that are not here are made from modules.
	Archives map[string]Blob `json:"archives" yaml:"archives"`
}

// nodePrograms and the archives of a release, for which see the layout that
// Kubernetes' release servers share: VERSION/bin/linux/ARCH/NAME, a checksum
// beside each.
var (
	nodePrograms     = []string{"kubeadm", "kubectl", "kubelet"}
	releaseArchives  = []string{"kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler"}
	optionalArchives = []string{"coredns", "etcd", "pause"}
)

// Lacks returns the images that no archive holds: coredns, etcd and pause are
// not part of a release, though mirrors may have them.
func (f Files) Lacks() []string {
	var names []string
	for _, n := range slices.Concat(releaseArchives, optionalArchives) {
		if _, ok := f.Archives[n]; !ok {
			names = append(names, n)
		}
	}
	return names
}

// Open returns the programs, executable, and the paths of the archives. All
// files must be in the store.
func (f Files) Open(ctx context.Context, s *store.Store) (Binaries, map[string]string, error) {
	dir, err := s.Make(ctx, "programs-files-"+hashOf(compileVersion, f.Programs)[:32], func(dir string) error {
		return f.install(s, dir)
	})
	if err != nil {
		return nil, nil, err
	}
	programs, err := readPrograms(dir)
	if err != nil {
		return nil, nil, err
	}
	archives := map[string]string{}
	for name, b := range f.Archives {
		path, ok := s.Blob(b.SHA256)
		if !ok {
			return nil, nil, fmt.Errorf("the image archive %s.tar is not in the store", name)
		}
		archives[name] = path
	}
	return programs, archives, nil
}

// install copies the programs out of the store, since a blob is not executable.
func (f Files) install(s *store.Store, dir string) error {
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		return err
	}
	programs := Binaries{}
	for _, name := range slices.Sorted(maps.Keys(f.Programs)) {
		path, ok := s.Blob(f.Programs[name].SHA256)
		if !ok {
			return fmt.Errorf("the program %s is not in the store", name)
		}
		to := filepath.Join(dir, "bin", name)
		if err := copyProgram(path, to); err != nil {
			return err
		}
		programs[name] = Binary{SHA256: f.Programs[name].SHA256, Size: f.Programs[name].Size}
	}
	return writePrograms(dir, programs)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Chmod(to, 0o755) // whatever the umask is
}
