package boottest

import (
	"errors"
	"strings"
	"testing"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

func play(t *testing.T, b *Boot, lines ...string) (*session, error) {
	t.Helper()
	s := newSession(t.Context(), b, false)
	for _, line := range lines {
		done, err := s.take([]byte(line))
		if err != nil {
			return s, s.abort(err)
		}
		if done {
			return s, s.close()
		}
	}
	return s, nil
}

func TestSessionPasses(t *testing.T) {
	b := newBoot(1, BIOS)
	_, err := play(t, b, `{"type":"hello"}`, `{"type":"start","check":"swap-off","text":"no swap"}`, `{"type":"detail","text":"d"}`,
		`{"type":"pass","check":"swap-off"}`, `{"type":"fact","name":"machine-id","text":"1"}`, `{"type":"reboot"}`, `{"type":"hello"}`, `{"type":"done"}`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range b.Checks {
		got = append(got, c.Name+" "+string(c.Result))
	}
	if want := "started passed, swap-off passed, reboot passed"; strings.Join(got, ", ") != want || b.Facts["machine-id"] != "1" {
		t.Errorf("%s; facts %v", strings.Join(got, ", "), b.Facts)
	}
}

func TestSessionFails(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"a check fails": {[]string{`{"type":"hello"}`, `{"type":"start","check":"boot"}`,
			`{"type":"fail","check":"boot","text":"failed units: x","log":["l"]}`, `{"type":"start","check":"swap-off"}`,
			`{"type":"pass","check":"swap-off"}`, `{"type":"done"}`}, "boot: failed units: x"},
		"a check is left open": {[]string{`{"type":"hello"}`, `{"type":"start","check":"boot"}`, `{"type":"done"}`},
			"boot: the guest did not finish this check"},
		"the script breaks": {[]string{`{"type":"hello"}`, `{"type":"fail","check":"guest","text":"broke"}`, `{"type":"done"}`}, "guest: broke"},
		"not the protocol":  {[]string{`{"type":"hello"}`, `{"type":"start","check":"boot"}`, `GET /`}, "not JSON"},
	} {
		b := newBoot(1, BIOS)
		_, err := play(t, b, c.lines...)
		if err == nil || !strings.Contains(err.Error(), c.want) || b.failures() == 0 {
			t.Errorf("%s: %v, %d failures", name, err, b.failures())
		}
	}
}

func TestExplain(t *testing.T) {
	b := newBoot(1, UEFI)
	_, err := play(t, b, `{"type":"hello"}`, `{"type":"start","check":"boot"}`,
		`{"type":"fail","check":"boot","text":"failed units: x","log":["l1","l2"]}`, `{"type":"done"}`)
	err = b.explain(err, "a.qcow2")
	if want := "test a.qcow2: boot 1-uefi: boot: failed units: x\n  l1\n  l2"; err.Error() != want {
		t.Errorf("%q", err)
	}
	if fault.KindOf(err) != fault.Check || fault.HintOf(err) != "" {
		t.Errorf("kind %v, hint %q", fault.KindOf(err), fault.HintOf(err))
	}
	b = newBoot(1, UEFI)
	s := newSession(t.Context(), b, false)
	err = b.explain(s.abort(&failure{err: fault.New(fault.Check, "silence")}), "a.qcow2")
	if !strings.Contains(fault.HintOf(err), "NoCloud") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
}

func TestCloneMustDiffer(t *testing.T) {
	facts := func(id, keys string) map[string]string { return map[string]string{"machine-id": id, "host-keys": keys} }
	first := &Boot{Facts: facts("1", "rsa A\ned B")}
	for _, c := range []struct {
		facts map[string]string
		want  string
	}{
		{facts("2", "rsa C\ned D"), ""},
		{facts("1", "rsa C\ned D"), "machine-id 1"},
		{facts("2", "rsa C\ned B"), "host key ed B"},
	} {
		b := &Boot{Facts: c.facts}
		err := b.compare(first)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.facts, err)
		}
	}
}

type sink struct{ events []event.Event }

func (s *sink) Emit(e event.Event) { s.events = append(s.events, e) }

// With another accelerator left to try, a guest that does not start is shown as
// news and not as a failure.
func TestTrialThatDoesNotStart(t *testing.T) {
	for _, trial := range []bool{true, false} {
		var shown sink
		s := newSession(event.With(t.Context(), &shown), newBoot(1, BIOS), trial)
		s.abort(errors.New("KVM internal error"))
		last := shown.events[len(shown.events)-1]
		if (last.Type == event.Finished) != trial {
			t.Errorf("trial %v: %+v", trial, last)
		}
	}
}
