package deb

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// adminDir is dpkg's database below a root.
const adminDir = "var/lib/dpkg"

// Register enters unpacked packages into dpkg's database of root, in the state
// that `dpkg --unpack` leaves them in: files listed, maintainer scripts at
// hand, triggers activated, waiting to be configured. Format: dpkg(1),
// deb-triggers(5), and dpkg's doc/triggers.txt.
func Register(root string, packages []*Unpacked) error {
	admin := filepath.Join(root, adminDir)
	for _, d := range []string{"info", "updates", "triggers", "alternatives", "parts"} {
		if err := os.MkdirAll(filepath.Join(admin, d), 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"info/format": "1\n", "status": "", "available": "", "diversions": "", "statoverride": "", "lock": "",
		"triggers/File": "", "triggers/Unincorp": "", "triggers/Lock": "", "lock-frontend": "",
	} {
		if err := createMissing(filepath.Join(admin, name), content); err != nil {
			return err
		}
	}
	for _, p := range packages {
		if err := writeInfo(admin, p); err != nil {
			return fmt.Errorf("register %s: %w", p.Name(), err)
		}
	}
	if err := writeStatus(admin, packages); err != nil {
		return fmt.Errorf("write dpkg's status: %w", err)
	}
	return writeTriggers(admin, packages)
}

func createMissing(path, content string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(content)
	return err
}

// infoName is the stem of a package's files in info/.
func infoName(s Stanza) string {
	if s.Get("Multi-Arch") == "same" {
		return s.Get("Package") + ":" + s.Get("Architecture")
	}
	return s.Get("Package")
}

func writeInfo(admin string, p *Unpacked) error {
	stem := filepath.Join(admin, "info", infoName(p.Archive.Control))
	list := strings.Join(p.Files, "\n") + "\n"
	if err := os.WriteFile(stem+".list", []byte(list), 0o644); err != nil {
		return err
	}
	for name, m := range p.Archive.Members {
		mode := os.FileMode(0o644)
		switch name {
		case "preinst", "postinst", "prerm", "postrm", "config":
			mode = 0o755
		}
		if err := os.WriteFile(stem+"."+name, m.Data, mode); err != nil {
			return err
		}
		if err := os.Chmod(stem+"."+name, mode); err != nil {
			return err
		}
	}
	return nil
}

// statusFields are the fields of a control file that dpkg's status leaves out.
var statusFields = []string{"Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512", "Description-md5"}

func writeStatus(admin string, packages []*Unpacked) error {
	path := filepath.Join(admin, "status")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var stanzas []Stanza
	fresh := map[string]bool{}
	for _, p := range packages {
		fresh[infoName(p.Archive.Control)] = true
	}
	err = ParseControl(bytes.NewReader(old), func(s Stanza) error {
		if !fresh[infoName(s)] {
			stanzas = append(stanzas, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range packages {
		stanzas = append(stanzas, unpackedStanza(p))
	}
	slices.SortFunc(stanzas, func(a, b Stanza) int { return cmp.Compare(a.Get("Package"), b.Get("Package")) })
	var b bytes.Buffer
	for _, s := range stanzas {
		s.WriteTo(&b)
		b.WriteByte('\n')
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func unpackedStanza(p *Unpacked) Stanza {
	control := p.Archive.Control
	s := Stanza{{"Package", control.Get("Package")}, {"Status", "install ok unpacked"}}
	for _, f := range control {
		if f.Name != "Package" && !slices.Contains(statusFields, f.Name) {
			s = append(s, f)
		}
	}
	if len(p.Conffiles) > 0 {
		var v strings.Builder
		for line := range strings.Lines(string(p.Archive.Members["conffiles"].Data)) {
			path := strings.TrimSpace(line)
			if sum := p.Conffiles[path]; sum != "" {
				fmt.Fprintf(&v, "\n %s %s", path, sum)
			}
		}
		if v.Len() > 0 {
			s = append(s, Field{"Conffiles", v.String()})
		}
	}
	return s
}

// writeTriggers records who is interested in what, and activates the triggers
// that the new files and the packages' own directives fire.
func writeTriggers(admin string, packages []*Unpacked) error {
	type interest struct{ name, pkg, noawait string }
	var interests []interest
	activated := map[string]bool{}
	for _, p := range packages {
		for _, l := range triggerLines(p) {
			switch {
			case strings.HasPrefix(l.directive, "interest"):
				suffix := ""
				if strings.HasSuffix(l.directive, "-noawait") {
					suffix = "/noawait"
				}
				interests = append(interests, interest{l.name, infoName(p.Archive.Control), suffix})
			case strings.HasPrefix(l.directive, "activate"):
				activated[l.name] = true
			}
		}
	}
	var file strings.Builder
	for _, i := range interests {
		if strings.HasPrefix(i.name, "/") {
			fmt.Fprintf(&file, "%s %s%s\n", i.name, i.pkg, i.noawait)
			continue
		}
		if err := appendFile(filepath.Join(admin, "triggers", i.name), i.pkg+i.noawait+"\n"); err != nil {
			return err
		}
	}
	if err := appendFile(filepath.Join(admin, "triggers/File"), file.String()); err != nil {
		return err
	}
	return activate(admin, packages, activated)
}

type triggerLine struct{ directive, name string }

func triggerLines(p *Unpacked) []triggerLine {
	var out []triggerLine
	for line := range strings.Lines(string(p.Archive.Members["triggers"].Data)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) == 2 {
			out = append(out, triggerLine{f[0], f[1]})
		}
	}
	return out
}

// activate writes what dpkg's next run takes up from triggers/Unincorp: the
// name of each fired trigger, with "-" for "nobody waits".
func activate(admin string, packages []*Unpacked, named map[string]bool) error {
	b, err := os.ReadFile(filepath.Join(admin, "triggers/File"))
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
			for dir := f; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
				if watched[dir] {
					named[dir] = true
				}
			}
		}
	}
	names := make([]string, 0, len(named))
	for n := range named {
		if strings.HasPrefix(n, "/") || fileExists(filepath.Join(admin, "triggers", n)) {
			names = append(names, n+" -\n")
		}
	}
	slices.Sort(names)
	return appendFile(filepath.Join(admin, "triggers/Unincorp"), strings.Join(names, ""))
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
