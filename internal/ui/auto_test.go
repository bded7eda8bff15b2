package ui

import (
	"bytes"
	"os"
	"testing"
)

// Auto draws a tree only on a terminal that can move its cursor and that a
// person watches.
func TestAuto(t *testing.T) {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer pty.Close()
	for _, c := range []struct {
		term, ci string
		want     Mode
	}{
		{"xterm", "", TTY}, {"xterm", "false", TTY}, {"xterm", "true", Plain}, {"dumb", "", Plain}, {"", "", Plain},
	} {
		env := map[string]string{"TERM": c.term, "CI": c.ci, "NO_COLOR": "1"}
		getenv := func(k string) string { return env[k] }
		if got := choose(pty, getenv); got != c.want {
			t.Errorf("TERM=%q CI=%q: %s, want %s", c.term, c.ci, got, c.want)
		}
		if got := choose(&bytes.Buffer{}, getenv); got != Plain {
			t.Errorf("a buffer: %s, want plain", got)
		}
	}
}
