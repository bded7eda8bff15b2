// Package integration tests the whole builder on real packages and real
// programs. It needs a store that a build of the quickstart has filled (`make
// image`), so that nothing is fetched or compiled twice, and skips without.
package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/cli"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/resolve"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/store"
)

// asProgram makes the test binary behave as the program itself.
const asProgram = "IMAGE_BUILDER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	sandbox.Main()
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv("IMAGE_BUILDER_TEST_STORE") == "" {
		fmt.Println("skipped: IMAGE_BUILDER_TEST_STORE is not set")
		os.Exit(0)
	}
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const quickstart = "../../examples/quickstart.yaml"

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(os.Getenv("IMAGE_BUILDER_TEST_STORE"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// quickstartInputs are the quickstart's, with the lock that `make image` wrote.
func quickstartInputs(t *testing.T, s *store.Store) build.Inputs {
	t.Helper()
	l, err := lock.Read(lock.FileName(quickstart))
	if err != nil || l == nil {
		t.Fatalf("the quickstart has no lock (run make image): %v", err)
	}
	data, err := os.ReadFile(quickstart)
	if err != nil {
		t.Fatal(err)
	}
	return inputs(t, s, string(data), l)
}

// inputs makes the inputs of a spec; without a lock they are resolved.
func inputs(t *testing.T, s *store.Store, text string, l *lock.Lock) build.Inputs {
	t.Helper()
	sp, src, err := spec.Load("image.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f := fetch.New(s, fetch.Options{})
	r := resolve.Resolver{Fetch: f, HostRoot: "/", ConfigDir: t.TempDir(), Now: time.Now(), Dir: t.TempDir()}
	if l == nil {
		if l, err = r.Resolve(t.Context(), sp, src); err != nil {
			t.Fatal(err)
		}
	}
	k, err := r.Modules(sp)
	if err != nil {
		t.Fatal(err)
	}
	return build.Inputs{Spec: sp, Source: src, Dir: r.Dir, Lock: l, Fetch: f, Kube: k}
}

// withRoot builds the phases up to one and calls fn with the tree.
func withRoot(t *testing.T, in build.Inputs, until string, fn func(root string)) {
	t.Helper()
	phases, err := in.Phases(in.Spec.Spec.Targets[0])
	if err != nil {
		t.Fatal(err)
	}
	steps := build.Steps(in.Spec.Spec.OS.Arch, in.Lock.Epoch, phases)
	for i, s := range steps {
		if s.Phase.Name == until {
			steps = steps[:i+1]
			break
		}
	}
	e := build.Engine{Store: in.Fetch.Store(), Epoch: in.Lock.Epoch}
	layers, err := e.Layers(t.Context(), steps)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.WithRoot(t.Context(), layers, true, func(root string) error { fn(root); return nil }); err != nil {
		t.Fatal(err)
	}
}

// run runs a command in a root and returns what it prints.
func run(t *testing.T, root string, args ...string) string {
	t.Helper()
	out, err := sandbox.Output(context.Background(), sandbox.Command{Root: root, Args: args})
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}

func readManifest(t *testing.T, dir string) build.Manifest {
	t.Helper()
	var m build.Manifest
	b, err := os.ReadFile(filepath.Join(dir, build.ManifestFile))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}
