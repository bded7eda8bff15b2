package kube

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/store"
)

// openReal returns a Source over the store that integration tests share, with
// the network of this host. Tests that compile Kubernetes call it first.
func openReal(t *testing.T) *Source {
	t.Helper()
	dir := os.Getenv("IMAGE_BUILDER_TEST_STORE")
	if dir == "" {
		t.Skip("set IMAGE_BUILDER_TEST_STORE to a folder to resolve and compile real programs")
	}
	return openSource(t, dir, fetch.Options{})
}

func openSource(t *testing.T, dir string, o fetch.Options) *Source {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, err := FindNetwork(nil)
	if err != nil {
		t.Fatal(err)
	}
	source, err := NewSource(fetch.New(s, o), n)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// logSink shows the tasks in the test's log.
type logSink struct {
	t  *testing.T
	mu sync.Mutex
	at time.Time
}

func (s *logSink) Emit(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Type == event.Progress && time.Since(s.at) > 10*time.Second:
		s.at = time.Now()
		s.t.Logf("%s %s %d/%d %s", e.Time.Format("15:04:05"), e.Name, e.Done, e.Total, e.Unit)
	case e.Type != event.Progress && e.Type != event.Detail:
		s.t.Logf("%s %s %s %s", e.Time.Format("15:04:05"), e.Name, e.Type, e.Text)
	}
}

// TestReal resolves the supported versions and compiles the programs of one.
// KUBE_VERSIONS names others, KUBE_WORKSPACES fewer workspaces.
func TestReal(t *testing.T) {
	source := openReal(t)
	ctx := event.With(t.Context(), &logSink{t: t})
	versions := strings.Fields(os.Getenv("KUBE_VERSIONS"))
	if len(versions) == 0 {
		versions = []string{"v1.36.3"}
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) { compileReal(ctx, t, source, version) })
	}
}

func compileReal(ctx context.Context, t *testing.T, source *Source, version string) {
	v, err := ParseVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	lock, err := source.Resolve(ctx, Request{Kubernetes: v, Containerd: "v2.4.2", CNI: "v1.9.1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resolved in %s: %s, %d modules, %+v", time.Since(start), lock.Toolchain.Version, len(lock.AllModules()), lock.Packages)
	if only := os.Getenv("KUBE_WORKSPACES"); only != "" {
		var some []Workspace
		for _, w := range lock.Plan.Workspaces {
			if strings.Contains(" "+only+" ", " "+w.Name+" ") {
				some = append(some, w)
			}
		}
		lock.Plan.Workspaces = some
	}
	if only := os.Getenv("KUBE_PROGRAMS"); only != "" {
		for i := range lock.Plan.Workspaces {
			w := &lock.Plan.Workspaces[i]
			w.Programs = slices.DeleteFunc(slices.Clone(w.Programs), func(p Program) bool { return !strings.Contains(" "+only+" ", " "+p.Name+" ") })
		}
	}
	// All that is locked is in the store, so compiling needs no network.
	source = openSource(t, source.fetch.Store().Dir(), fetch.Options{Offline: true})
	start = time.Now()
	programs, err := source.Compile(ctx, lock)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("compiled in %s", time.Since(start))
	for name, b := range programs {
		t.Logf("%-26s %10d %s", name, b.Size, b.SHA256)
	}
	if kubeadm, ok := programs["kubeadm"]; ok {
		checkImages(ctx, t, source, lock, kubeadm)
	}
}

// checkImages compares the images that the compiled kubeadm lists with the
// constants that were read from its source.
func checkImages(ctx context.Context, t *testing.T, source *Source, lock Lock, kubeadm Binary) {
	t.Helper()
	list, err := ListImages(ctx, source.fetch.Store(), kubeadm, lock.Plan.Kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	o := ImageOptions{List: list, Kubernetes: lock.Plan.Kubernetes, Constants: lock.Plan.Constants, Programs: Binaries{}}
	for _, n := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "pause", "etcd", "etcdctl", "etcdutl"} {
		o.Programs[n] = Binary{Path: "/" + n}
	}
	if _, err := Images(o); err != nil {
		t.Error(err)
	}
	t.Log(strings.Join(list, " "))
}

// TestRealPause compiles pause twice, with the C compiler of KUBE_CC_ROOT.
func TestRealPause(t *testing.T) {
	source := openReal(t)
	root := os.Getenv("KUBE_CC_ROOT")
	if root == "" {
		t.Skip("set KUBE_CC_ROOT to an unpacked root with gcc and libc6-dev")
	}
	lock, err := source.Resolve(t.Context(), Request{Kubernetes: "v1.36.3", Containerd: "v2.4.2", CNI: "v1.9.1", Workspaces: []string{WorkspaceCNI}})
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for i := range 2 {
		b, err := source.Pause(t.Context(), lock, CCompiler{Root: root, Key: fmt.Sprint(t.Name(), time.Now(), i)})
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, b.SHA256)
		if i == 0 {
			t.Logf("pause has %d bytes", b.Size)
			out, err := sandbox.Output(t.Context(), sandbox.Command{
				Root: t.TempDir(), Args: []string{"/pause", "-v"}, Mounts: []sandbox.Mount{{Source: b.Path, Target: "/pause"}},
			})
			if want := "pause.c v" + lock.Plan.Constants.Pause + "\n"; err != nil || string(out) != want {
				t.Errorf("pause -v says %q, %v; want %q", out, err, want)
			}
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("pause is not the same twice: %v", digests)
	}
}

// TestRealToolchain compiles the same workspace with this host's Go and with
// the toolchain module of the same release.
func TestRealToolchain(t *testing.T) {
	real := openReal(t)
	lock, err := real.Resolve(t.Context(), Request{Kubernetes: "v1.36.3", Containerd: "v2.4.2", CNI: "v1.9.1", Workspaces: []string{WorkspaceCNI}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := real.toolchains().hostRoot(lock.Toolchain); !ok {
		t.Skipf("this host's Go is not %s as published", lock.Toolchain.Version)
	}
	var digests []string
	for _, host := range []bool{true, false} {
		u := newUpstream(t)
		s := newTestSource(t, u.network, fetch.Options{})
		w := u.publishExample(t)
		s.hostGo = host
		own := lock
		own.Plan.Workspaces, own.Modules = []Workspace{w}, map[string][]Module{}
		tools := real.toolchains()
		tools.host = host
		goRoot, err := tools.root(t.Context(), lock.Toolchain)
		if err != nil {
			t.Fatal(err)
		}
		place, _ := s.fetch.Store().Layer(toolchainKey(lock.Toolchain))
		if err := os.Symlink(goRoot, place); err != nil {
			t.Fatal(err)
		}
		if own.Modules[w.Name], _, err = s.load(t.Context(), &own.Plan.Workspaces[0], goRoot); err != nil {
			t.Fatal(err)
		}
		programs, err := s.Compile(t.Context(), own)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", goRoot, programs["renamed"].SHA256)
		digests = append(digests, programs["renamed"].SHA256)
	}
	if digests[0] != digests[1] {
		t.Error("the two toolchains give different programs")
	}
}
