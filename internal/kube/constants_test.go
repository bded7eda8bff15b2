package kube

import (
	"testing"
)

// The two ways in which releases write the table of etcd versions.
const (
	numbered = `package constants
const (
	DefaultEtcdVersion = "3.6.9-0"
	CoreDNSVersion     = "v1.14.2"
	PauseVersion       = "3.10.2"
)
var SupportedEtcdVersion = map[uint8]string{34: "3.6.6-0", 35: "3.6.7-0", 36: "3.6.8-0"}
`
	skewed = `package constants
const DefaultEtcdVersion, CoreDNSVersion, PauseVersion = "3.6.9-0", "v1.13.1", "3.10.1"
var SupportedEtcdVersion = map[uint8]string{
	uint8(getSkewedKubernetesVersion(-2).Minor()): "3.5.24-0",
	uint8(getSkewedKubernetesVersion(0).Minor()):  "3.6.6-0",
}
`
)

func TestParseConstants(t *testing.T) {
	for _, c := range []struct {
		source  string
		version Version
		want    Constants
	}{
		{numbered, "v1.36.3", Constants{"3.10.2", "v1.14.2", "3.6.8-0"}},
		{numbered, "v1.35.1", Constants{"3.10.2", "v1.14.2", "3.6.7-0"}},
		{numbered, "v1.37.0", Constants{"3.10.2", "v1.14.2", "3.6.9-0"}}, // not in the table
		{skewed, "v1.35.4", Constants{"3.10.1", "v1.13.1", "3.6.6-0"}},
	} {
		got, err := ParseConstants([]byte(c.source), c.version)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.version, got, err, c.want)
		}
	}
	if got := (Constants{Etcd: "3.6.8-0"}).EtcdVersion(); got != "v3.6.8" {
		t.Errorf("etcd 3.6.8-0 is made from %s", got)
	}
}

func TestParseConstantsRefuses(t *testing.T) {
	for _, source := range []string{"", "package constants", "package constants\nconst PauseVersion = 3"} {
		if got, err := ParseConstants([]byte(source), "v1.36.3"); err == nil {
			t.Errorf("%q gave %+v", source, got)
		}
	}
}

func FuzzParseConstants(f *testing.F) {
	f.Add([]byte(numbered))
	f.Add([]byte(skewed))
	f.Fuzz(func(t *testing.T, source []byte) {
		c, err := ParseConstants(source, "v1.36.3")
		if err == nil && (c.Pause == "" || c.CoreDNS == "" || c.Etcd == "") {
			t.Errorf("accepted without all versions: %+v", c)
		}
	})
}
