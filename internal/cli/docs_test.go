package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/spec"
)

//go:generate go test -run TestReference -update .

const docs = "../../docs"

// TestReference compares the reference pages with the code that they are made
// from; -update writes them.
func TestReference(t *testing.T) {
	for name, text := range map[string]string{"cli.md": commandPage(), "spec.md": specPage(t)} {
		path := filepath.Join(docs, "reference", name)
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil || string(have) != text {
			t.Errorf("%s is out of date (%v); run: go generate ./internal/cli", path, err)
		}
	}
}

const generated = "<!-- Made from the code by `go generate ./internal/cli`. Do not edit. -->\n\n"

func commandPage() string {
	a := &app{}
	root := a.root()
	var b strings.Builder
	b.WriteString(generated + "# Commands\n\n" + root.Short + ".\n\n")
	for _, g := range a.groups() {
		fmt.Fprintf(&b, "## %s\n\n", g.title)
		for _, c := range g.commands {
			found, _, err := root.Find([]string{c.Name()})
			if err != nil {
				panic(err) // it is in the groups
			}
			writeCommand(&b, found)
			for _, sub := range found.Commands() {
				writeCommand(&b, sub)
			}
		}
	}
	fmt.Fprintf(&b, "## Flags of every command\n\n```\n%s```\n\n## Exit codes and the store\n\n%s", root.PersistentFlags().FlagUsages(), outro)
	return b.String()
}

func writeCommand(b *strings.Builder, c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	fmt.Fprintf(b, "### %s\n\n%s.\n\n", c.CommandPath(), c.Short)
	if c.HasSubCommands() {
		return
	}
	fmt.Fprintf(b, "```\n%s\n", c.UseLine())
	if flags := c.NonInheritedFlags(); flags.HasFlags() {
		fmt.Fprintf(b, "\n%s", flags.FlagUsages())
	}
	b.WriteString("```\n\n")
}

func specPage(t *testing.T) string {
	text, err := spec.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(generated + "# The spec\n\nOne YAML document of kind Image. A key that is not listed here is an error. " +
		"`image-builder validate --schema` prints the JSON schema that this page is made from.\n\n" +
		"| key | type | default | meaning |\n|---|---|---|---|\n")
	writeKeys(&b, &schema, schema.Definitions, "")
	return b.String()
}

func writeKeys(b *strings.Builder, object *jsonschema.Schema, types jsonschema.Definitions, above string) {
	for p := object.Properties.Oldest(); p != nil; p = p.Next() {
		key, v := above+p.Key, p.Value
		kind, inner := kindOf(v, types)
		if slices.Contains(object.Required, p.Key) {
			kind += ", required"
		}
		otherwise := ""
		if v.Default != nil {
			otherwise = fmt.Sprintf("`%v`", v.Default)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, kind, otherwise, meaning(v, p.Key))
		if inner != nil && v.Type == "array" {
			writeKeys(b, inner, types, key+"[].")
		} else if inner != nil {
			writeKeys(b, inner, types, key+".")
		}
	}
}

// kindOf says what a value is, and which type its keys are of if it has keys.
func kindOf(v *jsonschema.Schema, types jsonschema.Definitions) (string, *jsonschema.Schema) {
	named := func(ref string) *jsonschema.Schema { return types[strings.TrimPrefix(ref, "#/$defs/")] }
	switch {
	case v.Ref != "":
		return "object", named(v.Ref)
	case v.Type == "array" && v.Items.Ref != "":
		return "list of objects", named(v.Items.Ref)
	case v.Type == "array":
		return "list of " + oneOf(v.Items, "strings"), nil
	default:
		return oneOf(v, v.Type), nil
	}
}

func oneOf(v *jsonschema.Schema, otherwise string) string {
	var values []string
	for _, e := range v.Enum {
		values = append(values, fmt.Sprintf("`%v`", e))
	}
	if len(values) == 0 {
		return otherwise
	}
	return strings.Join(values, " or ")
}

var (
	subject  = regexp.MustCompile(`^[A-Za-z]+ (?:(?:is|are) )?`)
	wordOnly = regexp.MustCompile(`^[A-Za-z]+$`)
)

// meaning is the doc comment of the field without its subject, the field's name.
func meaning(v *jsonschema.Schema, key string) string {
	text := v.Description
	if strings.HasPrefix(strings.ToLower(text), strings.ToLower(key)+" ") {
		text = subject.ReplaceAllString(text, "")
		first, _, _ := strings.Cut(strings.TrimRight(text, "."), " ")
		if !slices.Contains(v.Enum, any(first)) && wordOnly.MatchString(first) {
			text = strings.ToUpper(text[:1]) + text[1:]
		}
	}
	return strings.ReplaceAll(text, "|", `\|`)
}

// pages returns the texts that are written by hand or made, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	add := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(text)
	}
	add("../../README.md")
	add("../../ARCHITECTURE.md")
	err := filepath.WalkDir(docs, func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			add(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var link = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)

func TestLinks(t *testing.T) {
	for path, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	}
}

var (
	call     = regexp.MustCompile("(?:^|[`$\\s])(?:bin/)?image-builder ([a-z][^`\n|]*)")
	longFlag = regexp.MustCompile(`(?:^|\s)--([a-z-]+)`)
)

// TestCommandLines checks that every command line in the documents is one.
func TestCommandLines(t *testing.T) {
	found := 0
	for path, text := range pages(t) {
		for _, code := range codeOf(text) {
			for _, m := range call.FindAllStringSubmatch(code, -1) {
				found++
				line, _, _ := strings.Cut(m[1], " #")
				checkLine(t, path, line)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d command lines were found in the documents", found)
	}
}

// codeOf returns a page's code blocks and code spans.
func codeOf(text string) []string {
	var out []string
	for i, part := range strings.Split(text, "```") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		for j, span := range strings.Split(part, "`") {
			if j%2 == 1 {
				out = append(out, span)
			}
		}
	}
	return out
}

func checkLine(t *testing.T, path, line string) {
	t.Helper()
	root := (&app{}).root()
	c, _, err := root.Find(strings.Fields(line))
	if err != nil || c == root {
		t.Errorf("%s: there is no such command: image-builder %s", path, line)
		return
	}
	for _, m := range longFlag.FindAllStringSubmatch(line, -1) {
		if c.Flags().Lookup(m[1]) == nil && root.PersistentFlags().Lookup(m[1]) == nil && m[1] != "help" {
			t.Errorf("%s: %s has no flag --%s", path, c.CommandPath(), m[1])
		}
	}
}

// TestPhasePage checks that the page has a section for each phase, in order.
func TestPhasePage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docs, "phases.md"))
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, m := range regexp.MustCompile("(?m)^## `([a-z]+)`").FindAllStringSubmatch(string(text), -1) {
		have = append(have, m[1])
	}
	if !slices.Equal(have, build.Order()) {
		t.Errorf("docs/phases.md describes %v, the phases are %v", have, build.Order())
	}
}

// TestSpecsInDocs checks every spec in the documents.
func TestSpecsInDocs(t *testing.T) {
	for path, text := range pages(t) {
		for _, code := range codeOf(text) {
			yaml, ok := strings.CutPrefix(code, "yaml\napiVersion:")
			if !ok {
				continue
			}
			if _, _, err := spec.Load(path, []byte("apiVersion:"+yaml)); err != nil {
				t.Errorf("a spec in %s is wrong: %v", path, err)
			}
		}
	}
}
