package build

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/kube"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/store"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update and look at the diff\ngot:\n%s", path, got)
	}
}

const specText = `apiVersion: imagebuilder.dev/v1alpha1
kind: Image
metadata: {name: small}
spec:
  os: {name: debian, version: "13", arch: amd64, kernelArguments: [quiet]}
  kubernetes: {version: v1.36.3}
  targets: [qemu, raw]
  disk: {size: 4GiB}
  files:
    - {path: /etc/motd, content: "hello\n", mode: "0644"}
    - {path: /etc/other, source: other.txt, owner: "7:8"}
`

func workspace(name string, programs ...string) kube.Workspace {
	w := kube.Workspace{Name: name, Go: "1.26", Requires: []kube.Require{{Path: "example.org/" + name, Version: "v1.0.0"}}}
	for _, p := range programs {
		w.Programs = append(w.Programs, kube.Program{Name: p, Package: "example.org/" + name + "/" + p})
	}
	return w
}

func locked(purpose, name string) lock.Package {
	return lock.Package{For: purpose, Name: name, Version: "1.0", Arch: "amd64", Size: 7, SHA256: fmt.Sprintf("%064x", purpose+name)[:64], Repository: "trixie", Path: "pool/" + name + ".deb"}
}

// small is a spec and its lock, of one package for each purpose.
func small(t *testing.T) Inputs {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "other.txt"), []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	image, src, err := spec.Load("image.yaml", []byte(specText))
	if err != nil {
		t.Fatal(err)
	}
	l := &lock.Lock{
		Version: lock.Version, Epoch: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
		Repositories: []lock.Repository{
			{Name: "trixie", URLs: []string{"http://mirror.example.org/debian"}}, {Name: "trixie-updates", URLs: []string{"http://mirror.example.org/debian"}},
			{Name: "trixie-security", URLs: []string{"http://mirror.example.org/debian-security"}},
		},
	}
	for _, purpose := range []string{"base", "os", "node", "customize", "provider-qemu"} {
		l.Packages = append(l.Packages, locked(purpose, "for-"+purpose))
	}
	for _, name := range []string{"build", "compile", "proxy", "test"} {
		l.Tools = append(l.Tools, locked(name, "for-"+name))
	}
	l.Kubernetes = lock.Kubernetes{Version: "v1.36.3", Source: "modules", Modules: kube.Lock{
		Plan: kube.Plan{
			Kubernetes: "v1.36.3", Constants: kube.Constants{Pause: "3.10", CoreDNS: "v1.14.2", Etcd: "3.6.8-0"},
			Workspaces: []kube.Workspace{
				workspace(kube.WorkspaceKubernetes, "kubelet", "kubeadm", "kubectl", "kube-apiserver"), workspace(kube.WorkspaceEtcd, "etcd"),
				workspace(kube.WorkspaceCoreDNS, "coredns"), workspace(kube.WorkspaceContainerd, "containerd", "ctr"), workspace(kube.WorkspaceCNI, "bridge"),
			},
		},
		Toolchain: kube.Toolchain{Version: "go1.26.8", Sum: "h1:go="},
		Source:    kube.Module{Path: "example.org/kubernetes", Version: "v1.36.3", Sum: "h1:source="},
		Modules:   map[string][]kube.Module{},
	}}
	for _, w := range l.Kubernetes.Modules.Plan.Workspaces {
		l.Kubernetes.Modules.Modules[w.Name] = []kube.Module{{Path: "example.org/" + w.Name, Version: "v1.0.0", Sum: "h1:" + w.Name + "="}}
	}
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Inputs{Spec: image, Source: src, Dir: dir, Lock: l, Fetch: fetch.New(s, fetch.Options{Offline: true})}
}

func steps(t *testing.T, in Inputs, target string) []Step {
	t.Helper()
	phases, err := in.Phases(target)
	if err != nil {
		t.Fatal(err)
	}
	return Steps(in.Spec.Spec.OS.Arch, in.Lock.Epoch, phases)
}

