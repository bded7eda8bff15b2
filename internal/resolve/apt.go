package resolve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/deb"
	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/tools"
)

const (
	maxRelease  = 4 << 20   // bytes of an InRelease
	maxPackages = 512 << 20 // bytes of an unpacked Packages
)

// index is one verified repository.
type index struct {
	repository lock.Repository
	release    *deb.Release
	inRelease  []byte
	mirror     catalog.Repository
	lists      map[string][]byte // component -> Packages, unpacked
}

// distribution is all verified indexes of a release.
type distribution struct {
	indexes  []*index
	universe *deb.Universe
	origin   map[string]string // SHA-256 of a package -> repository name
}

// opener fetches and verifies indexes.
type opener struct {
	fetch   *fetch.Fetcher
	keys    func(name string) (string, error)
	mirrors Mirrors
	arch    string
	now     time.Time
}

// distribution returns the indexes of a release.
func (o opener) distribution(ctx context.Context, r *catalog.Release) (d *distribution, err error) {
	ctx, task := event.Start(ctx, fmt.Sprintf("indexes of %s %s", r.Name, r.Version))
	defer func() { task.Done(err) }()
	d = &distribution{origin: map[string]string{}}
	var all []*deb.Package
	for _, repo := range r.Repositories {
		task.Detail(repo.Name)
		i, err := o.index(ctx, repo)
		if err != nil {
			return nil, err
		}
		for _, component := range repo.Components {
			packages, err := deb.ParsePackages(string(i.lists[component]))
			if err != nil {
				return nil, fault.New(fault.Integrity, "read the packages of %s %s: %w", repo.Name, component, err)
			}
			for _, p := range packages {
				if _, ok := d.origin[p.SHA256]; !ok {
					d.origin[p.SHA256] = repo.Name
				}
			}
			all = append(all, packages...)
		}
		d.indexes = append(d.indexes, i)
	}
	d.universe = deb.NewUniverse(all)
	return d, nil
}

