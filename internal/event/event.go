// Package event carries what the builder is doing, as typed events, from the
// code that does it to whatever shows it. It imports nothing of ours.
//
// Work is a tree of tasks. A task is started under the task that the context
// carries and ends exactly once:
//
//	ctx, task := event.Start(ctx, "fetch packages")
//	defer func() { task.Done(err) }()
//	task.Progress(done, total, event.Bytes)
package event

import (
	"context"
	"sync/atomic"
	"time"
)

// Type says what happened to a task.
type Type string

// The types of an event.
const (
	Started  Type = "started"
	Progress Type = "progress" // Done of Total, in Unit
	Detail   Type = "detail"   // what the task does now, in Text
	Log      Type = "log"      // a line of output, in Text
	Warning  Type = "warning"  // something the user should know, in Text
	Cached   Type = "cached"   // the task's result was there already; Finished follows
	Finished Type = "finished"
	Failed   Type = "failed" // the cause is in Text
)

// Unit is what a progress counts.
type Unit string

// The units.
const (
	Bytes Unit = "bytes"
	Items Unit = "items"
)

// Event is one thing that happened. Task and Parent are small numbers unique
// within a run; Parent is 0 for a task at the top.
type Event struct {
	Time   time.Time `json:"time"`
	Type   Type      `json:"type"`
	Task   int64     `json:"task"`
	Parent int64     `json:"parent,omitempty"`
	Name   string    `json:"name"`
	Text   string    `json:"text,omitempty"`
	Done   int64     `json:"done,omitempty"`
	Total  int64     `json:"total,omitempty"`
	Unit   Unit      `json:"unit,omitempty"`
}

// Sink takes events. It is called from many goroutines at once.
type Sink interface{ Emit(Event) }

type sinkKey struct{}
type taskKey struct{}

// With returns a context whose tasks report to s.
func With(ctx context.Context, s Sink) context.Context {
	return context.WithValue(ctx, sinkKey{}, s)
}

var last atomic.Int64

// Task is a running piece of work. A nil Task is valid and silent.
type Task struct {
	sink       Sink
	id, parent int64
	name       string
	ended      atomic.Bool
}

// Start begins a task under the one that ctx carries. Without a sink in ctx it
// returns ctx and a nil Task.
func Start(ctx context.Context, name string) (context.Context, *Task) {
	s, _ := ctx.Value(sinkKey{}).(Sink)
	if s == nil {
		return ctx, nil
	}
	t := &Task{sink: s, id: last.Add(1), name: name}
	if p, _ := ctx.Value(taskKey{}).(*Task); p != nil {
		t.parent = p.id
	}
	t.emit(Event{Type: Started})
	return context.WithValue(ctx, taskKey{}, t), t
}

// Current returns the task that ctx carries, or nil.
func Current(ctx context.Context) *Task {
	t, _ := ctx.Value(taskKey{}).(*Task)
	return t
}

func (t *Task) emit(e Event) {
	if t == nil {
		return
	}
	e.Time, e.Task, e.Parent, e.Name = time.Now(), t.id, t.parent, t.name
	t.sink.Emit(e)
}

// Progress reports that done of total units are finished; total 0 means unknown.
func (t *Task) Progress(done, total int64, unit Unit) {
	t.emit(Event{Type: Progress, Done: done, Total: total, Unit: unit})
}

// Detail says in a few words what the task does now.
func (t *Task) Detail(text string) { t.emit(Event{Type: Detail, Text: text}) }

// Log passes on one line of output.
func (t *Task) Log(line string) { t.emit(Event{Type: Log, Text: line}) }

// Warn tells the user something that does not stop the task.
func (t *Task) Warn(text string) { t.emit(Event{Type: Warning, Text: text}) }

// Cached says that the task's result was there already. Done must follow.
func (t *Task) Cached() { t.emit(Event{Type: Cached}) }

// Done ends the task: finished when err is nil, failed otherwise. Only the
// first call counts.
func (t *Task) Done(err error) {
	if t == nil || t.ended.Swap(true) {
		return
	}
	if err != nil {
		t.emit(Event{Type: Failed, Text: err.Error()})
		return
	}
	t.emit(Event{Type: Finished})
}
