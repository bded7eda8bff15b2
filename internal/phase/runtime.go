package phase

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Programs are executables for the image.
type Programs struct {
	List []Program
	// Open returns where they are on the host, by name, compiling or fetching them first.
	Open func(ctx context.Context) (map[string]string, error)
}

// Program is one executable; Digest stands for all that decides about its bits.
type Program struct{ Name, Digest string }

func (p Programs) inputs() []Input {
	out := make([]Input, len(p.List))
	for i, k := range p.List {
		out[i] = Input{"program", k.Name, k.Digest}
	}
	return out
}

func (p Programs) prepare(ctx context.Context) error {
	_, err := p.Open(ctx)
	return err
}

// copyPrograms puts the programs into a folder.
func (r *Root) copyPrograms(ctx context.Context, dir string, p Programs) error {
	paths, err := p.Open(ctx)
	if err != nil {
		return err
	}
	for _, k := range p.List {
		source, ok := paths[k.Name]
		if !ok {
			return fmt.Errorf("program %s was not built", k.Name)
		}
		if err := r.Copy(dir+"/"+k.Name, source, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Runtime installs containerd, set up for the kubelet: systemd cgroups, and the
// sandbox image that kubeadm will use, pinned.
func Runtime(programs Programs, pauseImage string) Phase {
	config := containerdConfig(pauseImage)
	inputs := append(append(programs.inputs(), fileInputs("runtime")...), content("/etc/containerd/config.toml", config))
	return Phase{Name: "runtime", Version: 1, Inputs: inputs, Prepare: programs.prepare, Run: func(ctx context.Context, r *Root) error {
		if err := r.copyPrograms(ctx, "/usr/local/bin", programs); err != nil {
			return err
		}
		if err := r.AddFiles("runtime"); err != nil {
			return err
		}
		for _, d := range []string{"/etc/containerd", "/etc/containerd/conf.d", "/etc/containerd/certs.d"} {
			if err := r.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
		if err := r.Write("/etc/containerd/config.toml", config, 0o644); err != nil {
			return err
		}
		// root's PATH under sudo may lack /usr/local/bin.
		if slices.ContainsFunc(programs.List, func(p Program) bool { return p.Name == "ctr" }) {
			if err := r.Link("/usr/local/bin/ctr", "/usr/bin/ctr"); err != nil {
				return err
			}
		}
		return r.systemctl(ctx, "enable", "containerd.service")
	}}
}

// containerdConfig is version 3 of containerd's configuration, of containerd 2.x.
func containerdConfig(pauseImage string) []byte {
	return fmt.Appendf(nil, strings.TrimLeft(`
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = %q

[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = true
`, "\n"), pauseImage)
}
