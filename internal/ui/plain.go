package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"imagebuilder.dev/internal/event"
)

const (
	plainLevels = 2                // levels of the tree that get lines
	plainPause  = 5 * time.Second  // between two progress lines of a task, at least
	plainStep   = 10               // percent gained that make a progress line due
	plainSilent = 30 * time.Second // after which one is due anyway
)

// plain writes a line per step. A line is a word, the time since the first
// event, the task's path and what there is to say, so that it is easy to grep:
//
//	start        0.0s  kubernetes > kubelet
//	progress     9.2s  kubernetes > kubelet: 45/120 (37%)
//	done        24.1s  kubernetes > kubelet (24.1s)
type plain struct {
	mu     sync.Mutex
	out    io.Writer
	all    bool // print logs as they come
	tree   *tree
	began  time.Time
	spoke  map[*task]spoken
	closed bool
	err    error
}

// spoken is when a task last got a line, and its percentage then.
type spoken struct {
	at      time.Time
	percent int
}

func newPlain(w io.Writer, o Options) *plain {
	return &plain{out: w, all: o.Verbose, tree: newTree(clean), spoke: map[*task]spoken{}}
}

func (p *plain) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return p.err
}

func (p *plain) Emit(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.began.IsZero() {
		p.began = e.Time
	}
	k := p.tree.apply(e)
	switch {
	case e.Type == event.Warning:
		p.print("warning", e.Time, p.tree.warning(e, k))
	case k == nil:
	case e.Type == event.Failed:
		p.fail(e, k)
	case e.Type == event.Log && p.all:
		p.print("log", e.Time, k.path()+" | "+clean(e.Text))
	case k.level() > plainLevels:
	case e.Type == event.Started:
		p.print("start", e.Time, k.path())
		p.spoke[k] = spoken{at: e.Time}
	case e.Type == event.Progress, e.Type == event.Detail:
		p.progress(e, k)
	case e.Type == event.Finished:
		p.finish(e, k)
	}
}

func (p *plain) print(word string, at time.Time, text string) {
	_, err := fmt.Fprintf(p.out, "%-8s  %7s  %s\n", word, Duration(at.Sub(p.began)), text)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("writing progress: %w", err)
	}
}

func (p *plain) finish(e event.Event, k *task) {
	delete(p.spoke, k)
	if k.state == cached {
		p.print("cached", e.Time, k.path())
		return
	}
	p.print("done", e.Time, fmt.Sprintf("%s (%s)", k.path(), Duration(k.took(e.Time))))
}

// fail shows the cause and the end of the log with the task where it happened,
// whatever its level, and neither again with the tasks above it.
func (p *plain) fail(e event.Event, k *task) {
	delete(p.spoke, k)
	took := " (" + Duration(k.took(e.Time)) + ")"
	switch {
	case k.state == stopped && k.level() <= plainLevels:
		p.print("stopped", e.Time, k.path()+took)
	case k.culprit():
		p.print("failed", e.Time, k.path()+took+": "+k.cause)
		for _, text := range k.log {
			p.print("log", e.Time, k.path()+" | "+text)
		}
	case k.state == failed && k.level() <= plainLevels:
		p.print("failed", e.Time, k.path()+took)
	}
}

// progress prints a line if one is due: not sooner than plainPause after the
// last, and for a tenth gained, something new to do, or a long silence. The
// last percent is left to the line that says done.
func (p *plain) progress(e event.Event, k *task) {
	last := p.spoke[k]
	quiet := e.Time.Sub(last.at)
	f, known := k.meter.fraction()
	percent := int(f * 100)
	due := quiet >= plainSilent || e.Type == event.Detail || percent >= last.percent+plainStep
	if k.ended() || quiet < plainPause || !due || (e.Type == event.Progress && f == 1) {
		return
	}
	text := ""
	if k.meter.active() {
		text = ": " + strings.TrimSpace(k.meter.count())
	}
	if known {
		text += fmt.Sprintf(" (%d%%)", percent)
	}
	if k.detail != "" {
		text += ": " + k.detail
	}
	p.print("progress", e.Time, k.path()+text)
	p.spoke[k] = spoken{e.Time, percent}
}
