// Package oci makes, reads and installs container images without a container
// runtime: Build writes an image of ours as an OCI image layout, ReadArchive
// reads the archives that others publish, and WriteContainerd fills the data
// root of a containerd that is started later, so that it finds the images
// unpacked.
//
// Formats: OCI image-spec 1.1 (manifest, config, layout, layer), the archive of
// `docker save`, and the data root of containerd 2.4, which is written with
// containerd's own libraries.
package oci

import (
	"io"
	"os"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/fault"
)

// Image is one image for one platform. Its layers stay in the archive or the
// layout that it was read from, which must not change while the Image is used.
type Image struct {
	Names    []string      // full references, e.g. registry.k8s.io/pause:3.10.2
	Manifest v1.Descriptor // of RawManifest
	Config   v1.Image      // decoded RawConfig
	Layers   []v1.Descriptor

	RawManifest []byte
	RawConfig   []byte
	ConfigDesc  v1.Descriptor // of RawConfig

	blobs []blob // of Layers, in the same order
}

// Layer opens the bytes of layer i as they are stored, compressed or not.
func (m Image) Layer(i int) (io.ReadCloser, error) {
	return m.blobs[i].open()
}

// blob is a run of bytes in a file: a whole file of a layout, or an entry of a
// tar archive.
type blob struct {
	dir, name    string // name lies in dir, symbolic links that leave dir are refused
	offset, size int64
}

type section struct {
	io.Reader
	io.Closer
}

func (b blob) open() (io.ReadCloser, error) {
	f, err := os.OpenInRoot(b.dir, b.name)
	if err != nil {
		return nil, err
	}
	return section{io.NewSectionReader(f, b.offset, b.size), f}, nil
}

// read returns the blob, which must be at most maxDocument bytes.
func (b blob) read() ([]byte, error) {
	if b.size > maxDocument {
		return nil, fault.New(fault.Input, "%s has %d bytes, more than the %d that a document may have", b.name, b.size, maxDocument)
	}
	r, err := b.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, b.size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fault.New(fault.Integrity, "reading %s: %w", b.name, err)
	}
	return data, nil
}

// digest hashes the whole blob.
func (b blob) digest() (digest.Digest, error) {
	r, err := b.open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	return digest.SHA256.FromReader(r)
}

// fullName returns name as the CRI spells it: with a registry and a tag.
func fullName(name string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fault.New(fault.Input, "image name %q: %w", name, err)
	}
	tagged, ok := named.(reference.NamedTagged)
	if !ok {
		return nil, fault.New(fault.Input, "image name %q has no tag", name)
	}
	if _, both := named.(reference.Digested); both {
		return nil, fault.New(fault.Input, "image name %q has a tag and a digest", name)
	}
	return tagged, nil
}
