// Package spec is the user's file: one YAML document of kind Image. It decodes
// strictly, fills in defaults, validates, and knows where in the file every
// value stands. It does no I/O besides reading what it is handed.
package spec

// APIVersion and Kind are the only values that a spec's first lines may have.
const (
	APIVersion = "imagebuilder.dev/v1alpha1"
	Kind       = "Image"
)

// Image is the document as the user writes it, with the defaults filled in.
type Image struct {
	APIVersion string   `yaml:"apiVersion" json:"apiVersion"`
	Kind       string   `yaml:"kind" json:"kind"`
	Metadata   Metadata `yaml:"metadata,omitempty" json:"metadata,omitempty"`
	Spec       Spec     `yaml:"spec" json:"spec"`
}

// Metadata names the image.
type Metadata struct {
	// Name is the first part of the names of the artifacts: lower-case letters,
	// digits, dots and dashes, at most 63. Default: OS name, version and "kube", e.g. debian-13-kube.
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
}

// Spec says what is in the image and where it goes.
type Spec struct {
	// OS chooses the distribution.
	OS OS `yaml:"os,omitempty" json:"os,omitempty"`
	// Kubernetes chooses the version and where its programs and images come from.
	Kubernetes Kubernetes `yaml:"kubernetes" json:"kubernetes"`
	// Runtime chooses the container runtime.
	Runtime Runtime `yaml:"runtime,omitempty" json:"runtime,omitempty"`
	// Targets are names of targets; default [qemu].
	Targets []string `yaml:"targets,omitempty" json:"targets,omitempty"`
	// Disk is the layout of the disk.
	Disk Disk `yaml:"disk,omitempty" json:"disk,omitempty"`
	// Packages are additional packages of the distribution.
	Packages []string `yaml:"packages,omitempty" json:"packages,omitempty"`
	// Files are written after all packages are installed.
	Files []File `yaml:"files,omitempty" json:"files,omitempty"`
	// Mirrors overrides where inputs are fetched from.
	Mirrors Mirrors `yaml:"mirrors,omitempty" json:"mirrors,omitempty"`
}

// OS chooses the distribution.
type OS struct {
	// Name is the distribution; default debian.
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
	// Version is the distribution's release, a string; default "13".
	Version string `yaml:"version,omitempty" json:"version,omitempty"`
	// Arch is the processor architecture by Go's name; default amd64.
	Arch string `yaml:"arch,omitempty" json:"arch,omitempty"`
	// Kernel is generic (every provider's disks and NICs; the default) or cloud (small).
	Kernel string `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// KernelArguments are appended to the kernel command line.
	KernelArguments []string `yaml:"kernelArguments,omitempty" json:"kernelArguments,omitempty"`
}

// Kubernetes chooses the version and where its programs and images come from.
type Kubernetes struct {
	// Version is a release such as v1.36.3; the leading v may be left out.
	Version string `yaml:"version" json:"version"`
	// Source is modules (compiled through the Go module proxy; the default),
	// release (binaries and image archives of a release server) or directory (local files).
	Source string `yaml:"source,omitempty" json:"source,omitempty"`
	// URL is the release server's base, for source release.
	URL string `yaml:"url,omitempty" json:"url,omitempty"`
	// Path is a folder, for source directory; relative to the spec.
	Path string `yaml:"path,omitempty" json:"path,omitempty"`
}

// Runtime chooses the container runtime.
type Runtime struct {
	Containerd Containerd `yaml:"containerd,omitempty" json:"containerd,omitempty"`
}

// Containerd configures containerd.
type Containerd struct {
	// Version is a release such as v2.4.2 (the default); the leading v may be left out.
	Version string `yaml:"version,omitempty" json:"version,omitempty"`
}

// Disk is the layout of the disk.
type Disk struct {
	// Size is the virtual size: a whole number and MiB, GiB or TiB; default 8GiB.
	Size Size `yaml:"size,omitempty" json:"size,omitempty"`
	// Root is the root partition; it fills the disk.
	Root RootDisk `yaml:"root,omitempty" json:"root,omitempty"`
	// Compression of qcow2 files is zlib, which every QEMU reads, zstd, which is
	// faster and needs QEMU 5.1, or none. Default zlib.
	Compression string `yaml:"compression,omitempty" json:"compression,omitempty"`
}

// RootDisk is the root partition.
type RootDisk struct {
	// Filesystem is ext4.
	Filesystem string `yaml:"filesystem,omitempty" json:"filesystem,omitempty"`
}

// File is a file of the user's in the image. Content and Source exclude each other.
type File struct {
	// Path is where the file goes in the image: absolute and clean.
	Path string `yaml:"path" json:"path"`
	// Content is the text of the file.
	Content *string `yaml:"content,omitempty" json:"content,omitempty"`
	// Source is a local file, relative to the spec.
	Source string `yaml:"source,omitempty" json:"source,omitempty"`
	// Mode is the permissions in octal digits, a string; default "0644".
	Mode string `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Owner is uid:gid as numbers; default "0:0".
	Owner string `yaml:"owner,omitempty" json:"owner,omitempty"`
}

// Mirrors overrides where inputs are fetched from. What is fetched is verified all the same.
type Mirrors struct {
	// Archive are base URLs of the distribution's package repository, tried in order.
	Archive []string `yaml:"archive,omitempty" json:"archive,omitempty"`
	// Security are base URLs of the distribution's security repository, tried in order.
	Security []string `yaml:"security,omitempty" json:"security,omitempty"`
	// Modules are Go module proxies, tried in order.
	Modules []string `yaml:"modules,omitempty" json:"modules,omitempty"`
}
