package phase

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// settings reads lines of "key = value" or of one word.
func settings(t *testing.T, r *Root, path string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(readFile(t, filepath.Join(r.Dir(), path))) {
		line, _, _ = strings.Cut(line, "#")
		key, value, _ := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); key != "" {
			out[key] = strings.TrimSpace(value)
		}
	}
	return out
}

// Node image contract §3 and §3.1.
func TestNodeFiles(t *testing.T) {
	r, _ := newRoot(t)
	if err := r.AddFiles("node"); err != nil {
		t.Fatal(err)
	}
	have := settings(t, r, "etc/sysctl.d/99-kubernetes.conf")
	want := map[string]string{
		"net.bridge.bridge-nf-call-iptables": "1", "net.bridge.bridge-nf-call-ip6tables": "1", "net.ipv4.ip_forward": "1",
		"net.ipv6.conf.all.forwarding": "1", "net.ipv6.conf.all.disable_ipv6": "0", "net.ipv4.tcp_congestion_control": "bbr",
		"vm.overcommit_memory": "1", "kernel.panic": "10", "kernel.panic_on_oops": "1",
		"fs.inotify.max_user_instances": "8192", "fs.inotify.max_user_watches": "524288",
	}
	for key, value := range want {
		if have[key] != value {
			t.Errorf("%s is %q, want %q", key, have[key], value)
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			t.Errorf("%s is not in the contract", key)
		}
	}
	modules := settings(t, r, "etc/modules-load.d/kubernetes.conf")
	for _, m := range []string{"overlay", "br_netfilter"} {
		if _, ok := modules[m]; !ok {
			t.Errorf("the module %s is not loaded", m)
		}
	}
	rule := readFile(t, filepath.Join(r.Dir(), "etc/udev/rules.d/90-etcd-tuning.rules"))
	for _, part := range []string{"add", "net", "pci", "xen", "vmbus", "/usr/local/bin/etcd-network-tuning.sh"} {
		if !strings.Contains(rule, part) {
			t.Errorf("the udev rule does not mention %s", part)
		}
	}
	script := readFile(t, filepath.Join(r.Dir(), "usr/local/bin/etcd-network-tuning.sh"))
	for _, part := range []string{"prio", "2379", "2380", "etcd-tuning", "emerg"} {
		if !strings.Contains(script, part) {
			t.Errorf("the etcd script does not mention %s", part)
		}
	}
}

func TestContainerdConfig(t *testing.T) {
	golden(t, "containerd.toml", string(containerdConfig("registry.example.org/pause:3.10")))
}

