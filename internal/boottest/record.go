package boottest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"imagebuilder.dev/internal/fault"
)

// Names of the files in the output folder.
const (
	recordFile = "record.json"
	junitFile  = "junit.xml"
)

// Record is what a test found, bound to the image by its digest. It is written
// as record.json.
type Record struct {
	Layout     int       `json:"layout"` // of this document: 1
	Builder    string    `json:"builder"`
	Image      Image     `json:"image"`
	QEMU       string    `json:"qemu"`
	Accel      Accel     `json:"accel"`
	Memory     int       `json:"memoryMiB"`
	CPUs       int       `json:"cpus"`
	Kubernetes bool      `json:"kubernetes"`
	Started    time.Time `json:"started"`
	Finished   time.Time `json:"finished"`
	Passed     bool      `json:"passed"`
	Error      string    `json:"error,omitempty"`
	Boots      []Boot    `json:"boots"`
}

// Image is what was tested.
type Image struct {
	Path        string `json:"path"`
	Format      string `json:"format"`
	Size        int64  `json:"size"`        // bytes of the file
	VirtualSize int64  `json:"virtualSize"` // bytes of the disk
	SHA256      string `json:"sha256"`      // of the file, in hex
}

// Boot is one machine started from the image.
type Boot struct {
	Name     string            `json:"name"` // such as 1-bios
	Firmware Firmware          `json:"firmware"`
	Clone    bool              `json:"clone"` // a further machine, not the whole proof
	Accel    Accel             `json:"accel"`
	Console  string            `json:"console,omitempty"` // file beside the record
	Started  time.Time         `json:"started"`
	Seconds  float64           `json:"seconds"`
	Facts    map[string]string `json:"facts"` // machine-id, host-keys, hostname, kernel
	Checks   []Check           `json:"checks"`

	hello bool // the guest's script has started
}

// Result is how a check ended.
type Result string

// The results. Running stands only in memory.
const (
	Running Result = "running"
	Passed  Result = "passed"
	Failed  Result = "failed"
)

// Check is one thing that must hold.
type Check struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Result  Result   `json:"result"`
	Detail  string   `json:"detail,omitempty"`
	Log     []string `json:"log,omitempty"`
	Seconds float64  `json:"seconds"`
}

func newRecord(o Options, img *image) Record {
	return Record{
		Layout: 1, Builder: o.Builder, Memory: o.Memory, CPUs: o.CPUs, Kubernetes: o.Kubernetes,
		Image:   Image{Path: img.path, Format: img.format, Size: img.size},
		Started: time.Now().UTC(), Boots: []Boot{},
	}
}

func newBoot(n int, f Firmware) *Boot {
	return &Boot{
		Name: fmt.Sprintf("%d-%s", n, f), Firmware: f, Clone: n > 1, Started: time.Now().UTC(),
		Facts: map[string]string{}, Checks: []Check{},
	}
}

// reset forgets a try whose accelerator did not work.
func (b *Boot) reset() { b.Checks, b.Facts, b.hello = []Check{}, map[string]string{}, false }

func (b *Boot) title(kubernetes bool) string {
	by := map[Firmware]string{BIOS: "BIOS", UEFI: "UEFI", SecureBoot: "UEFI with Secure Boot"}[b.Firmware]
	switch {
	case b.Clone:
		return by + ", a clone"
	case kubernetes:
		return by + ", a Kubernetes node"
	}
	return by
}

// compare adds the check that a clone shares no identity with the first boot.
func (b *Boot) compare(first *Boot) error {
	c := Check{Name: "clone-identity", Title: "the clone has a machine-id and host keys of its own", Result: Passed}
	if id := b.Facts["machine-id"]; id == first.Facts["machine-id"] {
		c.Result, c.Detail = Failed, "both machines have machine-id "+id
	}
	keys := strings.Split(first.Facts["host-keys"], "\n")
	for _, key := range strings.Split(b.Facts["host-keys"], "\n") {
		if slices.Contains(keys, key) {
			c.Result, c.Detail = Failed, "both machines have the host key "+key
		}
	}
	b.Checks = append(b.Checks, c)
	if c.Result == Failed {
		return checkFailed(&b.Checks[len(b.Checks)-1])
	}
	return nil
}

// explain says in err which boot of which image failed, at which check, how
// many others failed, and adds the log lines that matter; the guest puts those
// first that matter most.
func (b *Boot) explain(err error, image string) error {
	var f *failure
	if err == nil || !errors.As(err, &f) {
		return err
	}
	text := fmt.Sprintf("test %s: boot %s", image, b.Name)
	if n := b.failures(); n > 1 {
		text += fmt.Sprintf(" (first of %d failed checks)", n)
	}
	tail := ""
	if len(f.log) > 0 {
		tail = "\n  " + strings.Join(f.log[:min(len(f.log), 60)], "\n  ")
	}
	err = &fault.Error{Kind: fault.KindOf(f.err), Err: fmt.Errorf("%s: %w%s", text, err, tail)}
	if !b.hello {
		err = fault.Hint(err, "the guest's script never started: does the image run cloud-init with the NoCloud data source, and has its kernel virtio drivers?")
	}
	return err
}

func (b *Boot) failures() int {
	n := 0
	for _, c := range b.Checks {
		if c.Result == Failed {
			n++
		}
	}
	return n
}

func (r *Record) finish(err error) {
	r.Finished, r.Passed = time.Now().UTC(), err == nil
	if err != nil {
		r.Error = firstLine(err)
	}
}

// write puts the record into dir in both forms, each whole or not at all.
func (r *Record) write(dir string) error {
	if dir == "" {
		return nil
	}
	record, err := r.json()
	if err != nil {
		return err
	}
	junit, err := r.junit()
	if err != nil {
		return err
	}
	files := map[string][]byte{recordFile: record, junitFile: junit}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeAtomically(filepath.Join(dir, name), files[name]); err != nil {
			return fault.New(fault.Environment, "write the record: %w", err)
		}
	}
	return nil
}

func (r *Record) json() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

func writeAtomically(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