// The plan is pure: phases, their inputs and keys follow from spec and lock. A
// key that changes here costs every user a new build: raise a phase's version
// only when its result changes.
func TestSteps(t *testing.T) {
	var b strings.Builder
	for _, target := range []string{"qemu", "raw"} {
		fmt.Fprintf(&b, "target %s\n", target)
		for _, s := range steps(t, small(t), target) {
			fmt.Fprintf(&b, "  %s\n", s.Key)
			for _, i := range s.Phase.Inputs {
				fmt.Fprintf(&b, "    %s %s %.20s\n", i.Kind, i.Name, i.Digest)
			}
		}
	}
	golden(t, "steps.txt", b.String())
}

func TestOrder(t *testing.T) {
	var names []string
	for _, s := range steps(t, small(t), "qemu") {
		names = append(names, s.Phase.Name)
	}
	if !slices.Equal(names, Order()) {
		t.Errorf("the phases are %v, Order says %v", names, Order())
	}
}

// Touching one input redoes its phase and those after it, nothing else.
func TestOneInput(t *testing.T) {
	module := func(in Inputs, workspace string) {
		in.Lock.Kubernetes.Modules.Modules[workspace][0].Sum = "h1:changed="
	}
	pack := func(in Inputs, i int) { in.Lock.Packages[i].SHA256 = strings.Repeat("e", 64) }
	tool := func(in Inputs, i int) { in.Lock.Tools[i].SHA256 = strings.Repeat("e", 64) }
	for what, c := range map[string]struct {
		change func(in Inputs)
		first  string // the first phase that is made anew; "" is none
	}{
		"nothing":                 {func(Inputs) {}, ""},
		"a package of base":       {func(in Inputs) { pack(in, 0) }, "base"},
		"a package of os":         {func(in Inputs) { pack(in, 1) }, "os"},
		"a kernel argument":       {func(in Inputs) { in.Spec.Spec.OS.KernelArguments[0] = "debug" }, "os"},
		"a package of node":       {func(in Inputs) { pack(in, 2) }, "node"},
		"a module of containerd":  {func(in Inputs) { module(in, kube.WorkspaceContainerd) }, "runtime"},
		"the pause image":         {func(in Inputs) { in.Lock.Kubernetes.Modules.Plan.Constants.Pause = "3.11" }, "runtime"},
		"the Go toolchain":        {func(in Inputs) { in.Lock.Kubernetes.Modules.Toolchain.Sum = "h1:changed=" }, "runtime"},
		"a module of Kubernetes":  {func(in Inputs) { module(in, kube.WorkspaceKubernetes) }, "kubernetes"},
		"a module of etcd":        {func(in Inputs) { module(in, kube.WorkspaceEtcd) }, "kubernetes"},
		"a module of coredns":     {func(in Inputs) { module(in, kube.WorkspaceCoreDNS) }, "kubernetes"},
		"a module of the plugins": {func(in Inputs) { module(in, kube.WorkspaceCNI) }, "kubernetes"},
		"the source of pause":     {func(in Inputs) { in.Lock.Kubernetes.Modules.Source.Sum = "h1:changed=" }, "kubernetes"},
		"the C compiler":          {func(in Inputs) { tool(in, 1) }, "kubernetes"},
		"the proxy's root":        {func(in Inputs) { tool(in, 2) }, "kubernetes"},
		"a user's package":        {func(in Inputs) { pack(in, 3) }, "customize"},
		"a user's text":           {func(in Inputs) { s := "bye\n"; in.Spec.Spec.Files[0].Content = &s }, "customize"},
		"a user's file":           {func(in Inputs) { os.WriteFile(filepath.Join(in.Dir, "other.txt"), []byte("new"), 0o600) }, "customize"},
		"a provider's package":    {func(in Inputs) { pack(in, 4) }, "provider"},
		"the name":                {func(in Inputs) { in.Spec.Metadata.Name = "other" }, "seal"},
		"a mirror":                {func(in Inputs) { in.Lock.Repositories[0].URLs[0] += "x" }, "seal"},
		"where a package is from": {func(in Inputs) { in.Lock.Packages[0].Path += "x" }, ""},
		"a tool of the build":     {func(in Inputs) { tool(in, 0) }, ""},
		"a tool of the tests":     {func(in Inputs) { tool(in, 3) }, ""},
		"the size of the disk":    {func(in Inputs) { in.Spec.Spec.Disk.Size *= 2 }, ""},
	} {
		in := small(t)
		old := steps(t, in, "qemu")
		c.change(in)
		first := ""
		for i, s := range steps(t, in, "qemu") {
			changed := s.Key != old[i].Key
			if changed && first == "" {
				first = s.Phase.Name
			}
			if !changed && first != "" {
				t.Errorf("%s: %s stays though %s changed", what, s.Phase.Name, first)
			}
		}
		if first != c.first {
			t.Errorf("%s redoes from %q, want %q", what, first, c.first)
		}
	}
}

