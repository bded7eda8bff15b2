package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
)

// resolveVersion changes when the same question would get another answer.
const resolveVersion = 1

// Request is what a spec asks for.
type Request struct {
	Kubernetes Version
	Containerd string // e.g. v2.4.2
	CNI        string // e.g. v1.9.1
	// Workspaces limits what is resolved, for sources that bring the rest
	// themselves; empty means all.
	Workspaces []string
}

// Source resolves and compiles Kubernetes from Go modules.
type Source struct {
	fetch    *fetch.Fetcher
	network  Network
	database *database
	index    *index
	scratch  string
	hostGo   bool
}

// NewSource returns a Source that downloads with f from n.
func NewSource(f *fetch.Fetcher, n Network) (*Source, error) {
	dir, err := f.Store().Scratch("modules")
	if err != nil {
		return nil, err
	}
	x, err := openIndex(dir)
	if err != nil {
		return nil, err
	}
	return &Source{fetch: f, network: n, database: &database{fetch: f, network: n}, index: x, scratch: dir, hostGo: true}, nil
}

// Resolve finds out which modules at which versions make up the programs, and
// their hashes. Since published modules do not change, the answer is kept in
// the store and given again without the network.
func (s *Source) Resolve(ctx context.Context, r Request) (lock Lock, err error) {
	ctx, task := event.Start(ctx, "resolve Kubernetes "+r.Kubernetes.String()+" from modules")
	defer func() { task.Done(err) }()
	defer s.index.discard()
	sums := newChecksums(ctx, s.database, s.scratch)
	var p planned
	if err := s.remember(ctx, "plan", []any{r.Kubernetes, r.Containerd, r.CNI}, &p, func(ctx context.Context) error {
		if p, err = s.plan(ctx, r, sums); err != nil {
			return err
		}
		return s.index.save()
	}); err != nil {
		return Lock{}, err
	}
	if len(r.Workspaces) > 0 {
		p.Plan.Workspaces = slices.DeleteFunc(p.Plan.Workspaces, func(w Workspace) bool { return !slices.Contains(r.Workspaces, w.Name) })
	}
	return s.resolve(ctx, p, chooseToolchain(p.MinimumGo), sums)
}

// remember keeps an answer in the store under a key made of the question.
func (s *Source) remember(ctx context.Context, what string, question []any, answer any, find func(context.Context) error) error {
	key := "resolve-" + what + "-" + hashOf(resolveVersion, s.network.sumDBKey(), question)[:32]
	dir, err := s.fetch.Store().Make(ctx, key, func(dir string) error {
		if err := find(ctx); err != nil {
			return err
		}
		text, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "answer.json"), text, 0o644)
	})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "answer.json"))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// planned is what follows from the upstream modules alone.
type planned struct {
	Plan      Plan
	Source    Module
	MinimumGo string
}

// plan reads the upstream modules and derives what is compiled.
func (s *Source) plan(ctx context.Context, r Request, sums *checksums) (planned, error) {
	u := Upstream{Kubernetes: r.Kubernetes, Containerd: r.Containerd, CNI: r.CNI, GoMod: map[string][]byte{}}
	var err error
	if u.BuildTime, err = s.published(ctx, kubernetesModule, r.Kubernetes.String()); err != nil {
		return planned{}, err
	}
	source, archive, err := s.module(ctx, kubernetesModule, r.Kubernetes.String(), sums)
	if err != nil {
		return planned{}, err
	}
	text, err := readZip(archive, at(kubernetesModule, r.Kubernetes.String())+"/"+constantsFile)
	if err != nil {
		return planned{}, err
	}
	if u.Constants, err = ParseConstants(text, r.Kubernetes); err != nil {
		return planned{}, err
	}
	_, archive, err = s.module(ctx, cniModule, r.CNI, sums)
	if err != nil {
		return planned{}, err
	}
	if u.CNIPlugins, err = cniPlugins(archive, at(cniModule, r.CNI)); err != nil {
		return planned{}, err
	}
	for path, version := range u.versions() {
		if u.GoMod[path], err = s.goMod(ctx, path, version, sums); err != nil {
			return planned{}, err
		}
	}
	plan, err := NewPlan(u)
	if err != nil {
		return planned{}, err
	}
	least, err := minimumGo(u.GoMod)
	return planned{Plan: plan, Source: source, MinimumGo: least}, err
}

// versions returns the modules whose go.mod a plan needs.
func (u Upstream) versions() map[string]string {
	etcd := u.Constants.EtcdVersion()
	return map[string]string{
		kubernetesModule: u.Kubernetes.String(),
		etcdServerModule: etcd,
		etcdctlModule:    etcd,
		etcdutlModule:    etcd,
		corednsModule:    u.Constants.CoreDNS,
		containerdModule: u.Containerd,
		cniModule:        u.CNI,
	}
}

// loaded is a workspace after the go command has loaded it.
type loaded struct {
	Workspace Workspace
	Modules   []Module
	Packages  int
}

