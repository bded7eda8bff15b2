package boottest

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// message is one line of the guest's report; guest/report.py writes them.
type message struct {
	Type  string   `json:"type"`  // hello, start, detail, pass, fail, fact, reboot or done
	Check string   `json:"check"` // the check's name: start, pass, fail
	Name  string   `json:"name"`  // the fact's name
	Text  string   `json:"text"`
	Log   []string `json:"log"` // the lines that matter: fail
}

// maxMessage is the longest line that is read, in bytes.
const maxMessage = 1 << 20

// maxLog is how many lines of a log are kept.
const maxLog = 200

// parseMessage reads one line. What it returns is safe to print: the guest
// runs the image's code, so no control character comes through.
func parseMessage(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("the guest's report is not JSON: %.80q", line)
	}
	switch m.Type {
	case "hello", "detail", "reboot", "done":
	case "start", "pass", "fail":
		if m.Check == "" {
			return message{}, fmt.Errorf("the guest reports a %s of no check", m.Type)
		}
	case "fact":
		if m.Name == "" {
			return message{}, fmt.Errorf("the guest reports a fact without a name")
		}
	default:
		return message{}, fmt.Errorf("the guest reports %.80q, which is no known type", m.Type)
	}
	m.Check, m.Name, m.Text = printable(m.Check), printable(m.Name), printable(m.Text)
	if len(m.Log) > maxLog {
		m.Log = m.Log[:maxLog]
	}
	for i := range m.Log {
		m.Log[i] = printable(m.Log[i])
	}
	return m, nil
}

// printable drops what is not text; a newline stays.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
}
