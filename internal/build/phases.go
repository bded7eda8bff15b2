package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/disk"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/kube"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/phase"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/tools"
)

// Inputs are what a build is made from.
type Inputs struct {
	Spec   *spec.Image
	Source *spec.Source // places in the spec's file, for errors
	Dir    string       // of the spec, where its relative paths start
	Lock   *lock.Lock
	Fetch  *fetch.Fetcher
	Kube   *kube.Source
}

// Order is the order of the phases; it puts first what changes rarely.
func Order() []string {
	return []string{"base", "os", "node", "runtime", "kubernetes", "customize", "provider", "seal"}
}

// Phases returns the phases of one target. It is pure but for reading the
// user's files.
func (in Inputs) Phases(target string) ([]phase.Phase, error) {
	files, err := in.userFiles()
	if err != nil {
		return nil, err
	}
	arguments := in.Spec.Spec.OS.KernelArguments
	components := in.components()
	return []phase.Phase{
		phase.Base(in.packages("base")),
		phase.OS(in.packages("os"), arguments),
		phase.Node(in.packages("node")),
		phase.Runtime(components.runtime(), components.reference("pause")),
		phase.Kubernetes(components.kubernetes()),
		phase.Customize(in.packages("customize"), files),
		phase.Provider(target, in.packages("provider-"+target)),
		phase.Seal(in.identity()),
	}, nil
}

func (in Inputs) packages(purpose string) phase.Packages {
	return phase.Packages{List: in.Lock.For(purpose), Fetch: func(ctx context.Context, list []lock.Package) ([]string, error) {
		return tools.Fetch(ctx, in.Fetch, list, in.Lock.URLs)
	}}
}

// tools returns a tools root.
func (in Inputs) tools(ctx context.Context, name string) (string, error) {
	return tools.Root(ctx, in.Fetch, name, in.Lock.For(name), in.Lock.URLs)
}

// CheckFiles finds user's files that cannot be read.
func (in Inputs) CheckFiles() error {
	_, err := in.userFiles()
	return err
}

func (in Inputs) userFiles() ([]phase.UserFile, error) {
	var out []phase.UserFile
	for i, f := range in.Spec.Spec.Files {
		var data []byte
		if f.Content != nil {
			data = []byte(*f.Content)
		} else {
			path := f.Source
			if !filepath.IsAbs(path) {
				path = filepath.Join(in.Dir, path)
			}
			var err error
			if data, err = os.ReadFile(path); err != nil {
				return nil, in.Source.Errorf(fmt.Sprintf("spec.files[%d].source", i), "read the file for %s: %w", f.Path, err)
			}
		}
		uid, gid := f.IDs()
		out = append(out, phase.UserFile{Path: f.Path, Data: data, Mode: unixMode(f.Perm()), UID: int(uid), GID: int(gid)})
	}
	return out, nil
}

// unixMode turns the bits of chmod(2) into Go's.
func unixMode(bits uint32) os.FileMode {
	m := os.FileMode(bits & 0o777)
	for bit, mode := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if bits&bit != 0 {
			m |= mode
		}
	}
	return m
}

// Seed is what every identifier of the disk derives from: the same image has
// the same ones wherever it is built.
func (in Inputs) Seed() [32]byte {
	s := in.Spec.Spec
	return sha256.Sum256([]byte(strings.Join([]string{"image-builder", in.Spec.Metadata.Name, s.OS.Name, s.OS.Version, s.OS.Arch, s.Kubernetes.Version}, "\x00")))
}

func (in Inputs) identity() phase.Identity {
	ids := disk.UUIDs(in.Seed())
	id := phase.Identity{RootUUID: ids.Root.String(), ESPUUID: ids.ESPUUID(), Arguments: in.Spec.Spec.OS.KernelArguments, Kubernetes: in.Lock.Kubernetes.Version}
	release, err := catalog.FindRelease(in.Spec.Spec.OS.Name, in.Spec.Spec.OS.Version)
	if err != nil {
		return id // validated with the spec
	}
	for _, repo := range release.Repositories {
		for _, r := range in.Lock.Repositories {
			if r.Name == repo.Name && len(r.URLs) > 0 {
				id.Sources = append(id.Sources, phase.Source{URL: r.URLs[0], Suite: repo.Suite, Components: strings.Join(repo.Components, " ")})
			}
		}
	}
	return id
}

// digest joins what decides about something into one SHA-256 (hex).
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// unknownTarget is for a target that the spec does not have.
func unknownTarget(name string, have []string) error {
	return fault.New(fault.Input, "the spec has no target %q; it has %s", name, strings.Join(have, ", "))
}
