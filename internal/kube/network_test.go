package kube

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"imagebuilder.dev/internal/fault"
)

// bareHost hides this host's Go and its settings.
func bareHost(t *testing.T) (home string) {
	home = t.TempDir()
	for name, value := range map[string]string{
		"GOPROXY": "", "GOSUMDB": "", "GOENV": "", "GOROOT": "", "PATH": filepath.Join(home, "bin"), "XDG_CONFIG_HOME": filepath.Join(home, "config"),
	} {
		t.Setenv(name, value)
	}
	return home
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestFindNetwork(t *testing.T) {
	home := bareHost(t)
	check := func(what string, spec []string, proxies []string, sumdb string) {
		t.Helper()
		n, err := FindNetwork(spec)
		if err != nil || !slices.Equal(n.Proxies, proxies) || n.SumDB != sumdb {
			t.Errorf("%s: got %+v, %v", what, n, err)
		}
	}
	write(t, filepath.Join(home, "go/VERSION"), "go1.26.8\ntime 2026-01-01T00:00:00Z\n")
	write(t, filepath.Join(home, "go/bin/go"), "")
	write(t, filepath.Join(home, "go/go.env"), "# comment\nGOPROXY=https://root.invalid,direct\nGOSUMDB=sums.invalid\n")
	if err := os.Symlink("go/bin", filepath.Join(home, "bin")); err != nil {
		t.Fatal(err)
	}
	check("the toolchain's settings", nil, []string{"https://root.invalid"}, "sums.invalid")
	write(t, filepath.Join(home, "config/go/env"), "GOPROXY=https://user.invalid/a/|https://b.invalid\n")
	check("the user's settings", nil, []string{"https://user.invalid/a", "https://b.invalid"}, "sums.invalid")
	t.Setenv("GOPROXY", "https://env.invalid,off,https://never.invalid")
	check("the environment", nil, []string{"https://env.invalid"}, "sums.invalid")
	check("the spec", []string{"https://spec.invalid/"}, []string{"https://spec.invalid"}, "sums.invalid")
}

func TestFindNetworkFails(t *testing.T) {
	for what, set := range map[string]map[string]string{
		"nothing known": {},
		"only direct":   {"GOPROXY": "direct", "GOSUMDB": "sums.invalid"},
		"no sumdb":      {"GOPROXY": "https://p.invalid"},
		"sumdb off":     {"GOPROXY": "https://p.invalid", "GOSUMDB": "off"},
	} {
		t.Run(what, func(t *testing.T) {
			bareHost(t)
			for name, value := range set {
				t.Setenv(name, value)
			}
			n, err := FindNetwork(nil)
			if fault.KindOf(err) != fault.Environment || fault.HintOf(err) == "" {
				t.Errorf("got %+v, %v", n, err)
			}
		})
	}
}
