package kube

import "testing"

func TestParseRequest(t *testing.T) {
	for path, want := range map[string]request{
		"/k8s.io/api/@v/v0.36.3.zip":                 {Kind: kindZip, Module: "k8s.io/api", Version: "v0.36.3"},
		"/github.com/!azure/x/@v/v1.0.0-!r!c.mod":    {Kind: kindMod, Module: "github.com/Azure/x", Version: "v1.0.0-RC"},
		"/a.b/c/v2/@v/v2.0.0+incompatible.info":      {Kind: kindInfo, Module: "a.b/c/v2", Version: "v2.0.0+incompatible"},
		"/k8s.io/api/@v/list":                        {Kind: kindList, Module: "k8s.io/api"},
		"/k8s.io/api/@latest":                        {Kind: kindLatest, Module: "k8s.io/api"},
		"/sumdb/sums.invalid/supported":              {Kind: kindSumDB, Tail: "sums.invalid/supported"},
		"/sumdb/sums.invalid/tile/8/1/x001/234":      {Kind: kindSumDB, Tail: "sums.invalid/tile/8/1/x001/234"},
		"/sumdb/sums.invalid/tile/8/0/067.p/12":      {Kind: kindSumDB, Tail: "sums.invalid/tile/8/0/067.p/12"},
		"/sumdb/sums.invalid/lookup/k8s.io/a@v1.0.0": {Kind: kindSumDB, Tail: "sums.invalid/lookup/k8s.io/a@v1.0.0"},
	} {
		got, err := parseRequest(path)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", path, got, err)
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for _, path := range []string{
		"", "/", "k8s.io/api/@v/list", "/k8s.io/api", "/k8s.io/api/@v/", "/k8s.io/api/@v/v1.exe", "/../etc/passwd/@v/list",
		"/k8s.io/../api/@v/v1.0.0.zip", "/K8s.io/Api/@v/list", "/k8s.io/api/@v/../../x.zip", "/sumdb/", "/sumdb/x/other",
		"/sumdb/x/lookup/../../y", "/sumdb/a?b/latest", "/nodot/@v/list", "/k8s.io/api/@v/v1.0.0",
	} {
		if got, err := parseRequest(path); err == nil {
			t.Errorf("%q was read as %+v", path, got)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{"/k8s.io/api/@v/v0.36.3.zip", "/github.com/!azure/x/@v/list", "/a.b/@latest", "/sumdb/n/tile/8/0/001", "/sumdb/n/lookup/a.b/c@v1.0.0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, err := parseRequest(path)
		if err != nil {
			return
		}
		back, err := r.path()
		if err != nil || back != path {
			t.Errorf("%q was read as %+v, which is written %q, %v", path, r, back, err)
		}
	})
}
