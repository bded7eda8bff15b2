package resolve

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/deb"
	"imagebuilder.dev/internal/spec"
)

// Mirrors are base URLs by kind, tried in order.
type Mirrors map[catalog.Mirror][]string

// FindMirrors decides where a distribution is fetched from: the spec, else the
// user's configuration, else the host's own apt sources when it runs the same
// distribution, else the catalog's default. hostRoot is / besides in tests.
func FindMirrors(s spec.Mirrors, os, hostRoot, configDir string) Mirrors {
	host := hostMirrors(os, hostRoot)
	user := userMirrors(configDir)
	out := Mirrors{}
	for kind, own := range map[catalog.Mirror][]string{catalog.Archive: s.Archive, catalog.Security: s.Security} {
		for _, candidate := range [][]string{own, user[kind], host[kind], catalog.DefaultMirrors(kind)} {
			if len(candidate) > 0 {
				out[kind] = trimSlashes(candidate)
				break
			}
		}
	}
	return out
}

func trimSlashes(urls []string) []string {
	out := make([]string, len(urls))
	for i, u := range urls {
		out[i] = strings.TrimRight(u, "/")
	}
	return out
}

// userMirrors reads the file mirrors in the user's configuration folder: lines
// of a kind (archive, security) and a URL.
func userMirrors(dir string) Mirrors {
	out := Mirrors{}
	b, err := os.ReadFile(filepath.Join(dir, "mirrors"))
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) == 2 {
			out[catalog.Mirror(f[0])] = append(out[catalog.Mirror(f[0])], f[1])
		}
	}
	return out
}

// hostMirrors reads the host's apt sources if it runs the distribution.
func hostMirrors(name, root string) Mirrors {
	out := Mirrors{}
	if osReleaseID(filepath.Join(root, "etc/os-release")) != name {
		return out
	}
	add := func(uri, suite string) {
		kind := catalog.Archive
		if strings.HasSuffix(suite, "-security") || strings.Contains(suite, "/updates") {
			kind = catalog.Security
		}
		uri = strings.TrimRight(uri, "/")
		if strings.HasPrefix(uri, "http") && isDistribution(uri, name) && !slices.Contains(out[kind], uri) {
			out[kind] = append(out[kind], uri)
		}
	}
	lists, _ := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*.list"))
	for _, f := range append([]string{filepath.Join(root, "etc/apt/sources.list")}, lists...) {
		readOneLine(f, add)
	}
	stanzas, _ := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*.sources"))
	for _, f := range stanzas {
		readStanzas(f, add)
	}
	return out
}

// isDistribution keeps third-party repositories out: the base of a mirror of
// Debian ends in the distribution's name, with -security or not.
func isDistribution(uri, name string) bool {
	base := filepath.Base(uri)
	return base == name || base == name+"-security"
}

func osReleaseID(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "ID="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// readOneLine reads sources in the one-line style of sources.list(5).
func readOneLine(path string, add func(uri, suite string)) {
	b, err := os.ReadFile(path)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if i, j := strings.IndexByte(line, '['), strings.IndexByte(line, ']'); i >= 0 && j > i {
			line = line[:i] + line[j+1:]
		}
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "deb" {
			add(f[1], f[2])
		}
	}
}

// readStanzas reads sources in the deb822 style.
func readStanzas(path string, add func(uri, suite string)) {
	b, err := os.ReadFile(path)
	if err != nil {
		return
	}
	deb.ParseControl(bytes.NewReader(b), func(s deb.Stanza) error {
		if strings.EqualFold(s.Get("Enabled"), "no") || !slices.Contains(strings.Fields(s.Get("Types")), "deb") {
			return nil
		}
		for _, uri := range strings.Fields(s.Get("URIs")) {
			for _, suite := range strings.Fields(s.Get("Suites")) {
				add(uri, suite)
			}
		}
		return nil
	})
}
