package resolve

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"imagebuilder.dev/internal/sandbox"
)

// apt runs in the namespace.
func TestMain(m *testing.M) {
	sandbox.Main()
	flag.Parse()
	if !testing.Short() {
		if err := sandbox.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
