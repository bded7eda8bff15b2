package spec

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"imagebuilder.dev/internal/catalog"
)

// The forms of values. The JSON schema has the same ones.
var (
	nameForm       = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	kubernetesForm = regexp.MustCompile(`^v?([0-9]|[1-9][0-9]+)\.([0-9]|[1-9][0-9]+)\.([0-9]|[1-9][0-9]+)(-(alpha|beta|rc)\.([0-9]|[1-9][0-9]+))?$`)
	// packageForm is Debian policy section 5.6.1.
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	// argumentForm is printable ASCII without what a shell or GRUB reads: quotes, backslash, $ and `.
	argumentForm = regexp.MustCompile(`^[!#%&(-\[\]^_a-~]+$`)
)

// maxName is the most letters of a DNS label, which some providers allow only.
const maxName = 63

// validator checks the values that the file gives, once they are decoded. What
// is a default needs no check, and what already has a problem gets no second.
type validator struct {
	*report
	img *Image
}

func (v *validator) all() {
	v.metadata()
	v.os()
	v.kubernetes()
	v.containerd()
	v.targets()
	v.disk()
	v.packages()
	v.files()
	v.mirrors()
}

// oneOf checks that the file's value at path is one of the valid words.
func (v *validator) oneOf(path, value string, valid []string) bool {
	if !v.given(path) {
		return !v.src.Has(path) // a default is valid
	}
	if slices.Contains(valid, value) {
		return true
	}
	v.addf(path, "unknown %s %s; %s", path, shorten(value), suggest(value, "valid values", valid))
	return false
}

func (v *validator) metadata() {
	const path = "metadata.name"
	name := v.img.Metadata.Name
	switch {
	case !v.given(path):
	case len(name) > maxName:
		v.addf(path, "%s has %d characters; at most %d are allowed", path, len(name), maxName)
	case !nameForm.MatchString(name):
		v.addf(path, "%s %s is not a name; %s", path, shorten(name),
			respell(name, nameForm, "use lower-case letters, digits, dots and dashes, first and last a letter or digit"))
	}
}

// respell suggests the word in lower case and with dashes if it then has the
// form, else states the rule.
func respell(word string, form *regexp.Regexp, rule string) string {
	near := strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(word))
	if near != word && len(near) <= maxName && form.MatchString(near) {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return rule
}

func (v *validator) os() {
	os := v.img.Spec.OS
	if v.oneOf("spec.os.name", os.Name, catalog.OSNames()) {
		v.oneOf("spec.os.version", os.Version, catalog.Versions(os.Name))
	}
	v.arch(os.Arch)
	v.oneOf("spec.os.kernel", os.Kernel, catalog.Kernels())
	for i, argument := range os.KernelArguments {
		path := item("spec.os.kernelArguments", i)
		if v.given(path) && !argumentForm.MatchString(argument) {
			v.addf(path, "%s %s must be one argument: ASCII without blanks, line breaks, quotes, backslash or $", path, shorten(argument))
		}
	}
}

func (v *validator) arch(arch string) {
	const path = "spec.os.arch"
	goName := map[string]string{"x86_64": "amd64", "x86-64": "amd64", "x64": "amd64", "aarch64": "arm64"}[arch]
	if v.given(path) && slices.Contains(catalog.Architectures(), goName) {
		v.addf(path, "unknown %s %q; did you mean %q?", path, arch, goName)
		return
	}
	v.oneOf(path, arch, catalog.Architectures())
}

func (v *validator) kubernetes() {
	k := v.img.Spec.Kubernetes
	v.kubernetesVersion(k.Version)
	if !v.oneOf("spec.kubernetes.source", k.Source, catalog.Sources()) {
		return
	}
	if v.onlyFor("spec.kubernetes.url", k.Source, "release", "the base address of a release server") {
		v.baseURL("spec.kubernetes.url", k.URL)
	}
	if v.onlyFor("spec.kubernetes.path", k.Source, "directory", "a local folder") {
		v.localPath("spec.kubernetes.path", k.Path)
	}
}

func (v *validator) kubernetesVersion(version string) {
	const path = "spec.kubernetes.version"
	if !v.given(path) {
		return
	}
	m := kubernetesForm.FindStringSubmatch(version)
	if m == nil {
		v.addf(path, "%s %s is not a full version; write one such as %s", path, shorten(version), exampleKubernetes)
		return
	}
	var known []string
	for _, minor := range catalog.KubernetesMinors() {
		known = append(known, fmt.Sprintf("1.%d", minor))
	}
	if release := m[1] + "." + m[2]; !slices.Contains(known, release) {
		v.addf(path, "%s %s: Kubernetes %s is not supported; %s", path, shorten(version), release, "supported releases: "+strings.Join(known, ", "))
	}
}

