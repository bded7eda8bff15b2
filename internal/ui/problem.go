package ui

import (
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"

	"imagebuilder.dev/internal/fault"
)

// located matches a message that begins with its place, file:line:column.
var located = regexp.MustCompile(`^[^:]+:\d+:\d+: `)

// PrintError tells the user about err, which must not be nil: the message,
// then what to do next if that is known. On a terminal it is wrapped at the
// terminal's width, elsewhere lines stay whole for grep. Of an error that
// lists places in a file each is a line as it is, which editors can jump to.
//
// With asJSON it is one object: {"error": {"kind", "exit", "message", "hint"}}.
func PrintError(w io.Writer, err error, asJSON bool) {
	if asJSON {
		printJSON(w, err)
		return
	}
	v := view{colour: isTerminal(w) && os.Getenv("NO_COLOR") == ""}
	cols := 0
	if isTerminal(w) {
		cols, _ = size(w)
		cols = min(cols, widest)
	}
	var b strings.Builder
	for _, l := range errorLines(err, cols) {
		b.WriteString(l.render(v.colour) + "\n")
	}
	_, _ = io.WriteString(w, b.String()) // there is nowhere left to complain
}

func printJSON(w io.Writer, err error) {
	type problem struct {
		Kind    string `json:"kind"`
		Exit    int    `json:"exit"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(struct {
		Error problem `json:"error"`
	}{problem{fault.KindOf(err).String(), fault.ExitCode(err), err.Error(), fault.HintOf(err)}})
}

// errorLines lays an error out in at most cols cells; 0 is no limit.
func errorLines(err error, cols int) []line {
	message := strings.Split(strings.TrimSpace(err.Error()), "\n")
	if fault.KindOf(err) == fault.Interrupted {
		message = []string{"interrupted"}
	}
	var out []line
	if len(message) > 1 && located.MatchString(message[0]) {
		for _, m := range message {
			out = append(out, line{{clean(m), ""}})
		}
	} else {
		out = labelled("error: ", bold+";"+red, message[0], cols)
		for _, m := range message[1:] {
			out = append(out, line{{"  " + clean(m), ""}})
		}
	}
	if hint := fault.HintOf(err); hint != "" {
		for i, h := range strings.Split(strings.TrimSpace(hint), "\n") {
			if i == 0 {
				out = append(out, labelled("hint: ", bold, h, cols)...)
			} else {
				out = append(out, line{{"  " + clean(h), ""}})
			}
		}
	}
	return out
}

// labelled wraps text behind a label and under itself.
func labelled(label string, s style, text string, cols int) []line {
	text = clean(text)
	parts := []string{text}
	if room := cols - len(label); cols > 0 {
		parts = wrap(text, max(room, 20))
	}
	out := []line{{{label, s}, {parts[0], ""}}}
	for _, p := range parts[1:] {
		out = append(out, line{{strings.Repeat(" ", len(label)) + p, ""}})
	}
	return out
}
