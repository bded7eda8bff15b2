// Package ui shows the event stream to people and programs: a live tree on a
// terminal, plain lines in a pipe, JSON lines for a program. It also holds the
// few other shapes that the command line prints: tables, sizes, times, errors.
//
// A display draws only what events say. It never blocks the work behind a slow
// terminal and is safe for use from many goroutines.
package ui

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// Mode says how events are shown. It is the value of the flag --progress.
type Mode string

// The modes.
const (
	Auto  Mode = "auto"  // TTY on a capable terminal that a person watches, else Plain
	TTY   Mode = "tty"   // a live tree
	Plain Mode = "plain" // a line per step, no control codes
	JSON  Mode = "json"  // an event.Event per line
)

// Display shows events until it is closed. Events that arrive later are dropped.
type Display interface {
	event.Sink
	// Close shows the final state, gives the terminal back and returns the
	// first error of writing. Calls after the first do nothing.
	Close() error
}

// Options of a display. The zero value is right for a command; the functions
// exist so that a test decides what a display sees.
type Options struct {
	Verbose bool                    // tty keeps the slower children of a finished task; plain prints every log line
	Getenv  func(string) string     // os.Getenv if nil
	Size    func() (cols, rows int) // asks the terminal if nil; 80 by 24 if it cannot tell
	Now     func() time.Time        // time.Now if nil
	Ticks   <-chan time.Time        // one frame each, drawn as of the time received; ten a second if nil
}

// New returns a display that writes to w. The caller must close it.
func New(mode Mode, w io.Writer, o Options) (Display, error) {
	o = o.withDefaults(w)
	if mode == Auto || mode == "" {
		mode = choose(w, o.Getenv)
	}
	switch mode {
	case TTY:
		return newTerminal(w, o), nil
	case Plain:
		return newPlain(w, o), nil
	case JSON:
		return newLines(w), nil
	}
	return nil, fault.New(fault.Input, "choosing the display: unknown mode %q, want auto, tty, plain or json", mode)
}

func (o Options) withDefaults(w io.Writer) Options {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Size == nil {
		o.Size = func() (int, int) { return size(w) }
	}
	return o
}

// choose resolves Auto. A CI service may give a job a terminal that nobody
// watches and whose log keeps every frame, so there plain lines are better.
func choose(w io.Writer, getenv func(string) string) Mode {
	name, ci := getenv("TERM"), getenv("CI")
	if !isTerminal(w) || name == "" || name == "dumb" || (ci != "" && ci != "false" && ci != "0") {
		return Plain
	}
	return TTY
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// size returns the cells of the terminal behind w.
func size(w io.Writer) (cols, rows int) {
	if f, ok := w.(*os.File); ok {
		if c, r, err := term.GetSize(int(f.Fd())); err == nil && c > 0 && r > 0 {
			return c, r
		}
	}
	return 80, 24
}

// speaksUnicode reports whether the locale's encoding is UTF-8 and the
// terminal's font can be expected to have the signs we draw with; that of the
// Linux console cannot.
func speaksUnicode(getenv func(string) string) bool {
	if getenv("TERM") == "linux" {
		return false
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
