package kube

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"imagebuilder.dev/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	// A fuzzing process talks to its workers through inherited files.
	fuzzing := slices.ContainsFunc(os.Args, func(a string) bool {
		return strings.HasPrefix(a, "-test.fuzz") && !strings.HasPrefix(a, "-test.fuzzcachedir")
	})
	if !fuzzing {
		if err := sandbox.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
