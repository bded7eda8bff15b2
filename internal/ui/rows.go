package ui

import (
	"fmt"
	"slices"
	"time"

	"imagebuilder.dev/internal/event"
)

const (
	childRows = 8                      // at most, under a task at the top; half as many a level further down
	notable   = 500 * time.Millisecond // a finished child that took less gets no row
	liveTail  = 5                      // log lines under a failed task while others still run
)

// view decides how a tree looks.
type view struct {
	glyphs  glyphs
	colour  bool
	verbose bool
}

// row is one task, or a line of text under one, before it is laid out.
type row struct {
	depth int
	task  *task // nil for text
	text  line
}

// rows lists what to show in at most height rows, 0 for all there is: every
// task at the top, and as many of the running ones' children as fit.
func (v view) rows(t *tree, now time.Time, height int) []row {
	final := height == 0
	var out []row
	for limit := childRows; limit >= 0; limit-- {
		out = out[:0]
		for _, k := range t.top {
			out = v.add(out, k, 0, limit, now, final)
		}
		if final || len(out) <= height {
			return out
		}
	}
	return v.foldTop(out, height)
}

// foldTop makes room by taking rows off the head, where the oldest tasks are.
func (v view) foldTop(rows []row, height int) []row {
	if height < 2 {
		return rows[len(rows)-max(height, 0):]
	}
	gone := len(rows) - height + 1
	head := row{text: line{{fmt.Sprintf("%s %d earlier", v.glyphs.more, gone), dim}}}
	return append([]row{head}, rows[gone:]...)
}

// add appends the rows of a task and of what is to see below it.
func (v view) add(out []row, k *task, depth, limit int, now time.Time, final bool) []row {
	out = append(out, row{depth: depth, task: k})
	if k.culprit() {
		return v.addLog(out, k, depth, limit, final)
	}
	if limit == 0 {
		return out
	}
	shown, below := v.pick(k, limit, now, final), limit/2
	if final {
		below = limit
	}
	for _, c := range shown {
		out = v.add(out, c, depth+1, below, now, final)
	}
	if k.ended() || final {
		return out
	}
	if more := v.hidden(k, shown); more != "" {
		out = append(out, row{depth: depth + 1, text: line{{v.glyphs.more + " " + more, dim}}})
	}
	return out
}

// addLog appends the end of a failed task's log, all that is kept when final.
func (v view) addLog(out []row, k *task, depth, limit int, final bool) []row {
	tail := k.log
	if keep := min(limit, liveTail); !final && len(tail) > keep {
		tail = tail[len(tail)-keep:]
	}
	for _, text := range tail {
		out = append(out, row{depth: depth + 1, text: line{{v.glyphs.rule + " ", red}, {text, ""}}})
	}
	return out
}

// pick chooses the children that get a row, in the order they started: what
// failed, what runs, then what ended last.
func (v view) pick(k *task, limit int, now time.Time, final bool) []*task {
	var all []*task
	for _, c := range k.children {
		if v.worth(k, c, now, final) {
			all = append(all, c)
		}
	}
	if final || len(all) <= limit {
		return all
	}
	ranked := slices.Clone(all)
	slices.SortStableFunc(ranked, func(a, b *task) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return b.end.Compare(a.end)
	})
	ranked = ranked[:limit]
	return slices.DeleteFunc(all, func(c *task) bool { return !slices.Contains(ranked, c) })
}

func rank(k *task) int {
	switch {
	case k.state == failed:
		return 0
	case !k.ended():
		return 1
	}
	return 2
}

// worth reports whether child c of k is worth a row. A task that ended well
// says all with its own row; one that failed shows which child did it.
func (v view) worth(k, c *task, now time.Time, final bool) bool {
	slow := (c.state == done || c.state == failed) && c.took(now) >= notable
	switch {
	case !k.ended() && !final:
		return !c.ended() || c.state == failed || slow
	case k.state == failed && c.state == failed:
		return true
	}
	return v.verbose && slow
}

// hidden says how many children have no row: "and 12 more, 80 done".
func (v view) hidden(k *task, shown []*task) string {
	active, ended := 0, 0
	for _, c := range k.children {
		if c.ended() {
			ended++
		} else {
			active++
		}
	}
	for _, c := range shown {
		if c.ended() {
			ended--
		} else {
			active--
		}
	}
	switch {
	case active > 0 && ended > 0:
		return fmt.Sprintf("and %d more, %d done", active, ended)
	case active > 0:
		return fmt.Sprintf("and %d more", active)
	case ended > 0 && k.meter.unit != event.Items: // else it counts them itself
		return fmt.Sprintf("%d done", ended)
	}
	return ""
}
