package oci

import (
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/fault"
)

// Media types of Docker's registry format, which has the shape of OCI's.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// maxDepth is how deep indexes may nest; `docker save` nests one.
const maxDepth = 4

// layout reads the images of an OCI image layout (image-spec, image-layout.md).
func (a contents) layout() ([]Image, error) {
	b, err := a.find(v1.ImageIndexFile)
	if err != nil {
		return nil, fault.New(fault.Input, "it is neither a docker archive (manifest.json) nor an OCI layout (index.json)")
	}
	raw, err := b.read()
	if err != nil {
		return nil, err
	}
	var images []Image
	return images, a.walk(raw, nil, 0, &images)
}

// walk appends the wanted images of an index. An image inherits the names of
// the index that lists it.
func (a contents) walk(raw []byte, names []string, depth int, images *[]Image) error {
	var index v1.Index
	if err := decode(raw, "an index", &index); err != nil {
		return err
	}
	if depth > maxDepth || len(index.Manifests) > maxEntries || len(*images) > maxEntries {
		return fault.New(fault.Input, "its indexes are too deep or too long")
	}
	for _, d := range index.Manifests {
		doc, ok, err := a.document(d)
		if err != nil {
			return err
		}
		if !ok || d.Annotations["vnd.docker.reference.type"] != "" {
			continue // another platform's, or an attestation
		}
		named := namesOf(d, names)
		switch d.MediaType {
		case v1.MediaTypeImageIndex, dockerList:
			err = a.walk(doc, named, depth+1, images)
		case v1.MediaTypeImageManifest, dockerManifest:
			err = a.add(d, doc, named, images)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func namesOf(d v1.Descriptor, inherited []string) []string {
	for _, key := range []string{annotationName, v1.AnnotationRefName} {
		if n := d.Annotations[key]; strings.Contains(n, ":") {
			return []string{n}
		}
	}
	return slices.Clone(inherited)
}

// document returns the verified bytes that d names, or false when d is for
// another platform: such blobs need not be in the archive.
func (a contents) document(d v1.Descriptor) ([]byte, bool, error) {
	if err := checkDigest(d.Digest); err != nil {
		return nil, false, err
	}
	if d.Platform != nil && !a.options.wants(*d.Platform) {
		return nil, false, nil
	}
	b, err := a.find(blobName(d.Digest))
	if err != nil {
		return nil, false, err
	}
	raw, err := b.read()
	if err != nil {
		return nil, false, err
	}
	if got := d.Digest.Algorithm().FromBytes(raw); got != d.Digest {
		return nil, false, fault.New(fault.Integrity, "document %s has digest %s", d.Digest, got)
	}
	return raw, true, nil
}

// add appends the image of a manifest, if it is for the wanted platform.
func (a contents) add(d v1.Descriptor, raw []byte, names []string, images *[]Image) error {
	var doc v1.Manifest
	if err := decode(raw, "a manifest", &doc); err != nil {
		return err
	}
	config := doc.Config
	config.Platform = nil
	rawConfig, _, err := a.document(config)
	if err != nil {
		return err
	}
	m := Image{Names: names, Layers: doc.Layers, RawManifest: raw, RawConfig: rawConfig}
	if err := decode(rawConfig, "a config", &m.Config); err != nil {
		return err
	}
	if !a.options.wants(m.Config.Platform) {
		return nil
	}
	m.Manifest = describe(d.MediaType, raw)
	m.Manifest.Platform = &v1.Platform{Architecture: m.Config.Architecture, OS: m.Config.OS, Variant: m.Config.Variant}
	m.ConfigDesc = describe(doc.Config.MediaType, rawConfig)
	for _, l := range doc.Layers {
		if err := checkDigest(l.Digest); err != nil {
			return err
		}
		b, err := a.find(blobName(l.Digest))
		if err != nil {
			return err
		}
		m.blobs = append(m.blobs, b)
	}
	*images = append(*images, m)
	return nil
}
