package kube

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
)

// toolchainPath is the module as which the Go project publishes its releases
// (https://go.dev/doc/toolchain).
const toolchainPath = "golang.org/toolchain"

// toolchainVersion returns the module version of a release for this machine.
func toolchainVersion(release string) string {
	return "v0.0.1-" + release + ".linux-" + runtime.GOARCH
}

// Toolchain is the locked Go toolchain. Sum covers every file of it, so it is
// the same whether it comes from this host or from the module proxy.
type Toolchain struct {
	Version string `json:"version" yaml:"version"` // e.g. go1.26.8
	Sum     string `json:"sum" yaml:"sum"`         // h1: hash of the toolchain module
}

// chooseToolchain takes this host's release of Go when it is recent enough,
// else the release that the programs ask for.
func chooseToolchain(least string) string {
	if root, ok := HostGo(); ok {
		if release, err := goRelease(root); err == nil && !newerGo(least, release) {
			return release
		}
	}
	if strings.Count(least, ".") == 1 {
		least += ".0" // releases since 1.21 have a patch number
	}
	return "go" + least
}

// toolchains finds Go toolchains that are exactly the locked one.
type toolchains struct {
	fetch   *fetch.Fetcher
	network Network
	index   *index
	host    bool // accept this host's installation; tests turn it off
}

// root returns the folder of a toolchain: this host's when all its files are
// the locked ones, else the module's.
func (t toolchains) root(ctx context.Context, want Toolchain) (string, error) {
	if dir, ok := t.fetch.Store().Layer(toolchainKey(want)); ok {
		return dir, nil
	}
	if root, ok := t.hostRoot(want); ok {
		return root, nil
	}
	return t.fetch.Store().Make(ctx, toolchainKey(want), func(dir string) (err error) {
		ctx, task := event.Start(ctx, "get "+want.Version)
		defer func() { task.Done(err) }()
		zip, err := t.Zip(ctx, want)
		if err != nil {
			return err
		}
		return unpackToolchain(zip, want, dir)
	})
}

func toolchainKey(t Toolchain) string { return "go-" + hashOf(t)[:32] }

func (t toolchains) hostRoot(want Toolchain) (string, bool) {
	if !t.host {
		return "", false
	}
	root, ok := HostGo()
	if !ok {
		return "", false
	}
	if release, err := goRelease(root); err != nil || release != want.Version {
		return "", false
	}
	sum, err := hashHostGo(root, want.Version)
	return root, err == nil && sum == want.Sum
}

// Zip returns the toolchain's module as a verified file in the store.
func (t toolchains) Zip(ctx context.Context, want Toolchain) (string, error) {
	r := request{Kind: kindZip, Module: toolchainPath, Version: toolchainVersion(want.Version)}
	path, _, err := download(ctx, t.fetch, t.network, t.index, r)
	if err != nil {
		return "", fault.New(kindOr(err, fault.Network), "getting the Go toolchain %s: %w", want.Version, err)
	}
	if err := verifyZip(path, r.String(), want.Sum); err != nil {
		t.index.discard()
		return "", err
	}
	return path, t.index.save()
}

// verifyZip compares a module's zip with the hash from the checksum database.
func verifyZip(path, name, want string) error {
	sum, err := dirhash.HashZip(path, dirhash.Hash1)
	if err != nil {
		return fault.New(fault.Integrity, "reading %s: %w", name, err)
	}
	if sum != want {
		return fault.New(fault.Integrity, "%s has the hash %s, the checksum database says %s", name, sum, want)
	}
	return nil
}

// unpackToolchain extracts the module and undoes what its format imposes: no
// executable bits, and go.mod under another name (cmd/go/internal/toolchain).
func unpackToolchain(zip string, t Toolchain, dir string) error {
	if err := modzip.Unzip(dir, module.Version{Path: toolchainPath, Version: toolchainVersion(t.Version)}, zip); err != nil {
		return fault.New(fault.Integrity, "unpacking the Go toolchain %s: %w", t.Version, err)
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Name() == "_go.mod" {
			return os.Rename(path, filepath.Join(filepath.Dir(path), "go.mod"))
		}
		name, err := filepath.Rel(dir, path)
		if err == nil && (strings.HasPrefix(name, "bin/") || strings.HasPrefix(name, "pkg/tool/")) {
			err = os.Chmod(path, 0o755)
		}
		return err
	})
}
