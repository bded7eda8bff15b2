package cli_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"imagebuilder.dev/internal/cli"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/resolve"
	"imagebuilder.dev/internal/sandbox"
	"imagebuilder.dev/internal/spec"
)

var update = flag.Bool("update", false, "write what the scripts compare with")

func TestMain(m *testing.M) {
	sandbox.Main()
	testscript.Main(m, map[string]func(){
		"image-builder": func() { os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the program as a user does. No script needs the network:
// the module proxy is a port that nobody listens on.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("IMAGE_BUILDER_HOME", filepath.Join(e.WorkDir, "store"))
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("GOPROXY", "http://127.0.0.1:1")
			e.Setenv("GOSUMDB", "sum.test+00000000+AAAA")
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "userns" {
				return sandbox.CanEnter(t.Context()) == nil, nil
			}
			return false, errors.New("unknown condition " + name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "isjson": isJSON, "fill": fill, "lockfor": lockFor,
		},
	})
}

// exits CODE ARG... runs image-builder and checks its exit code. Whatever goes
// wrong, the user must see one clear error and neither a usage text nor a trace.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec("image-builder", args[1:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("run image-builder: %v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
	if code != 0 {
		oneError(ts, ts.ReadFile("stderr"))
	}
}

var place = regexp.MustCompile(`(?m)^[^:\s]+:\d+:\d+: `)

func oneError(ts *testscript.TestScript, text string) {
	n := strings.Count("\n"+text, "\nerror: ") + strings.Count(text, `{"error":`)
	if n == 0 && place.MatchString(text) {
		n = 1 // a list of places in a file
	}
	if n != 1 {
		ts.Fatalf("%d errors are shown, want one", n)
	}
	for _, bad := range []string{"Usage:", "goroutine ", "panic", "%!", "fault.", "<nil>"} {
		if strings.Contains(text, bad) {
			ts.Fatalf("the error shows %q", bad)
		}
	}
}

// isjson FILE checks that a file (or stdout, stderr) is one JSON value.
func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	if valid := json.Valid([]byte(ts.ReadFile(args[0]))); valid == neg {
		ts.Fatalf("%s: valid JSON: %v", args[0], valid)
	}
}

// fill FILE BYTES makes a file of a size.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat("# filler\n", n/9+1)[:n]), 0o644))
}

// lockfor SPEC writes a lock that fits a spec and holds nothing.
func lockFor(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	s, _, err := spec.Load(path, data)
	ts.Check(err)
	l := lock.Lock{Version: lock.Version, Spec: resolve.Hash(s)}
	ts.Check(l.Write(lock.FileName(path)))
}
