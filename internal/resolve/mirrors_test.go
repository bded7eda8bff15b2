package resolve

import (
	"path/filepath"
	"slices"
	"testing"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/spec"
)

func TestFindMirrors(t *testing.T) {
	archive, security := catalog.DefaultMirrors(catalog.Archive), catalog.DefaultMirrors(catalog.Security)
	host := []string{"http://one.example.org/debian", "https://two.example.org/pub/debian"}
	hostSecurity := []string{"http://one.example.org/debian-security"}
	user := []string{"https://user.example.org/debian", "https://user2.example.org/debian"}
	for _, c := range []struct {
		what, host, user  string
		spec              spec.Mirrors
		archive, security []string
	}{
		{what: "nothing", archive: archive, security: security},
		{what: "the host's lines", host: "one-line", archive: host, security: hostSecurity},
		{what: "the host's paragraphs", host: "deb822", archive: []string{"http://one.example.org/debian", "http://two.example.org/debian"}, security: hostSecurity},
		{what: "a host of another distribution", host: "other", archive: archive, security: security},
		{what: "a host with other repositories only", host: "foreign", archive: archive, security: security},
		{what: "a host that cannot be read", host: "broken", archive: archive, security: security},
		{what: "the user's file", host: "one-line", user: "user", archive: user, security: []string{"https://user.example.org/debian-security"}},
		{what: "half a file", host: "one-line", user: "half", archive: user[:1], security: hostSecurity},
		{what: "the spec", host: "one-line", user: "user", spec: spec.Mirrors{Archive: []string{"http://spec.example.org/debian/"}},
			archive: []string{"http://spec.example.org/debian"}, security: []string{"https://user.example.org/debian-security"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := FindMirrors(c.spec, "debian", filepath.Join("testdata/hosts", c.host), filepath.Join("testdata", c.user))
			if !slices.Equal(m[catalog.Archive], c.archive) || !slices.Equal(m[catalog.Security], c.security) {
				t.Errorf("archive %q, security %q\nwant %q, %q", m[catalog.Archive], m[catalog.Security], c.archive, c.security)
			}
		})
	}
}
