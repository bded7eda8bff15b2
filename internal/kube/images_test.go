package kube

import (
	"slices"
	"testing"

	"imagebuilder.dev/internal/fault"
)

func exampleImages() ImageOptions {
	o := ImageOptions{
		Kubernetes:     "v1.36.3",
		Constants:      Constants{Pause: "3.10.2", CoreDNS: "v1.14.2", Etcd: "3.6.8-0"},
		Programs:       Binaries{},
		CACertificates: "/ca.pem",
		ProxyRoot:      "/proxy",
		List: []string{
			"r.invalid/kube-apiserver:v1.36.3", "r.invalid/kube-controller-manager:v1.36.3", "r.invalid/kube-scheduler:v1.36.3",
			"r.invalid/kube-proxy:v1.36.3", "r.invalid/coredns/coredns:v1.14.2", "r.invalid/pause:3.10.2", "r.invalid/etcd:3.6.8-0",
		},
	}
	for _, n := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "pause", "etcd", "etcdctl", "etcdutl"} {
		o.Programs[n] = Binary{Path: "/bin/" + n}
	}
	return o
}

func TestImages(t *testing.T) {
	o := exampleImages()
	images, err := Images(o)
	if err != nil {
		t.Fatal(err)
	}
	for i, image := range images {
		if image.Name != o.List[i] {
			t.Errorf("image %d is %s, kubeadm says %s", i, image.Name, o.List[i])
		}
		paths := map[string]bool{}
		for _, f := range image.Files {
			paths[f.Path] = true
		}
		if !paths[image.Entrypoint[0]] {
			t.Errorf("%s does not hold its entry point %s", image.Name, image.Entrypoint[0])
		}
		if !slices.Contains(image.Env, imagePath) {
			t.Errorf("%s has no PATH", image.Name)
		}
	}
	if images[3].Root != "/proxy" {
		t.Error("kube-proxy stands on no root")
	}
}

func TestImagesRefuse(t *testing.T) {
	for what, change := range map[string]func(*ImageOptions){
		"another tag":     func(o *ImageOptions) { o.List[6] = "r.invalid/etcd:3.6.7-0" },
		"an unknown name": func(o *ImageOptions) { o.List[5] = "r.invalid/pausing:3.10.2" },
		"no program":      func(o *ImageOptions) { delete(o.Programs, "etcdutl") },
	} {
		o := exampleImages()
		change(&o)
		if _, err := Images(o); fault.KindOf(err) != fault.Internal || err == nil {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
