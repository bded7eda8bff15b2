package kube

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/dirhash"
)

// HostGo returns the root of the Go toolchain that is first in PATH ($GOROOT
// wins), found without starting it.
func HostGo() (root string, ok bool) {
	candidates := []string{os.Getenv("GOROOT")}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if program, err := filepath.EvalSymlinks(filepath.Join(dir, "go")); err == nil {
			candidates = append(candidates, filepath.Dir(filepath.Dir(program)))
		}
	}
	for _, c := range candidates {
		if c == "" {
			continue
		}
		if _, err := goRelease(c); err == nil {
			return c, true
		}
	}
	return "", false
}

// goRelease reads a toolchain's version, e.g. go1.26.8, from its VERSION file.
func goRelease(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	version := strings.TrimSpace(line)
	if !semver.IsValid(goSemver(version)) {
		return "", fmt.Errorf("%s: %q is no release of Go", filepath.Join(root, "VERSION"), version)
	}
	return version, nil
}

// goSemver writes a Go version as a semantic one: go1.26rc1 becomes v1.26.0-rc1.
func goSemver(version string) string {
	v := strings.TrimPrefix(version, "go")
	number := strings.IndexFunc(v, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	pre := ""
	if number >= 0 {
		v, pre = v[:number], "-"+v[number:]
	}
	if strings.Count(v, ".") == 1 {
		v += ".0"
	}
	return "v" + v + pre
}

// newerGo reports whether Go version a is newer than b.
func newerGo(a, b string) bool { return semver.Compare(goSemver(a), goSemver(b)) > 0 }

// hashHostGo returns the h1 hash that the toolchain module of a Go installation
// would have, so that the installation can be compared with what the checksum
// database says of that release. The files are those that cmd/distpack of the
// Go project puts into the module.
func hashHostGo(root, version string) (string, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	prefix := toolchainPath + "@" + toolchainVersion(version) + "/"
	var names []string
	files := map[string]string{} // name in the module → path in the installation
	err = walkToolchain(root, func(name string) {
		inModule := name
		if path.Base(name) == "go.mod" {
			inModule = path.Join(path.Dir(name), "_go.mod")
		}
		names = append(names, prefix+inModule)
		files[prefix+inModule] = filepath.Join(root, name)
	})
	if err != nil {
		return "", err
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		if strings.HasSuffix(name, "/go.env") {
			return canonicalGoEnv(files[name])
		}
		return os.Open(files[name])
	})
}

// walkToolchain calls visit with the name of every file of an installation
// that belongs to the toolchain module.
func walkToolchain(root string, visit func(name string)) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil || name == "." {
			return err
		}
		switch belongs := inToolchain(name, d.IsDir()); {
		case !belongs && d.IsDir():
			return fs.SkipDir
		case belongs && !d.IsDir():
			visit(name)
		}
		return nil
	})
}

// canonicalGoEnv opens go.env with the one setting that distributors change
// put back: whether the go command may choose another toolchain. It is always
// overridden in the environment here, so it cannot affect what is compiled.
func canonicalGoEnv(path string) (io.ReadCloser, error) {
	text, err := os.ReadFile(path)
	text = bytes.ReplaceAll(text, []byte("\nGOTOOLCHAIN=local\n"), []byte("\nGOTOOLCHAIN=auto\n"))
	return io.NopCloser(bytes.NewReader(text)), err
}

// inToolchain reports whether a file of an installation belongs to the module.
func inToolchain(name string, dir bool) bool {
	parts := strings.Split(name, "/")
	switch parts[0] {
	case "api", "doc", "misc", "test", ".git", ".gitattributes", ".github", ".gitignore":
		return false
	case "bin":
		return dir || name == "bin/go" || name == "bin/gofmt"
	case "pkg":
		return inToolchainPkg(parts, dir)
	}
	return true
}

func inToolchainPkg(parts []string, dir bool) bool {
	switch {
	case len(parts) == 1 || parts[1] == "include":
		return true
	case parts[1] != "tool":
		return false
	case len(parts) == 2:
		return true
	case parts[2] != "linux_"+runtime.GOARCH:
		return false
	case len(parts) == 3:
		return dir
	default:
		return slices.Contains([]string{"asm", "cgo", "compile", "cover", "fix", "link", "preprofile", "vet"}, parts[3])
	}
}
