package phase

import (
	"context"
	"strings"
)

// OS makes a distribution that boots on any machine and takes its identity
// from cloud-init. arguments are added to the kernel command line.
func OS(p Packages, arguments []string) Phase {
	grub := grubDefaults(arguments)
	inputs := append(append(p.inputs(), fileInputs("os")...), content("grub defaults", grub))
	return Phase{Name: "os", Version: 1, Inputs: inputs, Prepare: p.prepare, Run: func(ctx context.Context, r *Root) error {
		if err := r.AddFiles("os"); err != nil {
			return err
		}
		if err := r.Write("/etc/default/grub.d/60-image-builder.cfg", grub, 0o644); err != nil {
			return err
		}
		if err := r.installWithoutHostKeys(ctx, p); err != nil {
			return err
		}
		if err := r.systemctl(ctx, "mask", "apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service", "unattended-upgrades.service"); err != nil {
			return err
		}
		units := []string{"systemd-networkd.service", "systemd-resolved.service", "ssh.service"}
		if !r.Exists("/usr/lib/systemd/system/sshd-keygen.service") { // OpenSSH before 10 does not bring one
			units = append(units, "ssh-host-keys.service")
		}
		return r.systemctl(ctx, "enable", units...)
	}}
}

// installWithoutHostKeys installs packages among which is OpenSSH's server. Its
// script makes host keys unless there are some; so there are, empty ones, while
// it runs: no layer ever holds a key.
func (r *Root) installWithoutHostKeys(ctx context.Context, p Packages) error {
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		if err := r.Write("/etc/ssh/ssh_host_"+kind+"_key", nil, 0o600); err != nil {
			return err
		}
	}
	if err := r.install(ctx, p); err != nil {
		return err
	}
	return r.Remove("/etc/ssh/ssh_host_*")
}

// Consoles are the kernel's consoles, the last of which is /dev/console.
const Consoles = "console=tty1 console=ttyS0"

// KernelArguments returns the kernel command line besides root=.
func KernelArguments(more []string) string {
	return strings.Join(append([]string{Consoles}, more...), " ")
}

func grubDefaults(arguments []string) []byte {
	line := strings.ReplaceAll(KernelArguments(arguments), "'", `'\''`)
	return []byte("GRUB_CMDLINE_LINUX_DEFAULT='" + line + "'\n")
}

// systemctl changes which units start; there is no manager to talk to.
func (r *Root) systemctl(ctx context.Context, verb string, units ...string) error {
	return r.Exec(ctx, append([]string{"systemctl", "--root=/", "--quiet", verb}, units...)...)
}
