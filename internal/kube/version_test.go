package kube

import (
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
)

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]Version{"1.36.3": "v1.36.3", "v1.36.3": "v1.36.3", "v1.37.0-rc.1": "v1.37.0-rc.1"} {
		if got, err := ParseVersion(in); err != nil || got != want {
			t.Errorf("%s: got %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "1.36", "v2.0.0", "latest", "v1.36.3+x", "v1.36.03"} {
		if got, err := ParseVersion(in); fault.KindOf(err) != fault.Input {
			t.Errorf("%q: got %s, %v", in, got, err)
		}
	}
	if got := Version("v1.37.0-rc.1").staging(); got != "v0.37.0-rc.1" {
		t.Errorf("staging modules at %s", got)
	}
}

func TestNotServed(t *testing.T) {
	served := []string{"v1.35.9", "v1.36.10", "v1.36.9", "v1.36.11-rc.0", "v1.37.0-alpha.1"}
	for version, want := range map[string]string{"v1.36.99": "v1.36.10", "v1.39.0": "v1.36.10", "v1.35.100": "v1.35.9"} {
		err := notServed(kubernetesModule, version, served)
		if fault.KindOf(err) != fault.Input || !strings.HasSuffix(fault.HintOf(err), " "+want) {
			t.Errorf("%s: %v (%s), want a hint at %s", version, err, fault.HintOf(err), want)
		}
	}
}

func TestNewerGo(t *testing.T) {
	for _, c := range [][2]string{{"1.26.8", "go1.26.0"}, {"go1.26.10", "go1.26.9"}, {"1.26", "1.26rc1"}, {"1.27rc1", "1.26.8"}} {
		if !newerGo(c[0], c[1]) || newerGo(c[1], c[0]) {
			t.Errorf("%s must be newer than %s", c[0], c[1])
		}
	}
}
