package ui_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/ui"
)

var utf8Env = map[string]string{"LANG": "C.UTF-8", "TERM": "xterm"}

// frames plays a run and returns the screen at the given seconds and after
// Close.
func frames(t *testing.T, s *screen, p *player, events []event.Event, seconds ...float64) string {
	var out strings.Builder
	for _, sec := range seconds {
		events = p.feed(events, at(sec))
		fmt.Fprintf(&out, "== %.1fs\n%s", sec, s.text())
	}
	p.feed(events, at(200))
	p.close()
	fmt.Fprintf(&out, "== closed\n%s", s.text())
	return out.String()
}

func TestTree(t *testing.T) {
	ascii := map[string]string{"LANG": "C", "TERM": "xterm", "NO_COLOR": "1"}
	for _, c := range []struct {
		name          string
		cols, rows    int
		env           map[string]string
		verbose, fail bool
	}{
		{"wide", 110, 40, utf8Env, false, false},
		{"usual", 80, 24, utf8Env, false, true},
		{"verbose", 80, 40, utf8Env, true, false},
		{"ascii", 80, 24, ascii, false, true},
		{"small", 36, 8, utf8Env, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScreen(t, c.cols, c.rows)
			got := frames(t, s, play(t, s, c.env, c.verbose), build(c.fail), 0.5, 6, 11.5, 30, 46, 47.2)
			golden(t, "tty-"+c.name, got)
			if s.colour == (c.env["NO_COLOR"] != "") {
				t.Errorf("NO_COLOR=%q, but coloured is %v", c.env["NO_COLOR"], s.colour)
			}
			if !s.cursor {
				t.Error("the cursor is still hidden after Close")
			}
		})
	}
}

// A frame must fit any window, whatever the size; the screen model fails on a
// cell too many, and a frame too high would scroll.
func TestTreeFitsAnyWindow(t *testing.T) {
	for _, cols := range []int{1, 2, 7, 13, 20, 29, 41, 60, 79, 132, 300} {
		for _, rows := range []int{1, 2, 3, 5, 11, 50} {
			s := newScreen(t, cols, rows)
			p := play(t, s, utf8Env, true)
			events := build(true)
			for i, e := range events { // warnings scroll by right; the tree must not
				if e.Type == event.Warning {
					events[i].Type = event.Detail
				}
			}
			p.feed(events, at(47.9))
			if rows > 1 && s.lost() > 0 {
				t.Errorf("%dx%d: %d rows of live frames were scrolled off", cols, rows, s.lost())
			}
			p.close()
		}
	}
}

// A narrower window breaks the rows of the last frame: they must all be drawn
// over, and nothing above them.
func TestTreeFollowsTheWindow(t *testing.T) {
	s := newScreen(t, 100, 30)
	fmt.Fprint(s, "$ image-builder build\r\n")
	p := play(t, s, utf8Env, false)
	events := p.feed(build(false), at(6))
	s.resize(45, 30)
	events = p.feed(events, at(9))
	s.resize(120, 30)
	events = p.feed(events, at(25))
	s.resize(60, 30)
	p.feed(events, at(200))
	p.close()
	if n := strings.Count(s.text(), "fetch inputs"); n != 2 { // the task and its warning
		t.Errorf("fetch inputs is on the screen %d times, want 2:\n%s", n, s.text())
	}
	if !strings.HasPrefix(s.text(), "$ image-builder build\nwarning: ") {
		t.Errorf("what stood above the tree is gone:\n%s", s.text())
	}
}

// After Close each task is there once, however many frames there were, and in
// full even if it is higher than the window.
func TestFinalTreeOnce(t *testing.T) {
	var s script
	for i := range 30 {
		s.start(float64(i), int64(i+1), 0, fmt.Sprintf("phase-%02d", i))
		s.text(float64(i)+0.5, int64(i+1), event.Finished, "")
	}
	w := newScreen(t, 60, 10)
	p := play(t, w, utf8Env, false)
	p.feed(s.events, at(40))
	if !strings.Contains(w.text(), "22 earlier") {
		t.Errorf("the tree is not folded at its head:\n%s", w.text())
	}
	p.close()
	p.close()
	p.d.Emit(event.Event{Type: event.Started, Task: 99, Name: "late", Time: at(41)})
	for i := range 30 {
		if n := strings.Count(w.text(), fmt.Sprintf("phase-%02d", i)); n != 1 {
			t.Errorf("phase-%02d is there %d times, want once", i, n)
		}
	}
}

func TestInterruptedTreeSaysStopped(t *testing.T) {
	w := newScreen(t, 60, 10)
	p := play(t, w, utf8Env, false)
	p.feed(build(false), at(30))
	p.close()
	got := w.text()
	if !strings.Contains(got, "■ kubernetes") || strings.Contains(got, "kubelet") {
		t.Errorf("want kubernetes stopped and folded:\n%s", got)
	}
}

// A frame in which nothing changed is not written: an idle build must not
// keep an SSH line busy.
func TestSameFrameIsNotWritten(t *testing.T) {
	w := newScreen(t, 60, 10)
	p := play(t, w, utf8Env, false)
	p.feed(build(false), at(30))
	n := w.frames
	p.frame(at(30))
	if w.frames != n {
		t.Errorf("%d writes for the same frame", w.frames-n)
	}
	p.close()
}

func TestWriteErrorIsReported(t *testing.T) {
	for _, mode := range []ui.Mode{ui.TTY, ui.Plain, ui.JSON} {
		d, err := ui.New(mode, broken{}, ui.Options{})
		if err != nil {
			t.Fatal(err)
		}
		d.Emit(event.Event{Type: event.Started, Task: 1, Name: "x", Time: epoch})
		if err := d.Close(); !errors.Is(err, errBroken) {
			t.Errorf("%s: Close gives %v, want the error of the write", mode, err)
		}
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// All displays take events from many goroutines while frames are drawn.
func TestConcurrentEvents(t *testing.T) {
	for _, mode := range []ui.Mode{ui.TTY, ui.Plain, ui.JSON} {
		s := newScreen(t, 80, 24)
		if mode != ui.TTY {
			s = newScreen(t, 400, 24)
		}
		ticks := make(chan time.Time)
		d, err := ui.New(mode, crlf{s}, ui.Options{Size: s.size, Ticks: ticks})
		if err != nil {
			t.Fatal(err)
		}
		ctx := event.With(context.Background(), d)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { work(ctx, i) })
		}
		if mode == ui.TTY {
			for range 50 {
				ticks <- time.Now()
			}
		}
		wg.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func work(ctx context.Context, i int) {
	ctx, task := event.Start(ctx, fmt.Sprint("task ", i))
	for j := range 50 {
		_, child := event.Start(ctx, fmt.Sprint("child ", j))
		child.Log("line")
		child.Progress(int64(j), 50, event.Bytes)
		child.Warn("careful")
		task.Progress(int64(j), 50, event.Items)
		child.Done(nil)
	}
	task.Done(nil)
}

// crlf does what a terminal driver does with a line feed.
type crlf struct{ s *screen }

func (c crlf) Write(p []byte) (int, error) {
	_, err := c.s.Write([]byte(strings.ReplaceAll(strings.ReplaceAll(string(p), "\r\n", "\n"), "\n", "\r\n")))
	return len(p), err
}
