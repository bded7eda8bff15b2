package ui

import (
	"context"
	"strings"
	"time"

	"imagebuilder.dev/internal/event"
)

// state of a task.
type state int

const (
	running state = iota
	done
	cached
	failed
	stopped // cancelled because something else failed or the user said so
)

const tailLines = 15 // kept of a task's log

// task is what is known of one task.
type task struct {
	name       string
	parent     *task // nil at the top
	state      state
	start, end time.Time // end is zero while it runs
	detail     string    // what it does now
	cause      string    // why it failed, one line
	meter      meter
	log        []string // the last tailLines
	children   []*task  // in the order they started
}

// tree is the state of all tasks, as the events so far tell it.
type tree struct {
	top   []*task
	byID  map[int64]*task
	clean func(string) string
}

func newTree(clean func(string) string) *tree {
	return &tree{byID: map[int64]*task{}, clean: clean}
}

// apply takes e into the tree and returns its task, or nil for one that never
// started.
func (t *tree) apply(e event.Event) *task {
	if e.Type == event.Started {
		return t.add(e)
	}
	k := t.byID[e.Task]
	if k == nil {
		return nil
	}
	switch e.Type {
	case event.Progress:
		k.meter.set(e)
	case event.Detail:
		k.detail = t.clean(e.Text)
	case event.Log:
		k.addLog(t.clean(e.Text))
	case event.Cached:
		k.state = cached
	case event.Finished, event.Failed:
		k.finish(e, t.clean)
	}
	return k
}

// warning returns the text of a warning with where it came from; k may be nil.
func (t *tree) warning(e event.Event, k *task) string {
	if k == nil {
		return t.clean(e.Text)
	}
	return k.path() + ": " + t.clean(e.Text)
}

func (t *tree) add(e event.Event) *task {
	k := &task{name: t.clean(e.Name), parent: t.byID[e.Parent], start: e.Time}
	t.byID[e.Task] = k
	if k.parent != nil {
		k.parent.children = append(k.parent.children, k)
	} else {
		t.top = append(t.top, k)
	}
	return k
}

func (k *task) addLog(text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	if len(k.log) >= tailLines {
		k.log = append(k.log[:0], k.log[1:]...)
	}
	k.log = append(k.log, text)
}

// finish ends a task. A failure that is only the echo of a cancellation must
// not hide the one that caused it.
func (k *task) finish(e event.Event, clean func(string) string) {
	k.end = e.Time
	switch {
	case e.Type == event.Failed && strings.HasSuffix(e.Text, context.Canceled.Error()):
		k.state = stopped
	case e.Type == event.Failed:
		k.state, k.cause = failed, clean(firstLine(e.Text))
		return
	case k.state == running:
		k.state = done
	}
	k.log, k.detail = nil, ""
}

// ended reports whether the task is over.
func (k *task) ended() bool { return !k.end.IsZero() }

// took returns how long the task ran, so far if it still does.
func (k *task) took(now time.Time) time.Duration {
	if k.ended() {
		now = k.end
	}
	return now.Sub(k.start)
}

// level is 1 for a task at the top.
func (k *task) level() int {
	n := 0
	for ; k != nil; k = k.parent {
		n++
	}
	return n
}

// path names the task from the top: "kubernetes > compile kubelet".
func (k *task) path() string {
	if k.parent == nil {
		return k.name
	}
	return k.parent.path() + " > " + k.name
}

// culprit reports whether the task failed by itself and not through a child.
func (k *task) culprit() bool {
	if k.state != failed {
		return false
	}
	for _, c := range k.children {
		if c.state == failed && (c.cause == "" || strings.Contains(k.cause, c.cause)) {
			return false
		}
	}
	return true
}
