package boottest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/sandbox"
)

// kvmPatience is how long a guest under KVM may stay silent before it has said
// hello. A kernel on a working KVM prints within seconds.
const kvmPatience = 30 * time.Second

// machine is a running QEMU and what it says.
type machine struct {
	process *sandbox.Process
	lines   chan []byte   // the guest's report, ends when QEMU closes it
	exited  chan struct{} // closed when QEMU is gone
	stderr  *lockedBuffer
	console string // file
	closers []io.Closer
}

// bootOnce boots with one accelerator and follows the guest to its end. The
// console is kept whatever happens.
func (r *runner) bootOnce(ctx context.Context, b *Boot, accel Accel) error {
	v, err := r.prepare(ctx, b, accel)
	if err != nil {
		return err
	}
	dir := filepath.Dir(filepath.Join(r.work, v.overlay))
	defer os.RemoveAll(dir)
	m, err := r.start(ctx, v)
	if err != nil {
		return err
	}
	trial := accel == KVM && r.Accel == Auto
	err = r.follow(ctx, m, b, trial)
	m.stop()
	if e := r.keepConsole(b, m.console); e != nil {
		err = errors.Join(err, e)
	}
	return err
}

func (r *runner) start(ctx context.Context, v vm) (*machine, error) {
	m := &machine{
		lines: make(chan []byte), exited: make(chan struct{}),
		stderr: &lockedBuffer{}, console: filepath.Join(r.work, v.console),
	}
	// QEMU takes the end of its input for a host that has hung up, so the input
	// is a pipe that stays open and empty.
	in, inOurs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, outTheirs, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close(), inOurs.Close())
	}
	c := r.command(v.args()...)
	c.Stdin, c.Stdout, c.Stderr = in, outTheirs, m.stderr
	if v.accel == KVM {
		c.Devices = []string{"/dev/kvm"}
	}
	m.process, err = sandbox.Start(ctx, c)
	in.Close()
	outTheirs.Close()
	if err != nil {
		return nil, errors.Join(err, inOurs.Close(), out.Close())
	}
	m.closers = []io.Closer{inOurs, out}
	go m.read(out)
	go func() { m.process.Wait(); close(m.exited) }()
	return m, nil
}

// read hands on the guest's lines until QEMU is gone.
func (m *machine) read(out io.Reader) {
	defer close(m.lines)
	s := bufio.NewScanner(out)
	s.Buffer(nil, maxMessage)
	for s.Scan() {
		select {
		case m.lines <- bytes.Clone(s.Bytes()):
		case <-m.exited:
			return
		}
	}
}

// stop ends QEMU: the overlay is thrown away, so the guest need not shut down.
func (m *machine) stop() {
	m.process.Kill()
	<-m.exited
	for _, c := range m.closers {
		c.Close()
	}
}

// follow takes the guest's report until it is done or there is a reason to
// give up. It looks at the console once a second, for a kernel that has died
// and as a sign of life. trial says that there is another accelerator to try if
// the guest does not start.
func (r *runner) follow(ctx context.Context, m *machine, b *Boot, trial bool) error {
	s := newSession(ctx, b, trial)
	w := newWatch(m.console, time.Now())
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.abort(m.giveUp("%w", context.Cause(ctx)))
		case line, ok := <-m.lines:
			if !ok {
				<-m.exited
				return s.abort(m.ended())
			}
			w.alive(time.Now())
			done, err := s.take(line)
			if err != nil {
				return s.abort(m.giveUp("%w", err))
			}
			if done {
				return s.close()
			}
		case now := <-tick.C:
			patience := r.Silence
			if trial && !b.hello {
				patience = min(patience, kvmPatience)
			}
			if err := m.look(w, now, patience); err != nil {
				return s.abort(err)
			}
		}
	}
}

// look reports why there is no point in waiting any longer.
func (m *machine) look(w *watch, now time.Time, patience time.Duration) error {
	if strings.Contains(m.stderr.String(), "KVM internal error") {
		return m.giveUp("KVM cannot run the guest: %s", firstLine(errors.New(m.stderr.String())))
	}
	if err := w.look(now); err != nil {
		return m.giveUp("%w", err)
	}
	if silent := w.silence(now); silent > patience {
		return m.giveUp("the guest has said nothing for %s", silent.Round(time.Second))
	}
	return nil
}

// ended explains why QEMU is gone before the guest was done.
func (m *machine) ended() error {
	if text := qemuMessages(m.stderr.String()); text != "" {
		return m.giveUp("QEMU ended: %s", text)
	}
	return m.giveUp("the guest switched itself off before it was done")
}

// giveUp is a failed check with the console's last lines that matter.
func (m *machine) giveUp(format string, args ...any) error {
	console, err := os.ReadFile(m.console)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		console = []byte(err.Error())
	}
	return &failure{err: fault.New(fault.Check, format, args...), log: consoleTail(console, 30)}
}

// failure is an error with the log lines that explain it.
type failure struct {
	err error
	log []string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// qemuMessages is QEMU's standard error without its remarks on what TCG lacks.
func qemuMessages(stderr string) string {
	var keep []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "warning: ") {
			keep = append(keep, strings.TrimPrefix(line, "qemu-system-x86_64: "))
		}
	}
	return printable(strings.Join(keep[:min(len(keep), 10)], "; "))
}

func (r *runner) keepConsole(b *Boot, from string) error {
	if r.Output == "" {
		return nil
	}
	b.Console = fmt.Sprintf("console-%s.log", b.Name)
	to := filepath.Join(r.Output, b.Console)
	os.Remove(to) // of the try with KVM
	err := copyFile(to, from)
	if errors.Is(err, os.ErrNotExist) {
		b.Console = "" // QEMU did not come so far
		return nil
	}
	if err != nil {
		return fault.New(fault.Environment, "keep the console of boot %s: %w", b.Name, err)
	}
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return line
}

// lockedBuffer keeps the first 64 KiB written to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p[:min(len(p), max(0, 64<<10-b.buf.Len()))])
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
