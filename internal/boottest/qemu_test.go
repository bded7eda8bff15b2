package boottest

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func TestArgs(t *testing.T) {
	for _, c := range []struct {
		firmware Firmware
		accel    Accel
	}{{BIOS, KVM}, {BIOS, TCG}, {UEFI, TCG}, {SecureBoot, TCG}} {
		v := vm{firmware: c.firmware, accel: c.accel, memory: 4096, cpus: 2,
			overlay: "b/overlay.qcow2", seed: "b/seed", vars: "b/vars.fd", console: "b/console.log"}
		lines := strings.Join(v.args(), "\n")
		golden(t, "args-"+string(c.firmware)+"-"+string(c.accel)+".txt", []byte(lines+"\n"))
	}
}

func TestSeed(t *testing.T) {
	dir := t.TempDir()
	r := runner{Options: Options{Kubernetes: true}}
	if err := writeSeed(dir, r.seedFor(newBoot(2, UEFI))); err != nil {
		t.Fatal(err)
	}
	meta, _ := os.ReadFile(filepath.Join(dir, "meta-data"))
	if string(meta) != "instance-id: image-builder-test-node-2-uefi\nlocal-hostname: node-2-uefi\n" {
		t.Errorf("meta-data:\n%s", meta)
	}
	data, _ := os.ReadFile(filepath.Join(dir, "user-data"))
	body, ok := strings.CutPrefix(string(data), "#cloud-config\n")
	if !ok {
		t.Fatalf("user-data starts with %.20q", data)
	}
	var seed map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &seed); err != nil {
		t.Fatal(err)
	}
	// Nobody may log in: nothing but files and commands.
	for key := range seed {
		if key != "write_files" && key != "runcmd" {
			t.Errorf("user-data has %s", key)
		}
	}
	var files []writeFile
	if err := json.Unmarshal(seed["write_files"], &files); err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range files {
		b, err := base64.StdEncoding.DecodeString(f.Content)
		if err != nil {
			t.Error(err)
		}
		content[f.Path] = string(b)
	}
	want := `{"port":"/dev/virtio-ports/imagebuilder.test","hostname":"node-2-uefi","firmware":"uefi","clone":true,"kubernetes":true}`
	if got := content[guestDir+"/config.json"]; got != want {
		t.Errorf("config.json is %s", got)
	}
	if !strings.Contains(content[guestDir+"/main.py"], "def main()") {
		t.Error("main.py is missing")
	}
}

func TestQEMUMessages(t *testing.T) {
	got := qemuMessages("qemu-system-x86_64: warning: TCG doesn't support\nqemu-system-x86_64: Could not open '/srv/x': No such file\n\n")
	if got != "Could not open '/srv/x': No such file" {
		t.Errorf("%q", got)
	}
}
