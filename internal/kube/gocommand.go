package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/store"
)

// Places inside the sandbox in which the go command runs.
const (
	insideGo    = "/go"    // the toolchain
	insideCache = "/cache" // GOCACHE
	insideWork  = "/work"  // module cache, main module and results
	proxyPort   = 8079     // of the Proxy, on the sandbox's loopback
	modCache    = "mod"    // below insideWork
	mainModule  = "module" // below insideWork
	resultDir   = "bin"    // below insideWork
)

// workbench is one use of the go command: a folder with a main module and a
// module cache of its own, which is filled from verified files only and thrown
// away afterwards.
type workbench struct {
	dir      string // on the host
	root     string // an empty folder, which becomes /
	goRoot   string
	cacheDir string // GOCACHE on the host, for speed
	proxy    http.Handler
	network  Network
	parallel int // requests to the proxy at once, at least
}

// newWorkbench completes b with folders that hold the main module of a
// workspace. The caller removes it.
func newWorkbench(s *store.Store, b workbench, w Workspace, sum []byte) (*workbench, error) {
	var err error
	if b.cacheDir, err = s.Scratch("gocache"); err != nil {
		return nil, err
	}
	dir, err := s.TempDir("go")
	if err != nil {
		return nil, err
	}
	b.dir, b.root = filepath.Join(dir, "work"), filepath.Join(dir, "root")
	for _, d := range []string{b.root, filepath.Join(b.dir, mainModule), filepath.Join(b.dir, modCache), filepath.Join(b.dir, resultDir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(b.file("go.mod"), w.GoMod(), 0o644); err != nil {
		return nil, err
	}
	return &b, os.WriteFile(b.file("go.sum"), sum, 0o644)
}

// file returns the path on the host of a file of the main module.
func (b *workbench) file(name string) string { return filepath.Join(b.dir, mainModule, name) }

func (b *workbench) remove() { store.RemoveAll(filepath.Dir(b.dir)) }

// run runs the go command with the network that the proxy is.
func (b *workbench) run(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	return sandbox.Run(ctx, sandbox.Command{
		Root: b.root,
		Args: append([]string{insideGo + "/bin/go"}, args...),
		Dir:  filepath.Join(insideWork, mainModule),
		Env:  b.environment(),
		Mounts: []sandbox.Mount{
			{Source: b.goRoot, Target: insideGo, ReadOnly: true},
			{Source: b.cacheDir, Target: insideCache},
			{Source: b.dir, Target: insideWork},
		},
		Stdout:   stdout,
		Stderr:   stderr,
		Loopback: map[int]http.Handler{proxyPort: b.proxy},
	})
}

// environment is everything that the go command takes from outside. What is
// not set here has Go's default, since the host's settings are not visible.
func (b *workbench) environment() []string {
	return []string{
		"GOROOT=" + insideGo,
		"GOCACHE=" + insideCache,
		"GOPATH=" + filepath.Join(insideWork, "gopath"),
		"GOMODCACHE=" + filepath.Join(insideWork, modCache),
		fmt.Sprintf("GOPROXY=http://127.0.0.1:%d", proxyPort),
		"GOSUMDB=" + b.network.SumDB,
		"GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local", "GOTELEMETRY=off",
		"GOFLAGS=-modcacherw",
		// Loading modules waits for the network, and the go command waits for
		// as many files at once as it may use processors.
		fmt.Sprintf("GOMAXPROCS=%d", max(b.parallel, runtime.NumCPU())),
		"GOOS=linux", "GOARCH=" + runtime.GOARCH, "GOAMD64=v1", "CGO_ENABLED=0",
	}
}

// goFault classifies a failure of the go command by what it printed.
func goFault(doing string, err error) error {
	var exit *sandbox.ExitError
	if errors.As(err, &exit) {
		for _, sign := range []string{"SECURITY ERROR", "checksum mismatch", "missing go.sum entry"} {
			if strings.Contains(exit.Tail, sign) {
				return fault.Hint(fault.New(fault.Integrity, "%s: %w", doing, err),
					"a module is not what the checksum database or the lock says; try another proxy (spec.mirrors.modules)")
			}
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
