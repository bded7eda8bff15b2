package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/fault"
)

// BuildOptions describe an image of ours.
type BuildOptions struct {
	Name   string         // with tag, e.g. registry.k8s.io/kube-apiserver:v1.36.3
	Arch   string         // as Go spells it: amd64, arm64
	Config v1.ImageConfig // entrypoint, command, environment, user, labels
	Layers []Layer        // bottom first
	Epoch  time.Time      // creation time, and mtime of every file
	Dir    string         // the OCI image layout to write; absent or empty
}

// Build writes an image as an OCI image layout and returns it. Same options,
// same bytes.
//
// Layers of files are not compressed: they are unpacked into the node image and
// never shipped, and a layer's digest then depends on no compressor's version.
func Build(ctx context.Context, o BuildOptions) (Image, error) {
	name, err := fullName(o.Name)
	if err != nil {
		return Image{}, err
	}
	if err := makeEmpty(filepath.Join(o.Dir, blobFolder)); err != nil {
		return Image{}, err
	}
	img := Image{Names: []string{name.String()}}
	created := o.Epoch.UTC().Truncate(time.Second)
	img.Config = v1.Image{
		Created:  &created,
		Platform: v1.Platform{Architecture: o.Arch, OS: "linux"},
		Config:   o.Config,
		RootFS:   v1.RootFS{Type: "layers"},
	}
	for i, l := range o.Layers {
		if err := img.addLayer(ctx, o.Dir, l, created); err != nil {
			return Image{}, fault.New(fault.KindOf(err), "building image %s, layer %d: %w", o.Name, i+1, err)
		}
	}
	return img, img.seal(o.Dir)
}

func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return fault.New(fault.Internal, "writing an image layout: %s is not empty", dir)
	}
	return err
}

func (m *Image) addLayer(ctx context.Context, dir string, l Layer, epoch time.Time) error {
	w, err := os.CreateTemp(dir, "layer-")
	if err != nil {
		return err
	}
	defer os.Remove(w.Name())
	defer w.Close()
	if err := l.write(ctx, w, epoch, len(m.Layers) == 0); err != nil {
		return err
	}
	desc, diffID, err := describeLayer(ctx, w)
	if err != nil {
		return err
	}
	b := blob{dir: dir, name: blobName(desc.Digest), size: desc.Size}
	if err := os.Chmod(w.Name(), 0o644); err != nil {
		return err
	}
	if err := os.Rename(w.Name(), filepath.Join(dir, b.name)); err != nil {
		return err
	}
	m.Layers = append(m.Layers, desc)
	m.blobs = append(m.blobs, b)
	m.Config.RootFS.DiffIDs = append(m.Config.RootFS.DiffIDs, diffID)
	return nil
}

// seal writes config, manifest, index and the layout's marker.
func (m *Image) seal(dir string) error {
	var err error
	if m.RawConfig, err = json.Marshal(m.Config); err != nil {
		return err
	}
	m.ConfigDesc = describe(v1.MediaTypeImageConfig, m.RawConfig)
	if err := m.makeManifest(); err != nil {
		return err
	}
	entry := m.Manifest
	entry.Annotations = map[string]string{annotationName: m.Names[0], v1.AnnotationRefName: m.Names[0]}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{entry},
	})
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		blobName(m.ConfigDesc.Digest): m.RawConfig,
		blobName(m.Manifest.Digest):   m.RawManifest,
		v1.ImageIndexFile:             index,
		v1.ImageLayoutFile:            []byte(`{"imageLayoutVersion":"` + v1.ImageLayoutVersion + `"}`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeManifest derives the manifest from config and layers.
func (m *Image) makeManifest() (err error) {
	m.RawManifest, err = json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    m.ConfigDesc,
		Layers:    m.Layers,
	})
	m.Manifest = describe(v1.MediaTypeImageManifest, m.RawManifest)
	m.Manifest.Platform = &v1.Platform{Architecture: m.Config.Architecture, OS: m.Config.OS, Variant: m.Config.Variant}
	return err
}

func describe(mediaType string, data []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

const (
	blobFolder     = "blobs/sha256"
	annotationName = "io.containerd.image.name" // full reference; image-spec's ref.name may be the tag alone
	maxDocument    = 8 << 20                    // bytes of a manifest, config or index
)

func blobName(d digest.Digest) string { return blobFolder + "/" + d.Encoded() }

// decode parses a JSON document of an image; what says which, for the error.
func decode(data []byte, what string, into any) error {
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(into); err != nil {
		return fault.New(fault.Input, "parsing %s: %w", what, err)
	}
	return nil
}
