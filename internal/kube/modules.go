package kube

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"crypto/sha256"
	"encoding/hex"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/store"
)

// Blob is a file in the store.
type Blob struct {
	SHA256 string `json:"sha256" yaml:"sha256"` // hex
	Size   int64  `json:"size" yaml:"size"`     // bytes
}

// Module is one version of a Go module as a lock lists it: its go.mod, its
// zip, or both, as the go command needs them.
type Module struct {
	Path    string `json:"path" yaml:"path"`
	Version string `json:"version" yaml:"version"`
	Mod     Blob   `json:"mod,omitzero" yaml:"mod,omitempty"`
	Zip     Blob   `json:"zip,omitzero" yaml:"zip,omitempty"`
	// Sum is the hash of the module's files that the checksum database vouches
	// for (h1: of golang.org/x/mod/sumdb/dirhash); empty when Zip is.
	Sum string `json:"sum,omitempty" yaml:"sum,omitempty"`
}

// modSum returns the h1 hash of the module's go.mod, which follows from its
// SHA-256 (golang.org/x/mod/sumdb/dirhash, Hash1 of the one file).
func (m Module) modSum() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s  go.mod\n", m.Mod.SHA256))
	return "h1:" + base64.StdEncoding.EncodeToString(h[:])
}

// goSum returns the go.sum that holds the go command to exactly these modules.
func goSum(modules []Module) []byte {
	var b bytes.Buffer
	for _, m := range modules {
		if m.Sum != "" {
			fmt.Fprintf(&b, "%s %s %s\n", m.Path, m.Version, m.Sum)
		}
		if m.Mod.SHA256 != "" {
			fmt.Fprintf(&b, "%s %s/go.mod %s\n", m.Path, m.Version, m.modSum())
		}
	}
	return b.Bytes()
}

// requests returns what the modules' files are called at a proxy.
func requests(modules []Module) map[request]Blob {
	files := map[request]Blob{}
	for _, m := range modules {
		if m.Mod.SHA256 != "" {
			files[request{Kind: kindMod, Module: m.Path, Version: m.Version}] = m.Mod
		}
		if m.Sum != "" {
			files[request{Kind: kindZip, Module: m.Path, Version: m.Version}] = m.Zip
		}
	}
	return files
}

// Inputs returns the modules' files as inputs to fetch, for a bundle or to
// have them at hand before an offline build.
func (n Network) Inputs(modules []Module) ([]fetch.Input, error) {
	var inputs []fetch.Input
	for r, b := range requests(modules) {
		path, err := r.path()
		if err != nil {
			return nil, fault.New(fault.Input, "the lock names the module %s: %w", r, err)
		}
		inputs = append(inputs, fetch.Input{Name: r.String(), URLs: n.urls(path), Size: b.Size, SHA256: b.SHA256})
	}
	slices.SortFunc(inputs, func(a, b fetch.Input) int { return strings.Compare(a.Name, b.Name) })
	return inputs, nil
}

// index remembers which blob of the store holds which file of a module proxy.
// A module's version never changes (the checksum database sees to it), so this
// saves the download when something else is resolved. It is not trusted: the
// go command verifies every file that it is given while resolving, and what
// was served counts only once that has succeeded.
type index struct {
	mu    sync.Mutex
	path  string
	known map[string]Blob // by request.String()
	fresh map[string]Blob // not verified yet
	zips  chan struct{}   // limits how many zips are in memory at once
}

// openIndex reads the index; lines it cannot read are ignored.
func openIndex(dir string) (*index, error) {
	x := &index{path: filepath.Join(dir, "modules.index"), known: map[string]Blob{}, fresh: map[string]Blob{}, zips: make(chan struct{}, 4)}
	f, err := os.Open(x.path)
	if os.IsNotExist(err) {
		return x, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			continue
		}
		if size, err := strconv.ParseInt(fields[2], 10, 64); err == nil {
			x.known[fields[0]] = Blob{SHA256: fields[1], Size: size}
		}
	}
	return x, nil
}

func (x *index) get(name string) (Blob, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b, ok := x.fresh[name]; ok {
		return b, true
	}
	b, ok := x.known[name]
	return b, ok
}

func (x *index) add(name string, b Blob) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh[name] = b
}

// discard forgets what was served since the last save: it was not verified.
func (x *index) discard() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.fresh)
}

// save appends what was added; one write, so that two builders do not mix lines.
func (x *index) save() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.fresh) == 0 {
		return nil
	}
	var lines bytes.Buffer
	for name, b := range x.fresh {
		x.known[name] = b
		fmt.Fprintf(&lines, "%s %s %d\n", name, b.SHA256, b.Size)
	}
	clear(x.fresh)
	f, err := os.OpenFile(x.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(lines.Bytes())
	return err
}

// download returns a file of a module proxy as a blob, unverified.
func download(ctx context.Context, f *fetch.Fetcher, n Network, x *index, r request) (string, Blob, error) {
	if b, ok := x.get(r.String()); ok {
		if path, ok := intact(f.Store(), b); ok {
			return path, b, nil
		}
	}
	path, err := r.path()
	if err != nil {
		return "", Blob{}, err
	}
	if r.Kind == kindZip {
		x.zips <- struct{}{}
		defer func() { <-x.zips }()
	}
	data, err := f.Document(ctx, n.urls(path), sizeLimit(r.Kind))
	if err != nil {
		return "", Blob{}, err
	}
	b, err := keep(f.Store(), data)
	if err != nil {
		return "", Blob{}, err
	}
	x.add(r.String(), b)
	file, _ := f.Store().Blob(b.SHA256)
	return file, b, nil
}

// intact returns a blob's path if its content is what its name says. A damaged
// one is removed, so that it is downloaded again.
func intact(s *store.Store, want Blob) (string, bool) {
	path, ok := s.Blob(want.SHA256)
	if !ok {
		return "", false
	}
	if b, err := describe(path); err != nil || b.SHA256 != want.SHA256 {
		s.Remove(want.SHA256)
		return "", false
	}
	return path, true
}

// keep puts data into the store unless it is there.
func keep(s *store.Store, data []byte) (Blob, error) {
	sum := sha256.Sum256(data)
	b := Blob{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
	if _, ok := intact(s, b); ok {
		return b, nil
	}
	_, _, err := s.PutBlob(bytes.NewReader(data))
	return b, err
}

// sizeLimit returns the most bytes that a file of a module may have; the go
// command has the same limits (golang.org/x/mod/zip).
func sizeLimit(k kind) int64 {
	if k == kindZip {
		return 500 << 20
	}
	return 16 << 20
}
