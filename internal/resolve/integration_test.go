package resolve

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/store"
	"imagebuilder.dev/internal/tools"
)

// storeVariable names a store that keeps what the test downloads.
const storeVariable = "IMAGE_BUILDER_TEST_STORE"

// TestDebian13 resolves the packages of a real release from the mirror that
// this host uses.
func TestDebian13(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the network")
	}
	dir := os.Getenv(storeVariable)
	if dir == "" {
		dir = t.TempDir()
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	image := &spec.Image{}
	image.Spec.OS = spec.OS{Name: "debian", Version: "13", Arch: "amd64", Kernel: "cloud"}
	image.Spec.Targets = []string{"qemu", "raw"}
	image.Spec.Packages = []string{"nfs-common", "libc6"}
	r := Resolver{Fetch: fetch.New(s, fetch.Options{}), HostRoot: "/", Now: time.Now()}
	d, err := r.openTrixie(image)
	if err != nil {
		t.Fatal(err)
	}
	release, _ := catalog.FindRelease("debian", "13")
	roots, err := d.toolRoots()
	if err != nil {
		t.Fatal(err)
	}
	l := &lock.Lock{Tools: roots}
	root, err := tools.Root(context.Background(), r.Fetch, "build", l.For("build"), d.urls)
	if err != nil {
		t.Fatal(err)
	}
	if l.Packages, err = d.install(context.Background(), r.Fetch, root, "amd64", stepsOf(image, release, d)); err != nil {
		t.Fatal(err)
	}
	l.Repositories, l.Epoch = repositories(d, d)
	checkLock(t, l, r.Now)
	_, err = d.install(context.Background(), r.Fetch, root, "amd64", append(stepsOf(image, release, d)[:3], step{phase: "customize", names: []string{"ntpsec"}}))
	if err == nil || !strings.Contains(err.Error(), "phase customize (ntpsec) cannot be installed beside chrony") {
		t.Errorf("a package that pushes another phase's out gives %v", err)
	}
}

func checkLock(t *testing.T, l *lock.Lock, now time.Time) {
	t.Helper()
	at := map[string]int{}
	for i, p := range l.Packages {
		if _, twice := at[p.Name]; twice {
			t.Errorf("%s is there twice", p.Name)
		}
		at[p.Name] = i
		if len(l.URLs(p)) == 0 {
			t.Errorf("%s comes from %q", p.Name, p.Repository)
		}
	}
	for _, p := range l.Tools {
		if len(l.URLs(p)) == 0 {
			t.Errorf("the tool %s comes from %q", p.Name, p.Repository)
		}
	}
	for name, phase := range map[string]string{
		"libc6": "base", "dpkg": "base", "bash": "base", "apt": "base", "linux-image-cloud-amd64": "os", "systemd": "os", "shim-signed": "os",
		"chrony": "node", "nfs-common": "customize", "networkd-dispatcher": "provider-qemu",
	} {
		if i, ok := at[name]; !ok || l.Packages[i].For != phase {
			t.Errorf("%s is not in phase %s", name, phase)
		}
	}
	for _, order := range [][2]string{{"libc6", "dpkg"}, {"libc6", "bash"}, {"dpkg", "apt"}, {"systemd", "systemd-sysv"}} {
		if at[order[0]] > at[order[1]] {
			t.Errorf("%s comes after %s", order[0], order[1])
		}
	}
	if l.Epoch.After(now) || now.Sub(l.Epoch) > 2*365*24*time.Hour {
		t.Errorf("the epoch is %s", l.Epoch)
	}
	if n := len(l.Packages); n < 250 || n > 800 {
		t.Errorf("%d packages", n)
	}
}
