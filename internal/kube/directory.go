package kube

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/store"
)

// Directory is a local folder with the files of a release, either directly in
// it or in a release server's layout (VERSION/bin/linux/ARCH). Checksum files
// beside them are honoured.
type Directory struct {
	Path    string
	Version Version
	Arch    string // Go's name
	Store   *store.Store
}

// Resolve takes the files into the store, so that the folder is not needed
// again, and returns their digests.
func (d Directory) Resolve(ctx context.Context) (f Files, err error) {
	ctx, task := event.Start(ctx, "take Kubernetes "+d.Version.String()+" from "+d.Path)
	defer func() { task.Done(err) }()
	f = Files{Origin: d.Path, Programs: map[string]Blob{}, Archives: map[string]Blob{}}
	dir, err := d.find()
	if err != nil {
		return Files{}, err
	}
	for _, name := range nodePrograms {
		if f.Programs[name], err = d.take(ctx, dir, name); err != nil {
			return Files{}, d.missing(dir, name, err)
		}
	}
	for _, name := range releaseArchives {
		if f.Archives[name], err = d.take(ctx, dir, name+".tar"); err != nil {
			return Files{}, d.missing(dir, name+".tar", err)
		}
	}
	for _, name := range optionalArchives {
		b, err := d.take(ctx, dir, name+".tar")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Files{}, err
		}
		f.Archives[name] = b
	}
	return f, nil
}

// find returns the folder that holds the files themselves.
func (d Directory) find() (string, error) {
	if info, err := os.Stat(d.Path); err != nil || !info.IsDir() {
		return "", fault.Hint(fault.New(fault.Input, "kubernetes.path: %s is no folder", d.Path), "the path is relative to the spec")
	}
	layout := filepath.Join(d.Path, d.Version.String(), "bin", "linux", d.Arch)
	if info, err := os.Stat(layout); err == nil && info.IsDir() {
		return layout, nil
	}
	return d.Path, nil
}

func (d Directory) missing(dir, name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fault.Hint(fault.New(fault.Input, "%s is missing", filepath.Join(dir, name)),
		"source directory needs the programs kubeadm, kubectl and kubelet and the image archives %s.tar", strings.Join(releaseArchives, ".tar, "))
}

// take puts one file into the store and compares it with its checksum file.
func (d Directory) take(ctx context.Context, dir, name string) (Blob, error) {
	if err := ctx.Err(); err != nil {
		return Blob{}, err
	}
	path := filepath.Join(dir, name)
	in, err := os.Open(path)
	if err != nil {
		return Blob{}, err
	}
	defer in.Close()
	h := sha512.New()
	digest, size, err := d.Store.PutBlob(io.TeeReader(in, h))
	if err != nil {
		return Blob{}, fmt.Errorf("taking %s into the store: %w", path, err)
	}
	for suffix, sum := range map[string]string{".sha256": digest, ".sha512": hex.EncodeToString(h.Sum(nil))} {
		if err := compareChecksum(path, suffix, sum); err != nil {
			return Blob{}, err
		}
	}
	return Blob{SHA256: digest, Size: size}, nil
}

// compareChecksum compares a file's digest with its checksum file, if there is one.
func compareChecksum(path, suffix, sum string) error {
	text, err := os.ReadFile(path + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	want, err := parseChecksum(text, len(sum)/2)
	if err != nil {
		return fault.New(fault.Integrity, "%s%s: %w", path, suffix, err)
	}
	if want != sum {
		return fault.New(fault.Integrity, "%s is not what %s%s says: it has %s, must have %s", path, filepath.Base(path), suffix, sum, want)
	}
	return nil
}
