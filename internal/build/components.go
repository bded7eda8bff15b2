package build

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/kube"
	"imagebuilder.dev/internal/oci"
	"imagebuilder.dev/internal/phase"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/tools"
)

// imagesVersion changes when the same programs would make other images.
const imagesVersion = 1

// registry is where kubeadm looks for its images.
const registry = "registry.k8s.io"

// components are Kubernetes' programs and images. They are compiled at most
// once a build, and only when a phase needs them.
type components struct {
	in       Inputs
	once     func(context.Context) (kube.Binaries, error)
	archives map[string]string // paths of image archives, by short name; set by once
}

func (in Inputs) components() *components {
	c := &components{in: in}
	var mu sync.Mutex
	var have kube.Binaries
	c.once = func(ctx context.Context) (kube.Binaries, error) {
		mu.Lock()
		defer mu.Unlock()
		if have != nil {
			return have, nil
		}
		all, err := c.compile(ctx)
		if err == nil {
			have = all
		}
		return all, err
	}
	return c
}

// compile returns all programs: compiled ones, and those that a release server
// or folder gave.
func (c *components) compile(ctx context.Context) (kube.Binaries, error) {
	l := c.in.Lock.Kubernetes
	all, err := c.in.Kube.Compile(ctx, l.Modules)
	if err != nil {
		return nil, err
	}
	all = maps.Clone(all)
	if c.made("pause") {
		cc, err := c.in.tools(ctx, "compile")
		if err != nil {
			return nil, err
		}
		all["pause"], err = c.in.Kube.Pause(ctx, l.Modules, kube.CCompiler{Root: cc, Key: tools.Key("compile", c.in.Lock.For("compile"))})
		if err != nil {
			return nil, err
		}
	}
	if l.Files == nil {
		return all, nil
	}
	if err := c.download(ctx); err != nil {
		return nil, err
	}
	given, archives, err := l.Files.Open(ctx, c.in.Fetch.Store())
	if err != nil {
		return nil, err
	}
	maps.Copy(all, given)
	c.archives = archives
	return all, nil
}

// download brings the files of a release server here. Those of a folder were
// taken into the store when it was resolved.
func (c *components) download(ctx context.Context) error {
	l := c.in.Lock.Kubernetes
	if l.Source == "directory" {
		return nil
	}
	_, err := kube.Release{Base: l.Files.Origin, Version: kube.Version(l.Version), Arch: c.in.Spec.Spec.OS.Arch, Fetch: c.in.Fetch}.Download(ctx, *l.Files)
	return err
}

// made reports whether an image is made here, not read from an archive.
func (c *components) made(image string) bool {
	files := c.in.Lock.Kubernetes.Files
	return files == nil || slices.Contains(files.Lacks(), image)
}

func (c *components) open(ctx context.Context) (map[string]string, error) {
	all, err := c.once(ctx)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for name, b := range all {
		paths[name] = b.Path
	}
	return paths, nil
}

// workspace returns the programs of a workspace that keep accepts.
func (c *components) workspace(name string, keep func(program string) bool) phase.Programs {
	p := phase.Programs{Open: c.open}
	l := c.in.Lock.Kubernetes.Modules
	for _, w := range l.Plan.Workspaces {
		if w.Name != name {
			continue
		}
		key := l.CompileKey(w)
		for _, program := range w.Programs {
			if keep(program.Name) {
				p.List = append(p.List, phase.Program{Name: program.Name, Digest: key})
			}
		}
	}
	return p
}

func all(string) bool { return true }

func (c *components) runtime() phase.Programs { return c.workspace(kube.WorkspaceContainerd, all) }

func (c *components) kubernetes() phase.KubernetesInputs {
	return phase.KubernetesInputs{
		Version:  c.in.Lock.Kubernetes.Version,
		Programs: c.node(),
		CNI:      c.workspace(kube.WorkspaceCNI, all),
		Images:   c.imageInputs(),
		Open:     c.images,
		Pause:    c.reference("pause"),
	}
}

// node returns the programs that run on the node itself.
func (c *components) node() phase.Programs {
	names := []string{"kubelet", "kubeadm", "kubectl"}
	files := c.in.Lock.Kubernetes.Files
	if files == nil {
		return c.workspace(kube.WorkspaceKubernetes, func(n string) bool { return slices.Contains(names, n) })
	}
	p := phase.Programs{Open: c.open}
	for _, n := range names {
		p.List = append(p.List, phase.Program{Name: n, Digest: files.Programs[n].SHA256})
	}
	return p
}

