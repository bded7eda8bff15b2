package spec

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
	"imagebuilder.dev/internal/catalog"
)

// typesText is the source of the types: their doc comments are the schema's
// descriptions, so there is one text for both.
//
//go:embed spec.go
var typesText string

// Schema returns the JSON schema (draft 2020-12) of a spec, for editors and
// other tools. Load checks more than a schema can say, never less.
func Schema() ([]byte, error) {
	docs, err := typeDocs(typesText)
	if err != nil {
		return nil, fmt.Errorf("make JSON schema: %w", err)
	}
	r := &jsonschema.Reflector{
		Anonymous:      true,
		ExpandedStruct: true,
		Mapper:         mapSize,
		LookupComment:  func(t reflect.Type, name string) string { return docs[strings.TrimSuffix(t.Name()+"."+name, ".")] },
	}
	schema := r.Reflect(&Image{})
	schema.ID = "https://imagebuilder.dev/schema/v1alpha1/image.json"
	schema.Title = "Image Builder spec"
	if err := constrain(schema); err != nil {
		return nil, fmt.Errorf("make JSON schema: %w", err)
	}
	text, err := json.MarshalIndent(schema, "", "  ")
	return append(text, '\n'), err
}

func mapSize(t reflect.Type) *jsonschema.Schema {
	if t != reflect.TypeFor[Size]() {
		return nil
	}
	return &jsonschema.Schema{Type: "string", Pattern: sizeForm.String()}
}

// typeDocs returns the doc comments of the types ("OS") and their fields
// ("OS.Name") in a Go file, each on one line.
func typeDocs(source string) (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "spec.go", source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	docs := map[string]string{}
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			t := spec.(*ast.TypeSpec)
			docs[t.Name.Name] = oneLine(g.Doc)
			if s, ok := t.Type.(*ast.StructType); ok {
				fieldDocs(t.Name.Name, s, docs)
			}
		}
	}
	return docs, nil
}

func fieldDocs(name string, s *ast.StructType, docs map[string]string) {
	for _, f := range s.Fields.List {
		for _, id := range f.Names {
			docs[name+"."+id.Name] = oneLine(f.Doc)
		}
	}
}

func oneLine(doc *ast.CommentGroup) string { return strings.Join(strings.Fields(doc.Text()), " ") }

// constraint is what the schema says about one value besides its type.
type constraint struct {
	owner, key string // the Go type, "" for Image, and the key in it
	items      bool   // it is about the items of the list
	set        func(*jsonschema.Schema)
}

func constrain(root *jsonschema.Schema) error {
	for _, c := range constraints() {
		object := root
		if c.owner != "" {
			object = root.Definitions[c.owner]
		}
		if object == nil || object.Properties == nil {
			return fmt.Errorf("no type %s", c.owner)
		}
		property, ok := object.Properties.Get(c.key)
		if !ok {
			return fmt.Errorf("no key %s in %s", c.key, c.owner)
		}
		if c.items {
			property.UniqueItems = c.key != "kernelArguments"
			property = property.Items
		}
		c.set(property)
	}
	root.Definitions["Kubernetes"].AllOf = []*jsonschema.Schema{
		onlyForSource("release", "url"), onlyForSource("directory", "path"),
	}
	root.Definitions["File"].OneOf = []*jsonschema.Schema{{Required: []string{"content"}}, {Required: []string{"source"}}}
	targets, _ := root.Definitions["Spec"].Properties.Get("targets")
	targets.MinItems = new(uint64(1))
	return nil
}

func constraints() []constraint {
	var versions []string
	for _, os := range catalog.OSNames() {
		versions = append(versions, catalog.Versions(os)...)
	}
	const address = `^https?://[^/@?#]+(/[^?#]*)?$`
	return []constraint{
		{"", "apiVersion", false, oneOf("", APIVersion)},
		{"", "kind", false, oneOf("", Kind)},
		{"Metadata", "name", false, func(s *jsonschema.Schema) { s.Pattern, s.MaxLength = nameForm.String(), new(uint64(maxName)) }},
		{"OS", "name", false, oneOf(catalog.DefaultOS, catalog.OSNames()...)},
		{"OS", "version", false, oneOf(catalog.DefaultVersion, versions...)},
		{"OS", "arch", false, oneOf(catalog.Architectures()[0], catalog.Architectures()...)},
		{"OS", "kernel", false, oneOf(catalog.Kernels()[0], catalog.Kernels()...)},
		{"OS", "kernelArguments", true, form("", argumentForm.String())},
		{"Kubernetes", "version", false, form("", minorForm())},
		{"Kubernetes", "source", false, oneOf(catalog.Sources()[0], catalog.Sources()...)},
		{"Kubernetes", "url", false, form("", address)},
		{"Kubernetes", "path", false, form("", ".")},
		{"Containerd", "version", false, form(catalog.DefaultContainerd, `^v?2\.[0-9]+\.[0-9]+(-(alpha|beta|rc)\.[0-9]+)?$`)},
		{"Spec", "targets", true, oneOf("", catalog.Targets()...)},
		{"Spec", "packages", true, form("", packageForm.String())},
		{"Disk", "size", false, form((catalog.DefaultDiskGiB * GiB).String(), sizeForm.String())},
		{"Disk", "compression", false, oneOf(catalog.Compressions()[0], catalog.Compressions()...)},
		{"RootDisk", "filesystem", false, oneOf(catalog.Filesystems()[0], catalog.Filesystems()...)},
		{"File", "path", false, func(s *jsonschema.Schema) { s.Pattern, s.MaxLength = fileForm.String(), new(uint64(maxPath)) }},
		{"File", "source", false, form("", ".")},
		{"File", "mode", false, form("0644", modeForm.String())},
		{"File", "owner", false, form("0:0", ownerForm.String())},
		{"Mirrors", "archive", true, form("", address)},
		{"Mirrors", "security", true, form("", address)},
		{"Mirrors", "modules", true, form("", address)},
	}
}

// minorForm is kubernetesForm with the releases that the catalog knows.
func minorForm() string {
	var minors []string
	for _, m := range catalog.KubernetesMinors() {
		minors = append(minors, fmt.Sprint(m))
	}
	return `^v?1\.(` + strings.Join(minors, "|") + `)\.[0-9]+(-(alpha|beta|rc)\.[0-9]+)?$`
}

func oneOf(otherwise string, values ...string) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) {
		for _, v := range values {
			if !slices.Contains(s.Enum, any(v)) {
				s.Enum = append(s.Enum, v)
			}
		}
		setDefault(s, otherwise)
	}
}

func form(otherwise, pattern string) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) {
		s.Pattern = pattern
		setDefault(s, otherwise)
	}
}

func setDefault(s *jsonschema.Schema, value string) {
	if value != "" {
		s.Default = value
	}
}

// onlyForSource says that key must be given for the source, and for no other.
func onlyForSource(source, key string) *jsonschema.Schema {
	when := jsonschema.NewProperties()
	when.Set("source", &jsonschema.Schema{Const: source})
	never := jsonschema.NewProperties()
	never.Set(key, jsonschema.FalseSchema)
	return &jsonschema.Schema{
		If:   &jsonschema.Schema{Properties: when, Required: []string{"source"}},
		Then: &jsonschema.Schema{Required: []string{key}},
		Else: &jsonschema.Schema{Properties: never},
	}
}
