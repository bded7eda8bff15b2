package phase

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imagebuilder.dev/internal/deb"
	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/sandbox"
)

// Packages are .deb files of the store, in the order in which they are unpacked.
type Packages struct {
	List []lock.Package
	// Fetch brings the files into the store and returns their paths, in order.
	Fetch func(ctx context.Context, list []lock.Package) ([]string, error)
}

func (p Packages) prepare(ctx context.Context) error {
	_, err := p.paths(ctx)
	return err
}

func (p Packages) paths(ctx context.Context) ([]string, error) {
	if len(p.List) == 0 {
		return nil, nil
	}
	return p.Fetch(ctx, p.List)
}

func (p Packages) inputs() []Input {
	out := make([]Input, len(p.List))
	for i, k := range p.List {
		// The order is part of the digest: dpkg's result depends on it.
		out[i] = Input{"package", fmt.Sprintf("%04d %s %s", i, k.Name, k.Version), k.SHA256}
	}
	return out
}

// Base makes a root of the essential packages and apt. There is nothing to run
// scripts with before they are unpacked, so it unpacks first.
func Base(p Packages) Phase {
	return Phase{Name: "base", Version: 1, Inputs: p.inputs(), Prepare: p.prepare, Run: func(ctx context.Context, r *Root) error {
		for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
			if err := r.Mkdir("/usr/"+d, 0o755); err != nil {
				return err
			}
			if err := r.Link("usr/"+d, "/"+d); err != nil {
				return err
			}
		}
		unpacked, err := r.unpack(ctx, p)
		if err != nil {
			return err
		}
		if err := r.preinst(ctx, unpacked); err != nil {
			return err
		}
		return r.configure(ctx, "dpkg --force-depends --configure base-passwd base-files")
	}}
}

// install adds packages to a root that has the essential ones: the preinst
// scripts, all files at once, then one dpkg run that configures everything and
// handles each trigger once. A preinst that calls a program of another new
// package (it has it in Pre-Depends) runs when the files are there.
func (r *Root) install(ctx context.Context, p Packages) error {
	if len(p.List) == 0 {
		return nil
	}
	paths, err := p.paths(ctx)
	if err != nil {
		return err
	}
	archives := make([]*deb.Unpacked, 0, len(p.List))
	for _, path := range paths {
		a, err := deb.OpenArchive(path)
		if err != nil {
			return err
		}
		archives = append(archives, &deb.Unpacked{Archive: a})
	}
	late := func(a *deb.Unpacked) bool {
		return slices.ContainsFunc(deb.Names(a.Archive.Control.Get("Pre-Depends")), func(name string) bool {
			return slices.ContainsFunc(p.List, func(k lock.Package) bool { return k.Name == name })
		})
	}
	if err := r.preinst(ctx, slices.DeleteFunc(slices.Clone(archives), late)); err != nil {
		return err
	}
	if _, err := r.unpack(ctx, p); err != nil {
		return err
	}
	if err := r.preinst(ctx, slices.DeleteFunc(archives, func(a *deb.Unpacked) bool { return !late(a) })); err != nil {
		return err
	}
	return r.configure(ctx)
}

func (r *Root) unpack(ctx context.Context, p Packages) ([]*deb.Unpacked, error) {
	paths, err := p.paths(ctx)
	if err != nil {
		return nil, err
	}
	task := event.Current(ctx)
	task.Detail("unpacking")
	done := int64(0)
	unpacked, err := deb.Unpack(ctx, r.dir, paths, func(int) {
		done++
		task.Progress(done, int64(len(p.List)), event.Items)
	})
	if err != nil {
		return nil, err
	}
	return unpacked, deb.Register(r.dir, unpacked)
}

// preinst runs the packages' preinst scripts in order, in one process tree.
func (r *Root) preinst(ctx context.Context, packages []*deb.Unpacked) error {
	dir, err := os.MkdirTemp("", "preinst-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var script strings.Builder
	for _, p := range packages {
		m, ok := p.Archive.Members["preinst"]
		if !ok {
			continue
		}
		name := p.Name()
		if err := os.WriteFile(filepath.Join(dir, name), m.Data, 0o755); err != nil {
			return err
		}
		fmt.Fprintf(&script, "DPKG_MAINTSCRIPT_PACKAGE=%s DPKG_MAINTSCRIPT_ARCH=%s /run/preinst/%s install || { echo preinst of %s failed; exit 1; }\n",
			name, p.Archive.Control.Get("Architecture"), name, name)
	}
	if script.Len() == 0 {
		return nil
	}
	event.Current(ctx).Detail("preparing packages")
	c := r.command("sh", "-c", script.String())
	c.Mounts = []sandbox.Mount{{Source: dir, Target: "/run/preinst", ReadOnly: true}}
	c.Env = append(c.Env, "DPKG_MAINTSCRIPT_NAME=preinst", "DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1", "DPKG_ADMINDIR=/var/lib/dpkg", "DPKG_ROOT=", "DPKG_RUNNING_VERSION=1.22.0")
	return sandbox.Run(ctx, c)
}

// policyRC keeps maintainer scripts from starting services: exit 101 of
// invoke-rc.d's policy layer forbids the action.
const policyRC = "#!/bin/sh\nexit 101\n"

// auditctl asks the kernel's audit system, which does not answer in a network
// namespace of its own: auditd's script would wait 8 s for a status that it
// then ignores.
const auditctl = "/usr/sbin/auditctl"

// configure lets dpkg finish what was unpacked, after commands that must come
// first. The initramfs is not made here: the phase that knows all packages
// makes it once.
func (r *Root) configure(ctx context.Context, first ...string) error {
	task := event.Current(ctx)
	task.Detail("configuring")
	if err := r.Write("/usr/sbin/policy-rc.d", []byte(policyRC), 0o755); err != nil {
		return err
	}
	script := strings.Join(append(first, "dpkg --force-unsafe-io --force-confold --configure -a"), "\n")
	c := r.command("sh", "-e", "-c", script)
	c.Env = append(c.Env, "INITRD=No", "RUNLEVEL=1")
	c.Stdout = &lines{each: func(l string) {
		task.Log(l)
		if what, ok := strings.CutPrefix(l, "Setting up "); ok {
			name, _, _ := strings.Cut(what, " ")
			task.Detail("configuring " + name)
		}
	}}
	c.Stderr = c.Stdout
	if r.Exists(auditctl) {
		c.Mounts = append(c.Mounts, sandbox.Mount{Source: filepath.Join(r.dir, "usr/bin/true"), Target: auditctl, ReadOnly: true})
	}
	if err := sandbox.Run(ctx, c); err != nil {
		return fmt.Errorf("configure packages: %w", err)
	}
	return r.Remove("/usr/sbin/policy-rc.d")
}

// lines calls each with every line written.
type lines struct {
	each func(string)
	rest string
}

func (l *lines) Write(b []byte) (int, error) {
	l.rest += string(b)
	for {
		line, rest, ok := strings.Cut(l.rest, "\n")
		if !ok {
			return len(b), nil
		}
		l.each(strings.TrimRight(line, "\r"))
		l.rest = rest
	}
}
