package oci

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/fault"
)

// ReadOptions say what is wanted of an archive.
type ReadOptions struct {
	Arch string // the architecture to take, e.g. amd64; "" takes whatever there is, once per image
	// StripArch drops "-<arch>" from the end of repositories: Kubernetes'
	// release server publishes registry.k8s.io/kube-apiserver-amd64.
	StripArch bool
}

// maxEntries bounds the entries of an archive and the images of an index.
const maxEntries = 1 << 16

// ReadArchive reads the images of a `docker save` archive, an OCI image layout
// in a tar, or an OCI image layout folder. Digests of manifests, configs and
// stored layers are verified; nothing is unpacked.
//
// Errors are fault.Input (no such archive) or fault.Integrity (a digest differs).
func ReadArchive(ctx context.Context, name string, o ReadOptions) ([]Image, error) {
	images, err := readArchive(ctx, name, o)
	if err == nil && len(images) == 0 {
		err = fault.New(fault.Input, "it holds no image for architecture %q", o.Arch)
	}
	if err != nil {
		return nil, fault.New(kindOf(err), "reading image archive %s: %w", name, err)
	}
	return images, nil
}

// kindOf is fault.KindOf, but a file that cannot be opened is the user's.
func kindOf(err error) fault.Kind {
	if _, ok := errors.AsType[*fs.PathError](err); ok && fault.KindOf(err) == fault.Internal {
		return fault.Input
	}
	return fault.KindOf(err)
}

func readArchive(ctx context.Context, name string, o ReadOptions) ([]Image, error) {
	files, err := openArchive(name)
	if err != nil {
		return nil, err
	}
	a := contents{files: files, options: o}
	var images []Image
	if _, ok := files["manifest.json"]; ok {
		images, err = a.docker()
	} else {
		images, err = a.layout()
	}
	if err != nil {
		return nil, err
	}
	for i := range images {
		if err := images[i].finish(ctx, o); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// contents is what both formats are read from: the files by clean name.
type contents struct {
	files   map[string]blob
	options ReadOptions
}

func (a contents) find(name string) (blob, error) {
	b, ok := a.files[path.Clean(name)]
	if !ok {
		return blob{}, fault.New(fault.Input, "%s is missing", name)
	}
	return b, nil
}

func openArchive(name string) (map[string]blob, error) {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return listLayout(name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return indexTar(f)
}

// listLayout lists the regular files of a layout folder. Links are left out: a
// layout has none.
func listLayout(dir string) (map[string]blob, error) {
	files := map[string]blob{}
	for _, sub := range []string{".", blobFolder} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && sub == "." {
			return nil, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return nil, err
			}
			if info.Mode().IsRegular() {
				name := path.Join(sub, e.Name())
				files[name] = blob{dir: dir, name: name, size: info.Size()}
			}
		}
	}
	return files, nil
}

// indexTar finds where the files of a tar start. Names are only keys of the
// result, so no name can lead out of anything. Older `docker save` archives
// share layers by links, which are followed inside the archive.
func indexTar(f *os.File) (map[string]blob, error) {
	files, links := map[string]blob{}, map[string]string{}
	dir, base := filepath.Split(f.Name())
	tr := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fault.New(fault.Input, "it is no tar archive: %w", err)
		}
		if n >= maxEntries {
			return nil, fault.New(fault.Input, "it has more than %d entries", maxEntries)
		}
		start, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			files[name] = blob{dir: dir, name: base, offset: start, size: h.Size}
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			links[name] = path.Clean(h.Linkname)
		}
	}
	for name, target := range links {
		if b, ok := files[target]; ok {
			files[name] = b
		}
	}
	return files, nil
}

// finish checks the layers and completes the names.
func (m *Image) finish(ctx context.Context, o ReadOptions) error {
	if len(m.Config.RootFS.DiffIDs) != len(m.Layers) {
		return fault.New(fault.Input, "config %s names %d layers, its manifest %d", m.ConfigDesc.Digest, len(m.Config.RootFS.DiffIDs), len(m.Layers))
	}
	for i, d := range m.Config.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := m.blobs[i].digest()
		if err != nil {
			return err
		}
		if got != m.Layers[i].Digest {
			return fault.New(fault.Integrity, "layer %d has digest %s, its manifest says %s", i+1, got, m.Layers[i].Digest)
		}
	}
	for i, name := range m.Names {
		full, err := fullName(name)
		if err != nil {
			return err
		}
		m.Names[i] = full.String()
		if o.StripArch {
			m.Names[i] = stripArch(full, m.Config.Architecture)
		}
	}
	return nil
}

func stripArch(name reference.NamedTagged, arch string) string {
	repository, found := strings.CutSuffix(name.Name(), "-"+arch)
	if arch == "" || !found || strings.HasSuffix(repository, "/") {
		return name.String()
	}
	return repository + ":" + name.Tag()
}

// wants says whether the image is of the wanted platform.
func (o ReadOptions) wants(p v1.Platform) bool {
	return p.OS == "linux" && (o.Arch == "" || o.Arch == p.Architecture)
}

// checkDigest refuses what is not a well-formed SHA-256, the one algorithm that
// images are published with.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return fault.New(fault.Input, "%q is no SHA-256 digest", string(d))
	}
	return nil
}
