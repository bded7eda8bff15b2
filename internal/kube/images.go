package kube

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/store"
)

// Image describes a container image to make, as data for package oci.
type Image struct {
	Name       string // full reference, as kubeadm spells it
	Entrypoint []string
	Env        []string
	User       string // uid:gid; "" is root
	WorkingDir string
	Ports      []string // exposed, e.g. 53/udp
	// Root is a folder on the host that is the bottom of the image, with its
	// owners; "" for none.
	Root  string
	Files []ImageFile
}

// ImageFile is one file, folder or link of an image, owned by root.
type ImageFile struct {
	Path    string      // absolute, in the image
	Source  string      // file on the host
	Content []byte      // when Source and Link are empty
	Link    string      // target of a symbolic link
	Dir     bool        // an empty folder
	Mode    fs.FileMode // permission bits, with fs.ModeSticky; 0 is 0644, for a folder 0755
}

// ImageOptions say what images are made of.
type ImageOptions struct {
	// List is what `kubeadm config images list` says (ListImages).
	List       []string
	Kubernetes Version
	Constants  Constants
	Programs   Binaries // the control plane, etcd, etcdctl, etcdutl, coredns, pause
	// CACertificates is a PEM bundle on the host for images whose programs
	// speak TLS to servers outside the cluster.
	CACertificates string
	// ProxyRoot is an unpacked root with nftables, iptables (nft and legacy
	// variants), conntrack and kmod, for kube-proxy.
	ProxyRoot string
}

const imagePath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Images describes the images of a list: kubeadm's, or those of it that are
// made here. An image of another name or
// tag than those that the programs were compiled for is an Internal fault:
// then the constants were misread.
func Images(o ImageOptions) ([]Image, error) {
	var images []Image
	for _, ref := range o.List {
		name, tag := splitReference(ref)
		if want := o.tags()[name]; want == "" || want != tag {
			return nil, fault.New(fault.Internal, "kubeadm %s lists the image %s, but what was built is %s %q", o.Kubernetes, ref, name, want)
		}
		image, err := o.image(name)
		if err != nil {
			return nil, err
		}
		image.Name = ref
		images = append(images, image)
	}
	return images, nil
}

// tags returns the expected images and their tags.
func (o ImageOptions) tags() map[string]string {
	v := o.Kubernetes.String()
	return map[string]string{
		"kube-apiserver": v, "kube-controller-manager": v, "kube-scheduler": v, "kube-proxy": v,
		"coredns": o.Constants.CoreDNS, "etcd": o.Constants.Etcd, "pause": o.Constants.Pause,
	}
}

// splitReference returns the last part of an image's name, and its tag.
func splitReference(ref string) (name, tag string) {
	name, tag, _ = strings.Cut(path.Base(ref), ":")
	return name, tag
}

// image describes one image. Kubernetes' own and etcd run as root, as
// upstream's do, because kubeadm's static pods read files of root.
func (o ImageOptions) image(name string) (Image, error) {
	switch name {
	case "pause":
		return o.make(Image{Entrypoint: []string{"/pause"}, User: "65535:65535"}, "/", "pause")
	case "coredns":
		base := Image{Entrypoint: []string{"/coredns"}, User: "65532:65532", WorkingDir: "/", Ports: []string{"53/tcp", "53/udp"}, Files: o.baseFiles()}
		return o.make(base, "/", "coredns")
	case "etcd":
		base := Image{Entrypoint: []string{"/usr/local/bin/etcd"}, WorkingDir: "/var/etcd", Ports: []string{"2379/tcp", "2380/tcp"}, Files: o.baseFiles()}
		base.Files = append(base.Files, ImageFile{Path: "/var/etcd", Dir: true, Mode: 0o700})
		return o.make(base, "/usr/local/bin", "etcd", "etcdctl", "etcdutl")
	case "kube-proxy":
		base := Image{Entrypoint: []string{"/usr/local/bin/kube-proxy"}, Root: o.ProxyRoot, Files: nftLinks()}
		return o.make(base, "/usr/local/bin", "kube-proxy")
	default:
		return o.make(Image{Entrypoint: []string{"/usr/local/bin/" + name}, Files: o.baseFiles()}, "/usr/local/bin", name)
	}
}

// make adds programs to an image.
func (o ImageOptions) make(image Image, dir string, names ...string) (Image, error) {
	programs, err := o.Programs.Select(names...)
	if err != nil {
		return Image{}, err
	}
	image.Env = []string{imagePath}
	for _, n := range names {
		image.Files = append(image.Files, ImageFile{Path: path.Join(dir, n), Source: programs[n].Path, Mode: 0o755})
	}
	return image, nil
}

// baseFiles is what a static program may look for besides itself.
func (o ImageOptions) baseFiles() []ImageFile {
	files := []ImageFile{
		{Path: "/etc/passwd", Content: []byte("root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")},
		{Path: "/etc/group", Content: []byte("root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n")},
		{Path: "/tmp", Dir: true, Mode: fs.ModeSticky | 0o777},
	}
	if o.CACertificates != "" {
		files = append(files, ImageFile{Path: "/etc/ssl/certs/ca-certificates.crt", Source: o.CACertificates})
	}
	return files
}

// nftLinks makes the plain names of iptables mean the nft variants. Debian
// does so by alternatives, which a package's script sets up; none has run.
func nftLinks() []ImageFile {
	var links []ImageFile
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, action := range []string{"", "-save", "-restore"} {
			links = append(links, ImageFile{Path: "/usr/sbin/" + name + action, Link: "xtables-nft-multi"})
		}
	}
	return links
}

// ListImages runs `kubeadm config images list` for a version and returns what
// it prints, one image a line. The program gets an empty root and no network.
func ListImages(ctx context.Context, s *store.Store, kubeadm Binary, v Version) ([]string, error) {
	root, err := s.TempDir("kubeadm")
	if err != nil {
		return nil, err
	}
	defer store.RemoveAll(root)
	if err := os.Mkdir(filepath.Join(root, "bin"), 0o755); err != nil {
		return nil, err
	}
	out, err := sandbox.Output(ctx, sandbox.Command{
		Root:   root,
		Args:   []string{"/bin/kubeadm", "config", "images", "list", "--kubernetes-version", v.String()},
		Mounts: []sandbox.Mount{{Source: kubeadm.Path, Target: "/bin/kubeadm", ReadOnly: true}},
	})
	if err != nil {
		return nil, err
	}
	list := strings.Fields(string(out))
	if len(list) == 0 {
		return nil, fault.New(fault.Internal, "kubeadm %s lists no images", v)
	}
	return list, nil
}
