package lock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/kube"
)

// FileName returns where the lock of a spec stands: beside it, under its name
// with .lock before the extension. So image.yaml has image.lock.yaml, and two
// specs never share a lock.
func FileName(spec string) string {
	ext := filepath.Ext(spec)
	return strings.TrimSuffix(spec, ext) + ".lock" + ext
}

const header = "# Every input of the image, by version, size, digest and origin.\n# Written by `image-builder lock`; commit it beside the spec.\n"

// Encode writes the lock's file: one input a line.
func (l *Lock) Encode() ([]byte, error) {
	var node yaml.Node
	if err := node.Encode(l); err != nil {
		return nil, fmt.Errorf("encode the lock: %w", err)
	}
	oneLineItems(&node)
	var b bytes.Buffer
	b.WriteString(header)
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return nil, fmt.Errorf("encode the lock: %w", err)
	}
	return b.Bytes(), e.Close()
}

// oneLineItems lets each item of a list stand on a line of its own, unless it
// holds a list of such items itself.
func oneLineItems(n *yaml.Node) {
	for _, c := range n.Content {
		oneLineItems(c)
	}
	if n.Kind != yaml.SequenceNode {
		return
	}
	for _, item := range n.Content {
		if item.Kind == yaml.MappingNode && !holdsMappings(item) {
			item.Style = yaml.FlowStyle
		}
	}
	if len(n.Content) > 0 && n.Content[0].Kind == yaml.ScalarNode {
		n.Style = yaml.FlowStyle
	}
}

// holdsMappings reports whether a list of mappings stands anywhere below n.
func holdsMappings(n *yaml.Node) bool {
	for _, c := range n.Content {
		if c.Kind == yaml.SequenceNode && len(c.Content) > 0 && c.Content[0].Kind == yaml.MappingNode {
			return true
		}
		if holdsMappings(c) {
			return true
		}
	}
	return false
}

// Read reads a lock file. One that does not exist gives nil and no error.
func Read(path string) (*Lock, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Input, "read the lock: %w", err)
	}
	return Decode(path, b)
}

// Decode reads a lock; name is for errors.
func Decode(name string, b []byte) (*Lock, error) {
	hint := "it is not meant to be edited: run 'image-builder lock --update' to make it anew"
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	l := &Lock{}
	err := d.Decode(l)
	if err == nil && d.Decode(&yaml.Node{}) != io.EOF {
		err = errors.New("there is more than one document in it")
	}
	if err != nil {
		return nil, fault.Hint(fault.New(fault.Input, "read the lock %s: %w", name, err), "%s", hint)
	}
	if l.Version != Version {
		return nil, fault.Hint(fault.New(fault.Input, "the lock %s has version %d; this builder writes %d", name, l.Version, Version), "run 'image-builder lock --update'")
	}
	if err := l.validate(); err != nil {
		return nil, fault.Hint(fault.New(fault.Integrity, "the lock %s: %w", name, err), "%s", hint)
	}
	return l, nil
}

// validate finds what an edit or a merge by hand leaves behind. That a digest
// is the right one shows when its input is fetched.
func (l *Lock) validate() error {
	if !isSHA256(l.Spec) {
		return errors.New("no hash of the spec")
	}
	for _, r := range l.Repositories {
		if r.Name == "" || !isSHA256(r.SHA256) || len(r.URLs) == 0 {
			return fmt.Errorf("repository %q is not complete", r.Name)
		}
	}
	for _, p := range slices.Concat(l.Packages, l.Tools) {
		if p.Name == "" || p.Version == "" || !isSHA256(p.SHA256) || p.Size <= 0 || p.Path == "" || p.For == "" {
			return fmt.Errorf("package %q is not complete", p.Name)
		}
		if len(l.URLs(p)) == 0 {
			return fmt.Errorf("package %s comes from the repository %q, which is not listed", p.Name, p.Repository)
		}
	}
	return l.Kubernetes.validate()
}

func (k Kubernetes) validate() error {
	blobs := map[string]kube.Blob{}
	if k.Files != nil {
		for name, b := range k.Files.Programs {
			blobs["file "+name] = b
		}
		for name, b := range k.Files.Archives {
			blobs["archive "+name] = b
		}
	}
	for name, b := range k.Modules.Programs {
		blobs["program "+name] = b
	}
	for _, list := range k.Modules.Modules {
		for _, m := range append(list, k.Modules.Source) {
			blobs["go.mod of "+m.Path+" "+m.Version] = m.Mod
			blobs["module "+m.Path+" "+m.Version] = m.Zip
		}
	}
	for _, name := range slices.Sorted(maps.Keys(blobs)) {
		if b := blobs[name]; b != (kube.Blob{}) && (!isSHA256(b.SHA256) || b.Size < 0) {
			return fmt.Errorf("%s has no digest", name)
		}
	}
	return nil
}

// isSHA256 reports whether s is a SHA-256 in lower-case hex.
func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Write writes the lock's file by rename, so that it is whole or as it was.
func (l *Lock) Write(path string) error {
	b, err := l.Encode()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".lock-")
	if err != nil {
		return fault.New(fault.Environment, "write the lock: %w", err)
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(b); err != nil {
		tmp.Close()
		return fmt.Errorf("write the lock %s: %w", path, err)
	}
	if err := errors.Join(tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("write the lock %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fault.New(fault.Environment, "write the lock: %w", err)
	}
	return nil
}
