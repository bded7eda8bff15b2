package lock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"imagebuilder.dev/internal/fault"
)

// FileName returns where the lock of a spec stands: beside it, image.lock.yaml
// for a spec of any name but one that shares its folder with others.
func FileName(spec string) string {
	base := filepath.Base(spec)
	stem := base[:len(base)-len(filepath.Ext(base))]
	if stem == "image" || stem == "spec" {
		stem = "image"
	}
	return filepath.Join(filepath.Dir(spec), stem+".lock.yaml")
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
	if err := d.Decode(l); err != nil {
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

func (l *Lock) validate() error {
	for _, list := range [][]Package{l.Packages, l.Tools} {
		for _, p := range list {
			if len(p.SHA256) != 64 || p.Size <= 0 || p.Path == "" || p.For == "" {
				return fmt.Errorf("package %s is not complete", p.Name)
			}
		}
	}
	for _, f := range l.Kubernetes.Files {
		if len(f.SHA256) != 64 {
			return fmt.Errorf("file %s has no digest", f.Name)
		}
	}
	return nil
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
		return err
	}
	return os.Rename(tmp.Name(), path)
}
