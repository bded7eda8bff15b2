package lock_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/kube"
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

func digest(c string) string { return strings.Repeat(c, 64) }

func pkg(purpose, name, version, repository, c string) lock.Package {
	return lock.Package{For: purpose, Name: name, Version: version, Arch: "amd64", Size: 12345, SHA256: digest(c), Repository: repository,
		Path: "pool/main/" + name[:1] + "/" + name + "/" + name + "_" + strings.ReplaceAll(version, ":", "%3a") + "_amd64.deb"}
}

// small is a lock with at least one of everything.
func small() *lock.Lock {
	day := time.Date(2026, 2, 28, 9, 17, 0, 0, time.UTC)
	return &lock.Lock{
		Version: lock.Version, Spec: digest("5"), Epoch: day,
		Repositories: []lock.Repository{
			{Name: "trixie", Date: day, SHA256: digest("a"), Signers: []string{"ABCD", "EF01"}, URLs: []string{"https://mirror.example.org/debian", "https://second.example.org/debian"}},
			{Name: "trixie-security", Date: day.Add(-time.Hour), SHA256: digest("b"), Signers: []string{"ABCD"}, URLs: []string{"https://mirror.example.org/debian-security"}},
		},
		Packages: []lock.Package{pkg("base", "libc6", "2.41-12", "trixie", "1"), pkg("base", "openssl", "1:3.5.1-1", "trixie-security", "2"), pkg("os", "yes-no", "1.0", "trixie", "3")},
		Tools:    []lock.Package{pkg("build", "apt", "3.0.3", "trixie", "4")},
		Kubernetes: lock.Kubernetes{
			Version: "v1.36.3", Source: "modules",
			Modules: kube.Lock{
				Plan: kube.Plan{
					Constants: kube.Constants{Pause: "3.10", CoreDNS: "v1.14.2", Etcd: "3.6.8-0"},
					Workspaces: []kube.Workspace{{
						Name: "cni", Go: "1.24", Godebug: []string{"default=go1.24"}, Tags: []string{"one", "two"},
						Requires: []kube.Require{{Path: "example.org/plugins", Version: "v1.9.1"}},
						Stamps:   []kube.Stamp{{Variable: "example.org/plugins/version.V", Value: "v1.9.1"}},
						Programs: []kube.Program{{Name: "bridge", Package: "example.org/plugins/bridge"}},
					}},
				},
				Toolchain: kube.Toolchain{Version: "go1.26.8", Sum: "h1:toolchain="},
				Source:    kube.Module{Path: "example.org/kubernetes", Version: "v1.36.3", Zip: kube.Blob{SHA256: digest("6"), Size: 99}, Sum: "h1:source="},
				Modules: map[string][]kube.Module{"cni": {
					{Path: "example.org/long/" + strings.Repeat("path/", 30), Version: "v1.0.0", Mod: kube.Blob{SHA256: digest("7"), Size: 10}},
					{Path: "example.org/plugins", Version: "v1.9.1", Mod: kube.Blob{SHA256: digest("8"), Size: 10}, Zip: kube.Blob{SHA256: digest("9"), Size: 20}, Sum: "h1:plugins="},
				}},
				Packages: map[string]int{"cni": 321},
				Programs: map[string]kube.Blob{"bridge": {SHA256: digest("c"), Size: 4096}},
			},
			Files: &kube.Files{Origin: "https://release.example.org/", Programs: map[string]kube.Blob{"kubelet": {SHA256: digest("d"), Size: 7}},
				Archives: map[string]kube.Blob{"kube-proxy": {SHA256: digest("e"), Size: 8}}},
		},
	}
}

func encoded(t testing.TB, l *lock.Lock) string {
	t.Helper()
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEncode(t *testing.T) {
	text := encoded(t, small())
	golden(t, "image.lock.yaml", text)
	got, err := lock.Decode("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, small()) {
		t.Errorf("written and read again it is\n%+v", got)
	}
	if got.Hash() != small().Hash() {
		t.Error("written and read again it has another hash")
	}
	for _, p := range append(small().Packages, small().Tools...) { // one input a line
		if n := strings.Count(text, p.SHA256); n != 1 {
			t.Errorf("%s is there %d times", p.Name, n)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, p.SHA256) && !(strings.Contains(line, "name: "+p.Name) && strings.Contains(line, p.Path)) {
				t.Errorf("%s is not on one line: %s", p.Name, line)
			}
		}
	}
}

