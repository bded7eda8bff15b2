package spec

import (
	"fmt"
	"strconv"
	"strings"

	"imagebuilder.dev/internal/catalog"
)

// defaultTarget is where an image goes when its spec does not say.
const defaultTarget = "qemu"

// setDefaults fills in every value that the file does not give.
func setDefaults(img *Image, src *Source) {
	text := func(path string, value *string, otherwise string) {
		if !src.Has(path) {
			*value = otherwise
		}
	}
	s := &img.Spec
	text("spec.os.name", &s.OS.Name, catalog.DefaultOS)
	text("spec.os.version", &s.OS.Version, defaultVersion(s.OS.Name))
	text("spec.os.arch", &s.OS.Arch, catalog.Architectures()[0])
	text("spec.os.kernel", &s.OS.Kernel, catalog.Kernels()[0])
	text("spec.kubernetes.source", &s.Kubernetes.Source, catalog.Sources()[0])
	text("spec.runtime.containerd.version", &s.Runtime.Containerd.Version, catalog.DefaultContainerd)
	text("spec.disk.root.filesystem", &s.Disk.Root.Filesystem, catalog.Filesystems()[0])
	text("spec.disk.compression", &s.Disk.Compression, catalog.Compressions()[0])
	text("metadata.name", &img.Metadata.Name, defaultName(s.OS))
	if !src.Has("spec.targets") {
		s.Targets = []string{defaultTarget}
	}
	if !src.Has("spec.disk.size") {
		s.Disk.Size = catalog.DefaultDiskGiB * GiB
	}
	for i := range s.Files {
		path := item("spec.files", i)
		text(path+".mode", &s.Files[i].Mode, "0644")
		text(path+".owner", &s.Files[i].Owner, "0:0")
	}
}

// defaultVersion is the newest release of a distribution.
func defaultVersion(os string) string {
	versions := catalog.Versions(os)
	if os == catalog.DefaultOS || len(versions) == 0 {
		return catalog.DefaultVersion
	}
	return versions[len(versions)-1]
}

func defaultName(os OS) string { return os.Name + "-" + os.Version + "-kube" }

// normalise gives values that can be written in two ways their one form, so
// that both ways lead to the same lock. The image is valid.
func normalise(img *Image) {
	for _, version := range []*string{&img.Spec.Kubernetes.Version, &img.Spec.Runtime.Containerd.Version} {
		*version = "v" + strings.TrimPrefix(*version, "v")
	}
	for i := range img.Spec.Files {
		f := &img.Spec.Files[i]
		mode, _ := strconv.ParseUint(f.Mode, 8, 32)
		f.Mode = fmt.Sprintf("%04o", mode)
		uid, gid, _ := ownerIDs(f.Owner)
		f.Owner = fmt.Sprintf("%d:%d", uid, gid)
	}
}
