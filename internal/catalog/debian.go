package catalog

import (
	"embed"
	"fmt"
)

//go:embed keys/*.asc
var keyFiles embed.FS

// Repository is a part of a distribution's archive: one signed index.
type Repository struct {
	Name       string   // as shown, e.g. trixie-security
	Mirror     Mirror   // which base URL it stands below
	Suite      string   // path below dists/
	Components []string // of which packages are taken
	Keys       []string // file names in keys/
}

// Mirror is a kind of base URL.
type Mirror string

// The mirrors of Debian.
const (
	Archive  Mirror = "archive"
	Security Mirror = "security"
)

// Release is one release of a distribution.
type Release struct {
	Name         string // distribution, e.g. debian
	Version      string // e.g. 13
	Codename     string // e.g. trixie
	Repositories []Repository
	// Packages are the lists that phases install, by phase.
	Packages map[string][]string
	// Kernels maps os.kernel (generic, cloud) to its package.
	Kernels map[string]string
	// Ext4Features is mke2fs' -O list, complete: the release's GRUB and kernel
	// must read it, whatever the tools root's mke2fs would choose.
	Ext4Features string
	// EFIVendor is the folder below EFI/ that the signed GRUB looks in.
	EFIVendor string
}

// DefaultMirrors are used when neither the spec, nor the user's configuration,
// nor the host name one: the snapshot archive keeps every state of the archive.
func DefaultMirrors(m Mirror) []string {
	const day = "20261101T000000Z"
	switch m {
	case Security:
		return []string{"https://snapshot.debian.org/archive/debian-security/" + day}
	default:
		return []string{"https://snapshot.debian.org/archive/debian/" + day}
	}
}

// ext4Base is what every supported GRUB reads. 64bit and flex_bg let the file
// system grow far; resize_inode lets it grow while mounted.
const ext4Base = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// ToolsRelease is the release whose packages make the tools roots.
func ToolsRelease() *Release { return debian13() }

// ToolRoots are the package lists of the tools roots, by name: build composes
// images, compile holds the C compiler for pause, test boots images.
func ToolRoots() map[string][]string {
	return map[string][]string{
		"build":   {"apt", "e2fsprogs", "libarchive13t64", "grub-common", "grub-pc-bin"},
		"compile": {"gcc", "libc6-dev"},
		// base-files brings /lib64, where programs look for their loader.
		"proxy": {"base-files", "iptables", "nftables", "conntrack", "kmod"},
		"test":  {"qemu-system-x86", "qemu-utils", "ovmf", "seabios"},
	}
}

// FindRelease returns a release, or an error if the catalog has none.
func FindRelease(os, version string) (*Release, error) {
	for _, r := range []*Release{debian12(), debian13()} {
		if r.Name == os && r.Version == version {
			return r, nil
		}
	}
	return nil, fmt.Errorf("no release %s %s", os, version)
}

// Key returns an armored public key.
func Key(file string) (string, error) {
	b, err := keyFiles.ReadFile("keys/" + file)
	return string(b), err
}

func debianRepositories(codename string) []Repository {
	key := func(kind string) string { return fmt.Sprintf("debian-archive-%s-%s.asc", codename, kind) }
	return []Repository{
		{Name: codename, Mirror: Archive, Suite: codename, Components: []string{"main"}, Keys: []string{key("automatic"), key("stable")}},
		{Name: codename + "-updates", Mirror: Archive, Suite: codename + "-updates", Components: []string{"main"}, Keys: []string{key("automatic")}},
		{Name: codename + "-security", Mirror: Security, Suite: codename + "-security", Components: []string{"main"}, Keys: []string{key("security-automatic")}},
	}
}

// debianPackages are the lists that Debian's releases share, after the node
// image contract §2.2 and §2.3.
func debianPackages() map[string][]string {
	return map[string][]string{
		// What apt itself needs stands on top of the essential packages.
		"base": {"apt", "ca-certificates", "debian-archive-keyring"},
		// A Debian that boots on any machine and takes its network and users from cloud-init.
		"os": {
			"systemd", "systemd-sysv", "systemd-resolved", "libpam-systemd", "dbus", "udev", "kmod", "initramfs-tools", "zstd",
			"grub-pc-bin", "grub-efi-amd64-bin", "grub-efi-amd64-signed", "grub2-common", "shim-signed",
			"netplan.io", "iproute2", "iputils-ping", "netbase", "openssh-server", "sudo", "locales", "tzdata",
			"e2fsprogs", "dosfstools", "fdisk", "gdisk", "procps", "less", "vim-tiny", "bash-completion", "logrotate", "apparmor",
			"cloud-init", "cloud-guest-utils", "cloud-initramfs-dyn-netconf",
		},
		"node": {
			"auditd", "apt-transport-https", "conntrack", "chrony", "curl", "ebtables", "jq", "gnupg",
			"libnetfilter-acct1", "libnetfilter-cttimeout1", "libnetfilter-log1", "python3-netifaces", "python3-pip", "socat",
			"iptables", "nftables", "ethtool", "ipset", "open-vm-tools", "libseccomp2", "runc",
		},
		// networkd-dispatcher hands time servers of DHCP to chrony.
		"provider-qemu": {"networkd-dispatcher"},
	}
}

func debian13() *Release {
	return &Release{
		Name: "debian", Version: "13", Codename: "trixie",
		Repositories: debianRepositories("trixie"),
		Packages:     debianPackages(),
		Kernels:      map[string]string{"generic": "linux-image-amd64", "cloud": "linux-image-cloud-amd64"},
		Ext4Features: ext4Base + ",metadata_csum_seed,orphan_file",
		EFIVendor:    "debian",
	}
}

func debian12() *Release {
	p := debianPackages()
	p["base"] = append(p["base"], "usr-is-merged")
	return &Release{
		Name: "debian", Version: "12", Codename: "bookworm",
		Repositories: debianRepositories("bookworm"),
		Packages:     p,
		Kernels:      map[string]string{"generic": "linux-image-amd64", "cloud": "linux-image-cloud-amd64"},
		Ext4Features: ext4Base,
		EFIVendor:    "debian",
	}
}