// index returns one repository's verified index with its lists of packages.
func (o opener) index(ctx context.Context, repo catalog.Repository) (*index, error) {
	bases := o.mirrors[repo.Mirror]
	in := func(path string) []string {
		urls := make([]string, len(bases))
		for i, b := range bases {
			urls[i] = b + "/dists/" + repo.Suite + "/" + path
		}
		return urls
	}
	raw, err := o.fetch.Document(ctx, in("InRelease"), maxRelease)
	if err != nil {
		return nil, fmt.Errorf("index of %s: %w", repo.Name, err)
	}
	release, err := o.verify(repo, in("InRelease")[0], raw)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(release.Text)
	i := &index{release: release, inRelease: raw, mirror: repo, lists: map[string][]byte{}, repository: lock.Repository{
		Name: repo.Name, Date: release.Date, SHA256: hex.EncodeToString(sum[:]), Signers: release.Signers, URLs: bases,
	}}
	for _, component := range repo.Components {
		if i.lists[component], err = o.packages(ctx, repo, release, component, in); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// verify checks that an InRelease file is signed by the repository's keys, and
// that it is this suite's: a mirror could serve another one's.
func (o opener) verify(repo catalog.Repository, url string, raw []byte) (*deb.Release, error) {
	var keys []string
	for _, name := range repo.Keys {
		key, err := o.keys(name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	release, err := deb.ParseRelease(url, raw, keys, o.now)
	if err != nil {
		return nil, err
	}
	if release.Codename != repo.Suite && release.Suite != repo.Suite {
		return nil, fault.New(fault.Integrity, "%s is the index of %s, not of %s", url, release.Codename, repo.Suite)
	}
	return release, nil
}

func (o opener) packages(ctx context.Context, repo catalog.Repository, release *deb.Release, component string, in func(string) []string) ([]byte, error) {
	path := component + "/binary-" + o.arch + "/Packages.xz"
	file, ok := release.Files[path]
	if !ok {
		return nil, fault.New(fault.Input, "%s has no packages for %s", repo.Name, o.arch)
	}
	// A by-hash file does not change under us while the mirror is updated.
	byHash := in(filepath.Dir(path) + "/by-hash/SHA256/" + file.SHA256)
	blob, err := o.fetch.Blob(ctx, fetch.Input{Name: repo.Name + " " + path, URLs: append(byHash, in(path)...), Size: file.Size, SHA256: file.SHA256})
	if err != nil {
		return nil, err
	}
	return deb.ReadIndex(blob, path, maxPackages)
}

// locked turns an index entry into a lock entry.
func (d *distribution) locked(p *deb.Package, purpose string) lock.Package {
	return lock.Package{For: purpose, Name: p.Name, Version: p.Version, Arch: p.Arch, Size: p.Size, SHA256: p.SHA256,
		Repository: d.origin[p.SHA256], Path: p.Filename}
}

// toolRoot returns the packages of a tools root.
func (d *distribution) toolRoot(name string, list []string) ([]lock.Package, error) {
	start := d.universe.Essential()
	if name == "proxy" { // a container image needs no essential packages
		start = nil
	}
	slices.Sort(start)
	closure, err := d.universe.Closure(append(start, list...))
	if err != nil {
		return nil, fmt.Errorf("packages of the tools root %s: %w", name, err)
	}
	out := make([]lock.Package, len(closure))
	for i, p := range closure {
		out[i] = d.locked(p, name)
	}
	return out, nil
}

// urls says where a package of this distribution can be fetched.
func (d *distribution) urls(p lock.Package) []string {
	var out []string
	for _, i := range d.indexes {
		if i.repository.Name == p.Repository {
			for _, u := range i.repository.URLs {
				out = append(out, u+"/"+p.Path)
			}
		}
	}
	return out
}

// step is what one phase installs on top of those before it.
type step struct {
	phase string
	names []string
	// alone is for a phase of one target: those of other targets do not build on it.
	alone bool
}

// install lets apt, run from the tools root over the verified indexes, say
// which packages each step adds and in which order.
func (d *distribution) install(ctx context.Context, f *fetch.Fetcher, toolsRoot, arch string, steps []step) (out []lock.Package, err error) {
	ctx, task := event.Start(ctx, "resolve packages")
	defer func() { task.Done(err) }()
	work, err := f.Store().TempDir("apt")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := d.writeApt(work, arch); err != nil {
		return nil, fmt.Errorf("prepare apt: %w", err)
	}
	var status bytes.Buffer
	for _, s := range steps {
		task.Detail(s.phase)
		if err := os.WriteFile(filepath.Join(work, "status"), status.Bytes(), 0o644); err != nil {
			return nil, err
		}
		added, err := d.simulate(ctx, toolsRoot, work, arch, s)
		if err != nil {
			return nil, err
		}
		for _, p := range added {
			out = append(out, d.locked(p, s.phase))
			if s.alone {
				continue
			}
			// apt takes a package for another one unless every field is the same.
			fmt.Fprintf(&status, "%s\nStatus: install ok installed\n\n", p.Stanza)
		}
	}
	return out, nil
}

// writeApt lays out the indexes as `apt-get update` would, under host names
// that no one can reach.
func (d *distribution) writeApt(work, arch string) error {
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return err
		}
	}
	var sources strings.Builder
	for _, i := range d.indexes {
		host := string(i.mirror.Mirror) + ".invalid"
		fmt.Fprintf(&sources, "deb [trusted=yes arch=%s] http://%s %s %s\n", arch, host, i.mirror.Suite, strings.Join(i.mirror.Components, " "))
		stem := filepath.Join(work, "lists", host+"_dists_"+i.mirror.Suite+"_")
		if err := os.WriteFile(stem+"InRelease", i.inRelease, 0o644); err != nil {
			return err
		}
		for component, text := range i.lists {
			if err := os.WriteFile(stem+component+"_binary-"+arch+"_Packages", text, 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(work, "sources.list"), []byte(sources.String()), 0o644)
}

var installLine = regexp.MustCompile(`^Inst ([^ :]+)(?::[a-z0-9]+)? (?:\[[^]]*\] )?\(([^ ]+) .*\[([a-z0-9]+)\]\)`)

func (d *distribution) simulate(ctx context.Context, toolsRoot, work, arch string, s step) ([]*deb.Package, error) {
	args := []string{"apt-get", "-qq", "-y", "--simulate", "--no-install-recommends"}
	for _, o := range []string{
		"APT::Architecture=" + arch, "APT::Architectures::=" + arch, "APT::Sandbox::User=root",
		"Dir::Etc::sourcelist=" + tools.Work + "/sources.list", "Dir::Etc::sourceparts=-", "Dir::Etc::trustedparts=-",
		"Dir::State::lists=" + tools.Work + "/lists", "Dir::State::status=" + tools.Work + "/status",
		"Dir::State::extended_states=" + tools.Work + "/extended_states", "Dir::Cache=" + tools.Work + "/cache",
		"Debug::NoLocking=true", "Acquire::Check-Valid-Until=false",
	} {
		args = append(args, "-o", o)
	}
	out, err := sandbox.Output(ctx, sandbox.Command{
		Root: toolsRoot, ReadOnly: true, Args: append(append(args, "install"), s.names...),
		Mounts: []sandbox.Mount{{Source: work, Target: tools.Work}},
	})
	if err != nil {
		var exit *sandbox.ExitError
		if errors.As(err, &exit) {
			return nil, fault.New(fault.Input, "apt cannot install the packages of phase %s together:\n%s%s", s.phase, out, exit.Tail)
		}
		return nil, err
	}
	return d.added(string(out), s)
}

// added reads what apt would do. It may only add: what it would remove an
// earlier phase has installed already.
func (d *distribution) added(out string, s step) ([]*deb.Package, error) {
	var added []*deb.Package
	var removed []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Remv" {
			removed = append(removed, f[1])
		}
		m := installLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		p := d.universe.Find(m[1], m[2], m[3])
		if p == nil {
			return nil, fault.New(fault.Internal, "apt chose %s %s, which no index lists", m[1], m[2])
		}
		added = append(added, p)
	}
	if len(removed) > 0 {
		return nil, fault.New(fault.Input, "the packages of phase %s (%s) cannot be installed beside %s, which the image needs", s.phase,
			strings.Join(s.names, ", "), strings.Join(removed, ", "))
	}
	return added, nil
}
