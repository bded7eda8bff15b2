package oci

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/fault"
)

// dockerEntry is one image of the manifest.json of `docker save`.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// docker reads a `docker save` archive. An archive of a newer Docker is an OCI
// layout too; then the manifest there is kept, so that the image's digest is
// the published one. An older one gets a manifest made here.
func (a contents) docker() ([]Image, error) {
	b, err := a.find("manifest.json")
	if err != nil {
		return nil, err
	}
	raw, err := b.read()
	if err != nil {
		return nil, err
	}
	var entries []dockerEntry
	if err := decode(raw, "manifest.json", &entries); err != nil {
		return nil, err
	}
	var published []Image
	if _, ok := a.files[v1.ImageIndexFile]; ok {
		if published, err = a.layout(); err != nil {
			return nil, err
		}
	}
	var images []Image
	for _, e := range entries {
		m, err := a.entry(e)
		if err != nil {
			return nil, err
		}
		if !a.options.wants(m.Config.Platform) {
			continue
		}
		i := slices.IndexFunc(published, func(p Image) bool { return p.ConfigDesc.Digest == m.ConfigDesc.Digest })
		if i >= 0 {
			names := m.Names
			m = published[i]
			m.Names = names
		}
		images = append(images, m)
	}
	return images, nil
}

func (a contents) entry(e dockerEntry) (Image, error) {
	b, err := a.find(e.Config)
	if err != nil {
		return Image{}, err
	}
	m := Image{Names: slices.Clone(e.RepoTags)}
	if m.RawConfig, err = b.read(); err != nil {
		return Image{}, err
	}
	m.ConfigDesc = describe(v1.MediaTypeImageConfig, m.RawConfig)
	// The config's file is named by its digest in every version of the format.
	named := strings.TrimSuffix(path.Base(e.Config), ".json")
	if d := digest.NewDigestFromEncoded(digest.SHA256, named); d.Validate() == nil && d != m.ConfigDesc.Digest {
		return Image{}, fault.New(fault.Integrity, "config %s has digest %s", e.Config, m.ConfigDesc.Digest)
	}
	if err := decode(m.RawConfig, "config "+e.Config, &m.Config); err != nil {
		return Image{}, err
	}
	for _, name := range e.Layers {
		if err := a.dockerLayer(&m, name); err != nil {
			return Image{}, err
		}
	}
	return m, m.makeManifest()
}

func (a contents) dockerLayer(m *Image, name string) error {
	b, err := a.find(name)
	if err != nil {
		return err
	}
	d, err := b.digest()
	if err != nil {
		return err
	}
	mediaType, err := b.layerType()
	if err != nil {
		return err
	}
	m.Layers = append(m.Layers, v1.Descriptor{MediaType: mediaType, Digest: d, Size: b.size})
	m.blobs = append(m.blobs, b)
	return nil
}

// layerType returns the media type that the layer's first bytes show.
func (b blob) layerType() (string, error) {
	f, err := b.open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, mediaType, err := plain(f)
	if err != nil {
		return "", err
	}
	return mediaType, r.Close()
}
