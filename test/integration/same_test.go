package integration

import (
	"path/filepath"
	"testing"
)

// TestSameBits builds the quickstart again, in a store that has its inputs but
// no layer, and gets the artifact that stands in out/, byte for byte.
func TestSameBits(t *testing.T) {
	want := readManifest(t, "../../out").Artifacts[0]
	home, out := privateStore(t), filepath.Join(t.TempDir(), "out")
	if code, text := start(t, home, out, "").wait(); code != 0 {
		t.Fatalf("exit %d\n%s", code, text)
	}
	if got := readManifest(t, out).Artifacts[0]; got.SHA256 != want.SHA256 {
		t.Errorf("the second build gave %s, the first %s", got.SHA256, want.SHA256)
	}
	// And nothing to do the third time.
	code, text := start(t, home, out, "").wait()
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, text)
	}
	t.Logf("built again:\n%s", text)
}
