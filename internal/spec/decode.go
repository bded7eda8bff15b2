package spec

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills the Go types from YAML nodes. Unlike the library's own decoder
// it goes on after a mistake and knows where everything stands. It descends
// only as deep as the types do, so an alias that contains itself ends there;
// the budget, in bytes of values, bounds what many aliases of a large value can
// cost here and in the validation. Without aliases a file cannot exhaust it.
type decoder struct {
	*report
	budget int
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// value decodes n, which stands at path, into out.
func (d *decoder) value(path string, n *yaml.Node, out reflect.Value) {
	if path != "" {
		d.src.set(path, n)
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if !d.spend(path, n) {
		return
	}
	if out.Kind() == reflect.Pointer {
		out.Set(reflect.New(out.Type().Elem()))
		out = out.Elem()
	}
	switch {
	case out.Addr().Type().Implements(textUnmarshaler):
		d.text(path, n, out)
	case out.Kind() == reflect.Struct:
		d.mapping(path, n, out)
	case out.Kind() == reflect.Slice:
		d.sequence(path, n, out)
	default:
		d.scalar(path, n, out)
	}
}

// spend takes the cost of n from the budget and tells whether it lasts.
func (d *decoder) spend(path string, n *yaml.Node) bool {
	if d.exhausted() {
		return false
	}
	d.budget -= 1 + len(n.Value)
	if d.exhausted() {
		d.addf(path, "the aliases of this file repeat too much; write fewer values")
	}
	return !d.exhausted()
}

// exhausted tells whether to stop: the budget is gone or the report is full.
func (d *decoder) exhausted() bool { return d.budget <= 0 || d.full() }

func (d *decoder) text(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		d.wrongType(path, n, out.Type())
		return
	}
	if err := out.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
		d.addf(path, "%s: %v", path, err)
	}
}

func (d *decoder) sequence(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.wrongType(path, n, out.Type())
		return
	}
	// Grown one by one: the budget stops an alias bomb before it is allocated.
	out.Set(reflect.MakeSlice(out.Type(), 0, 0))
	for i, c := range n.Content {
		if d.exhausted() {
			return
		}
		out.Set(reflect.Append(out, reflect.Zero(out.Type().Elem())))
		d.value(item(path, i), c, out.Index(i))
	}
}

// kinds are the scalars a field can have, with their YAML tag and name.
var kinds = map[reflect.Kind]struct{ tag, name string }{
	reflect.String: {"!!str", "a string"},
	reflect.Bool:   {"!!bool", "true or false"},
	reflect.Int:    {"!!int", "a whole number"},
}

func (d *decoder) scalar(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != kinds[out.Kind()].tag || n.Decode(out.Addr().Interface()) != nil {
		d.wrongType(path, n, out.Type())
	}
}

// object is a mapping that is being decoded.
type object struct {
	path   string
	out    reflect.Value
	fields []field
	seen   map[string]*yaml.Node // the keys so far
	meant  map[string]bool       // keys that an unknown key is near to
}

// mapping decodes the keys of a struct and reports unknown, repeated and
// missing ones.
func (d *decoder) mapping(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.wrongType(path, n, out.Type())
		return
	}
	o := object{path, out, fieldsOf(out.Type()), map[string]*yaml.Node{}, map[string]bool{}}
	for i := 0; i+1 < len(n.Content) && !d.exhausted(); i += 2 {
		d.key(o, n.Content[i], n.Content[i+1])
	}
	for _, f := range o.fields {
		if f.required && o.seen[f.key] == nil && !o.meant[f.key] {
			d.addf(path, "%s is missing%s", child(path, f.key), exampleOf(child(path, f.key)))
		}
	}
}

func (d *decoder) key(o object, key, value *yaml.Node) {
	at := d.src.of(key)
	if key.Kind == yaml.AliasNode {
		key = key.Alias
	}
	problem := func(format string, args ...any) {
		d.add(Problem{Position: at, Path: child(o.path, key.Value), Message: fmt.Sprintf(format, args...)})
	}
	d.budget -= 1 + len(key.Value)
	first, again := o.seen[key.Value]
	f := find(o.fields, key.Value)
	switch {
	case key.Kind != yaml.ScalarNode:
		problem("a key must be a plain word; valid keys: %s", strings.Join(keys(o.fields), ", "))
		return
	case key.ShortTag() == "!!merge":
		problem("merge keys (<<) are not supported; write the keys out, or use an alias for a whole value")
	case again:
		problem("key %s is given twice; the first is on line %d", shorten(key.Value), first.Line)
		return
	case f == nil:
		problem("unknown key %s; %s", shorten(key.Value), hint(key.Value, o.fields))
		o.meant[Nearest(key.Value, keys(o.fields))] = true
	default:
		d.value(child(o.path, f.key), value, o.out.FieldByIndex(f.index))
	}
	o.seen[key.Value] = key
}

// hint says what an unknown key may have been meant to be: a near one here, the
// same one elsewhere, or any of the valid ones.
func hint(key string, fields []field) string {
	if Nearest(key, keys(fields)) == "" {
		if places := placesOf(reflect.TypeFor[Image](), "", key); len(places) == 1 {
			return fmt.Sprintf("did you mean %s?", places[0])
		}
	}
	return suggest(key, "valid keys", keys(fields))
}

// wrongType reports what is wanted at path and what is there.
func (d *decoder) wrongType(path string, n *yaml.Node, want reflect.Type) {
	name := path
	if name == "" {
		name = "the spec"
	}
	d.addf(path, "%s must be %s, but is %s%s", name, wanted(want), found(n), remedy(n, want))
}

func wanted(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Size]():
		return "a size such as 8GiB"
	case t.Kind() == reflect.Struct:
		return "a mapping with the keys " + strings.Join(keys(fieldsOf(t)), ", ")
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "a list of mappings with the keys " + strings.Join(keys(fieldsOf(t.Elem())), ", ")
	case t.Kind() == reflect.Slice:
		return "a list of strings"
	default:
		return kinds[t.Kind()].name
	}
}

func found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!str":
		return "the string " + shorten(n.Value)
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the boolean " + n.Value
	case "!!timestamp":
		return "the date " + n.Value
	default:
		return "tagged " + n.ShortTag()
	}
}

// remedy says how to write what was probably meant.
func remedy(n *yaml.Node, want reflect.Type) string {
	plain := n.Kind == yaml.ScalarNode && slices.Contains([]string{"!!int", "!!float", "!!bool", "!!timestamp"}, n.ShortTag())
	switch {
	case n.Kind != yaml.ScalarNode:
		return ""
	case isNull(n):
		return "; give it a value or remove the key"
	case want.Kind() == reflect.String && plain:
		return fmt.Sprintf("; write %s in quotes", shorten(strings.Replace(n.Value, "0o", "0", 1)))
	case want == reflect.TypeFor[[]string]() && n.ShortTag() == "!!str":
		return fmt.Sprintf("; write [%s]", strings.Trim(shorten(n.Value), `"`))
	default:
		return ""
	}
}
