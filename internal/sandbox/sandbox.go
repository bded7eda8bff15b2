// Package sandbox is the only door to processes. It puts the builder into a
// user namespace once, at start, and runs commands over an unpacked root in
// namespaces of their own: no network, no host files but what is bound in, a
// clean environment, a minimal /dev. Nothing is mounted on the host and nothing
// outlives the command, even when the builder is killed.
//
// A command goes through a second start of the builder's own binary: the clone
// has its namespaces, mounts what the command may see, and then waits for it as
// its init process.
package sandbox

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// Mount binds a file or directory of the host into the command's root.
type Mount struct {
	Source   string // path on the host; "" for an empty tmpfs
	Target   string // absolute path inside the root; made if missing and the root is writable
	ReadOnly bool
}

// Command is what to run and over which root.
type Command struct {
	Root     string    // directory that becomes /
	ReadOnly bool      // mount Root read-only; /tmp and /run are empty tmpfs in any case
	Args     []string  // the program is an absolute path or is looked up in PATH inside Root
	Dir      string    // working directory inside; default /
	Env      []string  // added to PATH, HOME=/root and LC_ALL=C.UTF-8; nothing is inherited
	Mounts   []Mount   // bound over Root, in this order
	Devices  []string  // device nodes bound in besides the usual harmless ones
	Stdin    io.Reader // nil is empty; a Read that blocks is not waited for
	Stdout   io.Writer // nil: only the tail is kept, for the error
	Stderr   io.Writer // nil: as Stdout
	// Loopback serves TCP ports on 127.0.0.1 inside the command's network
	// namespace, which is empty otherwise, by handlers of the builder.
	Loopback map[int]http.Handler
	// Terminal hands the builder's terminal to the command.
	Terminal bool
}

// ExitError says that a command ran and failed.
type ExitError struct {
	Command string // the program's name
	Code    int    // exit status, or 128 + signal
	Tail    string // the last lines of its output
}

func (e *ExitError) Error() string {
	msg := fmt.Sprintf("%s failed with status %d", e.Command, e.Code)
	if e.Tail != "" {
		msg += ":\n  " + strings.ReplaceAll(strings.TrimRight(e.Tail, "\n"), "\n", "\n  ")
	}
	return msg
}

// Process is a running command.
type Process struct {
	ctx     context.Context
	cmd     *exec.Cmd
	name    string
	tail    *tail
	outputs []*output
	link    *net.UnixConn
	servers []*http.Server
	once    sync.Once
	err     error
}

// Run runs a command and waits for it. When it returns, all processes that the
// command has started are gone; cancelling ctx kills them. A failure of the
// command is an *ExitError.
func Run(ctx context.Context, c Command) error {
	p, err := Start(ctx, c)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Start is Run without waiting. Wait must be called.
func Start(ctx context.Context, c Command) (*Process, error) {
	if len(c.Args) == 0 || c.Root == "" {
		return nil, fault.New(fault.Internal, "sandbox: a command needs a root and a program")
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("sandbox: open a channel to %s: %w", c.Args[0], err)
	}
	p := &Process{ctx: ctx, name: c.Args[0], tail: &tail{max: 4096}, link: ours}
	p.cmd = exec.CommandContext(ctx, "/proc/self/exe")
	p.cmd.Args = []string{initName}
	p.cmd.Env = []string{}
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     !c.Terminal,
	}
	p.connectOutput(c)
	feed, err := p.connectInput(c.Stdin)
	if err == nil {
		err = startPinned(p.cmd)
	}
	theirs.Close() // or the end of the init process would go unnoticed
	if err != nil {
		ours.Close()
		feed(false)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", p.name, context.Cause(ctx))
		}
		return nil, fault.Hint(fault.New(fault.Environment, "sandbox: start namespaces for %s: %w", p.name, err),
			"run 'image-builder doctor'")
	}
	feed(true)
	if err := p.handshake(c); err != nil {
		p.Kill()
		p.Wait()
		return nil, err
	}
	return p, nil
}

// handshake sends the command to the init process and takes over the listeners
// that it opened inside the network namespace.
func (p *Process) handshake(c Command) error {
	ports := make([]int, 0, len(c.Loopback))
	for port := range c.Loopback {
		ports = append(ports, port)
	}
	slices.Sort(ports)
	var conf bytes.Buffer
	err := gob.NewEncoder(&conf).Encode(initConfig{
		Root: c.Root, ReadOnly: c.ReadOnly, Args: c.Args, Dir: c.Dir, Env: c.Env,
		Mounts: c.Mounts, Devices: c.Devices, Ports: ports, Terminal: c.Terminal,
	})
	if err != nil {
		return err
	}
	if err := sendMessage(p.link, conf.Bytes(), nil); err != nil {
		if p.ctx.Err() != nil {
			return p.deadInit(err)
		}
		return fmt.Errorf("sandbox: send %s its settings: %w", p.name, err)
	}
	answer, files, err := receiveMessage(p.link)
	if err != nil {
		return p.deadInit(err)
	}
	if len(answer) > 0 {
		return fault.New(fault.Environment, "sandbox: prepare %s: %s", p.name, answer)
	}
	defer closeAll(files)
	if len(files) != len(ports) {
		return fault.New(fault.Internal, "sandbox: %s opened %d of %d ports", p.name, len(files), len(ports))
	}
	for i, f := range files {
		if err := p.serve(f, c.Loopback[ports[i]]); err != nil {
			return fmt.Errorf("sandbox: listen on port %d inside the namespace: %w", ports[i], err)
		}
	}
	if err := sendMessage(p.link, []byte("go"), nil); err != nil {
		return p.deadInit(err)
	}
	return nil
}

func (p *Process) serve(listener *os.File, h http.Handler) error {
	l, err := net.FileListener(listener)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(p.tail, "", 0),
		BaseContext: func(net.Listener) context.Context { return p.ctx },
	}
	p.servers = append(p.servers, srv)
	go srv.Serve(l)
	return nil
}

func (p *Process) deadInit(err error) error {
	if p.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", p.name, context.Cause(p.ctx))
	}
	return fault.New(fault.Environment, "sandbox: the init process of %s died: %v %s", p.name, err, p.tail.String())
}

// Kill ends the command and everything that it started.
func (p *Process) Kill() { p.cmd.Process.Kill() }

// Wait waits for the command and returns what Run would. It may be called again.
func (p *Process) Wait() error {
	p.once.Do(func() {
		err := p.cmd.Wait()
		p.link.Close()
		for _, s := range p.servers {
			s.Close()
		}
		p.err = p.outcome(err)
	})
	return p.err
}

func (p *Process) outcome(err error) error {
	var exit *exec.ExitError
	failed := errors.Join(p.outputErrors()...)
	switch {
	case err == nil:
		return nil
	case p.ctx.Err() != nil:
		return fmt.Errorf("%s: %w", p.name, context.Cause(p.ctx))
	case failed != nil: // the command's own failure follows from that
		return fmt.Errorf("take the output of %s: %w", p.name, failed)
	case errors.As(err, &exit):
		code := exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
		return &ExitError{Command: p.name, Code: code, Tail: p.tail.String()}
	default:
		return fmt.Errorf("%s: %w", p.name, err)
	}
}

// Output runs a command and returns what it printed on standard output.
func Output(ctx context.Context, c Command) ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := Run(ctx, c)
	return out.Bytes(), err
}
