package kube

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
	"imagebuilder.dev/internal/fault"
)

// Paths of the modules that the programs come from.
const (
	kubernetesModule = "k8s.io/kubernetes"
	etcdServerModule = "go.etcd.io/etcd/server/v3"
	etcdctlModule    = "go.etcd.io/etcd/etcdctl/v3"
	etcdutlModule    = "go.etcd.io/etcd/etcdutl/v3"
	corednsModule    = "github.com/coredns/coredns"
	containerdModule = "github.com/containerd/containerd/v2"
	cniModule        = "github.com/containernetworking/plugins"
)

// Names of the workspaces.
const (
	WorkspaceKubernetes = "kubernetes"
	WorkspaceEtcd       = "etcd"
	WorkspaceCoreDNS    = "coredns"
	WorkspaceContainerd = "containerd"
	WorkspaceCNI        = "cni"
)

// Plan says what is compiled for one version of Kubernetes.
type Plan struct {
	Kubernetes Version     `json:"kubernetes" yaml:"kubernetes"`
	Constants  Constants   `json:"constants" yaml:"constants"`
	Workspaces []Workspace `json:"workspaces" yaml:"workspaces"`
}

// Workspace is a main module of ours, with no source of its own, in which
// programs of one upstream project are compiled in one run of go build.
type Workspace struct {
	Name string `json:"name" yaml:"name"`
	// Go is the language version and Godebug the settings of the upstream main
	// module: both decide how the programs behave at run time.
	Go      string   `json:"go" yaml:"go"`
	Godebug []string `json:"godebug,omitempty" yaml:"godebug,omitempty"` // key=value
	// Requires are the modules of the programs; once resolved, also the others
	// whose versions their packages do not settle.
	Requires []Require `json:"requires" yaml:"requires"`
	Replaces []Require `json:"replaces,omitempty" yaml:"replaces,omitempty"` // each module by itself at a version
	Tags     []string  `json:"tags,omitempty" yaml:"tags,omitempty"`
	Stamps   []Stamp   `json:"stamps,omitempty" yaml:"stamps,omitempty"`
	Programs []Program `json:"programs" yaml:"programs"`
}

// Require is a module at a version.
type Require struct {
	Path    string `json:"path" yaml:"path"`
	Version string `json:"version" yaml:"version"`
}

// Stamp is a string variable that the linker sets (-X).
type Stamp struct {
	Variable string `json:"variable" yaml:"variable"`
	Value    string `json:"value" yaml:"value"`
}

// Program is a package main and the name its executable gets.
type Program struct {
	Name    string `json:"name" yaml:"name"`
	Package string `json:"package" yaml:"package"`
}

// Upstream is what a plan is made from: the go.mod files of the modules at
// their versions, and the publication times of those whose programs carry one.
type Upstream struct {
	Kubernetes Version
	Constants  Constants
	Containerd string            // version, e.g. v2.4.2
	CNI        string            // version, e.g. v1.9.1
	CNIPlugins []string          // package directories inside the module, e.g. plugins/main/bridge
	GoMod      map[string][]byte // by module path
	BuildTime  time.Time         // of the Kubernetes module
}

// NewPlan derives what is compiled. It does no I/O.
func NewPlan(u Upstream) (Plan, error) {
	plan := Plan{Kubernetes: u.Kubernetes, Constants: u.Constants}
	for _, describe := range []func(Upstream) Workspace{
		kubernetesWorkspace, etcdWorkspace, corednsWorkspace, containerdWorkspace, cniWorkspace,
	} {
		w := describe(u)
		if err := w.inherit(u); err != nil {
			return Plan{}, err
		}
		plan.Workspaces = append(plan.Workspaces, w)
	}
	return plan, nil
}

func kubernetesWorkspace(u Upstream) Workspace {
	w := Workspace{
		Name:     WorkspaceKubernetes,
		Requires: []Require{{kubernetesModule, u.Kubernetes.String()}},
		// Upstream's release build sets these (hack/lib/golang.sh).
		Tags: []string{"selinux", "notest", "grpcnotrace"},
	}
	for _, name := range []string{"kubelet", "kubeadm", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		w.Programs = append(w.Programs, Program{name, kubernetesModule + "/cmd/" + name})
	}
	major, minor := u.Kubernetes.stampParts()
	for _, pkg := range []string{"k8s.io/client-go/pkg/version", "k8s.io/component-base/version"} {
		w.Stamps = append(w.Stamps,
			Stamp{pkg + ".gitVersion", u.Kubernetes.String()},
			Stamp{pkg + ".gitMajor", major},
			Stamp{pkg + ".gitMinor", minor},
			// The commit is not part of a module, and what a proxy says of it is not signed.
			Stamp{pkg + ".gitCommit", ""},
			Stamp{pkg + ".gitTreeState", "clean"},
			Stamp{pkg + ".buildDate", u.BuildTime.UTC().Format("2006-01-02T15:04:05Z")})
	}
	return w
}

func etcdWorkspace(u Upstream) Workspace {
	version := u.Constants.EtcdVersion()
	return Workspace{
		Name:     WorkspaceEtcd,
		Requires: []Require{{etcdServerModule, version}, {etcdctlModule, version}, {etcdutlModule, version}},
		Stamps:   []Stamp{{"go.etcd.io/etcd/api/v3/version.GitSHA", version}},
		Programs: []Program{{"etcd", etcdServerModule}, {"etcdctl", etcdctlModule}, {"etcdutl", etcdutlModule}},
	}
}

