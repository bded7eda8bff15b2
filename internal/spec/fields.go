package spec

import (
	"fmt"
	"reflect"
	"strings"
)

// field is a key of a mapping, as the tags of a Go struct give it.
type field struct {
	key      string
	index    []int
	typ      reflect.Type
	required bool // its tag has no omitempty
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		fields = append(fields, field{key: key, index: f.Index, typ: f.Type, required: options != "omitempty"})
	}
	return fields
}

func keys(fields []field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.key
	}
	return names
}

func find(fields []field, key string) *field {
	for i := range fields {
		if fields[i].key == key {
			return &fields[i]
		}
	}
	return nil
}

// placesOf returns the paths below path, whose type is t, at which key is valid.
func placesOf(t reflect.Type, path, key string) []string {
	var places []string
	for _, f := range fieldsOf(t) {
		here, typ := child(path, f.key), f.typ
		if f.key == key {
			places = append(places, here)
		}
		if typ.Kind() == reflect.Slice {
			here, typ = here+"[]", typ.Elem()
		}
		if typ.Kind() == reflect.Struct {
			places = append(places, placesOf(typ, here, key)...)
		}
	}
	return places
}

// exampleOf ends the message about a missing key with what to write.
func exampleOf(path string) string {
	switch path {
	case "apiVersion":
		return "; write apiVersion: " + APIVersion
	case "kind":
		return "; write kind: " + Kind
	case "spec", "spec.kubernetes", "spec.kubernetes.version":
		return fmt.Sprintf("; it takes at least a Kubernetes version: spec: {kubernetes: {version: %s}}", exampleKubernetes)
	default:
		return ""
	}
}

// exampleKubernetes is the version that messages and the starter spec show: a
// patch release of the newest minor that the catalog knows, which a test checks.
const exampleKubernetes = "v1.36.3"
