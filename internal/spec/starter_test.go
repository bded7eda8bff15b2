package spec_test

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/spec"
)

func TestStarter(t *testing.T) {
	text := spec.Starter("")
	golden(t, "testdata/starter.golden", text)
	img, _, err := spec.Load("starter.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	minors := catalog.KubernetesMinors()
	if newest := fmt.Sprintf("v1.%d.", minors[len(minors)-1]); !strings.HasPrefix(img.Spec.Kubernetes.Version, newest) {
		t.Errorf("the starter has Kubernetes %s, the catalog knows %s", img.Spec.Kubernetes.Version, newest)
	}
	named, _, err := spec.Load("starter.yaml", spec.Starter("123"))
	if err != nil || named.Metadata.Name != "123" {
		t.Errorf("name 123: %v, %v", named, err)
	}
	// The lines that a # turns off show the defaults: turned on they change nothing.
	on := regexp.MustCompile(`(?m)^( *)#((?:  )*[a-zA-Z]+:(?: .*)?)$`).ReplaceAll(text, []byte("$1$2"))
	if bytes.Equal(on, text) {
		t.Fatal("no line is turned off")
	}
	full, _, err := spec.Load("starter.yaml", on)
	if err != nil {
		t.Fatalf("%v\n%s", err, on)
	}
	for _, i := range []*spec.Image{img, full} {
		i.Spec.Packages, i.Spec.Files, i.Spec.OS.KernelArguments, i.Spec.Mirrors = nil, nil, nil, spec.Mirrors{}
	}
	if !reflect.DeepEqual(full, img) {
		a, _ := yaml.Marshal(img)
		b, _ := yaml.Marshal(full)
		t.Errorf("a default that is shown is another:\n%s\n%s", a, b)
	}
}

func TestStarterShowsEveryKey(t *testing.T) {
	text := string(spec.Starter(""))
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for _, f := range reflect.VisibleFields(typ) {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !strings.Contains(text, key+":") {
				t.Errorf("%s.%s is not shown", typ.Name(), key)
			}
			sub := f.Type
			if sub.Kind() == reflect.Slice {
				sub = sub.Elem()
			}
			if sub.Kind() == reflect.Struct {
				walk(sub)
			}
		}
	}
	walk(reflect.TypeFor[spec.Image]())
}
