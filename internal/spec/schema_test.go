package spec_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"imagebuilder.dev/internal/spec"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := spec.Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/schema.json", text)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("image.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("image.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON turns YAML into what a schema validates.
func asJSON(t *testing.T, data []byte) (any, error) {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(text))
}

func TestSchemaAccepts(t *testing.T) {
	schema := compiled(t)
	all := fixtures(t, "good")
	example, err := os.ReadFile("../../examples/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all["examples/quickstart.yaml"], all["starter"] = example, spec.Starter("")
	for file, data := range all {
		doc, err := asJSON(t, data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSchemaRefuses checks that the schema refuses what Load refuses, but for
// the rules that a schema cannot express.
func TestSchemaRefuses(t *testing.T) {
	schema := compiled(t)
	onlyLoad := []string{"two-documents.yaml", "second-document-broken.yaml", "disk-small.yaml", "disk-zero.yaml", "disk-large.yaml",
		"disk-overflow.yaml", "disk-overflow-unit.yaml", "merge-key.yaml", "utf16.yaml",
		"file-below-file.yaml"}
	for file, data := range fixtures(t, "bad") {
		doc, err := asJSON(t, data)
		if err != nil || slices.Contains(onlyLoad, filepath.Base(file)) {
			continue
		}
		if schema.Validate(doc) == nil {
			t.Errorf("the schema accepts %s", file)
		}
	}
}
