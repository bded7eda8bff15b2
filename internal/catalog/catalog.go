// Package catalog is the builder's data: distributions and their releases,
// keys, package lists, file-system features, targets, and what differs between
// versions of Kubernetes. It does no I/O and imports nothing of ours.
package catalog

// OSNames returns the distributions that can be built.
func OSNames() []string { return []string{"debian"} }

// Versions returns the releases of a distribution, oldest first.
func Versions(os string) []string {
	if os != "debian" {
		return nil
	}
	return []string{"12", "13"}
}

// Architectures returns Go's names of the architectures that can be built.
func Architectures() []string { return []string{"amd64"} }

// Kernels returns the values of os.kernel, the default first.
func Kernels() []string { return []string{"generic", "cloud"} }

// Targets returns the names of the targets.
func Targets() []string { return []string{"qemu", "raw"} }

// Sources returns the values of kubernetes.source, the default first.
func Sources() []string { return []string{"modules", "release", "directory"} }

// Filesystems returns the values of disk.root.filesystem, the default first.
func Filesystems() []string { return []string{"ext4"} }

// Defaults of a spec.
const (
	DefaultOS         = "debian"
	DefaultVersion    = "13"
	DefaultContainerd = "v2.4.2"
	DefaultCNI        = "v1.9.1"
	DefaultDiskGiB    = 8
)

// KubernetesMinors returns the minor versions of Kubernetes 1.x that the
// catalog knows, oldest first.
func KubernetesMinors() []int { return []int{34, 35, 36} }

// Compressions returns the values of disk.compression, the default first.
func Compressions() []string { return []string{"zlib", "zstd", "none"} }
