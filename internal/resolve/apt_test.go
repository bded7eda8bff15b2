package resolve

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/deb"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/store"
)

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// signing is the key of the test's distribution.
type signing struct{ entity *openpgp.Entity }

func newKey(t *testing.T) signing {
	t.Helper()
	e, err := openpgp.NewEntity("test", "", "test@example.org", signatures())
	if err != nil {
		t.Fatal(err)
	}
	return signing{e}
}

func signatures() *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA256, Time: func() time.Time { return now().Add(-time.Hour) }}
}

func (s signing) public(string) (string, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		return "", err
	}
	err = errors.Join(s.entity.Serialize(w), w.Close())
	return b.String(), err
}

func (s signing) sign(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, s.entity.PrivateKey, signatures())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	w.Close()
	return append(b.Bytes(), '\n')
}

// mirror is the files of a web server, by path.
type mirror map[string][]byte

func (m mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b, ok := m[r.URL.Path]; ok {
		w.Write(b)
		return
	}
	http.NotFound(w, r)
}

const list = "main/binary-amd64/Packages.xz"

// add publishes a suite with packages; end is its Valid-Until, or zero.
func (m mirror) add(t *testing.T, key signing, base, suite string, end time.Time, packages string) {
	t.Helper()
	packed := xz(t, packages)
	text := fmt.Sprintf("Suite: stable\nCodename: %s\nDate: %s\n", suite, now().Add(-24*time.Hour).Format(time.RFC1123))
	if !end.IsZero() {
		text += "Valid-Until: " + end.Format(time.RFC1123) + "\n"
	}
	dists := base + "/dists/" + suite + "/"
	m[dists+"InRelease"] = key.sign(t, fmt.Sprintf("%sSHA256:\n %x %d %s\n", text, sha256.Sum256(packed), len(packed), list))
	m[dists+list] = packed
}

func xz(t *testing.T, text string) []byte {
	t.Helper()
	path, err := exec.LookPath("xz")
	if err != nil {
		t.Skip("xz is not installed")
	}
	c := exec.Command(path, "-c")
	c.Stdin = strings.NewReader(text)
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func entry(name, version, more string) string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\n%sFilename: pool/%s.deb\nSize: 7\nSHA256: %x\n\n", name, version, more, name, sha256.Sum256([]byte(name+version)))
}

// published is a whole Debian 13 of a few packages.
func published(t *testing.T, key signing) mirror {
	t.Helper()
	m := mirror{}
	m.add(t, key, "/debian", "trixie", time.Time{}, entry("nfs-common", "1.0", "")+entry("openssl", "3.5.1-1", "")+entry("mawk", "1", "Provides: awk\n"))
	m.add(t, key, "/debian", "trixie-updates", now().Add(time.Hour), entry("tzdata", "2026a", ""))
	m.add(t, key, "/debian-security", "trixie-security", now().Add(time.Hour), entry("openssl", "3.5.1-1+deb13u1", "Essential: yes\n"))
	return m
}

// resolver uses what m serves; its URLs are the spec's.
func resolver(t *testing.T, m http.Handler, keys func(string) (string, error)) (Resolver, *spec.Image) {
	t.Helper()
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	image := &spec.Image{}
	image.Spec.OS = spec.OS{Name: "debian", Version: "13", Arch: "amd64", Kernel: "generic"}
	image.Spec.Mirrors = spec.Mirrors{Archive: []string{server.URL + "/debian"}, Security: []string{server.URL + "/debian-security"}}
	return Resolver{Fetch: fetch.New(s, fetch.Options{}), Now: now(), Keys: keys, HostRoot: t.TempDir(), ConfigDir: t.TempDir()}, image
}

func (r Resolver) openTrixie(image *spec.Image) (*distribution, error) {
	release, err := catalog.FindRelease("debian", "13")
	if err != nil {
		return nil, err
	}
	return r.open(context.Background(), release, image)
}

func TestOpen(t *testing.T) {
	key := newKey(t)
	r, image := resolver(t, published(t, key), key.public)
	d, err := r.openTrixie(image)
	if err != nil {
		t.Fatal(err)
	}
	p := d.universe.Newest("openssl")
	if p.Version != "3.5.1-1+deb13u1" {
		t.Errorf("the newest is %s", p.Version)
	}
	l := d.locked(p, "base")
	want := lock.Package{For: "base", Name: "openssl", Version: p.Version, Arch: "amd64", Size: 7, SHA256: p.SHA256, Repository: "trixie-security", Path: "pool/openssl.deb"}
	if l != want {
		t.Errorf("locked as %+v, want %+v", l, want)
	}
	if urls := d.urls(l); len(urls) != 1 || urls[0] != image.Spec.Mirrors.Security[0]+"/pool/openssl.deb" {
		t.Errorf("its addresses are %v", urls)
	}
	repositories, epoch := repositories(d, d)
	if len(repositories) != 3 || !epoch.Equal(now().Add(-24*time.Hour)) {
		t.Errorf("%d repositories of %v", len(repositories), epoch)
	}
	for _, repo := range repositories {
		if len(repo.Signers) != 1 || len(repo.SHA256) != 64 {
			t.Errorf("repository %+v", repo)
		}
	}
}

