package ui

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// escapes matches terminal control sequences (ECMA-48): CSI, OSC and the
// two-character ones. Output of foreign programs is full of them.
var escapes = regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(\x07|\x1b\\\\)?|[ -/]*[0-~])?")

// clean returns s as one line of printable text. Of a line that a program
// overwrote with carriage returns only the last state is left.
func clean(s string) string {
	s = strings.TrimRight(escapes.ReplaceAllString(s, ""), " \t\r\n")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 && !strings.Contains(s, "\r\n") {
		s = s[i+1:]
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029':
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// firstLine returns s up to its first line break.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// ascii returns s with a question mark for every other character.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, s)
}

// runeCells returns how many cells of a terminal r takes (UAX #11; ambiguous
// characters are narrow, as in a UTF-8 locale).
func runeCells(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func cells(s string) int {
	n := 0
	for _, r := range s {
		n += runeCells(r)
	}
	return n
}

// cut shortens s to at most n cells and marks the cut with tail.
func cut(s string, n int, tail string) string {
	if cells(s) <= n {
		return s
	}
	room := n - cells(tail)
	if room < 0 {
		room, tail = n, ""
	}
	used := 0
	for i, r := range s {
		used += runeCells(r)
		if used > room {
			return strings.TrimRight(s[:i], " ") + tail
		}
	}
	return s
}

// pad fills s with spaces to n cells, before it if right.
func pad(s string, n int, right bool) string {
	gap := strings.Repeat(" ", max(0, n-cells(s)))
	if right {
		return gap + s
	}
	return s + gap
}

// wrap breaks s into lines of at most n cells, at spaces where there are any
// near the edge.
func wrap(s string, n int) []string {
	var lines []string
	for cells(s) > n {
		head := cut(s, n, "")
		if head == "" { // nothing but spaces, or a wide character and a single column
			if s = strings.TrimLeft(s, " "); cut(s, n, "") == "" && s != "" {
				_, size := utf8.DecodeRuneInString(s)
				lines, s = append(lines, s[:size]), s[size:]
			}
			continue
		}
		if s[len(head)] != ' ' {
			if i := strings.LastIndexByte(head, ' '); i > 0 && len(head)-i < 40 {
				head = head[:i]
			}
		}
		lines = append(lines, strings.TrimRight(head, " "))
		s = strings.TrimLeft(s[len(head):], " ")
	}
	return append(lines, s)
}
