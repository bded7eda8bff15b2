package spec

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"imagebuilder.dev/internal/fault"
)

// Problem is one thing that is wrong with a spec, and where.
type Problem struct {
	Position
	Path    string `json:"path,omitempty"` // e.g. spec.packages[2]; "" for the whole file
	Message string `json:"message"`
}

// String returns the problem as one line: file:line:column: message.
func (p Problem) String() string { return p.Position.String() + ": " + p.Message }

// Errors is every problem of a spec, in the order of their positions. Load
// returns it inside a fault of kind Input; errors.As finds it there.
type Errors []Problem

// Error prints one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns nil when there is no problem, else the sorted problems as a fault
// of kind Input.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &fault.Error{Kind: fault.Input, Err: sorted}
}

// maxProblems is how many problems of one file are kept. Nobody reads more, and
// an alias can repeat a wrong value as often as the file is long.
const maxProblems = 1000

// report collects the problems of one file and remembers at which paths they
// are, so that a value is reported once only.
type report struct {
	src      *Source
	problems Errors
	bad      map[string]bool
}

func (r *report) addf(path, format string, args ...any) {
	if r.full() {
		r.bad[path] = true
		return
	}
	r.add(r.src.Problem(path, format, args...))
}

func (r *report) add(p Problem) {
	r.bad[p.Path] = true
	if !r.full() {
		r.problems = append(r.problems, p)
	}
}

func (r *report) full() bool { return len(r.problems) >= maxProblems }

// given tells whether the file gives a value at path that nothing was found
// wrong with so far.
func (r *report) given(path string) bool { return r.src.Has(path) && !r.bad[path] }

// shorten quotes a value of the user's for a message, cut to a length that
// keeps the message on one line.
func shorten(text string) string {
	const most = 60
	if utf8.RuneCountInString(text) <= most {
		return strconv.Quote(text)
	}
	return strconv.Quote(string([]rune(text)[:most])) + "..."
}
