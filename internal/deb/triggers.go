package deb

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// writeTriggers records who is interested in what, and activates the triggers
// that the new files and the packages' own directives fire.
func (d database) writeTriggers(packages []*Unpacked) error {
	activated := map[string]bool{}
	var file strings.Builder
	for _, p := range packages {
		lines, err := triggerLines(p)
		if err != nil {
			return err
		}
		for _, l := range lines {
			who := infoName(p.Archive.Control)
			if strings.HasSuffix(l.directive, "-noawait") {
				who += "/noawait"
			}
			switch {
			case strings.HasPrefix(l.directive, "activate"):
				activated[l.name] = true
			case l.name[0] == '/':
				fmt.Fprintf(&file, "%s %s\n", l.name, who)
			default:
				if err := d.append("triggers/"+l.name, who+"\n"); err != nil {
					return err
				}
			}
		}
	}
	if err := d.append("triggers/File", file.String()); err != nil {
		return err
	}
	return d.activate(packages, activated)
}

type triggerLine struct{ directive, name string }

// triggerLines reads a package's file triggers, format deb-triggers(5).
func triggerLines(p *Unpacked) ([]triggerLine, error) {
	var out []triggerLine
	for line := range strings.Lines(string(p.Archive.Members["triggers"].Data)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 || !slices.Contains(directives(), f[0]) || !validTrigger(f[1]) {
			return nil, fmt.Errorf("%s: bad trigger %q", p.Name(), strings.TrimSpace(line))
		}
		out = append(out, triggerLine{f[0], f[1]})
	}
	return out, nil
}

func directives() []string {
	return []string{"interest", "interest-await", "interest-noawait", "activate", "activate-await", "activate-noawait"}
}

// validTrigger reports whether name is a path or the name of a file in
// triggers/ that dpkg does not use itself: its own begin with a capital.
func validTrigger(name string) bool {
	if name[0] == '/' {
		return true
	}
	return !strings.Contains(name, "/") && (name[0] >= 'a' && name[0] <= 'z' || name[0] >= '0' && name[0] <= '9')
}

// activate writes what dpkg's next run takes up from triggers/Unincorp: the
// name of each fired trigger, with "-" for "nobody waits".
func (d database) activate(packages []*Unpacked, named map[string]bool) error {
	b, err := d.read("triggers/File")
	if err != nil {
		return err
	}
	watched := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 {
			watched[f[0]] = true
		}
	}
	for _, p := range packages {
		for _, f := range p.Files {
			for dir := f; dir != "/" && dir != "."; dir = path.Dir(dir) {
				if watched[dir] {
					named[dir] = true
				}
			}
		}
	}
	names := make([]string, 0, len(named))
	for n := range named {
		if strings.HasPrefix(n, "/") && watched[n] || !strings.HasPrefix(n, "/") && d.exists("triggers/"+n) {
			names = append(names, n+" -\n")
		}
	}
	slices.Sort(names)
	return d.append("triggers/Unincorp", strings.Join(names, ""))
}
