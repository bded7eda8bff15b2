package build

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ManifestFile is the manifest's name in the output folder.
const ManifestFile = "manifest.json"

// Manifest lists what a build has made.
type Manifest struct {
	Name       string     `json:"name"`
	Kubernetes string     `json:"kubernetes"`
	Lock       string     `json:"lock"`  // the lock's digest
	Epoch      time.Time  `json:"epoch"` // no file in the image is younger
	Artifacts  []Artifact `json:"artifacts"`
}

// Artifact is a finished file.
type Artifact struct {
	Target string `json:"target"`
	Format string `json:"format"`
	File   string `json:"file"` // name in the output folder
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
	Key    string `json:"key"` // stands for everything that decides about its bits
	// Seconds is how long it took to make.
	Seconds float64 `json:"seconds"`
	// Modified is the file's time, which with its size tells whether it is still the one that was written.
	Modified time.Time `json:"modified"`
}

// publish moves the finished file to its name.
func (a *Artifact) publish(tmp, dir string) error {
	path := filepath.Join(dir, a.File)
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	a.Modified = st.ModTime().UTC()
	return nil
}

// readManifest returns what an earlier build has left in a folder, or nil.
func readManifest(dir string) *Manifest {
	b, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil
	}
	m := &Manifest{}
	if json.Unmarshal(b, m) != nil {
		return nil
	}
	return m
}

func (m *Manifest) find(target string) *Artifact {
	if m == nil {
		return nil
	}
	for i := range m.Artifacts {
		if m.Artifacts[i].Target == target {
			return &m.Artifacts[i]
		}
	}
	return nil
}

// current reports whether the folder holds this very artifact, untouched.
func (m *Manifest) current(want *Artifact, dir string) bool {
	a := m.find(want.Target)
	if a == nil || a.Key != want.Key || a.File != want.File {
		return false
	}
	st, err := os.Stat(filepath.Join(dir, a.File))
	return err == nil && st.Size() == a.Size && st.ModTime().UTC().Equal(a.Modified)
}

// write replaces the manifest by rename.
func (m *Manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+ManifestFile+".tmp")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return os.Rename(tmp, filepath.Join(dir, ManifestFile))
}