// A file by its digest stays what it was while a mirror is being updated.
func TestOpenByHash(t *testing.T) {
	key := newKey(t)
	m := published(t, key)
	good := m["/debian/dists/trixie/"+list]
	m[fmt.Sprintf("/debian/dists/trixie/main/binary-amd64/by-hash/SHA256/%x", sha256.Sum256(good))] = good
	m["/debian/dists/trixie/"+list] = xz(t, "the next one")
	r, image := resolver(t, m, key.public)
	if _, err := r.openTrixie(image); err != nil {
		t.Error(err)
	}
}

// Every change breaks one rule.
func TestOpenRefuses(t *testing.T) {
	key, other := newKey(t), newKey(t)
	const dists = "/debian/dists/trixie/"
	for what, c := range map[string]struct {
		change func(m mirror)
		kind   fault.Kind
		want   string
	}{
		"no index":                  {func(m mirror) { delete(m, dists+"InRelease") }, fault.Network, "not found"},
		"no packages":               {func(m mirror) { delete(m, dists+list) }, fault.Network, "not found"},
		"another key":               {func(m mirror) { m.add(t, other, "/debian", "trixie", time.Time{}, "") }, fault.Integrity, "verify the signature"},
		"a page instead":            {func(m mirror) { m[dists+"InRelease"] = []byte("<html>log in</html>") }, fault.Integrity, "not a signed index"},
		"packages of the same size": {func(m mirror) { m[dists+list] = bytes.Repeat([]byte("x"), len(m[dists+list])) }, fault.Integrity, "SHA-256"},
		"packages that are none":    {func(m mirror) { m.add(t, key, "/debian", "trixie", time.Time{}, "hello\n") }, fault.Integrity, "read the packages of trixie"},
		"another suite's index":     {func(m mirror) { m[dists+"InRelease"] = m["/debian/dists/trixie-updates/InRelease"] }, fault.Integrity, "is the index of trixie-updates, not of trixie"},
		"an old release's index": {func(m mirror) {
			m.add(t, key, "/debian", "bookworm", time.Time{}, "")
			m[dists+"InRelease"] = m["/debian/dists/bookworm/InRelease"]
		}, fault.Integrity, "is the index of bookworm"},
		"an expired index": {func(m mirror) { m.add(t, key, "/debian-security", "trixie-security", now().Add(-time.Minute), "") }, fault.Integrity, "expired on"},
		"no such architecture": {func(m mirror) {
			m[dists+"InRelease"] = key.sign(t, "Codename: trixie\nDate: "+now().Format(time.RFC1123)+"\n")
		}, fault.Input, "no packages for amd64"},
	} {
		t.Run(what, func(t *testing.T) {
			m := published(t, key)
			c.change(m)
			r, image := resolver(t, m, key.public)
			_, err := r.openTrixie(image)
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s fault %v; want %s, %q", fault.KindOf(err), err, c.kind, c.want)
			}
		})
	}
}

func TestOpenTriesTheNextMirror(t *testing.T) {
	key := newKey(t)
	r, image := resolver(t, published(t, key), key.public)
	down := httptest.NewServer(nil)
	down.Close()
	image.Spec.Mirrors.Archive = append([]string{down.URL + "/debian"}, image.Spec.Mirrors.Archive...)
	if _, err := r.openTrixie(image); err != nil {
		t.Error(err)
	}
}

func TestOpenMirrorDown(t *testing.T) {
	if testing.Short() {
		t.Skip("waits between attempts")
	}
	t.Parallel()
	key := newKey(t)
	r, image := resolver(t, published(t, key), key.public)
	down := httptest.NewServer(nil)
	down.Close()
	image.Spec.Mirrors.Archive = []string{down.URL + "/debian"}
	_, err := r.openTrixie(image)
	if fault.KindOf(err) != fault.Network || !strings.Contains(err.Error(), down.URL) || fault.HintOf(err) == "" {
		t.Errorf("%s fault %v, hint %q", fault.KindOf(err), err, fault.HintOf(err))
	}
}

// Without keys of its own a resolver uses the catalog's, which did not sign.
func TestOpenUsesTheCatalogsKeys(t *testing.T) {
	r, image := resolver(t, published(t, newKey(t)), nil)
	if _, err := r.openTrixie(image); fault.KindOf(err) != fault.Integrity {
		t.Errorf("the test's signature gives %v", err)
	}
}

const text = `apiVersion: imagebuilder.dev/v1alpha1
kind: Image
metadata: {name: x}
spec:
  kubernetes: {version: v1.36.3}
  mirrors: {archive: ["ARCHIVE"], security: ["SECURITY"]}
  packages:
    - nfs-comon
    - awk
    - qqqqqqqqqqqq
`

