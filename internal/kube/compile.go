package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/store"
)

// compileVersion changes when the same lock would give other bits.
const compileVersion = 1

// Binaries are programs by name: kubelet, etcd, bridge and so on.
type Binaries map[string]Binary

// Binary is an executable file outside the image.
type Binary struct {
	Path   string `json:"-"` // absolute, on the host
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"` // bytes
}

// Select returns the named programs. One that is missing is an Internal fault.
func (b Binaries) Select(names ...string) (Binaries, error) {
	some := Binaries{}
	for _, n := range names {
		p, ok := b[n]
		if !ok {
			return nil, fault.New(fault.Internal, "no program %s was built", n)
		}
		some[n] = p
	}
	return some, nil
}

// CompileKey is the key of a compiled workspace in the store: it covers all
// that its programs' bits depend on.
func (l Lock) CompileKey(w Workspace) string {
	return "programs-" + w.Name + "-" + hashOf(compileVersion, l.Toolchain, w, w.buildFlags(), l.Modules[w.Name])[:32]
}

// Compile compiles the programs of a lock, or finds them in the store. Nothing
// that the lock does not list is used, and with all of it in the store no
// network is.
func (s *Source) Compile(ctx context.Context, l Lock) (all Binaries, err error) {
	all = Binaries{}
	for _, w := range l.Plan.Workspaces {
		some, err := s.compileWorkspace(ctx, l, w)
		if err != nil {
			return nil, err
		}
		for name, b := range some {
			all[name] = b
		}
	}
	return all, nil
}

func (s *Source) compileWorkspace(ctx context.Context, l Lock, w Workspace) (Binaries, error) {
	key := l.CompileKey(w)
	if _, cached := s.fetch.Store().Layer(key); !cached {
		// Outside Make: fetching may take long and needs no lock.
		inputs, err := s.network.Inputs(l.Modules[w.Name])
		if err != nil {
			return nil, err
		}
		if err := s.fetch.Blobs(ctx, "download modules of "+w.Name, inputs); err != nil {
			return nil, err
		}
	}
	dir, err := s.fetch.Store().Make(ctx, key, func(dir string) (err error) {
		ctx, task := event.Start(ctx, "compile "+w.Name)
		defer func() { task.Done(err) }()
		return s.compile(ctx, l, w, dir)
	})
	if err != nil {
		return nil, err
	}
	programs, err := readPrograms(dir)
	if err != nil {
		return nil, err
	}
	return programs, l.check(programs)
}

// compile fills dir with the workspace's programs and their digests.
func (s *Source) compile(ctx context.Context, l Lock, w Workspace, dir string) error {
	goRoot, err := s.toolchains().root(ctx, l.Toolchain)
	if err != nil {
		return err
	}
	modules := l.Modules[w.Name]
	proxy := newLockedProxy(s.fetch, s.network, modules)
	bench, err := newWorkbench(s.fetch.Store(), workbench{goRoot: goRoot, proxy: proxy, network: s.network}, w, goSum(modules))
	if err != nil {
		return err
	}
	defer bench.remove()
	progress := &compileProgress{task: event.Current(ctx), total: int64(l.Packages[w.Name])}
	args := append([]string{"build", "-mod=readonly", "-v", "-o", path.Join(insideWork, resultDir) + "/"}, w.buildFlags()...)
	if err := bench.run(ctx, nil, progress, append(args, w.packages()...)...); err != nil {
		return proxy.cause(goFault("compiling "+w.Name, err))
	}
	if err := collect(w, filepath.Join(bench.dir, resultDir), dir); err != nil {
		return err
	}
	programs, err := readPrograms(dir)
	if err != nil {
		return err
	}
	if err := l.check(programs); err != nil {
		// The build cache is the one thing that was not verified.
		return errors.Join(err, store.RemoveAll(bench.cacheDir))
	}
	return nil
}

// check compares compiled programs with those of the lock, if it lists them.
func (l Lock) check(programs Binaries) error {
	for name, b := range programs {
		if want, ok := l.Programs[name]; ok && want.SHA256 != b.SHA256 {
			return fault.Hint(fault.New(fault.Integrity, "the compiled %s has the SHA-256 %s, the lock says %s", name, b.SHA256, want.SHA256),
				"run it again; if the same happens, the lock was changed by hand: run 'image-builder lock --update'")
		}
	}
	return nil
}

// collect moves what go build wrote, named after packages, to the programs'
// own names, and notes the digests.
func collect(w Workspace, from, to string) error {
	if err := os.Mkdir(filepath.Join(to, "bin"), 0o755); err != nil {
		return err
	}
	programs := Binaries{}
	for _, p := range w.Programs {
		name := filepath.Join(to, "bin", p.Name)
		if err := os.Rename(filepath.Join(from, executableName(p.Package)), name); err != nil {
			return fmt.Errorf("taking over %s: %w", p.Name, err)
		}
		if err := os.Chmod(name, 0o755); err != nil {
			return err
		}
		b, err := describe(name)
		if err != nil {
			return err
		}
		programs[p.Name] = b
	}
	return writePrograms(to, programs)
}

const programsFile = "programs.json"

func writePrograms(dir string, programs Binaries) error {
	text, err := json.MarshalIndent(programs, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, programsFile), text, 0o644)
}

// readPrograms returns the programs of a result of the store.
func readPrograms(dir string) (Binaries, error) {
	text, err := os.ReadFile(filepath.Join(dir, programsFile))
	if err != nil {
		return nil, err
	}
	programs := Binaries{}
	if err := json.Unmarshal(text, &programs); err != nil {
		return nil, fault.New(fault.Integrity, "reading %s: %w", filepath.Join(dir, programsFile), err)
	}
	for name, b := range programs {
		b.Path = filepath.Join(dir, "bin", name)
		programs[name] = b
	}
	return programs, nil
}

// executableName is how go build names the program of a package: the last
// element of the path that is no major version.
func executableName(pkg string) string {
	base := path.Base(pkg)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(pkg))
	}
	return base
}

func describe(file string) (Binary, error) {
	f, err := os.Open(file)
	if err != nil {
		return Binary{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return Binary{Path: file, SHA256: hex.EncodeToString(h.Sum(nil)), Size: n}, err
}

// compileProgress counts the packages that go build -v names on its standard
// error as it compiles them, and passes on the other lines. Packages that are
// in the build cache are not named, so the count may end below the total.
type compileProgress struct {
	task  *event.Task
	total int64
	done  int64
	rest  []byte
}

func (c *compileProgress) Write(b []byte) (int, error) {
	c.rest = append(c.rest, b...)
	for {
		line, rest, ok := bytes.Cut(c.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		c.rest = rest
		c.line(string(line))
	}
}

func (c *compileProgress) line(line string) {
	if line == "" || strings.ContainsAny(line, " \t:") {
		if !strings.HasPrefix(line, "go: downloading ") {
			c.task.Log(line)
		}
		return
	}
	c.done++
	c.task.Detail(line)
	c.task.Progress(c.done, max(c.total, c.done), event.Items)
}
