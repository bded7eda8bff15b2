package deb_test

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imagebuilder.dev/internal/deb"
)

// registered are two runs: what the second finds is the first's.
func registered() [2][]pkg {
	return [2][]pkg{{
		{name: "libc", control: "Multi-Arch: same\nDescription: a library\n", files: []tar.Header{top(), dir("./lib/", 0o755), file("./lib/libc.so", 0o755)},
			members: map[string]string{"triggers": "# the loader's cache\ninterest-noawait ldconfig\ninterest /lib/modules\nactivate-noawait ldconfig\n", "postinst": "#!/bin/sh\n", "md5sums": "x  lib/libc.so\n"}},
		{name: "apt", control: "Filename: pool/apt.deb\nSize: 7\nSHA256: aa\nConflicts: old\nDescription: a tool\n with more\n .\n text\n", files: []tar.Header{top(), dir("./etc/", 0o755), file("./etc/b", 0o644), file("./etc/a", 0o644)},
			members: map[string]string{"conffiles": "/etc/b\nremove-on-upgrade /etc/old\n/etc/a\n/etc/not-there\n", "preinst": "#!/bin/sh\n", "templates": "Template: x\n"}},
	}, {
		{name: "kernel", control: "Description: modules\n", files: []tar.Header{top(), dir("./lib/", 0o755), dir("./lib/modules/", 0o755), dir("./lib/modules/6/", 0o755), file("./lib/modules/6/m", 0o644)},
			members: map[string]string{"triggers": "activate nobody-waits\nactivate ldconfig\nactivate-await /nobody\n"}},
		{name: "mkinitramfs", control: "Description: x\n", files: []tar.Header{top()}, members: map[string]string{"triggers": "interest-await update-initramfs\ninterest ldconfig\ninterest-noawait /etc\n"}},
	}}
}

func register(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, packages := range registered() {
		if err := deb.Register(root, mustUnpack(t, root, packages...)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRegister(t *testing.T) {
	golden(t, "database.txt", strings.ReplaceAll(list(t, filepath.Join(register(t), "var")), `\n`, "\\n\n    "))
}

func TestRegisterAgain(t *testing.T) {
	root := register(t)
	status := filepath.Join(root, "var/lib/dpkg/status")
	before := string(must[[]byte](t)(os.ReadFile(status)))
	again := registered()[0]
	again[0].control = strings.Replace(again[0].control, "a library", "a newer library", 1)
	if err := deb.Register(root, mustUnpack(t, root, again...)); err != nil {
		t.Fatal(err)
	}
	equal(t, "the status", string(must[[]byte](t)(os.ReadFile(status))), strings.Replace(before, "a library", "a newer library", 1))
}

// dpkg itself must be able to read what we write.
func TestRegisteredForDpkg(t *testing.T) {
	dpkg := hostTool(t, "dpkg")
	hostTool(t, "dpkg-query")
	admin := filepath.Join(register(t), "var/lib/dpkg")
	run := func(args ...string) string {
		out, err := exec.Command(dpkg, append([]string{"--admindir=" + admin}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("dpkg %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := run("--audit"); !strings.Contains(out, "unpacked but not yet configured") || strings.Contains(out, "warning") {
		t.Errorf("dpkg's audit says\n%s", out)
	}
	equal(t, "the files", run("--listfiles", "libc:amd64"), "/.\n/lib\n/lib/libc.so\n")
	if out := run("--status", "apt"); !strings.Contains(out, "Status: install ok unpacked\n") || !strings.Contains(out, " /etc/b ") {
		t.Errorf("dpkg's status says\n%s", out)
	}
}

func TestRegisterRefuses(t *testing.T) {
	for _, line := range []string{"interest ../../x", "interest a/b", "interest File", "interest .x", "interst x", "interest", "interest a b"} {
		root := t.TempDir()
		p := pkg{name: "p", members: map[string]string{"triggers": line + "\n"}}
		if err := deb.Register(root, mustUnpack(t, root, p)); err == nil || !strings.Contains(err.Error(), "bad trigger") {
			t.Errorf("%q gives %v", line, err)
		}
	}
}

// A package may replace a part of the database by a link.
func TestRegisterStaysInside(t *testing.T) {
	base := t.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	os.MkdirAll(root, 0o755)
	os.MkdirAll(outside, 0o755)
	p := pkg{name: "p", files: []tar.Header{link("./var/lib/dpkg/info", outside), link("./var/lib/dpkg/status", outside+"/status")}}
	if err := deb.Register(root, mustUnpack(t, root, p)); err == nil {
		t.Error("a database that leads out is used")
	}
	if names, _ := os.ReadDir(outside); len(names) > 0 {
		t.Errorf("written outside: %v", names)
	}
}
