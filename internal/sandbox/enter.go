package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// stageName is argv[0] of a clone that waits, in a new user namespace, until
// its parent has written the id maps, and then starts the builder again: only a
// process that is executed as a mapped root holds the namespace's capabilities.
const stageName = "image-builder-stage"

// probeName is argv[0] of a start that only tries what Enter needs.
const probeName = "image-builder-probe"

// enteredVar marks a process that runs in a namespace made by Enter.
const enteredVar = "IMAGE_BUILDER_ENTERED"

// Enter puts the builder into a user and mount namespace of its own, by
// starting it again there; it returns only in the new process. Root maps to
// itself and so do all other ids it has; an ordinary user becomes root and
// takes the others from the subordinate ranges in /etc/subuid and /etc/subgid.
// The exit status is passed on, and signals go to the new process.
func Enter() error {
	if os.Getenv(enteredVar) == "1" {
		os.Unsetenv(enteredVar)
		unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return forbidden(fmt.Errorf("make mounts private: %w", err))
		}
		syscall.Umask(0o022) // the user's must not show in an image
		return nil
	}
	maps, err := idMaps()
	if err != nil {
		return err
	}
	code, err := runStage(maps)
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// CanEnter reports what would keep Enter, and overlays after it, from working on
// this host, or nil.
func CanEnter(ctx context.Context) error {
	maps, err := idMaps()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := stageCommand(ctx, []string{probeName}, maps)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startStage(cmd, maps); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return forbidden(fmt.Errorf("%w %s", err, strings.TrimSpace(out.String())))
	}
	return nil
}

// probeMain mounts, in its own namespace, what the builder will mount.
func probeMain() {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("tmpfs", "/proc", "tmpfs", 0, "") // any folder that surely exists
	}
	if err == nil {
		err = errors.Join(os.Mkdir("/proc/a", 0o755), os.Mkdir("/proc/b", 0o755), os.Mkdir("/proc/c", 0o755))
	}
	if err == nil {
		_, err = Overlay("/proc/c", []string{"/proc/a", "/proc/b"}, "", "")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runStage(maps *mapping) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	cmd := stageCommand(context.Background(), os.Args, maps)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := startStage(cmd, maps)
	if err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			// The terminal has sent its signals to the whole process group already.
			if s == syscall.SIGTERM || s == syscall.SIGHUP || !isTerminalGroup() {
				cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// isTerminalGroup reports whether this process group is the foreground group
// of a terminal.
func isTerminalGroup() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// stageCommand is a clone that will start args (with argv[0]) in a new namespace.
func stageCommand(ctx context.Context, args []string, maps *mapping) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = append([]string{stageName}, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if maps.direct {
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = maps.sys(maps.uids), maps.sys(maps.gids)
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	}
	return cmd
}

// startStage starts the clone, maps its ids, and lets it go on.
func startStage(cmd *exec.Cmd, maps *mapping) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close() // the clone waits for that
	cmd.ExtraFiles = []*os.File{r}
	err = startPinned(cmd)
	r.Close()
	if err != nil || maps.direct {
		return forbidden(err)
	}
	if err = maps.helper("newuidmap", cmd.Process.Pid, maps.uids); err == nil {
		err = maps.helper("newgidmap", cmd.Process.Pid, maps.gids)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return err
}

func forbidden(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) { // what clone says, and it is not the disk
		err = errors.New("the limit user.max_user_namespaces of this host is reached")
	}
	hint := "allow user namespaces: sysctl user.max_user_namespaces=65536, and on Debian kernel.unprivileged_userns_clone=1"
	if b, e := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"); e == nil && strings.TrimSpace(string(b)) == "1" {
		hint = "this host's AppArmor forbids user namespaces to ordinary users: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
	}
	return fault.Hint(fault.New(fault.Environment, "enter a user namespace: %w", err), "%s; 'image-builder doctor' checks it", hint)
}

// stageMain waits for the id maps and starts the builder in its namespace.
func stageMain() {
	var b [1]byte
	os.NewFile(3, "release").Read(b[:])
	syscall.CloseOnExec(3)
	os.Setenv(enteredVar, "1")
	err := syscall.Exec("/proc/self/exe", os.Args[1:], os.Environ())
	fmt.Fprintf(os.Stderr, "error: start again in the user namespace: %v\n", err)
	os.Exit(int(fault.Environment))
}
