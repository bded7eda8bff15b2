package boottest

import (
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

//go:embed guest/*.py
var guestFiles embed.FS

// guestDir is where the script lives in the guest; it is on the root
// filesystem, because the script goes on after a reboot.
const guestDir = "/var/lib/image-builder-test"

// guestConfig is what the script is told.
type guestConfig struct {
	Port       string `json:"port"`
	Hostname   string `json:"hostname"`
	Firmware   string `json:"firmware"`
	Clone      bool   `json:"clone"`
	Kubernetes bool   `json:"kubernetes"`
}

func (r *runner) seedFor(b *Boot) guestConfig {
	return guestConfig{
		Port: "/dev/virtio-ports/" + portName, Hostname: "node-" + b.Name,
		Firmware: string(b.Firmware), Clone: b.Clone, Kubernetes: r.Kubernetes,
	}
}

const unitPath = "/etc/systemd/system/image-builder-test.service"

// unit runs the script. It is no part of the boot's own transaction, so the
// boot can finish while it waits for that.
const unit = `[Unit]
Description=Image Builder's boot proof

[Service]
ExecStart=/usr/bin/python3 ` + guestDir + `/main.py

[Install]
WantedBy=multi-user.target
`

type writeFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Encoding    string `json:"encoding"`
	Content     string `json:"content"`
}

// writeSeed writes the two files of cloud-init's NoCloud data source. No user,
// password or key is made. JSON is YAML, so user-data needs no YAML writer.
// The first command notes whether containerd runs already: a bootstrap provider
// has kubeadm run at this very place.
func writeSeed(dir string, c guestConfig) error {
	files, err := guestWriteFiles(c)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(map[string]any{
		"write_files": files,
		"runcmd": [][]string{
			{"sh", "-c", "systemctl is-active containerd > " + guestDir + "/containerd-at-runcmd"},
			// What "systemctl enable" does, without the reloads that cost an
			// emulated machine many seconds.
			{"mkdir", "-p", "/etc/systemd/system/multi-user.target.wants"},
			{"ln", "-s", unitPath, "/etc/systemd/system/multi-user.target.wants/"},
			{"systemctl", "daemon-reload"},
			{"systemctl", "start", "--no-block", "image-builder-test.service"},
		},
	}, "", " ")
	if err != nil {
		return err
	}
	meta := fmt.Sprintf("instance-id: image-builder-test-%s\nlocal-hostname: %s\n", c.Hostname, c.Hostname)
	if err := os.WriteFile(filepath.Join(dir, "meta-data"), []byte(meta), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "user-data"), append([]byte("#cloud-config\n"), data...), 0o644)
}

func guestWriteFiles(c guestConfig) ([]writeFile, error) {
	conf, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	files := []writeFile{
		newWriteFile(guestDir+"/config.json", conf),
		newWriteFile(unitPath, []byte(unit)),
	}
	entries, err := guestFiles.ReadDir("guest")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		b, err := guestFiles.ReadFile("guest/" + e.Name())
		if err != nil {
			return nil, err
		}
		files = append(files, newWriteFile(path.Join(guestDir, e.Name()), b))
	}
	return files, nil
}

func newWriteFile(path string, content []byte) writeFile {
	return writeFile{Path: path, Permissions: "0644", Encoding: "b64", Content: base64.StdEncoding.EncodeToString(content)}
}
