package kube

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"
	modzip "golang.org/x/mod/zip"
	"io"
	"os"
	"path/filepath"

	"imagebuilder.dev/internal/fetch"
	"imagebuilder.dev/internal/store"
)

// upstream is a module proxy with its own checksum database, on loopback.
type upstream struct {
	*httptest.Server
	network Network
	mu      sync.Mutex
	files   map[string][]byte // by path
	sums    map[string]string // lines of go.sum by module@version
	asked   map[string]int
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	const name = "sums.invalid"
	signer, verifier, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{files: map[string][]byte{}, sums: map[string]string{}, asked: map[string]int{}}
	database := sumdb.NewServer(sumdb.NewTestServer(signer, func(path, version string) ([]byte, error) {
		u.mu.Lock()
		defer u.mu.Unlock()
		lines, ok := u.sums[path+"@"+version]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(lines), nil
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/sumdb/"+name+"/supported", func(http.ResponseWriter, *http.Request) {})
	for _, p := range sumdb.ServerPaths {
		mux.Handle("/sumdb/"+name+p, http.StripPrefix("/sumdb/"+name, database))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.asked[r.URL.Path]++
		data, ok := u.files[r.URL.Path]
		if !ok {
			http.Error(w, "no such file", http.StatusNotFound)
			return
		}
		w.Write(data)
	})
	u.Server = httptest.NewServer(mux)
	t.Cleanup(u.Close)
	u.network = Network{Proxies: []string{u.URL}, SumDB: verifier}
	return u
}

// publish adds a module with files (name → text; go.mod included).
func (u *upstream) publish(t *testing.T, path, version string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	var archive bytes.Buffer
	if err := modzip.CreateFromDir(&archive, module.Version{Path: path, Version: version}, dir); err != nil {
		t.Fatal(err)
	}
	prefix := "/" + path + "/@v/"
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files[prefix+version+".info"] = fmt.Appendf(nil, `{"Version":%q,"Time":"2026-07-22T18:07:38Z"}`, version)
	u.files[prefix+version+".mod"] = []byte(files["go.mod"])
	u.files[prefix+version+".zip"] = archive.Bytes()
	u.files[prefix+"list"] = append(u.files[prefix+"list"], version+"\n"...)
	u.sums[path+"@"+version] = sumLines(t, path, version, archive.Bytes(), files["go.mod"])
}

func sumLines(t *testing.T, path, version string, archive []byte, goMod string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "zip")
	if err := os.WriteFile(file, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	zip, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(goMod)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %s %s\n%s %s/go.mod %s\n", path, version, zip, path, version, mod)
}

// publishExample adds two small modules and returns the workspace of a program
// in one that uses the other.
func (u *upstream) publishExample(t *testing.T) Workspace {
	u.publish(t, "example.invalid/lib", "v1.0.0", map[string]string{
		"go.mod": "module example.invalid/lib\n\ngo 1.22\n",
		"lib.go": "package lib\n\nvar Version = \"unset\"\n",
	})
	u.publish(t, "example.invalid/tool/v2", "v2.3.4", map[string]string{
		"go.mod":  "module example.invalid/tool/v2\n\ngo 1.22\n\nrequire example.invalid/lib v1.0.0\n",
		"main.go": "package main\n\nimport \"example.invalid/lib\"\n\nfunc main() { println(lib.Version) }\n",
	})
	return Workspace{
		Name: "example", Go: "1.22",
		Requires: []Require{{"example.invalid/tool/v2", "v2.3.4"}},
		Stamps:   []Stamp{{"example.invalid/lib.Version", "v2.3.4"}},
		Programs: []Program{{"renamed", "example.invalid/tool/v2"}},
	}
}

func newTestSource(t *testing.T, n Network, o fetch.Options) *Source {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	source, err := NewSource(fetch.New(s, o), n)
	if err != nil {
		t.Fatal(err)
	}
	return source
}