// Targets share all layers below their own.
func TestTargetsShareLayers(t *testing.T) {
	in := small(t)
	a, b := steps(t, in, "qemu"), steps(t, in, "raw")
	for i := range a {
		if shared := a[i].Key == b[i].Key; shared != (i < slices.Index(Order(), "provider")) {
			t.Errorf("%s: shared is %v", a[i].Phase.Name, shared)
		}
	}
}

func TestPlacesDoNotMatter(t *testing.T) {
	a, b := steps(t, small(t), "qemu"), steps(t, small(t), "qemu") // two folders, two stores
	for i := range a {
		if a[i].Key != b[i].Key {
			t.Errorf("%s depends on where the build is", a[i].Phase.Name)
		}
	}
	if one, other := small(t).Seed(), small(t).Seed(); one != other {
		t.Error("the seed changes")
	}
}

// The initramfs, the container images and whatever SOURCE_DATE_EPOCH reaches
// hold the epoch: a layer of another epoch is another layer.
func TestEpochIsAnInput(t *testing.T) {
	in := small(t)
	old := steps(t, in, "qemu")
	in.Lock.Epoch = in.Lock.Epoch.Add(time.Hour)
	fresh := steps(t, in, "qemu")
	if last := len(old) - 1; old[last].Key == fresh[last].Key {
		t.Error("the epoch changes no key")
	}
}

// What decides about the disk besides its root is in the artifact's key.
func TestArtifactKey(t *testing.T) {
	key := func(in Inputs, target string) string { return (&builder{in: in}).artifact(target, "root").Key }
	want := key(small(t), "qemu")
	for what, change := range map[string]func(in Inputs){
		"the size": func(in Inputs) { in.Spec.Spec.Disk.Size *= 2 },
	} {
		in := small(t)
		if change(in); key(in, "qemu") == want {
			t.Errorf("%s does not change the key", what)
		}
	}
	if key(small(t), "raw") == want {
		t.Error("the format does not change the key")
	}
	if a := (&builder{in: small(t)}).artifact("qemu", "root"); a.File != "small-v1.36.3-amd64.qcow2" || a.Format != "qcow2" {
		t.Errorf("the artifact is %+v", a)
	}
}

func TestArtifactKeyCoversTheDisk(t *testing.T) {
	key := func(in Inputs) string { return (&builder{in: in}).artifact("qemu", "root").Key }
	want := key(small(t))
	for what, change := range map[string]func(in Inputs){
		"the epoch": func(in Inputs) { in.Lock.Epoch = in.Lock.Epoch.Add(time.Hour) },
		"the tools": func(in Inputs) { in.Lock.Tools[0].SHA256 = strings.Repeat("e", 64) },
	} {
		in := small(t)
		if change(in); key(in) == want {
			t.Errorf("%s does not change the key", what)
		}
	}
}

// Every compression of the catalog has a format.
func TestEveryCompressionIsKnown(t *testing.T) {
	for _, c := range catalog.Compressions() {
		if _, ok := compressions()[c]; !ok {
			t.Errorf("%s is not known", c)
		}
	}
}

// Every target of the catalog has a format.
func TestEveryTargetHasAFormat(t *testing.T) {
	for _, target := range catalog.Targets() {
		if a := (&builder{in: small(t)}).artifact(target, "root"); a.Format == "" {
			t.Errorf("%s has no format", target)
		}
	}
}