func corednsWorkspace(u Upstream) Workspace {
	return Workspace{
		Name:     WorkspaceCoreDNS,
		Requires: []Require{{corednsModule, u.Constants.CoreDNS}},
		Tags:     []string{"grpcnotrace"},
		Stamps:   []Stamp{{corednsModule + "/coremain.GitCommit", u.Constants.CoreDNS}},
		Programs: []Program{{"coredns", corednsModule}},
	}
}

func containerdWorkspace(u Upstream) Workspace {
	w := Workspace{
		Name:     WorkspaceContainerd,
		Requires: []Require{{containerdModule, u.Containerd}},
		// Upstream's static build sets these (Makefile, STATIC=1).
		Tags: []string{"urfave_cli_no_docs", "osusergo", "netgo", "static_build"},
		Stamps: []Stamp{
			{containerdModule + "/version.Version", u.Containerd},
			{containerdModule + "/version.Revision", ""},
			{containerdModule + "/version.Package", containerdModule},
		},
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		w.Programs = append(w.Programs, Program{name, containerdModule + "/cmd/" + name})
	}
	return w
}

func cniWorkspace(u Upstream) Workspace {
	w := Workspace{
		Name:     WorkspaceCNI,
		Requires: []Require{{cniModule, u.CNI}},
		Stamps:   []Stamp{{cniModule + "/pkg/utils/buildversion.BuildVersion", u.CNI}},
	}
	for _, dir := range slices.Sorted(slices.Values(u.CNIPlugins)) {
		w.Programs = append(w.Programs, Program{path.Base(dir), cniModule + "/" + dir})
	}
	return w
}

// inherit takes over from the go.mod files of the required modules what a
// dependency's go.mod does not pass on by itself: the language version, the
// godebug settings, and the replacements, which must stand for what upstream
// compiled. A staging module of Kubernetes (replaced by a folder) becomes the
// published module of the same release; a folder of etcd's repository is the
// published module that is required anyway.
func (w *Workspace) inherit(u Upstream) error {
	for _, r := range w.Requires {
		file, err := modfile.Parse(at(r.Path, r.Version)+"/go.mod", u.GoMod[r.Path], nil)
		if err != nil {
			return fault.New(fault.Integrity, "reading go.mod of %s %s: %w", r.Path, r.Version, err)
		}
		if file.Go != nil && semver.Compare("v"+file.Go.Version, "v"+w.Go) > 0 {
			w.Go = file.Go.Version
		}
		for _, g := range file.Godebug {
			w.Godebug = append(w.Godebug, g.Key+"="+g.Value)
		}
		for _, replace := range file.Replace {
			to, err := published(replace, r, u.Kubernetes)
			if err != nil {
				return err
			}
			if to.Version != "" {
				w.Replaces = append(w.Replaces, to)
			}
		}
	}
	slices.SortFunc(w.Replaces, func(a, b Require) int { return strings.Compare(a.Path, b.Path) })
	w.Replaces = slices.Compact(w.Replaces)
	return nil
}

// published maps a replacement of an upstream go.mod to the module that stands
// in its place, or to nothing when none is needed.
func published(replace *modfile.Replace, of Require, v Version) (Require, error) {
	local := replace.New.Version == ""
	switch {
	case !local && replace.New.Path == replace.Old.Path:
		return Require{replace.Old.Path, replace.New.Version}, nil
	case local && of.Path == kubernetesModule && strings.HasPrefix(replace.New.Path, "./staging/"):
		return Require{replace.Old.Path, v.staging()}, nil
	case local && strings.HasPrefix(replace.Old.Path, "go.etcd.io/"):
		return Require{}, nil
	default:
		return Require{}, fault.New(fault.Internal, "%s %s replaces %s by %s, which this builder does not know how to follow",
			of.Path, of.Version, replace.Old.Path, replace.New.Path)
	}
}

// GoMod returns the text of the workspace's go.mod.
func (w Workspace) GoMod() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "module imagebuilder.invalid/%s\n\ngo %s\n", w.Name, w.Go)
	for _, setting := range w.Godebug {
		fmt.Fprintf(&b, "\ngodebug %s\n", setting)
	}
	for _, r := range w.Requires {
		fmt.Fprintf(&b, "\nrequire %s %s\n", r.Path, r.Version)
	}
	for _, r := range w.Replaces {
		fmt.Fprintf(&b, "\nreplace %s => %s %s\n", r.Path, r.Path, r.Version)
	}
	return b.Bytes()
}

// buildFlags returns the arguments of go build and go list that decide what
// is compiled.
func (w Workspace) buildFlags() []string {
	// No symbol table, no build ID: neither is used on a node, both cost space.
	link := []string{"-s", "-w", "-buildid="}
	for _, s := range w.Stamps {
		link = append(link, "-X", s.Variable+"="+s.Value)
	}
	flags := []string{"-trimpath", "-buildvcs=false", "-ldflags=" + strings.Join(link, " ")}
	if len(w.Tags) > 0 {
		flags = append(flags, "-tags="+strings.Join(w.Tags, ","))
	}
	return flags
}

// packages returns the packages of the workspace's programs.
func (w Workspace) packages() []string {
	var list []string
	for _, p := range w.Programs {
		list = append(list, p.Package)
	}
	return list
}

// minimumGo returns the least Go version that compiles every workspace: the
// largest go or toolchain line among the upstream modules.
func minimumGo(goMods map[string][]byte) (string, error) {
	least := "1.0"
	for path, text := range goMods {
		file, err := modfile.ParseLax(path+"/go.mod", text, nil)
		if err != nil {
			return "", fault.New(fault.Integrity, "reading go.mod of %s: %w", path, err)
		}
		if file.Go != nil && newerGo(file.Go.Version, least) {
			least = file.Go.Version
		}
	}
	return least, nil
}
