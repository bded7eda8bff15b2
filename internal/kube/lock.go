package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Lock is everything that determines the compiled programs of one version of
// Kubernetes: what is compiled, from which modules, by which toolchain.
type Lock struct {
	Plan      Plan      `json:"plan" yaml:"plan"`
	Toolchain Toolchain `json:"toolchain" yaml:"toolchain"`
	// Source is the zip of k8s.io/kubernetes, which also holds pause.c.
	Source Module `json:"source" yaml:"source"`
	// Modules lists, by the name of a workspace, every module of its graph,
	// sorted by path and version.
	Modules map[string][]Module `json:"modules" yaml:"modules"`
	// Packages is how many packages each workspace compiles, for the progress bar.
	Packages map[string]int `json:"packages" yaml:"packages"`
	// Programs are the digests of what was compiled from this lock before.
	// Those that are listed must come out the same.
	Programs map[string]Blob `json:"programs,omitempty" yaml:"programs,omitempty"`
}

// AllModules returns the modules of all workspaces without repetition, sorted.
func (l Lock) AllModules() []Module {
	all := map[string]Module{}
	for _, list := range l.Modules {
		for _, m := range list {
			known := all[at(m.Path, m.Version)]
			if m.Sum == "" {
				m.Zip, m.Sum = known.Zip, known.Sum
			}
			if m.Mod.SHA256 == "" {
				m.Mod = known.Mod
			}
			all[at(m.Path, m.Version)] = m
		}
	}
	modules := make([]Module, 0, len(all))
	for _, m := range all {
		modules = append(modules, m)
	}
	sortModules(modules)
	return modules
}

// hashOf returns the SHA-256 (hex) of a value's JSON, for keys of the store.
func hashOf(values ...any) string {
	text, err := json.Marshal(values)
	if err != nil {
		panic("kube: key of a value that JSON cannot express: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