func TestManifest(t *testing.T) {
	dir := t.TempDir()
	if readManifest(dir) != nil {
		t.Error("an empty folder has a manifest")
	}
	tmp := filepath.Join(dir, "tmp")
	if err := os.WriteFile(tmp, []byte("disk"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := Artifact{Target: "qemu", Format: "qcow2", File: "x.qcow2", Size: 4, SHA256: strings.Repeat("a", 64), Key: "k", Seconds: 1.5}
	if err := a.publish(tmp, dir); err != nil {
		t.Fatal(err)
	}
	m := &Manifest{Name: "x", Kubernetes: "v1", Lock: "l", Epoch: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Artifacts: []Artifact{a}}
	if err := m.write(dir); err != nil {
		t.Fatal(err)
	}
	got := readManifest(dir)
	if x, _ := json.Marshal(got); string(x) != string(must(json.Marshal(m))) {
		t.Errorf("read again: %s", x)
	}
	names, _ := os.ReadDir(dir)
	if len(names) != 2 {
		t.Errorf("the folder holds %v", names)
	}
	path := filepath.Join(dir, a.File)
	for _, c := range []struct {
		what   string
		change func(want *Artifact)
		want   bool
	}{
		{"the same", func(*Artifact) {}, true},
		{"another key", func(w *Artifact) { w.Key = "other" }, false},
		{"another name", func(w *Artifact) { w.File = "y.qcow2" }, false},
		{"another target", func(w *Artifact) { w.Target = "raw" }, false},
		{"a later time", func(*Artifact) { os.Chtimes(path, a.Modified, a.Modified.Add(time.Second)) }, false},
		{"the time again", func(*Artifact) { os.Chtimes(path, a.Modified, a.Modified) }, true},
		{"a longer file", func(*Artifact) { os.WriteFile(path, []byte("disk!"), 0o644); os.Chtimes(path, a.Modified, a.Modified) }, false},
		{"no file", func(*Artifact) { os.Remove(path) }, false},
	} {
		want := a
		if c.change(&want); got.current(&want, dir) != c.want {
			t.Errorf("%s: current is %v", c.what, !c.want)
		}
	}
	if (*Manifest)(nil).current(&a, dir) {
		t.Error("without a manifest an artifact is current")
	}
	os.WriteFile(filepath.Join(dir, ManifestFile), []byte("{"), 0o644)
	if readManifest(dir) != nil {
		t.Error("half a manifest is read")
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestBuildErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	for what, c := range map[string]struct {
		options Options
		change  func(in Inputs)
		kind    fault.Kind
		want    string
	}{
		"an unknown target":       {Options{Out: t.TempDir(), Targets: []string{"aws"}}, nil, fault.Input, `no target "aws"; it has qemu, raw`},
		"an unknown phase":        {Options{Until: "sael"}, nil, fault.Input, `no phase "sael"`},
		"a folder that is a file": {Options{Out: file}, nil, fault.Environment, "output folder"},
		"no user file":            {Options{Out: t.TempDir()}, func(in Inputs) { os.Remove(filepath.Join(in.Dir, "other.txt")) }, fault.Input, "image.yaml:11:"},
		"nothing in the store":    {Options{Out: t.TempDir()}, nil, fault.Network, "network is off"},
	} {
		in := small(t)
		if c.change != nil {
			c.change(in)
		}
		_, err := Build(t.Context(), in, c.options)
		if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s fault %v, want %s %q", what, fault.KindOf(err), err, c.kind, c.want)
		}
		if c.options.Out != file && c.options.Out != "" {
			if names, _ := os.ReadDir(c.options.Out); len(names) > 0 {
				t.Errorf("%s: the folder holds %v", what, names)
			}
		}
	}
}

func TestUnixMode(t *testing.T) {
	for bits, want := range map[uint32]os.FileMode{
		0o644: 0o644, 0o4755: 0o755 | os.ModeSetuid, 0o2750: 0o750 | os.ModeSetgid, 0o1777: 0o777 | os.ModeSticky, 0o7000: os.ModeSetuid | os.ModeSetgid | os.ModeSticky,
	} {
		if got := unixMode(bits); got != want {
			t.Errorf("%o is %v, want %v", bits, got, want)
		}
	}
}
