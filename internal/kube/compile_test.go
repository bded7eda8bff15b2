package kube

import (
	"os"
	"slices"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/sandbox"
)

// exampleLock resolves the example's workspace with this host's Go.
func exampleLock(t *testing.T, u *upstream, s *Source) (Lock, error) {
	t.Helper()
	root, ok := HostGo()
	if !ok {
		t.Fatal("this host has no Go")
	}
	release, err := goRelease(root)
	if err != nil {
		t.Fatal(err)
	}
	w := u.publishExample(t)
	lock := Lock{Toolchain: Toolchain{Version: release}, Modules: map[string][]Module{}, Packages: map[string]int{}}
	// Stand in for the toolchain's own place in the store: it need not be hashed here.
	place, _ := s.fetch.Store().Layer(toolchainKey(lock.Toolchain))
	if err := os.Symlink(root, place); err != nil {
		t.Fatal(err)
	}
	lock.Modules[w.Name], lock.Packages[w.Name], err = s.load(t.Context(), &w, root)
	lock.Plan.Workspaces = []Workspace{w}
	return lock, err
}

func TestResolveAndCompile(t *testing.T) {
	u := newUpstream(t)
	s := newTestSource(t, u.network, fetch.Options{})
	lock, err := exampleLock(t, u, s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range lock.Modules["example"] {
		names = append(names, at(m.Path, m.Version))
	}
	if want := []string{"example.invalid/lib@v1.0.0", "example.invalid/tool/v2@v2.3.4"}; !slices.Equal(names, want) {
		t.Fatalf("locked %v, want %v", names, want)
	}
	u.Close() // what is locked is in the store
	programs, err := s.Compile(t.Context(), lock)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkStatic(programs["renamed"].Path); err != nil {
		t.Error(err)
	}
	var out strings.Builder
	err = sandbox.Run(t.Context(), sandbox.Command{
		Root: t.TempDir(), Args: []string{"/p"}, Stderr: &out,
		Mounts: []sandbox.Mount{{Source: programs["renamed"].Path, Target: "/p"}},
	})
	if err != nil || out.String() != "v2.3.4\n" {
		t.Errorf("the program says %q, %v", out.String(), err)
	}
	lock.Programs = map[string]Blob{"renamed": {SHA256: strings.Repeat("0", 64)}}
	if _, err := s.Compile(t.Context(), lock); fault.KindOf(err) != fault.Integrity {
		t.Errorf("a lock with another digest of the program gave %v", err)
	}
}

func TestCompileWithIncompleteLock(t *testing.T) {
	u := newUpstream(t)
	s := newTestSource(t, u.network, fetch.Options{})
	lock, err := exampleLock(t, u, s)
	if err != nil {
		t.Fatal(err)
	}
	lock.Modules["example"] = lock.Modules["example"][1:]
	if _, err := s.Compile(t.Context(), lock); fault.KindOf(err) != fault.Integrity {
		t.Errorf("got %v (%s)", err, fault.KindOf(err))
	}
}

func TestResolveRefusesTamperedModule(t *testing.T) {
	u := newUpstream(t)
	s := newTestSource(t, u.network, fetch.Options{})
	w := u.publishExample(t)
	// Nothing asks yet.
	const zip = "/example.invalid/lib/@v/v1.0.0.zip"
	sums, good := u.sums["example.invalid/lib@v1.0.0"], u.files[zip]
	u.publish(t, "example.invalid/lib", "v1.0.0", map[string]string{"go.mod": "module example.invalid/lib\n\ngo 1.22\n", "lib.go": "package lib\n\nvar Version = \"evil\"\n"})
	u.sums["example.invalid/lib@v1.0.0"] = sums
	root, _ := HostGo()
	if _, _, err := s.load(t.Context(), &w, root); fault.KindOf(err) != fault.Integrity {
		t.Errorf("got %v (%s)", err, fault.KindOf(err))
	}
	// The bad file must not stay behind.
	u.mu.Lock()
	u.files[zip] = good
	u.mu.Unlock()
	if _, _, err := s.load(t.Context(), &w, root); err != nil {
		t.Errorf("with the right file again: %v", err)
	}
}
