package phase

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"imagebuilder.dev/internal/deb"
)

// Identity is what the disk and the root must agree on.
type Identity struct {
	RootUUID, ESPUUID string
	Arguments         []string // added to the kernel command line
	Sources           []Source // package sources that the node keeps
	Kubernetes        string   // version
}

// Source is a package repository for the node's own apt.
type Source struct{ URL, Suite, Components string }

// Seal finishes the root: it names the file systems, holds the packages, and
// removes whatever is one machine's own, or only a build's.
func Seal(id Identity) Phase {
	inputs := []Input{
		setting("root", id.RootUUID), setting("esp", id.ESPUUID),
		setting("arguments", strings.Join(id.Arguments, "\n")), setting("sources", fmt.Sprint(id.Sources)),
		setting("kubernetes", id.Kubernetes),
	}
	return Phase{Name: "seal", Version: 1, Inputs: inputs, Run: func(ctx context.Context, r *Root) error {
		for _, step := range []func(*Root) error{id.fstab, id.grub, id.sources, id.release, holdPackages, removeIdentity, removeLogs} {
			if err := step(r); err != nil {
				return err
			}
		}
		return nil
	}}
}

func (id Identity) fstab(r *Root) error {
	text := fmt.Sprintf("UUID=%s / ext4 defaults,errors=remount-ro 0 1\nUUID=%s /boot/efi vfat umask=0077 0 1\n", id.RootUUID, id.ESPUUID)
	if err := r.Mkdir("/boot/efi", 0o700); err != nil {
		return err
	}
	return r.Write("/etc/fstab", []byte(text), 0o644)
}

// grub writes the menu that the first update-grub on the node will replace: it
// needs a running system to look at.
func (id Identity) grub(r *Root) error {
	kernels, err := r.Kernels()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(`# Made with the image; update-grub makes it anew.
if loadfont unicode ; then true ; fi
terminal_input console
terminal_output console
set default=0
set timeout=0
`)
	quoted := make([]string, 0, len(id.Arguments)+2)
	for _, a := range append(strings.Fields(Consoles), id.Arguments...) {
		quoted = append(quoted, "'"+a+"'")
	}
	for i := len(kernels) - 1; i >= 0; i-- {
		k := kernels[i]
		fmt.Fprintf(&b, `menuentry 'Linux %s' {
	insmod gzio
	insmod part_gpt
	insmod ext2
	search --no-floppy --fs-uuid --set=root %s
	linux /boot/vmlinuz-%s root=UUID=%s ro %s
	initrd /boot/initrd.img-%s
}
`, k, id.RootUUID, k, id.RootUUID, strings.Join(quoted, " "), k)
	}
	return r.Write("/boot/grub/grub.cfg", []byte(b.String()), 0o600)
}

func (id Identity) sources(r *Root) error {
	if err := r.Remove("/etc/apt/sources.list", "/etc/apt/sources.list.d/*"); err != nil {
		return err
	}
	var b strings.Builder
	for _, s := range id.Sources {
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n", s.URL, s.Suite, s.Components)
	}
	return r.Write("/etc/apt/sources.list.d/debian.sources", []byte(b.String()), 0o644)
}

// release says on the node what it was made of. The builder's own version is
// not there: it is in the provenance, and the image's bits do not depend on it.
func (id Identity) release(r *Root) error {
	text := fmt.Sprintf("KUBERNETES_VERSION=%s\nBUILD_DATE=%s\n", id.Kubernetes, r.Epoch.UTC().Format(time.RFC3339))
	return r.Write("/etc/image-builder-release", []byte(text), 0o644)
}

// holdPackages keeps apt on the node from changing a version by itself.
func holdPackages(r *Root) error {
	const path = "/var/lib/dpkg/status"
	old, err := r.Read(path)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	err = deb.ParseControl(bytes.NewReader(old), func(s deb.Stanza) error {
		state := s.Get("Status")
		if state != "install ok installed" && state != "hold ok installed" {
			return fmt.Errorf("package %s is %q, not installed", s.Get("Package"), state)
		}
		s.Set("Status", "hold ok installed")
		s.WriteTo(&b)
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		return err
	}
	return r.Write(path, b.Bytes(), 0o644)
}

// removeIdentity removes what must differ between clones, and what the build
// needed.
func removeIdentity(r *Root) error {
	err := r.Remove(
		"/etc/ssh/ssh_host_*", "/root/.ssh", "/root/.bash_history", "/var/lib/dbus/machine-id",
		"/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/var/lib/cloud", "/etc/cloud/cloud-init.disabled", "/etc/cloud/ds-identify.cfg",
		"/var/lib/dhcp/*", "/var/lib/dhcpcd/*", "/var/lib/systemd/network/*", "/etc/dhcpcd.duid", "/etc/netplan/*.yaml", "/etc/udev/rules.d/70-persistent-net.rules",
		"/etc/iscsi/initiatorname.iscsi", "/swapfile", "/swap.img",
		"/tmp/*", "/tmp/.[!.]*", "/var/tmp/*", "/run/*",
		"/var/cache/apt/*.bin", "/var/cache/apt/archives/*.deb", "/var/lib/apt/lists/*", "/var/cache/debconf/*-old",
		"/var/cache/ldconfig/aux-cache", "/var/lib/dpkg/*-old", "/var/lib/dpkg/updates/*", "/var/backups/*", "/var/cache/man/*",
		"/etc/*-", // passwd-, shadow- …: copies that the account tools keep
		"/.dockerenv",
	)
	if err != nil {
		return err
	}
	for path, text := range map[string]string{
		"/etc/machine-id": "", // systemd makes one on the first boot
		"/etc/hostname":   "localhost.local\n",
		"/etc/hosts":      "127.0.0.1 localhost localhost.local\n::1 localhost ip6-localhost ip6-loopback\n",
	} {
		if err := r.Write(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return r.Link("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
}

// removeLogs empties the logs but keeps the files, whose owners packages chose.
func removeLogs(r *Root) error {
	if err := r.Remove("/var/log/journal/*", "/var/log/apt/*", "/var/log/cloud-init*.log", "/var/log/*.gz", "/var/log/*.[0-9]", "/var/log/dpkg.log",
		"/var/log/alternatives.log", "/var/log/bootstrap.log", "/var/log/fontconfig.log"); err != nil {
		return err
	}
	return fs.WalkDir(r.root.FS(), "var/log", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := r.root.OpenFile(p, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return f.Close()
	})
}
