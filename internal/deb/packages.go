package deb

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Package is an entry of a Packages index.
type Package struct {
	Name, Version, Arch string
	Filename            string // below the repository's base
	Size                int64
	SHA256              string
	Essential           bool
	PreDepends, Depends string
	Provides            string
	Stanza              string // the whole entry as it stands in the index
}

// ID is name_version_arch.
func (p *Package) ID() string { return p.Name + "_" + p.Version + "_" + p.Arch }

// isSHA256 reports whether s is a SHA-256 in lower-case hex.
func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)

// ParsePackages reads a Packages index (not compressed). It keeps text alive
// and copies nothing of it: an index has tens of thousands of entries, of which
// few are wanted.
func ParsePackages(text string) ([]*Package, error) {
	var out []*Package
	for text != "" {
		var raw string
		raw, text, _ = strings.Cut(text, "\n\n")
		raw = strings.Trim(raw, "\n")
		if raw == "" {
			continue
		}
		p, err := parsePackage(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePackage(raw string) (*Package, error) {
	p := &Package{Stanza: raw}
	size := ""
	fields := map[string]*string{
		"Package": &p.Name, "Version": &p.Version, "Architecture": &p.Arch, "Filename": &p.Filename, "SHA256": &p.SHA256,
		"Pre-Depends": &p.PreDepends, "Depends": &p.Depends, "Provides": &p.Provides, "Size": &size,
	}
	for line := range strings.Lines(raw) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || name[0] == ' ' || name[0] == '\t' {
			continue
		}
		if field := fields[name]; field != nil {
			*field = strings.TrimSpace(value)
		} else if name == "Essential" {
			p.Essential = strings.TrimSpace(value) == "yes"
		}
	}
	var err error
	if p.Size, err = strconv.ParseInt(size, 10, 64); err != nil || p.Size <= 0 {
		return nil, fmt.Errorf("package %q has no size", p.Name)
	}
	path := strings.Split(p.Filename, "/")
	if !validName.MatchString(p.Name) || p.Version == "" || p.Arch == "" || !isSHA256(p.SHA256) || p.Filename == "" || slices.Contains(path, "..") {
		return nil, fmt.Errorf("package %q is not complete", p.Name)
	}
	return p, nil
}

// Universe is all packages of some indexes, by name; of several versions the
// newest comes first.
type Universe struct {
	byName    map[string][]*Package
	providers map[string][]*Package
}

// NewUniverse indexes packages.
func NewUniverse(packages []*Package) *Universe {
	u := &Universe{byName: map[string][]*Package{}, providers: map[string][]*Package{}}
	for _, p := range packages {
		list := u.byName[p.Name]
		i := 0
		for i < len(list) && CompareVersions(list[i].Version, p.Version) >= 0 {
			i++
		}
		u.byName[p.Name] = append(list[:i:i], append([]*Package{p}, list[i:]...)...)
		for _, alt := range relations(p.Provides) {
			u.providers[alt[0].name] = append(u.providers[alt[0].name], p)
		}
	}
	return u
}

// Find returns a package by exact version and architecture, or nil.
func (u *Universe) Find(name, version, arch string) *Package {
	for _, p := range u.byName[name] {
		if p.Version == version && (p.Arch == arch || p.Arch == "all" || arch == "") {
			return p
		}
	}
	return nil
}

// Newest returns the newest package of a name, or nil.
func (u *Universe) Newest(name string) *Package {
	if l := u.byName[name]; len(l) > 0 {
		return l[0]
	}
	return nil
}

// Has reports whether a package, real or virtual, is known.
func (u *Universe) Has(name string) bool {
	return len(u.byName[name]) > 0 || len(u.providers[name]) > 0
}

// Names calls yield with every real package's name.
func (u *Universe) Names(yield func(string) bool) {
	for n := range u.byName {
		if !yield(n) {
			return
		}
	}
}

// Essential returns the newest version of every essential package.
func (u *Universe) Essential() []string {
	var out []string
	for n, l := range u.byName {
		if l[0].Essential {
			out = append(out, n)
		}
	}
	return out
}

type relation struct{ name string }

// relations reads a dependency field: a list of alternatives. Versions and
// architectures are left out: within one release the newest package fits.
func relations(field string) [][]relation {
	var out [][]relation
	for _, group := range strings.Split(field, ",") {
		var alts []relation
		for _, alt := range strings.Split(group, "|") {
			f := strings.FieldsFunc(alt, func(r rune) bool { return r == ' ' || r == '\n' || r == '\t' || r == '(' || r == '[' })
			if len(f) == 0 {
				continue
			}
			name, _, _ := strings.Cut(f[0], ":")
			alts = append(alts, relation{name})
		}
		if len(alts) > 0 {
			out = append(out, alts)
		}
	}
	return out
}

// Closure returns the packages that names need, by taking the first alternative
// that exists and the newest version of everything. That is right for a fixed
// list within one release, such as the tools root's; for anything a user
// chooses, apt resolves. The order is: a package after its Pre-Depends and
// Depends where no cycle forbids it.
func (u *Universe) Closure(names []string) ([]*Package, error) {
	var out []*Package
	seen := map[string]bool{}
	var visit func(name, why string) error
	visit = func(name, why string) error {
		p := u.Newest(name)
		if p == nil && len(u.providers[name]) > 0 {
			p = u.providers[name][0]
		}
		if p == nil {
			return fmt.Errorf("no package %s, which %s needs", name, why)
		}
		if seen[p.Name] {
			return nil
		}
		seen[p.Name] = true
		for _, field := range []string{p.PreDepends, p.Depends} {
			for _, alts := range relations(field) {
				if err := visit(u.choose(alts, seen), p.Name); err != nil {
					return err
				}
			}
		}
		out = append(out, p)
		return nil
	}
	for _, n := range names {
		if err := visit(n, "the list"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// choose prefers an alternative that is there already, then the first that exists.
func (u *Universe) choose(alts []relation, seen map[string]bool) string {
	for _, a := range alts {
		if seen[a.name] {
			return a.name
		}
		for _, p := range u.providers[a.name] {
			if seen[p.Name] {
				return p.Name
			}
		}
	}
	for _, a := range alts {
		if u.Has(a.name) {
			return a.name
		}
	}
	return alts[0].name
}

// Names returns the packages that a dependency field names, alternatives too.
func Names(field string) []string {
	var out []string
	for _, alts := range relations(field) {
		for _, a := range alts {
			out = append(out, a.name)
		}
	}
	return out
}
