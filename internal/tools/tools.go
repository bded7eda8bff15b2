// Package tools makes tools roots: small pinned roots with the distribution's
// own tools that a build runs. They are only unpacked, no script of theirs is
// run, and nothing of the host's is used in their place.
package tools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"imagebuilder.dev/internal/deb"
	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/lock"
)

// version changes when a root made of the same packages is another one.
const version = 1

// Work is a folder that every tools root has for binding something in.
const Work = "/work"

// Key returns the name of the root in the store. It depends on the packages
// and nothing else.
func Key(name string, packages []lock.Package) string {
	h := sha256.New()
	fmt.Fprintf(h, "tools %d\n", version)
	for _, p := range packages {
		fmt.Fprintln(h, p.SHA256)
	}
	return "tools-" + name + "-" + hex.EncodeToString(h.Sum(nil))[:32]
}

// Root returns the folder of a tools root made of packages, fetching and
// unpacking what is missing. urls says where a package can be fetched.
func Root(ctx context.Context, f *fetch.Fetcher, name string, packages []lock.Package, urls func(lock.Package) []string) (dir string, err error) {
	key := Key(name, packages)
	if dir, ok := f.Store().Layer(key); ok {
		return dir, nil
	}
	ctx, task := event.Start(ctx, "tools root: "+name)
	defer func() { task.Done(err) }()
	paths, err := Fetch(ctx, f, packages, urls)
	if err != nil {
		return "", err
	}
	return f.Store().Make(ctx, key, func(dir string) error {
		done := int64(0)
		_, err := deb.Unpack(ctx, dir, paths, func(int) {
			done++
			task.Progress(done, int64(len(paths)), event.Items)
		})
		if err != nil {
			return err
		}
		return finish(dir)
	})
}

// Fetch brings packages into the store and returns their paths, in order.
func Fetch(ctx context.Context, f *fetch.Fetcher, packages []lock.Package, urls func(lock.Package) []string) ([]string, error) {
	inputs := make([]fetch.Input, len(packages))
	for i, p := range packages {
		inputs[i] = fetch.Input{Name: p.Name + " " + p.Version, URLs: urls(p), Size: p.Size, SHA256: p.SHA256}
	}
	if err := f.Blobs(ctx, "fetch packages", inputs); err != nil {
		return nil, err
	}
	paths := make([]string, len(packages))
	for i, p := range packages {
		paths[i], _ = f.Store().Blob(p.SHA256)
	}
	return paths, nil
}

// finish adds what a maintainer script would have made and the tools rely on.
// Links of a package cannot lead it out of the folder.
func finish(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, d := range []string{Work[1:], "proc", "sys", "dev", "run", "tmp", "etc", "var/lib/dpkg/info", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"} {
		if err := root.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make /%s: %w", d, err)
		}
	}
	for name, content := range map[string]string{
		"etc/passwd":          "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":           "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"var/lib/dpkg/status": "",
	} {
		if _, err := root.Lstat(name); err == nil {
			continue
		}
		if err := root.WriteFile(name, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write /%s: %w", name, err)
		}
	}
	return nil
}
