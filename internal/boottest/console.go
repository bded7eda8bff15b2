package boottest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// watch follows the console file of a running guest.
type watch struct {
	path   string
	offset int64
	last   time.Time // when there was the last sign of life
	rest   []byte    // the end of what was read, for a message cut in two
}

func newWatch(path string, now time.Time) *watch { return &watch{path: path, last: now} }

func (w *watch) alive(now time.Time) { w.last = now }

func (w *watch) silence(now time.Time) time.Duration { return now.Sub(w.last) }

// fatal are messages after which no guest goes on: of Linux, its initramfs,
// systemd, GRUB, SeaBIOS and OVMF.
var fatal = regexp.MustCompile(`Kernel panic - not syncing[^\r\n]*|` +
	`Gave up waiting for root[^\r\n]*|` +
	`You are in (?:emergency|rescue) mode|` +
	`grub rescue>|` +
	`No bootable device[^\r\n]*|` +
	`Verification failed: [^\r\n]*|` +
	`bad shim signature|` +
	`BdsDxe: No bootable option[^\r\n]*|` +
	`BdsDxe: failed to (?:load|start) Boot[^\r\n]*|` +
	`UEFI Interactive Shell`)

// look reads what is new on the console and returns an error when the guest
// cannot go on.
func (w *watch) look(now time.Time) error {
	f, err := os.Open(w.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the console: %w", err)
	}
	defer f.Close()
	fresh, err := io.ReadAll(io.NewSectionReader(f, w.offset, 1<<20))
	if err != nil {
		return fmt.Errorf("read the console: %w", err)
	}
	if len(fresh) == 0 {
		return nil
	}
	w.offset += int64(len(fresh))
	w.last = now
	w.rest = append(w.rest, fresh...)
	if hit := fatal.Find(plain(w.rest)); hit != nil {
		return fmt.Errorf("the guest cannot go on: %s", printable(string(hit)))
	}
	w.rest = bytes.Clone(w.rest[max(0, len(w.rest)-256):])
	return nil
}

// escape is what terminals act on: control sequences (ECMA-48) and
// two-character escapes.
var escape = regexp.MustCompile("\x1b(?:\\[[0-?!]*[ -/]*[@-~]|[()][A-Z0-9]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -Z\\\\-~])")

// plain removes escape sequences and carriage returns.
func plain(console []byte) []byte {
	return bytes.ReplaceAll(escape.ReplaceAll(console, nil), []byte("\r"), nil)
}

// telling marks the line from which on a console is worth reading.
var telling = regexp.MustCompile(`Kernel panic|Oops: |BUG: |Unable to mount root|Gave up waiting|` +
	`emergency mode|rescue mode|\[FAILED\]|DEPEND|grub rescue|error: |Verification failed|Access Denied|Security Violation|` +
	`Traceback \(most recent|No bootable|BdsDxe: failed|Out of memory|I/O error`)

// consoleTail returns at most n lines that explain a failure: those before and
// after the last telling line, else the last ones.
func consoleTail(console []byte, n int) []string {
	var lines []string
	for line := range strings.Lines(string(plain(console))) {
		if line = strings.TrimRight(printable(line), " \n"); line != "" {
			lines = append(lines, line)
		}
	}
	end := len(lines)
	for i := len(lines) - 1; i >= 0; i-- {
		if telling.MatchString(lines[i]) {
			end = min(len(lines), i+n/2)
			break
		}
	}
	return lines[max(0, end-n):end]
}
