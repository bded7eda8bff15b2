package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"imagebuilder.dev/internal/fault"
)

// probe is what runs inside. It prints what it finds.
func probe(args []string) int {
	f, ok := probes[args[0]]
	if !ok {
		fmt.Println("no such probe:", args)
		return 99
	}
	return f(args[1:])
}

var probes = map[string]func([]string) int{
	"id":    func([]string) int { return say(os.Getuid(), os.Getgid(), os.Getppid()) },
	"args":  func(a []string) int { return say(fmt.Sprintf("%q", a)) },
	"env":   func([]string) int { return say(strings.Join(sorted(os.Environ()), "\n")) },
	"dir":   func([]string) int { d, err := os.Getwd(); return say(d, errName(err)) },
	"exit":  func(a []string) int { n, _ := strconv.Atoi(a[0]); fmt.Println("last words"); return n },
	"kill":  func([]string) int { return say(syscall.Kill(os.Getpid(), syscall.SIGTERM)) },
	"cat":   func([]string) int { io.Copy(os.Stdout, os.Stdin); return 0 },
	"both":  func([]string) int { fmt.Println("out"); fmt.Fprintln(os.Stderr, "err"); return 3 },
	"flood": flood,
	"list":  list,
	"read": func(a []string) int {
		b, err := os.ReadFile(a[0])
		return say(strings.TrimSpace(string(b)), errName(err))
	},
	"write":  writes,
	"mkdir":  func(a []string) int { return say(errName(os.MkdirAll(a[0], 0o755))) },
	"remove": func(a []string) int { return say(errName(os.RemoveAll(a[0]))) },
	"umount": func(a []string) int { return say(errName(unix.Unmount(a[0], unix.MNT_DETACH))) },
	"net":    network,
	"get":    get,
	"orphan": orphan,
	"sleep":  func([]string) int { return sleep() },
}

func say(what ...any) int { fmt.Println(what...); return 0 }

func sorted(s []string) []string { slices.Sort(s); return s }

func errName(err error) string {
	var no syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &no):
		return unix.ErrnoName(no)
	default:
		return err.Error()
	}
}

func writes(paths []string) int {
	for _, p := range paths {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			f, err = os.Create(p)
		}
		if err == nil {
			_, err = f.WriteString("x")
		}
		fmt.Println(p, errName(err))
	}
	return 0
}

func list(dirs []string) int {
	for _, d := range dirs {
		entries, err := os.ReadDir(d)
		var names []string
		for _, e := range entries {
			if d != "/" || !strings.HasPrefix(e.Name(), "lib") { // see libraries
				names = append(names, e.Name())
			}
		}
		fmt.Println(d, errName(err), names)
	}
	return 0
}

func flood([]string) int {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	for i := range 100_000 {
		if _, err := fmt.Fprintln(w, "line", i); err != nil {
			return 7
		}
	}
	return 0
}

// network prints the interfaces, and what comes of a try to get out.
func network([]string) int {
	all, err := net.Interfaces()
	for _, i := range all {
		fmt.Println(i.Name, i.Flags&net.FlagUp != 0)
	}
	fmt.Println(errName(err))
	for _, a := range []string{"192.0.2.1:80", "127.0.0.1:1"} {
		_, err := net.DialTimeout("tcp", a, 5*time.Second)
		fmt.Println(a, errName(err))
	}
	return 0
}

func get(urls []string) int {
	for _, u := range urls {
		resp, err := http.Get(u)
		if err != nil {
			fmt.Println(errName(err))
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, string(b))
	}
	return 0
}

func sleep() int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	fmt.Println("ready")
	time.Sleep(time.Hour)
	return 0
}

// orphan leaves a daemon behind that keeps standard output and a file open, and
// with "stay" waits itself.
func orphan(args []string) int {
	cmd := exec.Command("/probe", "sleep")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return say(err)
	}
	if len(args) > 0 {
		return sleep()
	}
	return 0
}

// outsideVariable makes the test binary what a user would run on the host.
const outsideVariable = "SANDBOX_TEST_OUTSIDE"

// outside enters (or examines) like the real program and prints what it finds.
func outside() int {
	if os.Getenv(outsideVariable) == "doctor" {
		return report(CanEnter(context.Background()))
	}
	if err := Enter(); err != nil {
		return report(err)
	}
	exe, _ := os.Executable()
	root, err := os.MkdirTemp("", "outside")
	if err != nil {
		return report(err)
	}
	defer os.RemoveAll(root)
	os.Mkdir(filepath.Join(root, "owned"), 0o755)
	if err := os.Chown(filepath.Join(root, "owned"), 33, 65535-1); err != nil {
		return report(err)
	}
	out, err := Output(context.Background(), Command{
		Root: root, Args: []string{"/probe", "id"}, Mounts: append([]Mount{{Source: exe, Target: "/probe"}}, libraries(nil, exe)...),
	})
	fmt.Print(string(out))
	return report(err)
}

// report prints an error as the command line would.
func report(err error) int {
	if err != nil {
		fmt.Printf("error: %v\nkind: %v\nhint: %s\n", err, fault.KindOf(err), fault.HintOf(err))
	}
	return fault.ExitCode(err)
}
