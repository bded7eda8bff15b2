package catalog_test

import (
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"imagebuilder.dev/internal/catalog"
)

func releases(t *testing.T) map[string]*catalog.Release {
	t.Helper()
	out := map[string]*catalog.Release{}
	for _, os := range catalog.OSNames() {
		for _, v := range catalog.Versions(os) {
			r, err := catalog.FindRelease(os, v)
			if err != nil {
				t.Fatal(err)
			}
			if r.Name != os || r.Version != v || r.Codename == "" {
				t.Errorf("%s %s is %s %s %q", os, v, r.Name, r.Version, r.Codename)
			}
			out[os+" "+v] = r
		}
	}
	return out
}

func TestReleases(t *testing.T) {
	names := map[string]bool{}
	for name, r := range releases(t) {
		for _, k := range catalog.Kernels() {
			if r.Kernels[k] == "" {
				t.Errorf("%s has no kernel %q", name, k)
			}
		}
		for _, phase := range []string{"base", "os", "node"} {
			if len(r.Packages[phase]) == 0 {
				t.Errorf("%s has no packages for %s", name, phase)
			}
		}
		if r.EFIVendor == "" || !strings.HasPrefix(r.Ext4Features, "none,") {
			t.Errorf("%s: EFI folder %q, features %q", name, r.EFIVendor, r.Ext4Features)
		}
		unique(t, name+"'s features", strings.Split(r.Ext4Features, ","))
		for _, repo := range r.Repositories {
			if names[repo.Name] {
				t.Errorf("two repositories are called %s", repo.Name) // the lock tells them apart by name
			}
			names[repo.Name] = true
			if len(repo.Keys) == 0 || len(repo.Components) == 0 || len(catalog.DefaultMirrors(repo.Mirror)) == 0 {
				t.Errorf("%s is not complete: %+v", repo.Name, repo)
			}
		}
	}
	for _, bad := range [][2]string{{"debian", ""}, {"debian", "11"}, {"", "debian13"}, {"debian1", "3"}, {"ubuntu", "13"}} {
		if r, err := catalog.FindRelease(bad[0], bad[1]); err == nil {
			t.Errorf("%q is %s %s", bad, r.Name, r.Version)
		}
	}
	if catalog.Versions("none") != nil {
		t.Error("an unknown distribution has versions")
	}
}

func TestReleasesAreNotShared(t *testing.T) {
	a := releases(t)["debian 13"]
	a.Packages["base"][0] = "changed"
	a.Packages["new"] = nil
	if b := releases(t)["debian 13"]; b.Packages["base"][0] == "changed" || len(b.Packages) == len(a.Packages) {
		t.Error("a change of one release changes the catalog")
	}
}

func TestDefaults(t *testing.T) {
	for what, c := range map[string]struct {
		value string
		list  []string
	}{
		"distribution": {catalog.DefaultOS, catalog.OSNames()},
		"release":      {catalog.DefaultVersion, catalog.Versions(catalog.DefaultOS)},
		"tools":        {catalog.ToolsRelease().Version, catalog.Versions(catalog.ToolsRelease().Name)},
	} {
		if !slices.Contains(c.list, c.value) {
			t.Errorf("the default %s %q is none of %v", what, c.value, c.list)
		}
	}
}

func TestListsAreUnique(t *testing.T) {
	lists := map[string][]string{
		"OSNames": catalog.OSNames(), "Architectures": catalog.Architectures(), "Kernels": catalog.Kernels(), "Targets": catalog.Targets(),
		"Sources": catalog.Sources(), "Filesystems": catalog.Filesystems(),
	}
	for name, l := range catalog.ToolRoots() {
		lists["tools root "+name] = l
	}
	for _, os := range catalog.OSNames() {
		lists["versions of "+os] = catalog.Versions(os)
	}
	for name, r := range releases(t) {
		for phase, l := range r.Packages {
			lists[name+" "+phase] = l
		}
		// The phases before a provider share one root: what one has, no other needs.
		lists[name] = slices.Concat(r.Packages["base"], r.Packages["os"], r.Packages["node"], slices.Collect(maps.Values(r.Kernels)))
	}
	for name, l := range lists {
		unique(t, name, l)
	}
	minors := catalog.KubernetesMinors()
	if !slices.IsSorted(minors) || len(minors) != len(slices.Compact(slices.Clone(minors))) {
		t.Errorf("the minors are %v", minors)
	}
}

func unique(t *testing.T, what string, list []string) {
	t.Helper()
	if len(list) == 0 {
		t.Errorf("%s is empty", what)
	}
	seen := map[string]bool{}
	for _, s := range list {
		if seen[s] || s == "" || s != strings.TrimSpace(s) {
			t.Errorf("%s has %q twice, or it is odd", what, s)
		}
		seen[s] = true
	}
}

// Every file is a key that can be used now, and every release's keys are there.
func TestKeys(t *testing.T) {
	used := map[string]bool{}
	for name, r := range releases(t) {
		for _, repo := range r.Repositories {
			for _, file := range repo.Keys {
				used[file] = true
				key, err := catalog.Key(file)
				if err != nil {
					t.Errorf("%s %s: %v", name, repo.Name, err)
					continue
				}
				ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(key))
				if err != nil || len(ring) == 0 {
					t.Errorf("%s: %d keys, %v", file, len(ring), err)
					continue
				}
				for _, e := range ring {
					if e.PrivateKey != nil {
						t.Errorf("%s is a private key", file)
					}
					if _, ok := e.SigningKey(time.Now()); !ok {
						t.Errorf("%s cannot sign any more", file)
					}
					if id := e.PrimaryIdentity(); !strings.Contains(strings.ToLower(id.Name), r.Name) {
						t.Errorf("%s is of %s", file, id.Name)
					}
				}
			}
		}
	}
	files, err := fs.ReadDir(os.DirFS("keys"), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !used[f.Name()] {
			t.Errorf("no release uses %s", f.Name())
		}
	}
	if _, err := catalog.Key("../debian.go"); err == nil {
		t.Error("a key from outside")
	}
}

// The packages that the node image contract demands are installed.
func TestContract(t *testing.T) {
	for name, r := range releases(t) {
		have := slices.Concat(r.Packages["base"], r.Packages["os"], r.Packages["node"], r.Packages["provider-qemu"])
		for _, p := range []string{
			"auditd", "apt-transport-https", "conntrack", "chrony", "curl", "ebtables", "jq", "gnupg", "libnetfilter-acct1", "libnetfilter-cttimeout1",
			"libnetfilter-log1", "python3-netifaces", "python3-pip", "socat", // §2.2, Debian common
			"open-vm-tools", "libseccomp2", // §2.2, virt and containerd
			"cloud-init", "cloud-guest-utils", "cloud-initramfs-dyn-netconf", // §2.3; only Ubuntu has cloud-initramfs-copymods
		} {
			if !slices.Contains(have, p) {
				t.Errorf("%s lacks %s", name, p)
			}
		}
	}
}