// tags are the images that the locked kubeadm names, and their tags.
func (c *components) tags() map[string]string {
	l := c.in.Lock.Kubernetes
	constants := l.Modules.Plan.Constants
	return map[string]string{
		"kube-apiserver": l.Version, "kube-controller-manager": l.Version, "kube-scheduler": l.Version, "kube-proxy": l.Version,
		"coredns/coredns": constants.CoreDNS, "etcd": constants.Etcd, "pause": constants.Pause,
	}
}

func (c *components) reference(name string) string {
	return registry + "/" + name + ":" + c.tags()[name]
}

// imageInputs declares the images by what their programs are compiled from.
func (c *components) imageInputs() []phase.Input {
	l := c.in.Lock.Kubernetes.Modules
	parts := []string{fmt.Sprint(imagesVersion), tools.Key("proxy", c.in.Lock.For("proxy")), tools.Key("compile", c.in.Lock.For("compile")), l.Source.Sum}
	for _, w := range l.Plan.Workspaces {
		if w.Name == kube.WorkspaceKubernetes || w.Name == kube.WorkspaceEtcd || w.Name == kube.WorkspaceCoreDNS {
			parts = append(parts, l.CompileKey(w))
		}
	}
	var out []phase.Input
	for _, name := range slices.Sorted(maps.Keys(c.tags())) {
		content := digest(append(parts, name)...)
		if short := path.Base(name); !c.made(short) {
			content = c.in.Lock.Kubernetes.Files.Archives[short].SHA256
		}
		out = append(out, phase.Input{Kind: "image", Name: c.reference(name), Digest: content})
	}
	return out
}

// images makes the container images in a folder, or reads them from their
// archives. Those made trust the CAs that the node's root trusts.
func (c *components) images(ctx context.Context, root, dir string) ([]oci.Image, error) {
	programs, err := c.once(ctx)
	if err != nil {
		return nil, err
	}
	proxy, err := c.proxyRoot(ctx)
	if err != nil {
		return nil, err
	}
	var images []oci.Image
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.tags())) {
		if c.made(path.Base(name)) {
			list = append(list, c.reference(name))
			continue
		}
		read, err := oci.ReadArchive(ctx, c.archives[path.Base(name)], oci.ReadOptions{Arch: c.in.Spec.Spec.OS.Arch, StripArch: true})
		if err != nil {
			return nil, fmt.Errorf("read the image archive of %s: %w", name, err)
		}
		images = append(images, read...)
	}
	descriptions, err := kube.Images(kube.ImageOptions{
		List: list, Kubernetes: kube.Version(c.in.Lock.Kubernetes.Version), Constants: c.in.Lock.Kubernetes.Modules.Plan.Constants,
		Programs: programs, ProxyRoot: proxy, CACertificates: filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"),
	})
	if err != nil {
		return nil, err
	}
	for i, d := range descriptions {
		image, err := c.image(ctx, filepath.Join(dir, fmt.Sprint(i)), d)
		if err != nil {
			return nil, fmt.Errorf("make the image %s: %w", d.Name, err)
		}
		images = append(images, image)
	}
	return images, nil
}

// proxyRoot returns the root of kube-proxy's image. Its programs must start
// there: a library or loader that is missing would show only on a node.
func (c *components) proxyRoot(ctx context.Context) (string, error) {
	root, err := c.in.tools(ctx, "proxy")
	if err != nil {
		return "", err
	}
	for _, args := range [][]string{{"nft", "--version"}, {"iptables-nft", "--version"}, {"conntrack", "--version"}, {"modprobe", "--version"}} {
		if err := sandbox.Run(ctx, sandbox.Command{Root: root, ReadOnly: true, Args: args}); err != nil {
			return "", fmt.Errorf("the root of kube-proxy's image does not work: %w", err)
		}
	}
	return root, nil
}

func (c *components) image(ctx context.Context, dir string, d kube.Image) (oci.Image, error) {
	config := v1.ImageConfig{Entrypoint: d.Entrypoint, Env: d.Env, User: d.User, WorkingDir: d.WorkingDir}
	for _, p := range d.Ports {
		if config.ExposedPorts == nil {
			config.ExposedPorts = map[string]struct{}{}
		}
		config.ExposedPorts[p] = struct{}{}
	}
	var layers []oci.Layer
	if d.Root != "" {
		layers = append(layers, oci.Layer{Files: []oci.File{{Path: "/", Source: d.Root, KeepOwner: true}}})
	}
	var files []oci.File
	for _, f := range d.Files {
		files = append(files, oci.File{Path: f.Path, Source: f.Source, Content: f.Content, Link: f.Link, Dir: f.Dir, Mode: f.Mode})
	}
	return oci.Build(ctx, oci.BuildOptions{
		Name: d.Name, Arch: c.in.Spec.Spec.OS.Arch, Config: config, Layers: append(layers, oci.Layer{Files: files}),
		Epoch: c.in.Lock.Epoch, Dir: dir,
	})
}
