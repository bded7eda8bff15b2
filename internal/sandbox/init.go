package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// initName is argv[0] of the clone that becomes a command's init process.
const initName = "image-builder-init"

// initConfig is what the builder tells the init process, as JSON.
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
	}
}

func initMain() int {
	conn, err := net.FileConn(os.NewFile(3, "link"))
	if err != nil {
		return 125
	}
	unix.CloseOnExec(3)
	link := conn.(*net.UnixConn)
	raw, _, err := receiveMessage(link)
	if err != nil {
		return 125
	}
	var c initConfig
	if err := json.Unmarshal(raw, &c); err != nil {
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
	for _, f := range files {
		f.Close()
	}
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
	if err := mountSystem(c); err != nil {
		return nil, err
	}
	for _, m := range c.Mounts {
		if err := bind(c.Root, m); err != nil {
			return nil, err
		}
	}
	if c.ReadOnly {
		if err := remountReadOnly(c.Root); err != nil {
			return nil, fmt.Errorf("make root read-only: %w", err)
		}
	}
	if err := pivot(c.Root); err != nil {
		return nil, err
	}
	unix.Sethostname([]byte("localhost"))
	syscall.Umask(0o022)
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
			return nil, err
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

// bind mounts one Mount below root.
func bind(root string, m Mount) error {
	target, err := inside(root, m.Target)
	if err != nil {
		return err
	}
	if m.Source == "" {
		os.MkdirAll(target, 0o755)
		return wrapMount(m.Target, unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"))
	}
	st, err := os.Stat(m.Source)
	if err != nil {
		return fmt.Errorf("bind %s: %w", m.Target, err)
	}
	makeTarget(target, st.IsDir())
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", m.Source, m.Target, err)
	}
	if m.ReadOnly {
		return wrapMount(m.Target, remountReadOnly(target))
	}
	return nil
}

func wrapMount(target string, err error) error {
	if err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// makeTarget makes a mount point; a read-only root must have it already, and
// then the mount itself reports what is missing.
func makeTarget(target string, dir bool) {
	if dir {
		os.MkdirAll(target, 0o755)
		return
	}
	os.MkdirAll(filepath.Dir(target), 0o755)
	if f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644); err == nil {
		f.Close()
	}
}

// inside resolves an absolute path below root without leaving it: symbolic
// links in the root are followed as if root were /.
func inside(root, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("mount target %q is not absolute", path)
	}
	parts := strings.Split(filepath.Clean(path), "/")
	cur := "/"
	for links := 0; len(parts) > 0; {
		p := parts[0]
		parts = parts[1:]
		if p == "" || p == "." {
			continue
		}
		next := filepath.Join(cur, p)
		dest, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			cur = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("mount target %s: too many symbolic links", path)
		}
		if filepath.IsAbs(dest) {
			cur = "/"
		}
		parts = append(strings.Split(dest, "/"), parts...)
	}
	return filepath.Join(root, cur), nil
}