// onlyFor checks that the file gives path exactly when the source needs it, and
// tells whether the value is there to be checked.
func (v *validator) onlyFor(path, source, needs, what string) bool {
	switch {
	case v.bad[path]:
	case source == needs && !v.src.Has(path):
		v.addf(path, "%s is missing; source %s needs %s", path, needs, what)
	case source != needs && v.src.Has(path):
		v.addf(path, "%s is only for source %s, but the source is %s", path, needs, source)
	default:
		return source == needs
	}
	return false
}

// localPath checks the form of a path on the builder's host; whether something
// is there is not known here.
func (v *validator) localPath(path, value string) {
	switch {
	case value == "":
		v.addf(path, "%s is empty; write a path, relative to the spec or absolute", path)
	case strings.ContainsFunc(value, isControl):
		v.addf(path, "%s %s has a control character in it", path, shorten(value))
	}
}

func isControl(c rune) bool { return c < 0x20 || c == 0x7F }

func (v *validator) containerd() {
	const path = "spec.runtime.containerd.version"
	version := v.img.Spec.Runtime.Containerd.Version
	if !v.given(path) {
		return
	}
	m := kubernetesForm.FindStringSubmatch(version)
	switch {
	case m == nil:
		v.addf(path, "%s %s is not a full version; write one such as %s", path, shorten(version), catalog.DefaultContainerd)
	case m[1] != "2":
		v.addf(path, "%s %s: only containerd 2.x is supported; write one such as %s", path, shorten(version), catalog.DefaultContainerd)
	}
}

func (v *validator) targets() {
	const path = "spec.targets"
	targets, seen := v.img.Spec.Targets, map[string]int{}
	if v.given(path) && len(targets) == 0 {
		v.addf(path, "%s is an empty list; name a target or remove the key; valid values: %s", path, strings.Join(catalog.Targets(), ", "))
	}
	for i, target := range targets {
		if v.oneOf(item(path, i), target, catalog.Targets()) {
			v.notAgain(path, i, target, seen)
		}
	}
}

// notAgain reports the item of a list that stands earlier in it already.
func (v *validator) notAgain(path string, i int, value string, seen map[string]int) {
	if first, again := seen[value]; again {
		v.addf(item(path, i), "%s %s is given twice; the first is on line %d", path, shorten(value), v.src.At(item(path, first)).Line)
		return
	}
	seen[value] = i
}

func (v *validator) disk() {
	const path = "spec.disk.size"
	if size := v.img.Spec.Disk.Size; v.given(path) && (size < minDisk || size > maxDisk) {
		v.addf(path, "%s is %s; it must be between %s and %s", path, size, minDisk, maxDisk)
	}
	v.oneOf("spec.disk.compression", v.img.Spec.Disk.Compression, catalog.Compressions())
	v.oneOf("spec.disk.root.filesystem", v.img.Spec.Disk.Root.Filesystem, catalog.Filesystems())
}

func (v *validator) packages() {
	const path = "spec.packages"
	seen := map[string]int{}
	for i, name := range v.img.Spec.Packages {
		here := item(path, i)
		if !v.given(here) {
			continue
		}
		base, _, pinned := strings.Cut(name, "=")
		switch {
		case pinned:
			v.addf(here, "%s %s: a version cannot be given here, because the lock pins the version of every package; write %s", here, shorten(name), shorten(base))
		case !packageForm.MatchString(name):
			v.addf(here, "%s %s is not a package name; %s", here, shorten(name),
				respell(name, packageForm, "use at least two lower-case letters, digits, +, - or dots, the first a letter or digit"))
		default:
			v.notAgain(path, i, name, seen)
		}
	}
}

func (v *validator) mirrors() {
	m := v.img.Spec.Mirrors
	for _, list := range []struct {
		path string
		urls []string
	}{
		{"spec.mirrors.archive", m.Archive},
		{"spec.mirrors.security", m.Security},
		{"spec.mirrors.modules", m.Modules},
	} {
		seen := map[string]int{}
		for i, u := range list.urls {
			if here := item(list.path, i); v.given(here) && v.baseURL(here, u) {
				v.notAgain(list.path, i, u, seen)
			}
		}
	}
}

// baseURL checks the address of a server. It never prints the address: it may
// hold a password.
func (v *validator) baseURL(path, value string) bool {
	u, err := url.Parse(value)
	switch {
	case strings.Contains(value, "@") && (err != nil || u.User != nil):
		v.addf(path, "%s must not hold a user name or password, because the spec and its lock are shared; put them into your user configuration", path)
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		v.addf(path, "%s must be an absolute address that begins with http:// or https://", path)
	case u.Hostname() == "" || !validPort(u.Port()):
		v.addf(path, "%s has no valid host and port", path)
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		v.addf(path, "%s must be a base address, without ? or #", path)
	default:
		return true
	}
	return false
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
