package ui_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// screen is a small model of a terminal: enough of ECMA-48 for what the tree
// writes. What it does not know, and what leaves the screen, fails the test.
type screen struct {
	t          *testing.T
	mu         sync.Mutex
	cols, rows int
	cells      [][]rune
	above      []string // scrolled off
	x, y       int
	wrap       bool
	cursor     bool
	colour     bool // any SGR was seen
	frames     int  // writes
}

func newScreen(t *testing.T, cols, rows int) *screen {
	s := &screen{t: t, wrap: true, cursor: true}
	s.resize(cols, rows)
	return s
}

// resize changes the window as most terminals do: rows that no longer fit are
// broken, and what no longer has room above the cursor is scrolled off.
func (s *screen) resize(cols, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all [][]rune
	y := 0
	for i, r := range s.cells {
		if i == s.y {
			y = len(all)
		}
		text := []rune(strings.TrimRight(string(r), " "))
		for len(text) > cols {
			all = append(all, text[:cols])
			text = text[cols:]
		}
		all = append(all, text)
	}
	for ; y >= rows; y-- {
		s.above = append(s.above, string(all[0]))
		all = all[1:]
	}
	s.cols, s.rows, s.y = cols, rows, y
	s.cells = make([][]rune, rows)
	for i := range s.cells {
		s.cells[i] = []rune(strings.Repeat(" ", cols))
		if i < len(all) {
			copy(s.cells[i], all[i])
		}
	}
}

func (s *screen) size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cols, s.rows
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames++
	for rest := string(p); rest != ""; {
		if strings.HasPrefix(rest, "\x1b[") {
			rest = s.control(rest[2:])
			continue
		}
		r, n := utf8.DecodeRuneInString(rest)
		s.put(r)
		rest = rest[n:]
	}
	if !s.wrap {
		s.t.Error("a frame left the terminal without automatic wrap")
	}
	return len(p), nil
}

func (s *screen) put(r rune) {
	switch {
	case r == '\r':
		s.x = 0
	case r == '\n':
		if s.y++; s.y == s.rows {
			s.above = append(s.above, strings.TrimRight(string(s.cells[0]), " "))
			s.cells = append(s.cells[1:], []rune(strings.Repeat(" ", s.cols)))
			s.y--
		}
	case r < ' ' || r == 0x7f || r == utf8.RuneError:
		s.t.Errorf("control character %q on the screen", r)
	case s.x >= s.cols:
		s.t.Errorf("row %d is wider than %d cells: %q then %q", s.y, s.cols, string(s.cells[s.y]), r)
	default:
		s.cells[s.y][s.x] = r
		s.x++
	}
}

func (s *screen) control(rest string) string {
	i := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
	arg, op := rest[:i], rest[i]
	switch {
	case op == 'A':
		n, err := strconv.Atoi(arg)
		if err != nil || n > s.y {
			s.t.Errorf("cursor up %q from row %d", arg, s.y)
		}
		s.y = max(0, s.y-n)
	case op == 'K' && arg == "":
		s.erase(s.y, s.x)
	case op == 'J' && arg == "":
		s.erase(s.y, s.x)
		for y := s.y + 1; y < s.rows; y++ {
			s.erase(y, 0)
		}
	case op == 'm':
		s.colour = true
	case arg == "?25":
		s.cursor = op == 'h'
	case arg == "?7":
		s.wrap = op == 'h'
	default:
		s.t.Errorf("unknown control sequence %q", fmt.Sprint("CSI ", arg, string(op)))
	}
	return rest[i+1:]
}

func (s *screen) erase(y, x int) {
	for ; x < s.cols; x++ {
		s.cells[y][x] = ' '
	}
}

// text returns the screen, and before it what was scrolled off.
func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := append([]string{}, s.above...)
	for _, r := range s.cells {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

func (s *screen) lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.above)
}
