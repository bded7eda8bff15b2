package ui_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/ui"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew).\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

// script records events with fixed times and numbers its tasks itself.
type script struct {
	events []event.Event
	names  map[int64]string
	parent map[int64]int64
}

func (s *script) start(sec float64, id, parent int64, name string) {
	if s.names == nil {
		s.names, s.parent = map[int64]string{}, map[int64]int64{}
	}
	s.names[id], s.parent[id] = name, parent
	s.say(sec, id, event.Event{Type: event.Started})
}

func (s *script) say(sec float64, id int64, e event.Event) {
	e.Time, e.Task, e.Parent, e.Name = at(sec), id, s.parent[id], s.names[id]
	s.events = append(s.events, e)
}

func (s *script) text(sec float64, id int64, kind event.Type, text string) {
	s.say(sec, id, event.Event{Type: kind, Text: text})
}

func (s *script) bytes(sec float64, id, done, total int64) {
	s.say(sec, id, event.Event{Type: event.Progress, Done: done, Total: total, Unit: event.Bytes})
}

func (s *script) items(sec float64, id, done, total int64) {
	s.say(sec, id, event.Event{Type: event.Progress, Done: done, Total: total, Unit: event.Items})
}

// build is a whole run. The compilation of etcd fails if fail is set.
func build(fail bool) []event.Event {
	var s script
	s.start(0, 1, 0, "resolve")
	s.text(0.1, 1, event.Detail, "debian 13 indexes")
	s.text(0.9, 1, event.Finished, "")
	s.start(1, 2, 0, "fetch inputs")
	s.start(1, 3, 2, "kubernetes@v1.36.3.zip")
	s.start(1, 4, 2, "containerd@v2.4.2.zip")
	for i := int64(0); i <= 20; i++ {
		sec := 1 + float64(i)
		s.bytes(sec, 2, i*20<<20, 400<<20)
		s.bytes(sec, 3, i*15<<20, 300<<20)
		if i <= 10 {
			s.bytes(sec, 4, i*5<<20, 50<<20)
		}
		if i == 10 {
			s.text(sec, 4, event.Finished, "")
			s.text(sec, 2, event.Warning, "mirror deb.example answered 503\x1b[2J for InRelease; took the next one after 3 tries, which was slow")
		}
	}
	s.text(21.2, 3, event.Finished, "")
	s.text(21.3, 2, event.Finished, "")
	s.start(21.4, 5, 0, "base")
	s.text(21.4, 5, event.Cached, "")
	s.text(21.4, 5, event.Finished, "")
	s.start(21.5, 6, 0, "kubernetes")
	for i := int64(0); i < 14; i++ {
		s.start(22, 10+i, 6, "compile "+[]string{"kubelet", "kubeadm", "kubectl", "etcd", "coredns", "pause", "runc",
			"kube-apiserver", "kube-scheduler", "kube-proxy", "containerd", "cni", "crictl", "ctr"}[i])
		s.text(23, 10+i, event.Log, "golang.org/x/sys/unix")
	}
	for i := int64(0); i < 3; i++ {
		s.text(40+float64(i), 10+i, event.Finished, "")
		s.items(40+float64(i), 6, i+1, 14)
	}
	s.text(44, 13, event.Detail, "go.etcd.io/etcd/server/v3")
	s.start(44, 30, 13, "link etcd")
	s.text(45, 30, event.Log, "\x1b[31m# command-line-arguments\x1b[0m")
	s.text(45, 30, event.Log, "server.go:12:3: cannot use x (variable of type *Store) as Backend value in argument to open: *Store does not implement Backend")
	if fail {
		s.text(47, 30, event.Failed, "running go tool link: exit status 1")
		s.text(47, 13, event.Failed, "compiling etcd: running go tool link: exit status 1")
		for i := int64(4); i < 14; i++ {
			s.text(47.5, 10+i, event.Failed, "compiling: context canceled")
		}
		s.text(48, 6, event.Failed, "phase kubernetes: compiling etcd: running go tool link: exit status 1")
		return s.events
	}
	s.text(47, 30, event.Finished, "")
	for i := int64(3); i < 14; i++ {
		s.text(100, 10+i, event.Finished, "")
	}
	s.text(101, 6, event.Finished, "")
	return s.events
}

// player feeds a display and draws frames by its own clock.
type player struct {
	t      *testing.T
	screen *screen
	ticks  chan time.Time
	now    time.Time
	d      ui.Display
}

func play(t *testing.T, s *screen, env map[string]string, verbose bool) *player {
	p := &player{t: t, screen: s, ticks: make(chan time.Time), now: epoch}
	d, err := ui.New(ui.TTY, s, ui.Options{
		Verbose: verbose,
		Getenv:  func(k string) string { return env[k] },
		Size:    s.size,
		Now:     func() time.Time { return p.now },
		Ticks:   p.ticks,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.d = d
	return p
}

// feed emits events up to a time, with a frame after each that comes later
// than the one before it, and returns those to come.
func (p *player) feed(events []event.Event, until time.Time) []event.Event {
	for len(events) > 0 && !events[0].Time.After(until) {
		if events[0].Time.After(p.now) {
			p.frame(events[0].Time)
		}
		p.d.Emit(events[0])
		events = events[1:]
	}
	p.frame(until)
	return events
}

// frame has one drawn. The display takes the second tick only when it is done
// with the first, and finds nothing to change.
func (p *player) frame(now time.Time) {
	p.now = now
	p.ticks <- now
	p.ticks <- now
}

func (p *player) close() {
	if err := p.d.Close(); err != nil {
		p.t.Error(err)
	}
}
