package kube

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
)

// published returns when a version was published. A version that is not
// served is an Input fault which names the newest that is.
func (s *Source) published(ctx context.Context, path, version string) (time.Time, error) {
	file, _, err := download(ctx, s.fetch, s.network, s.index, request{Kind: kindInfo, Module: path, Version: version})
	if errors.Is(err, fetch.ErrNotFound) {
		return time.Time{}, notServed(path, version, s.list(ctx, path))
	}
	if err != nil {
		return time.Time{}, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return time.Time{}, err
	}
	var info struct{ Time time.Time }
	if err := json.Unmarshal(text, &info); err != nil || info.Time.IsZero() {
		return time.Time{}, fault.New(fault.Integrity, "the module proxy's description of %s is broken: %.100q", at(path, version), text)
	}
	return info.Time, nil
}

// list returns the versions that a proxy lists; none when it cannot say.
func (s *Source) list(ctx context.Context, path string) []string {
	r := request{Kind: kindList, Module: path}
	urlPath, err := r.path()
	if err != nil {
		return nil
	}
	text, err := s.fetch.Document(ctx, s.network.urls(urlPath), sizeLimit(kindList))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// module downloads a module's files and verifies them.
func (s *Source) module(ctx context.Context, path, version string, sums *checksums) (Module, string, error) {
	if _, err := s.published(ctx, path, version); err != nil {
		return Module{}, "", err
	}
	sum, _, err := sums.lookup(path, version)
	if err != nil {
		return Module{}, "", err
	}
	r := request{Kind: kindZip, Module: path, Version: version}
	file, b, err := download(ctx, s.fetch, s.network, s.index, r)
	if err != nil {
		return Module{}, "", err
	}
	m := Module{Path: path, Version: version, Zip: b, Sum: sum}
	if err := verifyZip(file, r.String(), sum); err != nil {
		return Module{}, "", err
	}
	r.Kind = kindMod
	_, m.Mod, err = download(ctx, s.fetch, s.network, s.index, r)
	return m, file, err
}

// goMod downloads a module's go.mod and verifies it.
func (s *Source) goMod(ctx context.Context, path, version string, sums *checksums) ([]byte, error) {
	if _, err := s.published(ctx, path, version); err != nil {
		return nil, err
	}
	_, sum, err := sums.lookup(path, version)
	if err != nil {
		return nil, err
	}
	file, b, err := download(ctx, s.fetch, s.network, s.index, request{Kind: kindMod, Module: path, Version: version})
	if err != nil {
		return nil, err
	}
	if got := (Module{Mod: b}).modSum(); got != sum {
		return nil, fault.New(fault.Integrity, "go.mod of %s has the hash %s, the checksum database says %s", at(path, version), got, sum)
	}
	return os.ReadFile(file)
}

// readZip returns one file of a module's zip.
func readZip(archive, name string) ([]byte, error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		return nil, fault.New(fault.Input, "the module has no file %s: %w", name, err)
	}
	defer f.Close()
	return io.ReadAll(f)
}

// cniPlugins returns the folders of the plugins that upstream's releases for
// Linux ship: all of the groups main, ipam and meta but the one for Windows.
func cniPlugins(archive, prefix string) ([]string, error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	found := map[string]bool{}
	for _, f := range z.File {
		name := strings.TrimPrefix(f.Name, prefix+"/")
		parts := strings.Split(name, "/")
		if len(parts) == 4 && parts[0] == "plugins" && slices.Contains([]string{"main", "ipam", "meta"}, parts[1]) &&
			strings.HasSuffix(name, ".go") {
			found[path.Dir(name)] = true
		}
	}
	dirs := make([]string, 0, len(found))
	for dir := range found {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return dirs, nil
}