// resolve lets the go command load each workspace, which downloads and
// verifies all that its programs need.
func (s *Source) resolve(ctx context.Context, p planned, release string, sums *checksums) (Lock, error) {
	lock := Lock{Plan: p.Plan, Source: p.Source, Modules: map[string][]Module{}, Packages: map[string]int{}}
	lock.Toolchain.Version = release
	err := s.remember(ctx, "toolchain", []any{release}, &lock.Toolchain, func(ctx context.Context) (err error) {
		lock.Toolchain.Sum, _, err = sums.lookup(toolchainPath, toolchainVersion(release))
		return err
	})
	if err != nil {
		return Lock{}, err
	}
	lock.Plan.Workspaces = nil
	for _, w := range p.Plan.Workspaces {
		l := loaded{Workspace: w}
		err := s.remember(ctx, "workspace", []any{w, release}, &l, func(ctx context.Context) error {
			goRoot, err := s.toolchains().root(ctx, lock.Toolchain)
			if err != nil {
				return err
			}
			l.Modules, l.Packages, err = s.load(ctx, &l.Workspace, goRoot)
			return err
		})
		if err != nil {
			return Lock{}, err
		}
		lock.Plan.Workspaces = append(lock.Plan.Workspaces, l.Workspace)
		lock.Modules[w.Name], lock.Packages[w.Name] = l.Modules, l.Packages
	}
	return lock, nil
}

func (s *Source) toolchains() toolchains {
	return toolchains{fetch: s.fetch, network: s.network, index: s.index, host: s.hostGo}
}

// load returns the modules of one workspace and how many packages it compiles,
// and adds to w.Requires what the go command adds to go.mod. With both the go
// command needs nothing else to build (-mod=readonly).
func (s *Source) load(ctx context.Context, w *Workspace, goRoot string) (modules []Module, packages int, err error) {
	ctx, task := event.Start(ctx, "load modules of "+w.Name)
	defer func() { task.Done(err) }()
	proxy := newResolvingProxy(s.database, s.index)
	bench, err := newWorkbench(s.fetch.Store(), workbench{goRoot: goRoot, proxy: proxy, network: s.network, parallel: 24}, *w, nil)
	if err != nil {
		return nil, 0, err
	}
	defer bench.remove()
	var out bytes.Buffer
	args := append([]string{"list", "-mod=mod", "-deps"}, w.buildFlags()...)
	if err := bench.run(ctx, &out, nil, append(args, w.packages()...)...); err != nil {
		s.index.discard()
		return nil, 0, proxy.cause(goFault("loading the modules of "+w.Name, err))
	}
	if err := s.index.save(); err != nil {
		return nil, 0, err
	}
	if err := w.adopt(bench.file("go.mod")); err != nil {
		return nil, 0, err
	}
	sums, err := os.ReadFile(bench.file("go.sum"))
	if err != nil {
		return nil, 0, err
	}
	modules, err = lockedModules(sums, proxy.served)
	return modules, bytes.Count(out.Bytes(), []byte("\n")), err
}

// adopt takes over the requirements of a go.mod that the go command completed.
func (w *Workspace) adopt(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file, err := modfile.Parse(path, text, nil)
	if err != nil {
		return fault.New(fault.Internal, "reading the go.mod that the go command wrote: %w", err)
	}
	w.Go, w.Requires = file.Go.Version, nil
	for _, r := range file.Require {
		w.Requires = append(w.Requires, Require{r.Mod.Path, r.Mod.Version})
	}
	return nil
}

// lockedModules joins what the go command has verified (its go.sum) with the
// files that it was served.
func lockedModules(sums []byte, served map[request]Blob) ([]Module, error) {
	byName := map[string]*Module{}
	for line := range strings.Lines(string(sums)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fault.New(fault.Internal, "the go command wrote a go.sum with the line %q", line)
		}
		version, isMod := strings.CutSuffix(f[1], "/go.mod")
		m := byName[at(f[0], version)]
		if m == nil {
			m = &Module{Path: f[0], Version: version}
			byName[at(f[0], version)] = m
		}
		k := kindZip
		if isMod {
			k = kindMod
		}
		b, ok := served[request{Kind: k, Module: m.Path, Version: m.Version}]
		if !ok {
			return nil, fault.New(fault.Internal, "the go command has a hash of %s.%s without having asked for it", at(m.Path, m.Version), k)
		}
		if isMod {
			m.Mod = b
		} else {
			m.Zip, m.Sum = b, f[2]
		}
	}
	modules := make([]Module, 0, len(byName))
	for _, m := range byName {
		modules = append(modules, *m)
	}
	sortModules(modules)
	return modules, nil
}

func sortModules(modules []Module) {
	slices.SortFunc(modules, func(a, b Module) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), semver.Compare(a.Version, b.Version))
	})
}

// Inputs returns every file that compiling a lock takes, but for the toolchain.
func (s *Source) Inputs(l Lock) ([]fetch.Input, error) {
	return s.network.Inputs(append(l.AllModules(), l.Source))
}
