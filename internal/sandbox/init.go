package sandbox

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// initName is argv[0] of the clone that becomes a command's init process.
const initName = "image-builder-init"

// initConfig is what the builder tells the init process. It travels as gob:
// paths and arguments are bytes, and JSON would mangle those that are not UTF-8.
type initConfig struct {
	Root     string
	ReadOnly bool
	Args     []string
	Dir      string
	Env      []string
	Mounts   []Mount
	Devices  []string
	Ports    []int
	Terminal bool
}

// Main runs the in-namespace half of this package and exits when the process
// was started for it; otherwise it returns at once. It must be the first call
// of main, and of TestMain in tests that run commands.
func Main() {
	switch os.Args[0] {
	case initName:
		os.Exit(initMain())
	case stageName:
		stageMain()
	case probeName:
		probeMain()
	}
}

func initMain() int {
	file := os.NewFile(3, "link")
	conn, err := net.FileConn(file)
	if err != nil {
		return 125
	}
	file.Close()
	syscall.Umask(0o022) // what is made below must not depend on the user's
	link := conn.(*net.UnixConn)
	raw, _, err := receiveMessage(link)
	if err != nil {
		return 125
	}
	var c initConfig
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&c); err != nil {
		return 125
	}
	files, err := prepare(c)
	if err != nil {
		sendMessage(link, []byte(err.Error()), nil)
		return 125
	}
	if err := sendMessage(link, nil, files); err != nil {
		return 125
	}
	closeAll(files)
	if _, _, err := receiveMessage(link); err != nil {
		return 125
	}
	link.Close()
	return supervise(c)
}

// prepare makes the root as the command will see it and opens its loopback ports.
func prepare(c initConfig) ([]*os.File, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(c.Root, c.Root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("bind root %s: %w", c.Root, err)
	}
	if c.ReadOnly { // before the mounts, or their missing targets would be made in it
		if err := makeReadOnly(c.Root, false); err != nil {
			return nil, fmt.Errorf("make root read-only: %w", err)
		}
	}
	if err := mountSystem(c); err != nil {
		return nil, err
	}
	for _, m := range c.Mounts {
		if err := bind(c.Root, m); err != nil {
			return nil, err
		}
	}
	if err := pivot(c.Root); err != nil {
		return nil, err
	}
	unix.Sethostname([]byte("localhost"))
	return listen(c.Ports)
}

func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into %s: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	return os.Chdir("/")
}

// listen brings the loopback interface up and opens ports on it.
func listen(ports []int) ([]*os.File, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return nil, fmt.Errorf("bring loopback up: %w", err)
	}
	var files []*os.File
	for _, port := range ports {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return nil, fmt.Errorf("listen on port %d: %w", port, err)
		}
		f, err := l.File()
		l.Close()
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// supervise runs the command as a child, reaps whatever is orphaned to it as
// process 1, and returns the command's status.
func supervise(c initConfig) int {
	env := append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
	}, c.Env...)
	os.Clearenv()
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		os.Setenv(k, v)
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	path, err := exec.LookPath(c.Args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		fmt.Fprintf(os.Stderr, "%v\n", err)
		return 127
	}
	if c.Terminal {
		signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
	}
	dropAdmin()
	proc, err := os.StartProcess(path, c.Args, &os.ProcAttr{Dir: dir, Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "start %s: %v\n", path, err)
		return 126
	}
	// Nobody reads these here any more; a pipe must end when the command ends.
	for _, f := range []*os.File{os.Stdin, os.Stdout} {
		f.Close()
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 125
		case pid == proc.Pid && ws.Exited():
			return ws.ExitStatus()
		case pid == proc.Pid && ws.Signaled():
			return 128 + int(ws.Signal())
		}
	}
}

// dropAdmin keeps the command from undoing its mounts. It stays on this thread,
// which starts the command: capabilities belong to threads.
func dropAdmin() {
	runtime.LockOSThread()
	unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0)
}
