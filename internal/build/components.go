package build

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/kube"
	"imagebuilder.dev/internal/oci"
	"imagebuilder.dev/internal/phase"
	"imagebuilder.dev/internal/tools"
)

// imagesVersion changes when the same programs would make other images.
const imagesVersion = 1

// registry is where kubeadm looks for its images.
const registry = "registry.k8s.io"

// components are Kubernetes' programs and images. They are compiled at most
// once a build, and only when a phase needs them.
type components struct {
	in   Inputs
	once func(context.Context) (kube.Binaries, error)
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

func (c *components) compile(ctx context.Context) (kube.Binaries, error) {
	l := c.in.Lock.Kubernetes.Modules
	all, err := c.in.Kube.Compile(ctx, l)
	if err != nil {
		return nil, err
	}
	cc, err := c.in.tools(ctx, "compile")
	if err != nil {
		return nil, err
	}
	pause, err := c.in.Kube.Pause(ctx, l, kube.CCompiler{Root: cc, Key: tools.Key("compile", c.in.Lock.For("compile"))})
	if err != nil {
		return nil, err
	}
	all = maps.Clone(all)
	all["pause"] = pause
	return all, nil
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
	node := []string{"kubelet", "kubeadm", "kubectl"}
	return phase.KubernetesInputs{
		Version:  c.in.Lock.Kubernetes.Version,
		Programs: c.workspace(kube.WorkspaceKubernetes, func(n string) bool { return slices.Contains(node, n) }),
		CNI:      c.workspace(kube.WorkspaceCNI, all),
		Images:   c.imageInputs(),
		Open:     c.images,
		Pause:    c.reference("pause"),
	}
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
		out = append(out, phase.Input{Kind: "image", Name: c.reference(name), Digest: digest(append(parts, name)...)})
	}
	return out
}

// images makes the container images in a folder; they trust the CAs that the
// node's root trusts.
func (c *components) images(ctx context.Context, root, dir string) ([]oci.Image, error) {
	programs, err := c.once(ctx)
	if err != nil {
		return nil, err
	}
	proxy, err := c.in.tools(ctx, "proxy")
	if err != nil {
		return nil, err
	}
	var list []string
	for name := range c.tags() {
		list = append(list, c.reference(name))
	}
	slices.Sort(list)
	descriptions, err := kube.Images(kube.ImageOptions{
		List: list, Kubernetes: kube.Version(c.in.Lock.Kubernetes.Version), Constants: c.in.Lock.Kubernetes.Modules.Plan.Constants,
		Programs: programs, ProxyRoot: proxy, CACertificates: filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"),
	})
	if err != nil {
		return nil, err
	}
	images := make([]oci.Image, len(descriptions))
	for i, d := range descriptions {
		if images[i], err = c.image(ctx, filepath.Join(dir, fmt.Sprint(i)), d); err != nil {
			return nil, fmt.Errorf("make the image %s: %w", d.Name, err)
		}
	}
	return images, nil
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
