// Package deb reads what Debian's repositories are made of: signed indexes,
// lists of packages and packages, and unpacks packages into a root without
// dpkg. Formats: deb(5), deb-control(5), deb-version(7), and the repository
// format of the Debian wiki.
package deb

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Stanza is one paragraph of a control file: fields in order.
type Stanza []Field

// Field is one field; Value keeps continuation lines as they stand, without
// the newline at the end.
type Field struct{ Name, Value string }

// Get returns the value of a field, or "".
func (s Stanza) Get(name string) string {
	for _, f := range s {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Set replaces a field's value or appends the field.
func (s *Stanza) Set(name, value string) {
	for i, f := range *s {
		if strings.EqualFold(f.Name, name) {
			(*s)[i].Value = value
			return
		}
	}
	*s = append(*s, Field{name, value})
}

// WriteTo writes the paragraph without the blank line that ends it.
func (s Stanza) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	for _, f := range s {
		b.WriteString(f.Name)
		b.WriteByte(':')
		if f.Value != "" && f.Value[0] != '\n' {
			b.WriteByte(' ')
		}
		b.WriteString(f.Value)
		b.WriteByte('\n')
	}
	return b.WriteTo(w)
}

// maxLine bounds one line of a control file, in bytes.
const maxLine = 4 << 20

// ParseControl calls each with every paragraph of a control file.
func ParseControl(r io.Reader, each func(Stanza) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	var cur Stanza
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		switch {
		case strings.TrimSpace(line) == "":
			if len(cur) > 0 {
				if err := each(cur); err != nil {
					return err
				}
				cur = nil
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if len(cur) == 0 {
				return fmt.Errorf("line %d continues a field, but there is none", n)
			}
			cur[len(cur)-1].Value += "\n" + line
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" {
				return fmt.Errorf("line %d is not a field: %.60q", n, line)
			}
			cur = append(cur, Field{name, strings.TrimSpace(value)})
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	if len(cur) > 0 {
		return each(cur)
	}
	return nil
}
