package ui

import "strings"

// style is the parameter of an SGR sequence (ECMA-48 8.3.117); "" is none.
type style string

const (
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
)

// span is a run of text in one style; line is a row of the screen.
type span struct {
	text  string
	style style
}

type line []span

func (l line) cells() int {
	n := 0
	for _, s := range l {
		n += cells(s.text)
	}
	return n
}

// fit returns l cut to at most n cells.
func (l line) fit(n int, tail string) line {
	if l.cells() <= n {
		return l
	}
	var out line
	for _, s := range l {
		if w := cells(s.text); w > n {
			return append(out, span{cut(s.text, n, tail), s.style})
		} else {
			n -= w
		}
		out = append(out, s)
	}
	return out
}

// render returns l as bytes for the terminal.
func (l line) render(colour bool) string {
	var b strings.Builder
	for _, s := range l {
		if colour && s.style != "" && s.text != "" {
			b.WriteString("\x1b[" + string(s.style) + "m" + s.text + "\x1b[0m")
		} else {
			b.WriteString(s.text)
		}
	}
	return b.String()
}

// glyphs are the signs of a tree, one cell each besides more.
type glyphs struct {
	spinner                       []string
	done, cached, failed, stopped string
	full, empty                   string // of a bar
	more                          string
	rule                          string // before a log line
}

func newGlyphs(unicode bool) glyphs {
	if !unicode {
		return glyphs{
			spinner: []string{"|", "/", "-", `\`},
			done:    "+", cached: "=", failed: "x", stopped: "-",
			full: "#", empty: ".", more: "...", rule: "|",
		}
	}
	return glyphs{
		spinner: []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"},
		done:    "✓", cached: "✓", failed: "✗", stopped: "■",
		full: "━", empty: "─", more: "…", rule: "│",
	}
}

// mark returns the sign of a state; a running task's turns with the frame.
func (g glyphs) mark(s state, frame int64) span {
	switch s {
	case done:
		return span{g.done, green}
	case cached:
		return span{g.cached, dim}
	case failed:
		return span{g.failed, red}
	case stopped:
		return span{g.stopped, yellow}
	}
	return span{g.spinner[frame%int64(len(g.spinner))], cyan}
}
