package ui

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"imagebuilder.dev/internal/event"
)

const frameEvery = 100 * time.Millisecond

// Control sequences (ECMA-48 and DEC private modes). Lines are never wrapped
// by the terminal while a frame is written, so that the cursor finds back even
// if the window is made narrower in that moment.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	wrapOff    = "\x1b[?7l"
	wrapOn     = "\x1b[?7h"
	eraseRight = "\x1b[K"
	eraseBelow = "\x1b[J"
)

// terminal draws the tree in place, a write per frame, and leaves warnings
// above it. Emit only notes what happened; one goroutine draws.
type terminal struct {
	out  io.Writer
	size func() (cols, rows int)
	now  func() time.Time
	view view

	mu     sync.Mutex
	tree   *tree
	notes  []string // warnings not drawn yet
	closed bool

	// Of the drawing goroutine:
	painted []int  // cells of each line on the screen, to go back over them
	cols    int    // of the window then
	last    string // the lines as written
	hidden  bool   // the cursor is
	err     error

	stop, gone chan struct{}
}

func newTerminal(w io.Writer, o Options) *terminal {
	unicode := speaksUnicode(o.Getenv)
	text := clean
	if !unicode {
		text = func(s string) string { return ascii(clean(s)) }
	}
	t := &terminal{
		out: w, size: o.Size, now: o.Now,
		view: view{glyphs: newGlyphs(unicode), colour: o.Getenv("NO_COLOR") == "", verbose: o.Verbose},
		tree: newTree(text),
		stop: make(chan struct{}), gone: make(chan struct{}),
	}
	go t.loop(o.Ticks)
	return t
}

func (t *terminal) Emit(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	k := t.tree.apply(e)
	if e.Type == event.Warning {
		t.notes = append(t.notes, t.tree.warning(e, k))
	}
}

// Close draws the tree a last time, in full, and gives the cursor back.
func (t *terminal) Close() error {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	if first {
		close(t.stop)
	}
	<-t.gone
	return t.err
}

func (t *terminal) loop(ticks <-chan time.Time) {
	defer close(t.gone)
	if ticks == nil {
		ticker := time.NewTicker(frameEvery)
		defer ticker.Stop()
		ticks = ticker.C
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGCONT)
	defer signal.Stop(signals)
	for {
		select {
		case now := <-ticks:
			t.paint(now, false)
		case s := <-signals:
			if s == syscall.SIGCONT { // the shell wrote below the tree; start a new one
				t.painted, t.last, t.hidden = nil, "", false
			}
			t.paint(t.now(), false)
		case <-t.stop:
			t.paint(t.now(), true)
			return
		}
	}
}

// paint writes one frame. The tree is laid out under the lock and written
// outside it: a terminal that stands still must not stop the build.
func (t *terminal) paint(now time.Time, final bool) {
	cols, rows := t.size()
	t.mu.Lock()
	var list []row
	if final {
		list = t.view.rows(t.tree, now, 0)
	} else if rows > 1 { // the cursor rests on the last row
		list = t.view.rows(t.tree, now, rows-1)
	}
	lines := t.view.frame(list, max(1, cols-1), now, final) // the last column stays free, see body
	notes := t.notes
	t.notes = nil
	t.mu.Unlock()

	frame, widths := t.body(lines, cols)
	if same := len(notes) == 0 && frame == t.last; same && (!final || !t.hidden) {
		return
	}
	var b strings.Builder
	t.begin(&b, cols, rows)
	for _, n := range notes {
		b.WriteString(t.note(n, cols))
	}
	b.WriteString(frame)
	t.end(&b, final)
	t.painted, t.last = widths, frame
	if _, err := io.WriteString(t.out, b.String()); err != nil && t.err == nil {
		t.err = fmt.Errorf("drawing progress: %w", err)
	}
}

// begin takes the cursor to the first row of the last frame, or of the window.
func (t *terminal) begin(b *strings.Builder, cols, rows int) {
	if !t.hidden {
		b.WriteString(hideCursor)
		t.hidden = true
	}
	b.WriteString(wrapOff + "\r")
	if up := min(rowsOf(t.painted, cols), rows-1); up > 0 {
		fmt.Fprintf(b, "\x1b[%dA", up)
	}
	if cols != t.cols { // rows that the terminal has broken must not be joined again
		b.WriteString(eraseBelow)
		t.cols = cols
	}
}

// rowsOf returns how many rows lines take in a window that may have become
// narrower since they were written: terminals then break them.
func rowsOf(widths []int, cols int) int {
	n := 0
	for _, w := range widths {
		n += max(1, (w+cols-1)/max(cols, 1))
	}
	return n
}

func (t *terminal) end(b *strings.Builder, final bool) {
	b.WriteString(eraseBelow + wrapOn)
	if final {
		b.WriteString(showCursor)
		t.hidden = false
	}
}

// body renders lines over what stands there. Only the rest of a line is
// erased: erasing first would flicker. A line leaves the last column free,
// because there the cursor would stand on the last cell and erase it.
func (t *terminal) body(lines []line, cols int) (string, []int) {
	var b strings.Builder
	widths := make([]int, len(lines))
	for i, l := range lines {
		l = l.fit(max(1, cols-1), "")
		widths[i] = l.cells()
		b.WriteString(l.render(t.view.colour) + eraseRight + "\r\n")
	}
	return b.String(), widths
}

// note renders a warning, which stays above the tree.
func (t *terminal) note(text string, cols int) string {
	s, _ := t.body(labelled("warning: ", yellow, text, min(cols-1, widest)), cols)
	return s
}
