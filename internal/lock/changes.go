package lock

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Changes says in lines what is other in b than in a, which may be nil.
func Changes(a, b *Lock) []string {
	if a == nil {
		a = &Lock{}
	}
	old, fresh := versions(a), versions(b)
	security := map[string]bool{}
	for _, p := range b.Packages {
		if strings.HasSuffix(p.Repository, "-security") {
			security[p.Name] = true
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(merge(old, fresh))) {
		o, n := old[name], fresh[name]
		switch {
		case o == n:
		case o == "":
			out = append(out, fmt.Sprintf("+ %s %s", name, n))
		case n == "":
			out = append(out, fmt.Sprintf("- %s %s", name, o))
		default:
			line := fmt.Sprintf("~ %s %s -> %s", name, o, n)
			if security[name] {
				line += " (security)"
			}
			out = append(out, line)
		}
	}
	switch {
	case len(out) > 0:
		return out
	case a.Hash() != b.Hash():
		return []string{"no version changed, but origins, dates or the tools did"}
	default:
		return []string{"nothing changed"}
	}
}

func versions(l *Lock) map[string]string {
	out := map[string]string{}
	for _, p := range l.Packages {
		out[p.Name] = p.Version
	}
	k := l.Kubernetes
	if k.Version != "" {
		out["Kubernetes"] = k.Version
		out["Go"] = k.Modules.Toolchain.Version
		for _, m := range k.Modules.AllModules() {
			out["module "+m.Path] = m.Version
		}
	}
	return out
}

func merge(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}
