package boottest

import (
	"os"
	"testing"

	"imagebuilder.dev/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	os.Exit(m.Run())
}