func TestGrubDefaults(t *testing.T) {
	got := string(grubDefaults([]string{"quiet", "a='b c'"}))
	if want := `GRUB_CMDLINE_LINUX_DEFAULT='console=tty1 console=ttyS0 quiet a='\''b c'\'''` + "\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// before is a root as the phases before Seal leave it, and what a build or a
// machine leaves behind.
func before() map[string]string {
	out := map[string]string{
		"boot/vmlinuz-6.12.43-cloud-amd64": "", "boot/vmlinuz-6.12.9-cloud-amd64": "", "boot/config-6.12.43": "",
		"var/lib/dpkg/status": "Package: a\nStatus: install ok installed\nDescription: x\n y\n\nPackage: b\nStatus: hold ok installed\n\n",
		"var/log/syslog":      "text", "var/log/apt/term.log": "text", "var/log/sub/x": "text", "var/log/dpkg.log": "x", "var/log/a.1": "x", "var/log/a.gz": "x", "var/log/journal/1/x": "x",
		"etc/apt/sources.list": "deb x", "etc/apt/sources.list.d/x.sources": "x",
		"etc/passwd": "kept", "etc/ssh/sshd_config": "kept", "var/lib/dhcp/.keep": "x", "usr/bin/sh": "kept", "etc/netplan/README": "kept", "etc/cloud/cloud.cfg": "kept",
	}
	for _, name := range leftovers() {
		out[name] = "left"
	}
	return out
}

// leftovers must not be in an image (contract §9 and the hygiene of user needs).
func leftovers() []string {
	return []string{
		"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_ed25519_key.pub", "root/.ssh/authorized_keys", "root/.bash_history", "var/lib/dbus/machine-id",
		"var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/cloud/instance/x", "etc/netplan/50-cloud-init.yaml",
		"etc/udev/rules.d/70-persistent-net.rules", "etc/iscsi/initiatorname.iscsi", "swapfile", "swap.img", "tmp/x", "tmp/.hidden", "var/tmp/x", "var/tmp/.hidden", "run/x",
		"var/cache/apt/pkgcache.bin", "var/cache/apt/archives/x.deb", "var/lib/apt/lists/x", "var/cache/debconf/config.dat-old", "var/lib/dpkg/status-old",
		"var/backups/x", "etc/passwd-", "etc/shadow-", "var/cache/ldconfig/aux-cache", "etc/cloud/ds-identify.cfg",
	}
}

func identity() Identity {
	return Identity{
		RootUUID: "11111111-2222-3333-4444-555555555555", ESPUUID: "ABCD-EF01", Arguments: []string{"quiet", "a=b,c"},
		Sources: []Source{{"http://mirror.example.org/debian", "trixie", "main"}, {"http://mirror.example.org/debian-security", "trixie-security", "main contrib"}},
	}
}

func TestSeal(t *testing.T) {
	r, _ := newRoot(t)
	put(t, r, before())
	p := Seal(identity())
	if err := p.Run(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range []string{"etc/fstab", "etc/apt/sources.list.d/debian.sources", "var/lib/dpkg/status", "etc/hostname", "etc/hosts", "etc/machine-id"} {
		b.WriteString("==> " + name + "\n" + readFile(t, filepath.Join(r.Dir(), name)))
	}
	golden(t, "seal.txt", b.String())
	for _, name := range append(leftovers(), "etc/apt/sources.list", "etc/apt/sources.list.d/x.sources", "var/log/apt/term.log", "var/log/dpkg.log", "var/log/a.1", "var/log/a.gz", "var/log/journal/1") {
		if r.Exists(name) {
			t.Errorf("%s is left", name)
		}
	}
	for _, name := range []string{"etc/passwd", "etc/ssh/sshd_config", "usr/bin/sh", "etc/netplan/README", "etc/cloud/cloud.cfg"} {
		if text := readFile(t, filepath.Join(r.Dir(), name)); text != "kept" {
			t.Errorf("%s holds %q", name, text)
		}
	}
	for _, name := range []string{"var/log/syslog", "var/log/sub/x"} {
		if text := readFile(t, filepath.Join(r.Dir(), name)); text != "" {
			t.Errorf("%s holds %q", name, text)
		}
	}
	for _, d := range []string{"tmp", "var/tmp", "run", "etc/netplan"} {
		if !r.Exists(d) {
			t.Errorf("%s is gone", d)
		}
	}
}

func TestSealGrub(t *testing.T) {
	r, _ := newRoot(t)
	put(t, r, map[string]string{"boot/vmlinuz-6.12.43-cloud-amd64": ""})
	if err := identity().grub(r); err != nil {
		t.Fatal(err)
	}
	golden(t, "grub.cfg", readFile(t, filepath.Join(r.Dir(), "boot/grub/grub.cfg")))
}

func TestSealTwice(t *testing.T) {
	r, _ := newRoot(t)
	put(t, r, before())
	for range 2 {
		if err := Seal(identity()).Run(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		remove, name, text, want string
	}{
		"no kernel":                 {remove: "boot/vmlinuz-*", want: "no kernel"},
		"a package half configured": {name: "var/lib/dpkg/status", text: "Package: a\nStatus: install ok half-configured\n", want: `package a is "install ok half-configured"`},
		"a package not configured":  {name: "var/lib/dpkg/status", text: "Package: a\nStatus: install ok unpacked\n", want: "not installed"},
		"a package with triggers":   {name: "var/lib/dpkg/status", text: "Package: a\nStatus: install ok triggers-pending\n", want: "not installed"},
		"no database":               {remove: "var/lib/dpkg/status", want: "no such file"},
	} {
		r, _ := newRoot(t)
		put(t, r, before())
		if c.remove != "" {
			r.Remove(c.remove)
		} else {
			put(t, r, map[string]string{c.name: c.text})
		}
		if err := Seal(identity()).Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gives %v, want %q", what, err, c.want)
		}
	}
}

func TestKernels(t *testing.T) {
	r, _ := newRoot(t)
	put(t, r, before())
	got, err := r.Kernels()
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"6.12.43-cloud-amd64", "6.12.9-cloud-amd64"}) {
		t.Errorf("the kernels are %v, %v", got, err)
	}
}

// The newest kernel starts by default: 6.12.43 is newer than 6.12.9.
func TestGrubStartsTheNewestKernel(t *testing.T) {
	r, _ := newRoot(t)
	put(t, r, before())
	if err := identity().grub(r); err != nil {
		t.Fatal(err)
	}
	_, first, _ := strings.Cut(readFile(t, filepath.Join(r.Dir(), "boot/grub/grub.cfg")), "menuentry 'Linux ")
	if !strings.HasPrefix(first, "6.12.43") {
		t.Errorf("the first entry is %.20s", first)
	}
}
