package spec

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
	"imagebuilder.dev/internal/catalog"

	_ "embed"
)

//go:embed starter.yaml.tmpl
var starterText string

// Starter returns the commented spec that init writes. It is valid as it is:
// a line that begins with # and a key shows a default. An empty name stands for
// the default one.
func Starter(name string) []byte {
	if name == "" {
		name = defaultName(OS{Name: catalog.DefaultOS, Version: catalog.DefaultVersion})
	}
	var out bytes.Buffer
	t := template.Must(template.New("starter").Funcs(template.FuncMap{"words": words, "scalar": scalar}).Parse(starterText))
	err := t.Execute(&out, map[string]any{
		"APIVersion":   APIVersion,
		"Kind":         Kind,
		"Name":         name,
		"OS":           catalog.DefaultOS,
		"OSNames":      catalog.OSNames(),
		"Version":      catalog.DefaultVersion,
		"Versions":     catalog.Versions(catalog.DefaultOS),
		"Archs":        catalog.Architectures(),
		"Kernels":      catalog.Kernels(),
		"Kubernetes":   exampleKubernetes,
		"Source":       catalog.Sources()[0],
		"Containerd":   catalog.DefaultContainerd,
		"Target":       defaultTarget,
		"Targets":      catalog.Targets(),
		"Size":         catalog.DefaultDiskGiB * GiB,
		"Filesystems":  catalog.Filesystems(),
		"Compressions": catalog.Compressions(),
	})
	if err != nil {
		panic(fmt.Sprintf("starter spec: %v", err)) // the template is ours and a test runs it
	}
	return out.Bytes()
}

func words(list []string) string { return strings.Join(list, ", ") }

// scalar writes a string as YAML, in quotes where it needs them.
func scalar(text string) (string, error) {
	out, err := yaml.Marshal(text)
	return strings.TrimSpace(string(out)), err
}
