package deb

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// adminDir is dpkg's database below a root.
const adminDir = "var/lib/dpkg"

// database is dpkg's database in a root; links in it cannot lead out.
type database struct{ root *os.Root }

// Register enters unpacked packages into dpkg's database of root, in the state
// that `dpkg --unpack` leaves them in: files listed, maintainer scripts at
// hand, triggers activated, waiting to be configured. Format: dpkg(1),
// deb-triggers(5), and dpkg's doc/triggers.txt.
func Register(root string, packages []*Unpacked) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	d := database{r}
	if err := d.prepare(); err != nil {
		return fmt.Errorf("make dpkg's database: %w", err)
	}
	for _, p := range packages {
		if err := d.writeInfo(p); err != nil {
			return fmt.Errorf("register %s: %w", p.Name(), err)
		}
	}
	if err := d.writeStatus(packages); err != nil {
		return fmt.Errorf("write dpkg's status: %w", err)
	}
	if err := d.writeTriggers(packages); err != nil {
		return fmt.Errorf("write dpkg's triggers: %w", err)
	}
	return nil
}

// prepare makes the folders and files that dpkg expects and that are missing.
func (d database) prepare() error {
	for _, dir := range []string{"info", "updates", "triggers", "alternatives", "parts"} {
		if err := d.root.MkdirAll(adminDir+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"info/format": "1\n", "status": "", "available": "", "diversions": "", "statoverride": "", "lock": "",
		"triggers/File": "", "triggers/Unincorp": "", "triggers/Lock": "", "lock-frontend": "",
	} {
		if d.exists(name) {
			continue
		}
		if err := d.write(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (d database) exists(name string) bool {
	_, err := d.root.Lstat(adminDir + "/" + name)
	return err == nil
}

func (d database) read(name string) ([]byte, error) { return d.root.ReadFile(adminDir + "/" + name) }

func (d database) write(name, text string, mode os.FileMode) error {
	if err := d.root.WriteFile(adminDir+"/"+name, []byte(text), mode); err != nil {
		return err
	}
	return d.root.Chmod(adminDir+"/"+name, mode) // whatever the umask
}

func (d database) append(name, text string) error {
	var old []byte
	if d.exists(name) {
		var err error
		if old, err = d.read(name); err != nil {
			return err
		}
	}
	return d.write(name, string(old)+text, 0o644)
}

// infoName is the stem of a package's files in info/.
func infoName(s Stanza) string {
	if s.Get("Multi-Arch") == "same" {
		return s.Get("Package") + ":" + s.Get("Architecture")
	}
	return s.Get("Package")
}

func (d database) writeInfo(p *Unpacked) error {
	stem := "info/" + infoName(p.Archive.Control)
	if err := d.write(stem+".list", strings.Join(p.Files, "\n")+"\n", 0o644); err != nil {
		return err
	}
	for name, m := range p.Archive.Members {
		mode := os.FileMode(0o644)
		switch name {
		case "preinst", "postinst", "prerm", "postrm", "config":
			mode = 0o755
		}
		if err := d.write(stem+"."+name, string(m.Data), mode); err != nil {
			return err
		}
	}
	return nil
}

// statusFields are the fields of a control file that dpkg's status leaves out.
var statusFields = []string{"Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512", "Description-md5"}

func (d database) writeStatus(packages []*Unpacked) error {
	old, err := d.read("status")
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
	slices.SortFunc(stanzas, func(a, b Stanza) int {
		return cmp.Or(cmp.Compare(a.Get("Package"), b.Get("Package")), cmp.Compare(a.Get("Architecture"), b.Get("Architecture")))
	})
	var b bytes.Buffer
	for _, s := range stanzas {
		s.WriteTo(&b)
		b.WriteByte('\n')
	}
	return d.write("status", b.String(), 0o644)
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
