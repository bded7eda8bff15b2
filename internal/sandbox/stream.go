package sandbox

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// connectInput makes r the command's standard input. A command may end without
// reading it all, so nobody waits for r: a goroutine feeds a pipe. The returned
// function must be called after the start, with its success.
func (p *Process) connectInput(r io.Reader) (started func(ok bool), err error) {
	if f, ok := r.(*os.File); ok || r == nil {
		if ok {
			p.cmd.Stdin = f
		}
		return func(bool) {}, nil
	}
	in, out, err := os.Pipe()
	if err != nil {
		return func(bool) {}, err
	}
	p.cmd.Stdin = in
	return func(ok bool) {
		in.Close()
		if !ok {
			out.Close()
			return
		}
		go func() {
			io.Copy(out, r)
			out.Close()
		}()
	}, nil
}

// connectOutput makes the command's outputs go where c says, and to the tail.
// The command is waited for until they are read to the end: all its processes
// are gone then, so there is an end.
func (p *Process) connectOutput(c Command) {
	p.cmd.Stdout = p.writer(c.Stdout)
	if sameWriter(c.Stdout, c.Stderr) { // one for both gets no calls at the same time
		p.cmd.Stderr = p.cmd.Stdout
		return
	}
	p.cmd.Stderr = p.writer(c.Stderr)
}

func sameWriter(a, b io.Writer) (same bool) {
	defer func() { recover() }() // of types that cannot be compared
	return a == b
}

func (p *Process) writer(w io.Writer) io.Writer {
	if w == nil {
		return p.tail
	}
	if f, ok := w.(*os.File); ok { // keep the descriptor: a shell wants a terminal
		return f
	}
	o := &output{w: io.MultiWriter(p.tail, w)}
	p.outputs = append(p.outputs, o)
	return o
}

func (p *Process) outputErrors() (errs []error) {
	for _, o := range p.outputs {
		errs = append(errs, o.err)
	}
	return errs
}

// output remembers why its writer failed: of the command one sees only that its
// pipe broke.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		o.err = err
	}
	return n, err
}

// tail keeps the last max bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	buf []byte
	cut bool // at its beginning
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if len(t.buf) > 2*t.max {
		t.cut = true
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.max:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, cut := t.buf, t.cut
	if len(b) > t.max {
		b, cut = b[len(b)-t.max:], true
	}
	if cut {
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return string(b)
}
