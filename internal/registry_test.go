package internal_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// registryAllowed are the files that name a registry all the same, and why.
var registryAllowed = map[string]string{
	"../internal/catalog/debian.go": "the mirror when neither spec, user nor host names one: the archive of all states of Debian",
}

// TestNoRegistries keeps the host names of package registries out of all
// files: where packages come from is the user's to say. The names stand here
// in parts, so that this file holds none.
func TestNoRegistries(t *testing.T) {
	hosts := map[string]string{ // the last labels to the first ones
		"debian.org": "deb security ftp snapshot archive cdn-fastly.deb", "ubuntu.com": "archive security ports",
		"golang.org": "proxy sum", "goproxy.cn": "", "npmjs.org": "registry", "yarnpkg.com": "registry",
		"pypi.org": "", "pythonhosted.org": "files", "crates.io": "", "rubygems.org": "",
		"maven.org": "repo1", "maven.apache.org": "repo", "k8s.io": "pkgs", "fedoraproject.org": "dl mirrors", "docker.io": "registry-1 index",
	}
	var forbidden [][]byte
	for domain, names := range hosts {
		for _, name := range append(strings.Fields(names), "") {
			if name != "" {
				forbidden = append(forbidden, []byte(name+"."+domain))
			} else if names == "" {
				forbidden = append(forbidden, []byte("//"+domain))
			}
		}
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || skipped(path, d) {
			return or(err, skip(d))
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, host := range forbidden {
			if i := bytes.Index(text, host); i >= 0 && registryAllowed[path] == "" {
				t.Errorf("%s:%d names the package registry %s", path, 1+bytes.Count(text[:i], []byte("\n")), host)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// skipped tells what git ignores here: results, caches, and the example's lock.
func skipped(path string, d fs.DirEntry) bool {
	switch path {
	case "../.git", "../bin", "../out", "../.cache":
		return true
	}
	return slices.Contains([]string{".img", ".qcow2", ".raw"}, filepath.Ext(path)) || strings.HasSuffix(path, ".lock.yaml") && !d.IsDir()
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}