func TestHashCoversEverything(t *testing.T) {
	for what, change := range map[string]func(*lock.Lock){
		"the spec":           func(l *lock.Lock) { l.Spec = digest("0") },
		"the epoch":          func(l *lock.Lock) { l.Epoch = l.Epoch.Add(time.Second) },
		"a mirror":           func(l *lock.Lock) { l.Repositories[0].URLs[1] += "x" },
		"a package":          func(l *lock.Lock) { l.Packages[2].SHA256 = digest("0") },
		"the order":          func(l *lock.Lock) { l.Packages[0], l.Packages[1] = l.Packages[1], l.Packages[0] },
		"a tool":             func(l *lock.Lock) { l.Tools[0].Version = "4" },
		"a module":           func(l *lock.Lock) { l.Kubernetes.Modules.Modules["cni"][1].Sum = "h1:other=" },
		"a file of a server": func(l *lock.Lock) { l.Kubernetes.Files.Origin += "x" },
	} {
		l := small()
		if change(l); l.Hash() == small().Hash() {
			t.Errorf("%s does not change the hash", what)
		}
	}
}

// Every line breaks one rule.
func TestDecodeRefuses(t *testing.T) {
	good := encoded(t, small())
	for what, c := range map[string]struct {
		old, new string
		kind     fault.Kind
		want     string
	}{
		"another version":         {"version: 1\n", "version: 2\n", fault.Input, "has version 2; this builder writes 1"},
		"no version":              {"version: 1\n", "", fault.Input, "has version 0"},
		"an unknown key":          {"version: 1\n", "version: 1\nverify: false\n", fault.Input, "verify"},
		"an unknown item key":     {"{for: base, name: libc6", "{trusted: true, for: base, name: libc6", fault.Input, "trusted"},
		"a twin key":              {"version: 1\n", "version: 1\nversion: 1\n", fault.Input, "already defined"},
		"a wrong type":            {"size: 12345", "size: big", fault.Input, "big"},
		"a conflict of git":       {"packages:\n", "<<<<<<< HEAD\npackages:\n", fault.Input, "read the lock"},
		"two documents":           {"version: 1\n", "version: 1\n---\nversion: 1\n", fault.Input, "more than one document"},
		"nothing":                 {good, "", fault.Input, "EOF"},
		"no hash of the spec":     {digest("5"), "5", fault.Integrity, "hash of the spec"},
		"a cut digest":            {digest("1"), digest("1")[1:], fault.Integrity, `"libc6" is not complete`},
		"a digest that is a path": {digest("1"), "../" + digest("1")[3:], fault.Integrity, `"libc6" is not complete`},
		"capitals in a digest":    {digest("a"), digest("A"), fault.Integrity, `"trixie" is not complete`},
		"no size":                 {"size: 12345", "size: 0", fault.Integrity, "is not complete"},
		"no phase":                {"{for: base, name: libc6", "{name: libc6", fault.Integrity, "is not complete"},
		"an unknown repository":   {"repository: trixie,", "repository: sid,", fault.Integrity, `"sid", which is not listed`},
		"a tool's digest":         {digest("4"), digest("4") + "4", fault.Integrity, `"apt" is not complete`},
		"a module's digest":       {digest("9"), "9", fault.Integrity, "module example.org/plugins v1.9.1"},
		"the source's digest":     {digest("6"), "6", fault.Integrity, "module example.org/kubernetes"},
		"a program's digest":      {digest("c"), "c", fault.Integrity, "program bridge"},
		"a file's digest":         {digest("d"), "d", fault.Integrity, "file kubelet"},
		"an archive's digest":     {digest("e"), "e", fault.Integrity, "archive kube-proxy"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Errorf("%s: the fixture does not hold %q", what, c.old)
		}
		_, err := lock.Decode("image.lock.yaml", []byte(text))
		if err == nil {
			t.Errorf("%s is accepted", what)
			continue
		}
		if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "image.lock.yaml") || fault.HintOf(err) == "" {
			t.Errorf("%s: %s fault %q, hint %q, want %q", what, fault.KindOf(err), err, fault.HintOf(err), c.want)
		}
	}
}

