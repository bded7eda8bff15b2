package kube

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"imagebuilder.dev/internal/fault"
)

var update = flag.Bool("update", false, "write the golden files")

func exampleUpstream() Upstream {
	etcd := []byte("module go.etcd.io/etcd/server/v3\n\ngo 1.24.0\n\nreplace go.etcd.io/etcd/api/v3 => ../api\n\nreplace go.etcd.io/etcd => ./FORBIDDEN_DEPENDENCY\n")
	return Upstream{
		Kubernetes: "v1.36.3",
		Constants:  Constants{Pause: "3.10.2", CoreDNS: "v1.14.2", Etcd: "3.6.8-0"},
		Containerd: "v2.4.2",
		CNI:        "v1.9.1",
		CNIPlugins: []string{"plugins/main/ptp", "plugins/ipam/host-local", "plugins/main/bridge"},
		BuildTime:  time.Date(2026, 7, 22, 18, 7, 38, 0, time.UTC),
		GoMod: map[string][]byte{
			kubernetesModule: []byte("module k8s.io/kubernetes\n\ngo 1.26.0\n\ngodebug default=go1.26\n\nreplace (\n\tk8s.io/client-go => ./staging/src/k8s.io/client-go\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n"),
			etcdServerModule: etcd,
			etcdctlModule:    etcd,
			etcdutlModule:    etcd,
			corednsModule:    []byte("module github.com/coredns/coredns\n\ngo 1.25.0\n\nreplace example.invalid/x => example.invalid/x v1.2.3\n"),
			containerdModule: []byte("module github.com/containerd/containerd/v2\n\ngo 1.26.6\n"),
			cniModule:        []byte("module github.com/containernetworking/plugins\n\ngo 1.24.2\n"),
		},
	}
}

func TestPlanGolden(t *testing.T) {
	u := exampleUpstream()
	plan, err := NewPlan(u)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	encoder := json.NewEncoder(&got)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(plan); err != nil {
		t.Fatal(err)
	}
	for _, w := range plan.Workspaces {
		got.WriteString("\n-- go.mod of " + w.Name + " --\n")
		got.Write(w.GoMod())
	}
	const golden = "testdata/plan.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the plan has changed; see it with -update:\n%s", got.Bytes())
	}
	if least, err := minimumGo(u.GoMod); err != nil || least != "1.26.6" {
		t.Errorf("least Go is %s, %v", least, err)
	}
}

func TestPlanRefusesUnknownReplacement(t *testing.T) {
	u := exampleUpstream()
	u.GoMod[corednsModule] = []byte("module github.com/coredns/coredns\n\ngo 1.25.0\n\nreplace example.invalid/x => example.invalid/fork v1.2.3\n")
	if _, err := NewPlan(u); fault.KindOf(err) != fault.Internal {
		t.Errorf("got %v", err)
	}
	u.GoMod[corednsModule] = []byte("modul")
	if _, err := NewPlan(u); fault.KindOf(err) != fault.Integrity {
		t.Errorf("got %v", err)
	}
}

func TestExecutableName(t *testing.T) {
	for pkg, want := range map[string]string{
		etcdServerModule: "server", corednsModule: "coredns", "k8s.io/kubernetes/cmd/kubelet": "kubelet",
		"example.invalid/v": "v", "example.invalid/vlan": "vlan", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2": "containerd-shim-runc-v2",
	} {
		if got := executableName(pkg); got != want {
			t.Errorf("%s: got %s", pkg, got)
		}
	}
}
