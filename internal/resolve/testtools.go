package resolve

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"imagebuilder.dev/internal/catalog"
	"imagebuilder.dev/internal/lock"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/tools"
)

// TestTools returns the tools root that boots images. An image carries no lock
// for it, so the packages that were resolved first are kept in the store and
// used from then on, without the network.
func (r Resolver) TestTools(ctx context.Context) (string, error) {
	dir, err := r.Fetch.Store().Scratch("test-tools")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "lock.json")
	l := &lock.Lock{}
	if b, err := os.ReadFile(file); err != nil || json.Unmarshal(b, l) != nil || len(l.Tools) == 0 {
		if l, err = r.resolveTestTools(ctx); err != nil {
			return "", err
		}
		b, err := json.Marshal(l)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			return "", err
		}
	}
	return tools.Root(ctx, r.Fetch, "test", l.Tools, l.URLs)
}

func (r Resolver) resolveTestTools(ctx context.Context) (*lock.Lock, error) {
	release := catalog.ToolsRelease()
	s := &spec.Image{}
	s.Spec.OS.Arch = "amd64"
	d, err := r.open(ctx, release, s)
	if err != nil {
		return nil, err
	}
	packages, err := d.toolRoot("test", catalog.ToolRoots()["test"])
	l := &lock.Lock{Version: lock.Version, Tools: packages}
	l.Repositories, l.Epoch = repositories(d, d)
	return l, err
}
