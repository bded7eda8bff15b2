// Package lock is the lock file: every input of a spec, by version, size,
// digest and origin. It is what a build trusts and what a reviewer reads: one
// input a line, sorted.
package lock

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"imagebuilder.dev/internal/kube"
)

// Version is the version of the file's format.
const Version = 1

// Lock is the content of the file, image.lock.yaml for a spec image.yaml.
type Lock struct {
	Version int `yaml:"version" json:"version"`
	// Spec is the hash of what was resolved; another one makes the lock stale.
	Spec string `yaml:"spec" json:"spec"`
	// Epoch is the newest date of the indexes: no file in the image is younger.
	Epoch        time.Time    `yaml:"epoch" json:"epoch"`
	Repositories []Repository `yaml:"repositories" json:"repositories"`
	// Packages of the image, in the order in which they are unpacked.
	Packages []Package `yaml:"packages" json:"packages"`
	// Tools are the packages of the tools roots.
	Tools      []Package  `yaml:"tools" json:"tools"`
	Kubernetes Kubernetes `yaml:"kubernetes" json:"kubernetes"`
}

// Repository is a signed index that packages were taken from.
type Repository struct {
	Name    string    `yaml:"name" json:"name"`
	Date    time.Time `yaml:"date" json:"date"`
	SHA256  string    `yaml:"sha256" json:"sha256"` // of the signed text
	Signers []string  `yaml:"signers" json:"signers"`
	URLs    []string  `yaml:"urls" json:"urls"` // base URLs, without dists/
}

// Package is one package of a distribution.
type Package struct {
	For        string `yaml:"for" json:"for"` // the phase, or the tools root, that unpacks it
	Name       string `yaml:"name" json:"name"`
	Version    string `yaml:"version" json:"version"`
	Arch       string `yaml:"arch" json:"arch"`
	Size       int64  `yaml:"size" json:"size"`
	SHA256     string `yaml:"sha256" json:"sha256"`
	Repository string `yaml:"repository" json:"repository"`
	Path       string `yaml:"path" json:"path"`
}

// Kubernetes is where the programs and container images come from.
type Kubernetes struct {
	Version string `yaml:"version" json:"version"`
	Source  string `yaml:"source" json:"source"`
	// Modules is what is compiled: everything for source modules, and for the
	// others what their publishers do not carry.
	Modules kube.Lock `yaml:"modules" json:"modules"`
	// Files are those of a release server or folder; nil for source modules.
	Files *kube.Files `yaml:"files,omitempty" json:"files,omitempty"`
}

// Hash returns the digest (hex SHA-256) of the lock's file as Encode writes it.
func (l *Lock) Hash() string {
	b, err := l.Encode()
	if err != nil {
		panic("lock: " + err.Error()) // only plain values
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// For returns the packages that a phase or tools root unpacks, in order.
func (l *Lock) For(name string) []Package {
	var out []Package
	for _, list := range [][]Package{l.Packages, l.Tools} {
		for _, p := range list {
			if p.For == name {
				out = append(out, p)
			}
		}
	}
	return out
}

// URLs returns where a package can be fetched.
func (l *Lock) URLs(p Package) []string {
	var out []string
	for _, r := range l.Repositories {
		if r.Name == p.Repository {
			for _, u := range r.URLs {
				out = append(out, u+"/"+p.Path)
			}
		}
	}
	return out
}
