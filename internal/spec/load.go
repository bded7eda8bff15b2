package spec

import (
	"fmt"
	"reflect"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFile is the largest spec in bytes. A spec is written by hand; what is
// larger is some other file.
const maxFile = 1 << 20

// Load reads a spec: the bytes of the file called name. It decodes strictly,
// fills in the defaults and validates. The error is a fault of kind Input that
// holds an Errors with everything that is wrong with the file.
func Load(name string, data []byte) (*Image, *Source, error) {
	src := newSource(name)
	r := &report{src: src, bad: map[string]bool{}}
	root := r.parse(data)
	if root == nil {
		return nil, nil, r.problems.Err()
	}
	img := &Image{}
	d := &decoder{report: r, budget: 4 * maxFile}
	d.value("", root, reflect.ValueOf(img).Elem())
	if d.exhausted() {
		return nil, nil, r.problems.Err()
	}
	if foreign := r.header(img); foreign != nil {
		return nil, nil, foreign.Err()
	}
	setDefaults(img, src)
	v := &validator{report: r, img: img}
	v.all()
	if err := r.problems.Err(); err != nil {
		return nil, nil, err
	}
	normalise(img)
	return img, src, nil
}

// header checks apiVersion and kind. When they are those of some other
// program's file it returns only what is wrong with them, because everything
// else in such a file would be reported as unknown.
func (r *report) header(img *Image) (foreign Errors) {
	check := func(path, got, want string) {
		if !r.given(path) || got == want {
			return
		}
		p := r.src.Problem(path, "unknown %s %s; %s", path, shorten(got), suggest(got, "this program reads", []string{want}))
		r.add(p)
		if Nearest(got, []string{want}) == "" {
			foreign = append(foreign, p)
		}
	}
	check("apiVersion", img.APIVersion, APIVersion)
	check("kind", img.Kind, Kind)
	return foreign
}

// parse returns the root of the only document, or nil after reporting why not.
func (r *report) parse(data []byte) *yaml.Node {
	if len(data) > maxFile {
		r.addf("", "the file is %.1f MiB large; a spec is at most 1 MiB", float64(len(data))/float64(MiB))
		return nil
	}
	if p, bad := badCharacter(r.src.file, data); bad {
		r.add(p)
		return nil
	}
	first, second, p := documents(r.src.file, data)
	switch {
	case p != nil:
		r.add(*p)
	case first == nil || isNull(first):
		r.addf("", "the file is empty; 'image-builder init' writes a spec to start from")
	case second != nil:
		r.add(Problem{Position: r.src.of(second), Message: "a second YAML document begins here; a spec is one document"})
	default:
		return first
	}
	return nil
}

// badCharacter finds the first byte that is not UTF-8 or the first character
// that YAML does not allow (YAML 1.2 section 5.1).
func badCharacter(file string, data []byte) (Problem, bool) {
	pos := Position{File: file, Line: 1, Column: 1}
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			return Problem{Position: pos, Message: fmt.Sprintf("the file is not UTF-8 text: byte 0x%02x", data[i])}, true
		case c == '\uFEFF' && i == 0:
			pos.Column-- // a byte order mark takes no column
		case !printable(c):
			return Problem{Position: pos, Message: fmt.Sprintf("the character %U is not allowed in YAML", c)}, true
		}
		i += n
		pos.Column++
		if c == '\n' {
			pos.Line, pos.Column = pos.Line+1, 1
		}
	}
	return Problem{}, false
}

func printable(c rune) bool {
	return slices.Contains([]rune{'\t', '\n', '\r', 0x85}, c) ||
		0x20 <= c && c <= 0x7E || 0xA0 <= c && c <= 0xFFFD && c != '\uFEFF' || c >= 0x10000
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
