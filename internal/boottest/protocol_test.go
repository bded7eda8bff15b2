package boottest

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestParseMessage(t *testing.T) {
	m, err := parseMessage([]byte(`{"type":"fail","check":"boot","text":"failed \u001b[31munits\u0007","log":["a\tb","c\u001b[0m"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if m.Text != "failed [31munits" || m.Log[0] != "a b" || m.Log[1] != "c[0m" {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"type":"pass"}`, `{"type":"start","check":""}`, `{"type":"fact","text":"x"}`, `{"type":"shell"}`, `{"type":"hello"} x`} {
		if _, err := parseMessage([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"type":"hello"}`))
	f.Add([]byte(`{"type":"pass","check":"swap-off","text":"x"}`))
	f.Add([]byte(`{"type":"fail","check":"b","log":["\u001b[1m"]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("error with control characters: %q", err)
			}
			return
		}
		for _, s := range append(m.Log, m.Text, m.Check, m.Name) {
			if strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
				t.Errorf("control character in %q", s)
			}
		}
		if _, err := json.Marshal(m); err != nil {
			t.Error(err)
		}
	})
}
