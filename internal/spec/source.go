package spec

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"imagebuilder.dev/internal/fault"
)

// Position is a place in a spec file. Line and Column count from 1; a column
// is a character, not a byte.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// String returns file:line:column, which editors and terminals understand.
func (p Position) String() string {
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Source knows where in the file every value of an Image stands. A path is
// written as spec.os.version or spec.packages[2]; "" is the whole document.
type Source struct {
	file   string
	values map[string]Position
}

func newSource(file string) *Source {
	return &Source{file: file, values: map[string]Position{"": {File: file, Line: 1, Column: 1}}}
}

// At returns the position of the value at path or, when the file does not give
// it (a default, say), of the nearest parent that it gives.
func (s *Source) At(path string) Position {
	for {
		if p, ok := s.values[path]; ok {
			return p
		}
		path = parent(path)
	}
}

// Has tells whether the file itself gives the value at path.
func (s *Source) Has(path string) bool {
	_, ok := s.values[path]
	return ok
}

// Problem returns a problem located at path, to be collected in Errors.
func (s *Source) Problem(path, format string, args ...any) Problem {
	return Problem{Position: s.At(path), Path: path, Message: fmt.Sprintf(format, args...)}
}

// Errorf returns a fault of kind Input whose text begins with the position of
// path. The format may use %w.
func (s *Source) Errorf(path, format string, args ...any) error {
	return fault.New(fault.Input, "%s: %w", s.At(path), fmt.Errorf(format, args...))
}

func (s *Source) set(path string, n *yaml.Node) {
	s.values[path] = s.of(n)
}

func (s *Source) of(n *yaml.Node) Position {
	return Position{File: s.file, Line: max(n.Line, 1), Column: max(n.Column, 1)}
}

// parent removes the last key or index of a path.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func item(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
