package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// stageName is argv[0] of a clone that waits, in a new user namespace, until
// its parent has written the id maps, and then starts the builder again: only a
// process that is executed as a mapped root holds the namespace's capabilities.
const stageName = "image-builder-stage"

// enteredVar marks a process that runs in a namespace made by Enter.
const enteredVar = "IMAGE_BUILDER_ENTERED"

// minIDs is how many subordinate ids a distribution's users and groups need.
const minIDs = 65536

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
			return fault.New(fault.Environment, "make mounts private in the user namespace: %w", err)
		}
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

// CanEnter reports what would keep Enter from working on this host, or nil.
func CanEnter(ctx context.Context) error {
	maps, err := idMaps()
	if err != nil {
		return err
	}
	cmd, release, err := startStage([]string{"--probe"}, maps)
	if err != nil {
		return err
	}
	release.Close()
	return cmd.Wait()
}

func runStage(maps *mapping) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	cmd, release, err := startStage(os.Args, maps)
	if err != nil {
		return 0, err
	}
	release.Close()
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

// startStage starts the clone and maps its ids. The clone goes on when the
// returned pipe is closed.
func startStage(args []string, maps *mapping) (*exec.Cmd, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{stageName}, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if maps.direct {
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = maps.sys(maps.uids), maps.sys(maps.gids)
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	}
	if err := startPinned(cmd); err != nil {
		w.Close()
		return nil, nil, forbidden(err)
	}
	if !maps.direct {
		err = errors.Join(maps.helper("newuidmap", cmd.Process.Pid, maps.uids), maps.helper("newgidmap", cmd.Process.Pid, maps.gids))
		if err != nil {
			cmd.Process.Kill()
			cmd.Wait()
			w.Close()
			return nil, nil, err
		}
	}
	return cmd, w, nil
}

func forbidden(err error) error {
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
	if len(os.Args) > 1 && os.Args[1] == "--probe" {
		os.Exit(0)
	}
	syscall.CloseOnExec(3)
	os.Setenv(enteredVar, "1")
	err := syscall.Exec("/proc/self/exe", os.Args[1:], os.Environ())
	fmt.Fprintf(os.Stderr, "error: start again in the user namespace: %v\n", err)
	os.Exit(int(fault.Environment))
}

// mapping is how ids inside the namespace stand for ids outside.
type mapping struct {
	direct     bool // the kernel lets us write the maps ourselves
	uids, gids []idRange
}

type idRange struct{ inside, outside, count int }

func (m *mapping) sys(rs []idRange) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(rs))
	for i, r := range rs {
		out[i] = syscall.SysProcIDMap{ContainerID: r.inside, HostID: r.outside, Size: r.count}
	}
	return out
}

func (m *mapping) helper(tool string, pid int, rs []idRange) error {
	args := []string{strconv.Itoa(pid)}
	for _, r := range rs {
		args = append(args, strconv.Itoa(r.inside), strconv.Itoa(r.outside), strconv.Itoa(r.count))
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fault.Hint(fault.New(fault.Environment, "map user ids: %s is not installed", tool), "install it (Debian: apt install uidmap), or run as root")
	case err != nil:
		return fault.Hint(fault.New(fault.Environment, "map user ids: %s: %w: %s", tool, err, strings.TrimSpace(string(out))), "check this user's lines in /etc/subuid and /etc/subgid")
	}
	return nil
}

func idMaps() (*mapping, error) {
	if os.Geteuid() == 0 {
		uids, err := currentRanges("/proc/self/uid_map")
		if err != nil {
			return nil, err
		}
		gids, err := currentRanges("/proc/self/gid_map")
		return &mapping{direct: true, uids: uids, gids: gids}, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, fault.New(fault.Environment, "look up the current user: %w", err)
	}
	m := &mapping{}
	if m.uids, err = subordinate("/etc/subuid", me, os.Geteuid()); err != nil {
		return nil, err
	}
	m.gids, err = subordinate("/etc/subgid", me, os.Getegid())
	return m, err
}

// currentRanges maps every id of the namespace we are in to itself.
func currentRanges(file string) ([]idRange, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.New(fault.Environment, "read the id map: %w", err)
	}
	defer f.Close()
	var out []idRange
	total := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		var inside, outside, count int
		if _, err := fmt.Sscan(s.Text(), &inside, &outside, &count); err != nil {
			return nil, fault.New(fault.Environment, "read %s: %w", file, err)
		}
		out = append(out, idRange{inside, inside, count})
		total += count
	}
	if total < minIDs {
		return nil, fault.Hint(fault.New(fault.Environment, "%s maps only %d ids; a node image needs %d", file, total, minIDs),
			"run outside this container, or give it a larger id range")
	}
	return out, nil
}

// subordinate maps 0 to the user and 1… to the user's ranges of subuid(5).
func subordinate(file string, me *user.User, id int) ([]idRange, error) {
	hint := fmt.Sprintf("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", me.Username)
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Hint(fault.New(fault.Environment, "user %s has no subordinate ids: %w", me.Username, err), "%s", hint)
	}
	defer f.Close()
	out := []idRange{{0, id, 1}}
	next := 1
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(fields) != 3 || (fields[0] != me.Username && fields[0] != me.Uid) {
			continue
		}
		start, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 != nil || err2 != nil || count <= 0 {
			continue
		}
		out = append(out, idRange{next, start, count})
		next += count
	}
	if next-1 < minIDs-1 {
		return nil, fault.Hint(fault.New(fault.Environment, "user %s has %d subordinate ids in %s; %d are needed", me.Username, next-1, file, minIDs), "%s", hint)
	}
	return out, nil
}
