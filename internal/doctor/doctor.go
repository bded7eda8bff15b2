// Package doctor examines a host: what a build needs, whether it is there, and
// how to mend what is not.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/kube"
	"imagebuilder.dev/internal/sandbox"
)

// Finding is the outcome of one check.
type Finding struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Optional bool   `json:"optional"` // only some uses need it
	Found    string `json:"found"`
	Mend     string `json:"mend,omitempty"` // when not OK
}

// Mark is the finding in one word.
func (f Finding) Mark() string {
	switch {
	case f.OK:
		return "ok"
	case f.Optional:
		return "note"
	default:
		return "missing"
	}
}

// Examine checks the host; dir is where the store is or will be.
func Examine(ctx context.Context, dir string) []Finding {
	list := []Finding{kernel(), namespaces(ctx), storeFolder(dir), space(dir), modules(), kvm()}
	for i := range list {
		if list[i].OK {
			list[i].Mend = ""
		}
	}
	return list
}

// kernel wants Linux 5.11: overlay file systems in user namespaces.
func kernel() Finding {
	f := Finding{Name: "Linux kernel", Mend: "boot Linux 5.11 or newer: older ones have no overlay file systems in user namespaces"}
	var u unix.Utsname
	if runtime.GOOS != "linux" || unix.Uname(&u) != nil {
		f.Found = runtime.GOOS
		return f
	}
	f.Found = unix.ByteSliceToString(u.Release[:])
	parts := strings.FieldsFunc(f.Found, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) >= 2 {
		major, _ := strconv.Atoi(parts[0])
		minor, _ := strconv.Atoi(parts[1])
		f.OK = major > 5 || major == 5 && minor >= 11
	}
	return f
}

func namespaces(ctx context.Context) Finding {
	f := Finding{Name: "user namespace"}
	if err := sandbox.CanEnter(ctx); err != nil {
		f.Found, f.Mend = err.Error(), fault.HintOf(err)
		return f
	}
	f.OK, f.Found = true, fmt.Sprintf("works for user id %d", os.Geteuid())
	return f
}

func storeFolder(dir string) Finding {
	f := Finding{Name: "store folder", Found: dir, Mend: "set IMAGE_BUILDER_HOME to a folder on a local file system that this user can write to"}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".doctor-"); err == nil {
			// Layers keep marks of the overlay file system in such attributes.
			err = unix.Fsetxattr(int(probe.Fd()), "user.imagebuilder", []byte("1"), 0)
			err = errors.Join(err, probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		f.Found = err.Error()
		return f
	}
	f.OK = true
	return f
}

// wantFree is what a cold build takes in the store, in bytes: sources, compiler
// cache, packages, layers and a disk.
const wantFree = 12 << 30

func space(dir string) Finding {
	f := Finding{Name: "free space", Mend: "a first build with Kubernetes compiled from modules takes about 12 GiB; later ones far less"}
	var st unix.Statfs_t
	for unix.Statfs(dir, &st) != nil {
		if dir == filepath.Dir(dir) {
			return f
		}
		dir = filepath.Dir(dir)
	}
	free := int64(st.Bavail) * st.Bsize
	f.Found = fmt.Sprintf("%d GiB", free>>30)
	f.OK = free >= wantFree
	f.Optional = true
	return f
}

func modules() Finding {
	f := Finding{Name: "Go module proxy", Optional: true}
	n, err := kube.FindNetwork(nil)
	if err != nil {
		f.Found, f.Mend = err.Error(), fault.HintOf(err)
		return f
	}
	f.OK, f.Found = true, strings.Join(n.Proxies, " ")
	return f
}

func kvm() Finding {
	f := Finding{Name: "KVM", Optional: true, Mend: "without it 'image-builder test' emulates the processor, about ten times slower; a build never needs it"}
	k, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		f.Found = err.Error()
		return f
	}
	k.Close()
	f.OK, f.Found = true, "/dev/kvm opens; 'test' finds out whether it works"
	return f
}
