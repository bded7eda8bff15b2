package boottest

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writtenSeed returns the seed's meta-data and the JSON of its user-data.
func writtenSeed(t *testing.T, b *Boot) (meta string, user map[string]json.RawMessage) {
	t.Helper()
	dir := t.TempDir()
	r := runner{Options: Options{Kubernetes: true}}
	if err := writeSeed(dir, r.seedFor(b)); err != nil {
		t.Fatal(err)
	}
	m, err := os.ReadFile(filepath.Join(dir, "meta-data"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "user-data"))
	if err != nil {
		t.Fatal(err)
	}
	body, ok := strings.CutPrefix(string(data), "#cloud-config\n")
	if !ok {
		t.Fatalf("user-data starts with %.20q", data)
	}
	if err := json.Unmarshal([]byte(body), &user); err != nil {
		t.Fatal(err)
	}
	return string(m), user
}

func TestSeedLetsNobodyIn(t *testing.T) {
	meta, user := writtenSeed(t, newBoot(2, UEFI))
	if meta != "instance-id: image-builder-test-node-2-uefi\nlocal-hostname: node-2-uefi\n" {
		t.Errorf("meta-data:\n%s", meta)
	}
	for key := range user {
		if key != "write_files" && key != "runcmd" {
			t.Errorf("user-data has %s", key)
		}
	}
}

func TestSeedCarriesTheScript(t *testing.T) {
	_, user := writtenSeed(t, newBoot(2, UEFI))
	var files []writeFile
	if err := json.Unmarshal(user["write_files"], &files); err != nil {
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
