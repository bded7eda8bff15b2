package kube

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
)

// database reaches the checksum database: through the module proxies if they
// relay it, else directly, as the go command does.
type database struct {
	fetch   *fetch.Fetcher
	network Network

	mu     sync.Mutex
	asked  bool
	direct bool
}

// document returns a file of the database; tail is its name, a slash and the file.
func (d *database) document(ctx context.Context, tail string) ([]byte, error) {
	direct, err := d.isDirect(ctx)
	if err != nil {
		return nil, err
	}
	urls := d.network.urls("/sumdb/" + tail)
	if direct {
		urls = []string{"https://" + tail}
	}
	return d.fetch.Document(ctx, urls, sizeLimit(kindSumDB))
}

func (d *database) isDirect(ctx context.Context) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked {
		return d.direct, nil
	}
	_, err := d.fetch.Document(ctx, d.network.urls("/sumdb/"+d.network.sumDBName()+"/supported"), sizeLimit(kindSumDB))
	if err != nil && !errors.Is(err, fetch.ErrNotFound) {
		return false, err
	}
	d.asked, d.direct = true, err != nil
	return d.direct, nil
}

// checksums asks the checksum database for hashes of modules and verifies that
// what it says is part of its signed, append-only log. The newest tree that was
// seen is kept, so that a database which forgets entries is found out.
type checksums struct {
	client *sumdb.Client
	ops    *sumdbOps
}

func newChecksums(ctx context.Context, d *database, dir string) *checksums {
	ops := &sumdbOps{ctx: ctx, database: d, dir: dir, cache: map[string][]byte{}}
	return &checksums{client: sumdb.NewClient(ops), ops: ops}
}

// lookup returns the h1 hashes of a module's files and of its go.mod.
func (c *checksums) lookup(path, version string) (zip, mod string, err error) {
	// Lookup returns only the lines for exactly this module and version.
	for _, v := range []string{version, version + "/go.mod"} {
		lines, err := c.client.Lookup(path, v)
		if c.ops.security != "" {
			return "", "", fault.New(fault.Integrity, "the checksum database contradicts itself: %s", c.ops.security)
		}
		if err != nil {
			return "", "", fault.New(kindOr(err, fault.Network), "asking the checksum database for %s: %w", at(path, version), err)
		}
		for _, line := range lines {
			hash, ok := strings.CutPrefix(line, path+" "+v+" ")
			if !ok {
				continue
			}
			if v == version {
				zip = hash
			} else {
				mod = hash
			}
		}
	}
	if zip == "" || mod == "" {
		return "", "", fault.New(fault.Integrity, "the checksum database has no hash of %s", at(path, version))
	}
	return zip, mod, nil
}

// kindOr returns the kind of err, or other when err has none of its own.
func kindOr(err error, other fault.Kind) fault.Kind {
	if k := fault.KindOf(err); k != fault.Internal {
		return k
	}
	return other
}

// sumdbOps is what sumdb.Client needs from outside.
type sumdbOps struct {
	ctx      context.Context
	database *database
	dir      string // keeps the newest signed tree

	mu       sync.Mutex
	cache    map[string][]byte
	security string
}

var errNotCached = errors.New("not cached")

func (o *sumdbOps) ReadRemote(path string) ([]byte, error) {
	return o.database.document(o.ctx, o.database.network.sumDBName()+path)
}

func (o *sumdbOps) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.database.network.sumDBKey()), nil
	}
	text, err := os.ReadFile(o.file(file))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (o *sumdbOps) WriteConfig(file string, old, new []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, err := o.ReadConfig(file)
	if err != nil {
		return err
	}
	if string(now) != string(old) {
		return sumdb.ErrWriteConflict
	}
	return writeFile(o.file(file), new)
}

// file flattens the name of a configuration file, e.g. "NAME/latest".
func (o *sumdbOps) file(name string) string {
	return filepath.Join(o.dir, strings.ReplaceAll(name, "/", "-"))
}

func (o *sumdbOps) ReadCache(file string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if data, ok := o.cache[file]; ok {
		return data, nil
	}
	return nil, errNotCached
}

func (o *sumdbOps) WriteCache(file string, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cache[file] = data
}

func (o *sumdbOps) Log(string) {}

func (o *sumdbOps) SecurityError(msg string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.security = msg
}

// writeFile writes a file whole or not at all.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
