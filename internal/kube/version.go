package kube

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
	"imagebuilder.dev/internal/fault"
)

// Version is a release of Kubernetes, such as v1.36.3 or v1.37.0-rc.1.
type Version string

// ParseVersion checks a release's name. The leading v may be left out.
func ParseVersion(s string) (Version, error) {
	v := s
	if !strings.HasPrefix(v, "v") {
		v = "v" + v
	}
	if !semver.IsValid(v) || semver.Canonical(v) != v || semver.Major(v) != "v1" {
		return "", fault.Hint(fault.New(fault.Input, "Kubernetes version %q is not a release", s),
			"write it as v1.MINOR.PATCH, for example v1.36.3")
	}
	return Version(v), nil
}

// Minor returns the release's minor line, e.g. v1.36.
func (v Version) Minor() string { return semver.MajorMinor(string(v)) }

// staging returns the version that the release's staging modules
// (k8s.io/api and so on) carry: v1.36.3 becomes v0.36.3.
func (v Version) staging() string { return "v0." + strings.TrimPrefix(string(v), "v1.") }

// newestOf returns the newest final release of v's minor line among versions
// as a module proxy lists them, or "" when there is none.
func newestOf(line string, versions []string) string {
	newest := ""
	for _, v := range versions {
		if semver.MajorMinor(v) == line && semver.Prerelease(v) == "" && semver.Compare(v, newest) > 0 {
			newest = v
		}
	}
	return newest
}

// notServed says that a module's version does not exist, and which does.
func notServed(module, version string, served []string) error {
	err := fault.New(fault.Input, "%s %s is not served by the module proxy", module, version)
	if newest := newestOf(semver.MajorMinor(version), served); newest != "" {
		return fault.Hint(err, "the newest %s that is served is %s", semver.MajorMinor(version), newest)
	}
	newest := ""
	for _, v := range served {
		if semver.Prerelease(v) == "" && semver.Compare(v, newest) > 0 {
			newest = v
		}
	}
	if newest == "" {
		return fault.Hint(err, "the proxy lists no release of %s", module)
	}
	return fault.Hint(err, "the proxy serves no %s; the newest of all is %s", semver.MajorMinor(version), newest)
}

// stampParts returns the major and minor number as the programs report them.
func (v Version) stampParts() (major, minor string) {
	line := strings.TrimPrefix(v.Minor(), "v")
	major, minor, _ = strings.Cut(line, ".")
	return major, minor
}

// minorNumber returns 36 for v1.36.3.
func (v Version) minorNumber() int {
	_, minor := v.stampParts()
	n, _ := strconv.Atoi(minor) // ParseVersion checked the form
	return n
}

func (v Version) String() string { return string(v) }

// at formats a module at a version for messages and file names.
func at(path, version string) string { return fmt.Sprintf("%s@%s", path, version) }
