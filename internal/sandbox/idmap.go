package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"imagebuilder.dev/internal/fault"
)

// minIDs is how many subordinate ids a distribution's users and groups need.
const minIDs = 65536

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
	if err != nil { // one without a name, as containers have
		id := strconv.Itoa(os.Geteuid())
		me = &user.User{Uid: id, Username: id}
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
