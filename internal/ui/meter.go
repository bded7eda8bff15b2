package ui

import (
	"fmt"
	"strings"
	"time"

	"imagebuilder.dev/internal/event"
)

const (
	rateWindow   = 8 * time.Second        // a rate is the mean over this
	sampleEvery  = 250 * time.Millisecond // and is kept in samples this far apart
	rateSettling = time.Second            // before this no rate is shown
)

type sample struct {
	at   time.Time
	done int64
}

// meter holds the progress of a task and how fast it went lately.
type meter struct {
	done, total int64 // total 0: unknown
	unit        event.Unit
	samples     []sample // oldest first
}

func (m *meter) set(e event.Event) {
	if e.Unit != m.unit || e.Done < m.done { // something else is counted now
		m.samples = nil
	}
	m.done, m.total, m.unit = e.Done, e.Total, e.Unit
	if n := len(m.samples); n == 0 || e.Time.Sub(m.samples[n-1].at) >= sampleEvery {
		m.samples = append(m.samples, sample{e.Time, e.Done})
		m.trim(e.Time)
	}
}

// trim drops samples beyond the window but keeps one to measure from.
func (m *meter) trim(now time.Time) {
	for len(m.samples) > 1 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
}

// rate returns units a second as of now. It falls when nothing arrives.
func (m *meter) rate(now time.Time) (perSecond float64, ok bool) {
	m.trim(now)
	if len(m.samples) == 0 {
		return 0, false
	}
	d := now.Sub(m.samples[0].at)
	if d < rateSettling {
		return 0, false
	}
	return float64(m.done-m.samples[0].done) / d.Seconds(), true
}

// left returns the time to the end at the present rate.
func (m *meter) left(now time.Time) (time.Duration, bool) {
	r, ok := m.rate(now)
	if !ok || r <= 0 || m.total <= m.done {
		return 0, false
	}
	secs := float64(m.total-m.done) / r
	if secs > 99*3600 {
		return 0, false
	}
	return time.Duration(secs * float64(time.Second)), true
}

// active reports whether there is anything to draw.
func (m *meter) active() bool { return m.total > 0 || m.done > 0 }

// fraction is between 0 and 1; ok is false when the total is unknown.
func (m *meter) fraction() (f float64, ok bool) {
	if m.total <= 0 {
		return 0, false
	}
	return min(1, max(0, float64(m.done)/float64(m.total))), true
}

// count returns done and total in one unit and with the same number of
// decimals, so that it keeps its width: " 45/120", "12.3/45.6 MiB", " 12/456 MiB".
func (m *meter) count() string {
	if m.unit != event.Bytes {
		if m.total <= 0 {
			return fmt.Sprint(m.done)
		}
		return outOf(fmt.Sprint(m.done), fmt.Sprint(m.total))
	}
	if m.total <= 0 {
		return Bytes(m.done)
	}
	size, name := unitOf(m.total)
	total, done := scaled(m.total, size), scaled(m.done, size)
	if !strings.Contains(total, ".") {
		done = fmt.Sprint(int64(float64(m.done) / size))
	}
	return outOf(done, total) + " " + name
}

func outOf(done, total string) string { return pad(done, len(total), true) + "/" + total }

// speed and remaining return the rate and the time left, in fields of fixed
// width so that a bar beside them stands still. Only bytes have a speed that
// means something.
func (m *meter) speed(now time.Time) string {
	r, ok := m.rate(now)
	if m.unit != event.Bytes || !ok {
		return ""
	}
	size, name := unitOf(int64(r))
	return pad(scaled(int64(r), size)+" "+name+"/s", len("1023 KiB/s"), true)
}

func (m *meter) remaining(now time.Time) string {
	d, ok := m.left(now)
	if m.unit != event.Bytes || !ok {
		return ""
	}
	return pad(roughly(d)+" left", len("59m59s left"), true)
}

// roughly is Duration without tenths of seconds, which an estimate has not.
func roughly(d time.Duration) string {
	return strings.Replace(Duration(max(time.Second, d.Round(time.Second))), ".0s", "s", 1)
}

// bar draws the fraction in n cells.
func (m *meter) bar(n int, g glyphs) line {
	f, ok := m.fraction()
	if !ok {
		return line{{strings.Repeat(" ", n), ""}}
	}
	full := int(f * float64(n))
	return line{{strings.Repeat(g.full, full), cyan}, {strings.Repeat(g.empty, n-full), dim}}
}
