package spec_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/spec"
)

// hostile are files that cost the most for their size.
func hostile() map[string]string {
	const head = "apiVersion: imagebuilder.dev/v1alpha1\nkind: Image\nspec:\n  kubernetes: {version: v1.36.3}\n"
	var packages, paths strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&packages, "p%d, ", i)
	}
	for i := range 250 {
		fmt.Fprintf(&paths, "{path: /%d%s, content: x}, ", i, strings.Repeat("/a", 2000))
	}
	return map[string]string{
		"packages": head + "  packages: [" + packages.String() + "]\n",
		"aliases":  head + "  packages: [&a xx, " + strings.Repeat("*a, ", 100_000) + "]\n",
		"paths":    head + "  files: [" + paths.String() + "]\n",
		"keys":     head + strings.Repeat("  versoin: x\n", 70_000),
		"nesting":  head + "  os: " + strings.Repeat("[", 500_000),
		"braces":   head + "  os: " + strings.Repeat("{a: ", 9_000),
		"dashes":   strings.Repeat("- ", 500_000),
		"anchors":  head + "  packages: [" + strings.Repeat("&a b, ", 50_000) + "]\n",
	}
}

func TestHostile(t *testing.T) {
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			if len(text) > 1<<20 {
				t.Fatalf("%d bytes are refused anyway", len(text))
			}
			if _, _, err := spec.Load("x.yaml", []byte(text)); err != nil {
				checkErrors(t, err)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with the file, or writes it with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

func fixtures(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/" + dir + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures in %s: %v", dir, err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[f] = data
	}
	return all
}

func TestBad(t *testing.T) {
	for file, data := range fixtures(t, "bad") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			img, src, err := spec.Load(filepath.Base(file), data)
			if err == nil {
				t.Fatal("accepted")
			}
			if img != nil || src != nil {
				t.Error("values besides the error")
			}
			checkErrors(t, err)
			text := err.Error()
			if lines := strings.SplitAfter(text, "\n"); len(lines) > 30 {
				text = strings.Join(lines[:30], "") + "...\n"
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", []byte(text+"\n"))
		})
	}
}

// checkErrors checks what holds for every error of Load.
func checkErrors(t *testing.T, err error) {
	t.Helper()
	var problems spec.Errors
	if fault.KindOf(err) != fault.Input || !errors.As(err, &problems) {
		t.Fatalf("not an input fault with problems: %v", err)
	}
	if len(problems) == 0 || len(problems) > 1000 {
		t.Errorf("%d problems", len(problems))
	}
	last := spec.Position{}
	for _, p := range problems {
		if p.Line < 1 || p.Column < 1 || p.Message == "" || strings.ContainsAny(p.String(), "\n\r") {
			t.Errorf("problem %+v", p)
		}
		if p.Line < last.Line || p.Line == last.Line && p.Column < last.Column {
			t.Errorf("%s comes after %s", p.Position, last)
		}
		last = p.Position
	}
}

func TestGood(t *testing.T) {
	for file, data := range fixtures(t, "good") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			img, _, err := spec.Load(filepath.Base(file), data)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", roundTrip(t, img))
		})
	}
}

// roundTrip writes the image, checks that it reads back the same, and returns
// the text. With it every default is checked as if the user had written it.
func roundTrip(t *testing.T, img *spec.Image) []byte {
	t.Helper()
	text, err := yaml.Marshal(img)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := spec.Load("again.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if second, _ := yaml.Marshal(again); !bytes.Equal(second, text) {
		t.Errorf("read back differently:\n%s\n%s", second, text)
	}
	return text
}

func TestTooLarge(t *testing.T) {
	for _, size := range []int{1<<20 + 1, 10 << 20} {
		_, _, err := spec.Load("big.yaml", bytes.Repeat([]byte("#"), size))
		if err == nil || !strings.Contains(err.Error(), "big.yaml:1:1: the file is ") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestPasswordIsNotPrinted(t *testing.T) {
	for _, u := range []string{"https://u:hunter2@h", "https://u:hunter2@h:x", "u:hunter2@h", "http://[u:hunter2@h", "https://h/?p=hunter2", "https://u:hunter2%zz@h"} {
		text := "apiVersion: imagebuilder.dev/v1alpha1\nkind: Image\nspec:\n  kubernetes: {version: v1.36.3}\n  mirrors: {modules: ['" + u + "']}\n"
		_, _, err := spec.Load("x.yaml", []byte(text))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestExample(t *testing.T) {
	data, err := os.ReadFile("../../examples/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := spec.Load("quickstart.yaml", data); err != nil {
		t.Error(err)
	}
}

func TestSource(t *testing.T) {
	text := "apiVersion: imagebuilder.dev/v1alpha1\nkind: Image\nspec:\n  kubernetes: {version: v1.36.3}\n  packages:\n    - curl\n    - wget\n"
	_, src, err := spec.Load("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"spec.packages[1]":                "x.yaml:7:7",
		"spec.packages[9]":                "x.yaml:6:5",
		"spec.kubernetes.version":         "x.yaml:4:25",
		"spec.kubernetes.source":          "x.yaml:4:15",
		"spec.runtime.containerd.version": "x.yaml:4:3",
		"metadata.name":                   "x.yaml:1:1",
		"nonsense[3].x":                   "x.yaml:1:1",
		"":                                "x.yaml:1:1",
	} {
		if got := src.At(path).String(); got != want {
			t.Errorf("At(%q) = %s, want %s", path, got, want)
		}
	}
	cause := errors.New("no such package")
	err = src.Errorf("spec.packages[1]", "find wget: %w", cause)
	if err.Error() != "x.yaml:7:7: find wget: no such package" || fault.KindOf(err) != fault.Input || !errors.Is(err, cause) {
		t.Errorf("Errorf: %v", err)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]spec.Size{"2048MiB": 2 * spec.GiB, "8GiB": 8 * spec.GiB, "1TiB": spec.TiB, "0MiB": 0} {
		if got, err := spec.ParseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for size, want := range map[spec.Size]string{0: "0MiB", 2048 * spec.MiB: "2GiB", 2047 * spec.MiB: "2047MiB", 3 * spec.TiB: "3TiB"} {
		if got, err := size.MarshalText(); err != nil || string(got) != want {
			t.Errorf("%d: %s, %v", size, got, err)
		}
	}
	for _, size := range []spec.Size{1, -spec.MiB, spec.MiB + 512} {
		if got, err := size.MarshalText(); err == nil {
			t.Errorf("%d: %s", size, got)
		}
	}
}

func TestFileNumbers(t *testing.T) {
	f := spec.File{Mode: "4755", Owner: "1000:100"}
	uid, gid := f.IDs()
	if f.Perm() != 0o4755 || uid != 1000 || gid != 100 {
		t.Errorf("%o %d %d", f.Perm(), uid, gid)
	}
}

func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		for _, data := range fixtures(f, dir) {
			f.Add(data)
		}
	}
	f.Add(spec.Starter(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, _, err := spec.Load("fuzz.yaml", data)
		if err != nil {
			checkErrors(t, err)
			return
		}
		roundTrip(t, img)
		if again, _, _ := spec.Load("fuzz.yaml", data); !reflect.DeepEqual(img, again) {
			t.Error("two readings differ")
		}
	})
}
