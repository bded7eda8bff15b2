package ui

import (
	"strings"
	"time"

	"imagebuilder.dev/internal/event"
)

const (
	widest     = 110 // cells; the eye loses the row on wider ones
	timeCells  = 7   // of the last column
	barCells   = 18
	shortBar   = 10 // where room is short
	widestName = 32 // cells; details stand in a column behind names up to this
	minDetail  = 10 // cells; a shorter detail says nothing
	minLeft    = 30 // cells for name and detail, at least, before progress gets any
)

// frame lays rows out in lines of at most width cells. Progress and times are
// columns at the right edge; detail takes what is left of them.
func (v view) frame(rows []row, width int, now time.Time, final bool) []line {
	width = min(width, widest)
	p := v.measure(rows, width, now, final)
	lines := make([]line, 0, len(rows))
	for _, r := range rows {
		indent := span{strings.Repeat("  ", r.depth), ""}
		if r.task == nil {
			lines = append(lines, v.textLines(indent, r.text, width, final)...)
			continue
		}
		l := v.taskLine(indent, r.task, p, width, now, final)
		lines = append(lines, l.fit(width, v.glyphs.more))
	}
	return lines
}

// textLines cuts text while the tree lives, and wraps it when it is to stay:
// the end of a compiler's message matters.
func (v view) textLines(indent span, text line, width int, final bool) []line {
	if !final || len(text) < 2 {
		return []line{append(line{indent}, text...).fit(width, v.glyphs.more)}
	}
	var out []line
	room := width - cells(indent.text) - cells(text[0].text)
	for _, part := range wrap(text[1].text, max(room, 20)) {
		out = append(out, line{indent, text[0], {part, text[1].style}}.fit(width, ""))
	}
	return out
}

// columns says what of the progress has room, the same for all rows of a frame.
type columns struct {
	bar, count, speed, left int           // cells; 0: not shown
	names                   map[*task]int // by parent: cells of the names below it, to align details
}

func (c columns) cells() int {
	n := 0
	for _, w := range []int{c.bar, c.count, c.speed, c.left} {
		if w > 0 {
			n += w + 2
		}
	}
	return n
}

// measure returns the widest columns that leave enough cells to the names.
func (v view) measure(rows []row, width int, now time.Time, final bool) columns {
	c := columns{names: map[*task]int{}}
	for _, r := range rows {
		if r.task == nil {
			continue
		}
		if w := cells(r.task.name); w <= widestName {
			c.names[r.task.parent] = max(c.names[r.task.parent], w)
		}
		if !showsProgress(r.task, final) {
			continue
		}
		m := &r.task.meter
		if m.total > 0 {
			c.bar = barCells
		}
		c.count = max(c.count, cells(m.count()))
		c.speed = max(c.speed, cells(m.speed(now)))
		c.left = max(c.left, cells(m.remaining(now)))
	}
	return c.squeeze(width - timeCells - 2 - min(minLeft, width/2))
}

// squeeze gives up columns, the least telling first, until they fit in room.
func (c columns) squeeze(room int) columns {
	for _, give := range []func(){
		func() { c.bar = min(c.bar, shortBar) },
		func() { c.speed = 0 },
		func() { c.left = 0 },
		func() { c.bar = 0 },
		func() { c.count = 0 },
	} {
		if c.cells() <= room {
			break
		}
		give()
	}
	return c
}

func showsProgress(k *task, final bool) bool {
	return !final && !k.ended() && k.meter.active()
}

func (v view) taskLine(indent span, k *task, c columns, width int, now time.Time, final bool) line {
	right := v.progress(k, c, now, final)
	right = append(right, v.timing(k, now, final))
	room := max(0, width-right.cells()-2)

	s := k.state
	if final && !k.ended() {
		s = stopped
	}
	left := line{indent, v.glyphs.mark(s, now.UnixMilli()/100), {" ", ""}, {k.name, nameStyle(k, s)}}
	if d := v.detail(k, final); d != "" && room-left.cells() > minDetail {
		gap := max(0, c.names[k.parent]-cells(k.name))
		left = append(left, span{strings.Repeat(" ", gap+2) + d, detailStyle(k)})
	}
	left = left.fit(room, v.glyphs.more)
	gap := span{strings.Repeat(" ", max(0, width-left.cells()-right.cells())), ""}
	return append(append(left, gap), right...)
}

// progress returns the bar, count and speed of a task in their columns, or
// nothing, so that the detail may run on, when it has none.
func (v view) progress(k *task, c columns, now time.Time, final bool) line {
	if c.cells() == 0 || !showsProgress(k, final) {
		return nil
	}
	var l line
	if c.bar > 0 {
		l = append(append(l, span{"  ", ""}), k.meter.bar(c.bar, v.glyphs)...)
	}
	if c.count > 0 {
		l = append(l, span{"  " + pad(k.meter.count(), c.count, true), ""})
	}
	if c.speed > 0 {
		l = append(l, span{"  " + pad(k.meter.speed(now), c.speed, true), ""})
	}
	if c.left > 0 {
		l = append(l, span{"  " + pad(k.meter.remaining(now), c.left, true), dim})
	}
	return l
}

func (v view) timing(k *task, now time.Time, final bool) span {
	text := Duration(k.took(now))
	switch {
	case k.state == cached:
		text = "cached"
	case k.state == stopped, final && !k.ended():
		text = "stopped"
	}
	return span{"  " + pad(text, timeCells, true), dim}
}

// detail returns what a task does now, why it failed, or how much it was.
func (v view) detail(k *task, final bool) string {
	switch {
	case k.culprit():
		return k.cause
	case k.ended() && k.state != done, final && !k.ended():
		return ""
	case k.ended() && k.meter.unit == event.Bytes && k.meter.done > 0:
		return Bytes(k.meter.done)
	case k.ended():
		return ""
	case k.detail != "":
		return k.detail
	case len(k.log) > 0:
		return k.log[len(k.log)-1]
	}
	return ""
}

func nameStyle(k *task, s state) style {
	switch {
	case s == running && k.parent == nil:
		return bold
	case s == failed:
		return red
	}
	return ""
}

func detailStyle(k *task) style {
	if k.culprit() {
		return red
	}
	return dim
}
