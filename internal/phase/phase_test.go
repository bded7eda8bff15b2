package phase

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"imagebuilder.dev/internal/lock"
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

// newRoot returns an empty tree and the folder beside it that nothing may reach.
func newRoot(t *testing.T) (r *Root, outside string) {
	t.Helper()
	base := t.TempDir()
	outside = filepath.Join(base, "outside")
	for _, d := range []string{filepath.Join(base, "root"), outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("safe"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRoot(filepath.Join(base, "root"), time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, outside
}

// put writes files straight into the tree.
func put(t *testing.T, r *Root, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(r.Dir(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func sample() Phase {
	return Phase{Name: "os", Version: 1, Inputs: []Input{{"package", "a", "1"}, {"package", "b", "2"}, {"setting", "a", "1"}, {"file", "/a", ""}}}
}

func TestKey(t *testing.T) {
	base := sample().Key("parent", "amd64")
	if !strings.HasPrefix(base, "os-") || len(base) != len("os-")+32 {
		t.Errorf("the key is %s", base)
	}
	for _, order := range [][]int{{3, 2, 1, 0}, {1, 0, 3, 2}} {
		p := sample()
		for i, k := range order {
			p.Inputs[i] = sample().Inputs[k]
		}
		if got := p.Key("parent", "amd64"); got != base {
			t.Errorf("the order %v changes the key", order)
		}
	}
	keys := map[string]string{"nothing": base, "the parent": sample().Key("other", "amd64"), "the architecture": sample().Key("parent", "arm64"),
		"where the parent's name ends": sample().Key("parent\" \"", "amd64")}
	change := func(what string, f func(p *Phase)) {
		p := sample()
		f(&p)
		keys[what] = p.Key("parent", "amd64")
	}
	change("the version", func(p *Phase) { p.Version = 2 })
	change("the name", func(p *Phase) { p.Name = "so" })
	change("an input more", func(p *Phase) { p.Inputs = append(p.Inputs, Input{"file", "/b", ""}) })
	for i := range sample().Inputs {
		change(fmt.Sprint("without input ", i), func(p *Phase) { p.Inputs = slices.Delete(p.Inputs, i, i+1) })
		change(fmt.Sprint("the kind of input ", i), func(p *Phase) { p.Inputs[i].Kind += "x" })
		change(fmt.Sprint("the name of input ", i), func(p *Phase) { p.Inputs[i].Name += "x" })
		change(fmt.Sprint("the digest of input ", i), func(p *Phase) { p.Inputs[i].Digest += "x" })
	}
	change("what belongs to name and digest", func(p *Phase) { p.Inputs[0] = Input{"package", "a\" \"1", ""} })
	seen := map[string]string{}
	for what, key := range keys {
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the same key", what, other)
		}
		seen[key] = what
	}
}

// What each phase is made from decides about its key.
func TestPhasesDeclareTheirInputs(t *testing.T) {
	packages := func(names ...string) Packages {
		var p Packages
		for _, n := range names {
			p.List = append(p.List, lock.Package{Name: n, Version: "1", SHA256: n})
		}
		return p
	}
	programs := func(digest string) Programs { return Programs{List: []Program{{"x", digest}}} }
	kubernetes := func(change func(k *KubernetesInputs)) Phase {
		k := KubernetesInputs{Version: "v1", Programs: programs("1"), CNI: Programs{List: []Program{{"cni", "1"}}}, Images: []Input{{"image", "i", "1"}}, Pause: "p"}
		change(&k)
		return Kubernetes(k)
	}
	file := UserFile{Path: "/a", Data: []byte("x"), Mode: 0o644}
	with := func(change func(f *UserFile)) Phase {
		f := file
		change(&f)
		return Customize(packages("a"), []UserFile{f})
	}
	id := Identity{RootUUID: "r", ESPUUID: "e", Arguments: []string{"a"}, Sources: []Source{{"u", "s", "c"}}}
	seal := func(change func(id *Identity)) Phase {
		i := id
		i.Arguments, i.Sources = slices.Clone(id.Arguments), slices.Clone(id.Sources)
		change(&i)
		return Seal(i)
	}
	for name, variants := range map[string][]Phase{
		"base":    {Base(packages("a", "b")), Base(packages("b", "a")), Base(packages("a"))},
		"os":      {OS(packages("a"), nil), OS(packages("b"), nil), OS(packages("a"), []string{"quiet"}), OS(packages("a"), []string{"qui et"})},
		"node":    {Node(packages("a")), Node(packages("b"))},
		"runtime": {Runtime(programs("1"), "pause:1"), Runtime(programs("2"), "pause:1"), Runtime(programs("1"), "pause:2")},
		"kubernetes": {
			kubernetes(func(*KubernetesInputs) {}), kubernetes(func(k *KubernetesInputs) { k.Version = "v2" }), kubernetes(func(k *KubernetesInputs) { k.Programs = programs("2") }),
			kubernetes(func(k *KubernetesInputs) { k.CNI.List[0].Digest = "2" }), kubernetes(func(k *KubernetesInputs) { k.Images[0].Digest = "2" }), kubernetes(func(k *KubernetesInputs) { k.Pause = "q" }),
		},
		"customize": {
			Customize(packages("a"), nil), with(func(*UserFile) {}), with(func(f *UserFile) { f.Path = "/b" }), with(func(f *UserFile) { f.Data = nil }), with(func(f *UserFile) { f.Mode |= os.ModeSetuid }),
			with(func(f *UserFile) { f.Mode = 0o600 }), with(func(f *UserFile) { f.UID = 1 }), with(func(f *UserFile) { f.GID = 1 }), Customize(packages(), []UserFile{file}),
		},
		"provider": {Provider("qemu", packages("a")), Provider("qemu", packages("b")), Provider("raw", packages("a"))},
		"seal": {
			seal(func(*Identity) {}), seal(func(i *Identity) { i.RootUUID = "x" }), seal(func(i *Identity) { i.ESPUUID = "x" }), seal(func(i *Identity) { i.Arguments[0] = "b" }),
			seal(func(i *Identity) { i.Sources[0].URL = "x" }), seal(func(i *Identity) { i.Sources[0].Suite = "x" }), seal(func(i *Identity) { i.Sources[0].Components = "x" }),
		},
	} {
		seen := map[string]int{}
		for i, p := range variants {
			if p.Name != name {
				t.Errorf("%s is called %s", name, p.Name)
			}
			if p.Run == nil {
				t.Errorf("%s does nothing", name)
			}
			key := p.Key("", "amd64")
			if j, ok := seen[key]; ok {
				t.Errorf("%s: variants %d and %d have the same key", name, j, i)
			}
			seen[key] = i
		}
	}
}