func TestResolveMisspelt(t *testing.T) {
	key := newKey(t)
	r, image := resolver(t, published(t, key), key.public)
	yaml := strings.NewReplacer("ARCHIVE", image.Spec.Mirrors.Archive[0], "SECURITY", image.Spec.Mirrors.Security[0]).Replace(text)
	image, src, err := spec.Load("image.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Resolve(context.Background(), image, src)
	want := `image.yaml:8:7: debian 13 has no package "nfs-comon"; did you mean "nfs-common"?` + "\n" +
		`image.yaml:10:7: debian 13 has no package "qqqqqqqqqqqq"`
	if err == nil || err.Error() != want || fault.KindOf(err) != fault.Input {
		t.Errorf("%s fault\n%v\nwant\n%s", fault.KindOf(err), err, want)
	}
}

func TestHash(t *testing.T) {
	_, image := resolver(t, mirror{}, nil)
	before := Hash(image)
	for what, c := range map[string]struct {
		change func(s *spec.Image)
		stale  bool
	}{
		"a package":        {func(s *spec.Image) { s.Spec.Packages = []string{"x"} }, true},
		"the release":      {func(s *spec.Image) { s.Spec.OS.Version = "12" }, true},
		"the kernel":       {func(s *spec.Image) { s.Spec.OS.Kernel = "cloud" }, true},
		"Kubernetes":       {func(s *spec.Image) { s.Spec.Kubernetes.Version = "v1.36.4" }, true},
		"containerd":       {func(s *spec.Image) { s.Spec.Runtime.Containerd.Version = "v3" }, true},
		"a target":         {func(s *spec.Image) { s.Spec.Targets = []string{"raw"} }, true},
		"a mirror":         {func(s *spec.Image) { s.Spec.Mirrors.Archive = nil }, true},
		"the name":         {func(s *spec.Image) { s.Metadata.Name = "y" }, false},
		"the disk":         {func(s *spec.Image) { s.Spec.Disk.Size = 7 }, false},
		"a file":           {func(s *spec.Image) { s.Spec.Files = make([]spec.File, 1) }, false},
		"kernel arguments": {func(s *spec.Image) { s.Spec.OS.KernelArguments = []string{"quiet"} }, false},
	} {
		s := *image
		if c.change(&s); (Hash(&s) != before) != c.stale {
			t.Errorf("%s: stale is %v", what, !c.stale)
		}
	}
}

func TestToolRootIsInOrder(t *testing.T) {
	list, err := deb.ParsePackages(entry("libc", "1", "") + entry("bash", "1", "Essential: yes\nPre-Depends: libc\n") + entry("qemu", "1", "Depends: lib\n") + entry("lib", "1", "Depends: libc\n"))
	if err != nil {
		t.Fatal(err)
	}
	d := &distribution{universe: deb.NewUniverse(list), origin: map[string]string{}}
	for name, want := range map[string]string{"test": "libc bash lib qemu", "proxy": "libc lib qemu"} {
		got, err := d.toolRoot(name, []string{"qemu"})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range got {
			names = append(names, p.Name)
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%s is %v, want %s", name, names, want)
		}
	}
	if _, err := d.toolRoot("test", []string{"none"}); err == nil || !strings.Contains(err.Error(), "tools root test: no package none") {
		t.Errorf("a missing package gives %v", err)
	}
}

// What `apt-get --simulate` prints.
func TestAdded(t *testing.T) {
	list, err := deb.ParsePackages(entry("libc6", "2.41-12+deb13u1", "") + entry("g++", "4:14", "") + entry("base-files", "13", ""))
	if err != nil {
		t.Fatal(err)
	}
	d := &distribution{universe: deb.NewUniverse(list)}
	const out = "NOTE: This is only a simulation!\nInst libc6 (2.41-12+deb13u1 Debian:13.2/stable, Debian-Security:13/stable-security [amd64])\n" +
		"Inst base-files [12] (13 trixie [amd64]) []\nInst g++:amd64 (4:14 Debian:13/stable [amd64])\nConf libc6 (2.41-12+deb13u1 x [amd64])\n"
	got, err := d.added(out, step{phase: "os"})
	if err != nil || len(got) != 3 || got[0].Name != "libc6" || got[1].Name != "base-files" || got[2].Name != "g++" {
		t.Errorf("added %v, %v", got, err)
	}
	_, err = d.added(out+"Remv chrony [4.6-1]\n", step{phase: "customize", names: []string{"ntpsec"}})
	if fault.KindOf(err) != fault.Input || err.Error() != "the packages of phase customize (ntpsec) cannot be installed beside chrony, which the image needs" {
		t.Errorf("a removal gives %s fault %v", fault.KindOf(err), err)
	}
	if _, err = d.added("Inst libc6 (9 x [amd64])\n", step{}); fault.KindOf(err) != fault.Internal {
		t.Errorf("an unknown version gives %v", err)
	}
}
