package boottest

import (
	"context"
	"errors"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// session turns the guest's messages into checks of the record and tasks of
// the user's display.
type session struct {
	ctx    context.Context
	boot   *Boot
	task   *event.Task // of the check that runs
	began  time.Time
	failed error // the first check that failed
	trial  bool  // a guest that does not start is no failure yet
}

func newSession(ctx context.Context, b *Boot, trial bool) *session {
	s := &session{ctx: ctx, boot: b, trial: trial}
	s.begin("started", "the guest starts and runs the seed's script")
	return s
}

func (s *session) begin(name, text string) {
	s.boot.Checks = append(s.boot.Checks, Check{Name: name, Title: text, Result: Running})
	s.began = time.Now()
	_, s.task = event.Start(s.ctx, text)
}

// end finishes the running check. It returns false when there is none.
func (s *session) end(result Result, text string, log []string) bool {
	n := len(s.boot.Checks)
	if n == 0 || s.boot.Checks[n-1].Result != Running {
		return false
	}
	c := &s.boot.Checks[n-1]
	c.Result, c.Detail, c.Log, c.Seconds = result, text, log, time.Since(s.began).Seconds()
	var err error
	if result == Failed && s.failed == nil {
		s.failed = checkFailed(c)
	}
	if result == Failed && (s.boot.hello || !s.trial) {
		err = errors.New(text)
	} else if text != "" {
		s.task.Detail(text)
	}
	s.task.Done(err)
	return true
}

func checkFailed(c *Check) error {
	return &failure{err: fault.New(fault.Check, "%s: %s", c.Name, c.Detail), log: c.Log}
}

// take handles one line of the guest. done means that it has said all it has
// to say.
func (s *session) take(line []byte) (done bool, err error) {
	m, err := parseMessage(line)
	if err != nil {
		return false, err
	}
	switch m.Type {
	case "hello":
		s.boot.hello = true
		s.end(Passed, "", nil)
	case "start":
		s.begin(m.Check, m.Text)
	case "detail":
		s.task.Detail(m.Text)
	case "pass":
		s.end(Passed, m.Text, nil)
	case "fail":
		if !s.end(Failed, m.Text, m.Log) {
			s.begin(m.Check, "the guest's script works")
			s.end(Failed, m.Text, m.Log)
		}
	case "fact":
		s.boot.Facts[m.Name] = m.Text
	case "reboot":
		s.begin("reboot", "the machine reboots")
	case "done":
		return true, nil
	}
	return false, nil
}

// close ends the session when the guest is done and returns the error of the
// first check that failed.
func (s *session) close() error {
	s.end(Failed, "the guest did not finish this check", nil)
	return s.failed
}

// abort ends the check that runs, if any, with the reason why the boot ends.
func (s *session) abort(err error) error {
	var f *failure
	var log []string
	if errors.As(err, &f) {
		log = f.log
	}
	s.end(Failed, err.Error(), log)
	return err
}