func TestChanges(t *testing.T) {
	fresh := small()
	fresh.Packages[0].Version = "2.41-13"
	fresh.Packages[1].Version = "1:3.5.1-1+deb13u1"
	fresh.Packages[2] = pkg("os", "added", "2", "trixie", "3")
	fresh.Kubernetes.Version = "v1.36.4"
	fresh.Kubernetes.Modules.Toolchain.Version = "go1.26.9"
	fresh.Kubernetes.Modules.Modules["cni"][1].Version = "v1.9.2"
	other := small()
	other.Tools[0].Version = "4"
	var b strings.Builder
	for _, c := range []struct {
		what string
		a, b *lock.Lock
	}{{"first", nil, small()}, {"same", small(), small()}, {"fresh", small(), fresh}, {"only a tool", small(), other}} {
		b.WriteString(c.what + "\n  " + strings.Join(lock.Changes(c.a, c.b), "\n  ") + "\n")
	}
	golden(t, "changes.txt", b.String())
}

func TestFileName(t *testing.T) {
	for spec, want := range map[string]string{
		"image.yaml": "image.lock.yaml", "a/b/worker.yaml": "a/b/worker.lock.yaml", "spec.yaml": "spec.lock.yaml",
		"worker.yml": "worker.lock.yml", "/x.y/worker": "/x.y/worker.lock", "v1.2.yaml": "v1.2.lock.yaml",
	} {
		if got := lock.FileName(spec); got != want {
			t.Errorf("the lock of %s is %s, want %s", spec, got, want)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image.lock.yaml")
	if l, err := lock.Read(path); l != nil || err != nil {
		t.Errorf("no file gives %v, %v", l, err)
	}
	for range 2 {
		if err := small().Write(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := lock.Read(path)
	if err != nil || !reflect.DeepEqual(got, small()) {
		t.Errorf("read again: %v", err)
	}
	if st, _ := os.Stat(path); st.Mode() != 0o644 {
		t.Errorf("the mode is %v", st.Mode())
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("the folder holds %v", names)
	}
	if err := small().Write(filepath.Join(dir, "none", "x")); fault.KindOf(err) != fault.Environment {
		t.Errorf("a missing folder gives %v", err)
	}
	if _, err := lock.Read(dir); fault.KindOf(err) != fault.Input {
		t.Errorf("a folder gives %v", err)
	}
}

func TestFor(t *testing.T) {
	l := small()
	if got := l.For("base"); len(got) != 2 || got[0].Name != "libc6" || got[1].Name != "openssl" {
		t.Errorf("base is %v", got)
	}
	if got := l.For("build"); len(got) != 1 || got[0].Name != "apt" {
		t.Errorf("build is %v", got)
	}
	want := []string{"https://mirror.example.org/debian/" + l.Packages[0].Path, "https://second.example.org/debian/" + l.Packages[0].Path}
	if got := l.URLs(l.Packages[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("its addresses are %v", got)
	}
}

func FuzzDecode(f *testing.F) {
	good := []byte(encoded(f, small()))
	f.Add(good)
	f.Add([]byte("version: 1\nspec: &a {x: *a}\n"))
	f.Add(bytes.Replace(good, []byte("size: 12345"), []byte("size: !!int 0x3039"), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := lock.Decode("x", text)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Input && k != fault.Integrity {
				t.Errorf("a %s fault: %v", k, err)
			}
			return
		}
		again, err := lock.Decode("x", []byte(encoded(t, l)))
		if err != nil || again.Hash() != l.Hash() {
			t.Errorf("written and read again: %v", err)
		}
	})
}
