package ui

import (
	"encoding/json"
	"io"
	"sync"

	"imagebuilder.dev/internal/event"
)

// lines writes each event as one line of JSON, at once, so that a reader sees
// it while the work goes on.
type lines struct {
	mu     sync.Mutex
	enc    *json.Encoder
	closed bool
	err    error
}

func newLines(w io.Writer) *lines {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &lines{enc: enc}
}

// Emit writes e unless an earlier write failed: half a stream with a hole in
// it would mislead more than one that stops.
func (l *lines) Emit(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.err == nil {
		l.err = l.enc.Encode(e)
	}
}

func (l *lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.err
}
