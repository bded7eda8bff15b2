// Package resolve turns a spec into a lock. It is the only step whose answer
// depends on the state of a mirror.
package resolve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/kube"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/tools"
)

// Resolver resolves specs.
type Resolver struct {
	Fetch *fetch.Fetcher
	// ConfigDir is the user's configuration folder, HostRoot the host's /.
	ConfigDir, HostRoot string
	Now                 time.Time
	// Dir is the folder of the spec, which relative paths in it start from.
	Dir string
	// Keys returns an armored public key by the name that a release's catalog
	// entry has for it; nil is catalog.Key.
	Keys func(name string) (string, error)
}

// Hash identifies what a lock answers: everything in a spec that decides about
// inputs, and the builder's own lists. Another hash makes a lock stale.
func Hash(s *spec.Image) string {
	var lists []any
	if release, err := catalog.FindRelease(s.Spec.OS.Name, s.Spec.OS.Version); err == nil {
		lists = []any{release.Packages, release.Kernels, release.Repositories, catalog.ToolRoots(), catalog.DefaultCNI}
	}
	b, err := json.Marshal([]any{s.Spec.OS.Name, s.Spec.OS.Version, s.Spec.OS.Arch, s.Spec.OS.Kernel,
		s.Spec.Kubernetes, s.Spec.Runtime, s.Spec.Packages, s.Spec.Targets, s.Spec.Mirrors, lists})
	if err != nil {
		panic("resolve: " + err.Error()) // only plain values
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Resolve returns the lock of a spec. Faults that come from a value of the
// spec name its place in the file.
func (r Resolver) Resolve(ctx context.Context, s *spec.Image, src *spec.Source) (*lock.Lock, error) {
	release, err := catalog.FindRelease(s.Spec.OS.Name, s.Spec.OS.Version)
	if err != nil {
		return nil, src.Errorf("spec.os", "%w", err)
	}
	l := &lock.Lock{Version: lock.Version, Spec: Hash(s)}
	image, err := r.open(ctx, release, s)
	if err != nil {
		return nil, err
	}
	if err := checkNames(s, src, image); err != nil { // first what costs little
		return nil, err
	}
	if l.Kubernetes, err = r.kubernetes(ctx, s, src); err != nil {
		return nil, err
	}
	toolsDist := image
	if catalog.ToolsRelease().Version != release.Version {
		if toolsDist, err = r.open(ctx, catalog.ToolsRelease(), s); err != nil {
			return nil, err
		}
	}
	if l.Tools, err = toolsDist.toolRoots(); err != nil {
		return nil, err
	}
	root, err := tools.Root(ctx, r.Fetch, "build", l.For("build"), toolsDist.urls)
	if err != nil {
		return nil, err
	}
	if l.Packages, err = image.install(ctx, r.Fetch, root, s.Spec.OS.Arch, stepsOf(s, release, image)); err != nil {
		return nil, err
	}
	l.Repositories, l.Epoch = repositories(image, toolsDist)
	return l, nil
}

func (r Resolver) open(ctx context.Context, release *catalog.Release, s *spec.Image) (*distribution, error) {
	o := opener{fetch: r.Fetch, keys: r.Keys, mirrors: FindMirrors(s.Spec.Mirrors, release.Name, r.HostRoot, r.ConfigDir), arch: s.Spec.OS.Arch, now: r.Now}
	if o.keys == nil {
		o.keys = catalog.Key
	}
	return o.distribution(ctx, release)
}

// toolRoots returns the packages of all tools roots.
func (d *distribution) toolRoots() ([]lock.Package, error) {
	var out []lock.Package
	lists := catalog.ToolRoots()
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		packages, err := d.toolRoot(name, lists[name])
		if err != nil {
			return nil, err
		}
		out = append(out, packages...)
	}
	return out, nil
}

// stepsOf lists what each phase installs.
func stepsOf(s *spec.Image, release *catalog.Release, d *distribution) []step {
	essential := d.universe.Essential()
	slices.Sort(essential)
	steps := []step{
		{phase: "base", names: append(essential, release.Packages["base"]...)},
		{phase: "os", names: append([]string{release.Kernels[s.Spec.OS.Kernel]}, release.Packages["os"]...)},
		{phase: "node", names: release.Packages["node"]},
	}
	if len(s.Spec.Packages) > 0 {
		steps = append(steps, step{phase: "customize", names: s.Spec.Packages})
	}
	for _, target := range s.Spec.Targets {
		if list := release.Packages["provider-"+target]; len(list) > 0 {
			steps = append(steps, step{phase: "provider-" + target, names: list, alone: true})
		}
	}
	return steps
}

// checkNames finds every package of the spec that no index has, and the name
// that it may be a misspelling of.
func checkNames(s *spec.Image, src *spec.Source, d *distribution) error {
	var problems spec.Errors
	for i, name := range s.Spec.Packages {
		if d.universe.Has(name) {
			continue
		}
		at := fmt.Sprintf("spec.packages[%d]", i)
		text := fmt.Sprintf("%s %s has no package %q", s.Spec.OS.Name, s.Spec.OS.Version, name)
		if near := spec.Nearest(name, slices.Sorted(d.universe.Names)); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		problems = append(problems, src.Problem(at, "%s", text))
	}
	return problems.Err()
}

// repositories returns the indexes that packages were taken from, and the date
// of the image's newest.
func repositories(image, toolsDist *distribution) ([]lock.Repository, time.Time) {
	var out []lock.Repository
	var epoch time.Time
	for _, d := range []*distribution{image, toolsDist} {
		for _, i := range d.indexes {
			if !slices.ContainsFunc(out, func(r lock.Repository) bool { return r.Name == i.repository.Name }) {
				out = append(out, i.repository)
			}
			if d == image && i.release.Date.After(epoch) {
				epoch = i.release.Date
			}
		}
	}
	return out, epoch
}

// kubernetes resolves the programs and container images. A release server or
// folder has kubeadm, kubectl, the kubelet and Kubernetes' own images; whatever
// it lacks is compiled from modules.
func (r Resolver) kubernetes(ctx context.Context, s *spec.Image, src *spec.Source) (k lock.Kubernetes, err error) {
	version := kube.Version(s.Spec.Kubernetes.Version)
	k = lock.Kubernetes{Version: version.String(), Source: s.Spec.Kubernetes.Source}
	request := kube.Request{Kubernetes: version, Containerd: s.Spec.Runtime.Containerd.Version, CNI: catalog.DefaultCNI}
	at := "spec.kubernetes.version"
	if k.Source != "modules" {
		files, err := r.files(ctx, s, version)
		if err != nil {
			return k, locate(src, "spec.kubernetes", err)
		}
		k.Files = &files
		request.Workspaces = workspacesFor(files)
	}
	source, err := r.Modules(s)
	if err != nil {
		return k, err
	}
	k.Modules, err = source.Resolve(ctx, request)
	return k, locate(src, at, err)
}

// locate says where in the spec a fault of the user's stands.
func locate(src *spec.Source, path string, err error) error {
	if err == nil || fault.KindOf(err) != fault.Input {
		return err
	}
	return fault.Hint(src.Errorf(path, "%w", err), "%s", fault.HintOf(err))
}

func (r Resolver) files(ctx context.Context, s *spec.Image, v kube.Version) (kube.Files, error) {
	if s.Spec.Kubernetes.Source == "directory" {
		path := s.Spec.Kubernetes.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.Dir, path)
		}
		return kube.Directory{Path: path, Version: v, Arch: s.Spec.OS.Arch, Store: r.Fetch.Store()}.Resolve(ctx)
	}
	server := kube.Release{Base: s.Spec.Kubernetes.URL, Version: v, Arch: s.Spec.OS.Arch, Fetch: r.Fetch}
	files, err := server.Resolve(ctx)
	if err != nil {
		return files, err
	}
	return server.Download(ctx, files)
}

// workspacesFor names what must be compiled beside files.
func workspacesFor(files kube.Files) []string {
	out := []string{kube.WorkspaceContainerd, kube.WorkspaceCNI}
	for image, workspace := range map[string]string{"etcd": kube.WorkspaceEtcd, "coredns": kube.WorkspaceCoreDNS} {
		if slices.Contains(files.Lacks(), image) {
			out = append(out, workspace)
		}
	}
	slices.Sort(out)
	return out
}

// Modules returns the way to compile from Go modules.
func (r Resolver) Modules(s *spec.Image) (*kube.Source, error) {
	network, err := kube.FindNetwork(s.Spec.Mirrors.Modules)
	if err != nil {
		return nil, err
	}
	return kube.NewSource(r.Fetch, network)
}
