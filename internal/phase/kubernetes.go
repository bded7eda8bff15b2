package phase

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/oci"
)

// KubernetesInputs are what the kubernetes phase installs.
type KubernetesInputs struct {
	Version  string   // e.g. v1.36.3
	Programs Programs // kubelet, kubeadm, kubectl
	CNI      Programs
	// Images are the container images, by the name that kubeadm gives them,
	// with what decides about their content.
	Images []Input
	// Open makes the images, for a node with a root, in an empty folder.
	Open  func(ctx context.Context, root, dir string) ([]oci.Image, error)
	Pause string // name of the sandbox image, which is never collected
}

// Kubernetes installs the kubelet, kubeadm, kubectl, the CNI plugins, and the
// container images that this very kubeadm names, unpacked in containerd's store.
func Kubernetes(k KubernetesInputs) Phase {
	inputs := slices.Concat(k.Programs.inputs(), k.CNI.inputs(), fileInputs("kubernetes"), k.Images,
		[]Input{setting("version", k.Version), setting("pause", k.Pause)})
	return Phase{Name: "kubernetes", Version: 1, Inputs: inputs, Prepare: k.Programs.prepare, Run: func(ctx context.Context, r *Root) error {
		if err := r.copyPrograms(ctx, "/usr/bin", k.Programs); err != nil {
			return err
		}
		if err := r.copyPrograms(ctx, "/opt/cni/bin", k.CNI); err != nil {
			return err
		}
		if err := r.AddFiles("kubernetes"); err != nil {
			return err
		}
		for _, d := range []string{"/etc/kubernetes/manifests", "/etc/cni/net.d", "/usr/libexec/kubernetes"} {
			if err := r.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
		if err := r.Write("/etc/kubernetes-version", []byte(k.Version), 0o644); err != nil {
			return err
		}
		if err := r.completions(ctx); err != nil {
			return err
		}
		if err := r.checkImages(ctx, k); err != nil {
			return err
		}
		if err := r.unpackImages(ctx, k); err != nil {
			return err
		}
		return r.systemctl(ctx, "enable", "kubelet.service")
	}}
}

func (r *Root) completions(ctx context.Context) error {
	for _, name := range []string{"kubeadm", "kubectl"} {
		out, err := r.Output(ctx, name, "completion", "bash")
		if err != nil {
			return fmt.Errorf("completions of %s: %w", name, err)
		}
		if err := r.Write("/usr/share/bash-completion/completions/"+name, out, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// checkImages asks the kubeadm of the image which container images it wants.
func (r *Root) checkImages(ctx context.Context, k KubernetesInputs) error {
	out, err := r.Output(ctx, "kubeadm", "config", "images", "list", "--kubernetes-version", k.Version)
	if err != nil {
		return fmt.Errorf("ask kubeadm for its images: %w", err)
	}
	want := strings.Fields(string(out))
	have := make([]string, len(k.Images))
	for i, in := range k.Images {
		have[i] = in.Name
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		return fault.New(fault.Integrity, "kubeadm %s wants the images\n  %s\nbut the lock has\n  %s", k.Version,
			strings.Join(want, "\n  "), strings.Join(have, "\n  "))
	}
	return nil
}

func (r *Root) unpackImages(ctx context.Context, k KubernetesInputs) error {
	event.Current(ctx).Detail("container images")
	scratch, err := os.MkdirTemp(filepath.Dir(r.dir), "images-") // beside the layer: it is large
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	images, err := k.Open(ctx, r.dir, scratch)
	if err != nil {
		return err
	}
	const dir = "/var/lib/containerd"
	if r.Exists(dir) {
		return errors.New("containerd's store exists already")
	}
	if err := r.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return oci.WriteContainerd(ctx, filepath.Join(r.dir, dir), images, oci.Options{Epoch: r.Epoch, PinnedNames: []string{k.Pause}})
}
