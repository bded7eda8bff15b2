package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// documents parses the first document and, if there is one, the second. The
// problem is a syntax error.
func documents(file string, data []byte) (first, second *yaml.Node, problem *Problem) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var roots [2]*yaml.Node
	for i := range roots {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, syntaxError(file, data, dec, err)
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			roots[i] = doc.Content[0]
		}
	}
	return roots[0], roots[1], nil
}

var (
	errorLine     = regexp.MustCompile(`^line ([0-9]+): `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '([^']*)' referenced`)
)

// syntaxError locates what the YAML parser found.
func syntaxError(file string, data []byte, dec *yaml.Decoder, err error) *Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	pos := Position{File: file, Line: 1, Column: 1}
	if m := errorLine.FindStringSubmatch(text); m != nil {
		fmt.Sscan(m[1], &pos.Line)
		text = text[len(m[0]):]
	}
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		pos.Line, pos.Column = lineColumn(data, bytes.Index(data, []byte("*"+m[1])))
	} else if line, column, ok := problemMark(dec); ok {
		pos.Line, pos.Column = line, column
	}
	if strings.Contains(text, "cannot start any token") && at(data, pos) == '\t' {
		text = "a tab cannot indent; use spaces"
	}
	return &Problem{Position: pos, Message: "not valid YAML: " + text}
}

// problemMark reads where the parser stopped out of the decoder's own fields.
// The library's error text has only a line, which is off by one for half of the
// errors, and no column. When the fields are not there any more, ok is false
// and the line of the text has to do; the golden files would show it.
func problemMark(dec *yaml.Decoder) (line, column int, ok bool) {
	v := reflect.ValueOf(dec).Elem()
	for _, name := range []string{"parser", "parser", "problem_mark"} {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return 0, 0, false
		}
		v = v.FieldByName(name)
	}
	if v.Kind() != reflect.Struct {
		return 0, 0, false
	}
	l, c := v.FieldByName("line"), v.FieldByName("column")
	if !l.IsValid() || !c.IsValid() || !l.CanInt() || !c.CanInt() {
		return 0, 0, false
	}
	return int(l.Int()) + 1, int(c.Int()) + 1, true
}

// lineColumn converts an offset in bytes, counting both from 1.
func lineColumn(data []byte, offset int) (line, column int) {
	before := data[:max(offset, 0)]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, len([]rune(string(before[start:]))) + 1
}

// at returns the character at a position, or 0.
func at(data []byte, pos Position) rune {
	lines := strings.Split(string(data), "\n")
	if pos.Line > len(lines) {
		return 0
	}
	line := []rune(lines[pos.Line-1])
	if pos.Column > len(line) {
		return 0
	}
	return line[pos.Column-1]
}
