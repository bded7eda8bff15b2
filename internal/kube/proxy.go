package kube

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
)

// Proxy speaks the module proxy protocol to a go command in the sandbox, for
// which it is the only thing in the network. Resolving, it passes requests on
// (also those to the checksum database, by which the go command verifies all it
// is given) and remembers what it served. Locked, it serves the files of a lock
// and nothing else.
type Proxy struct {
	fetch    *fetch.Fetcher
	network  Network
	index    *index           // resolving
	database *database        // resolving
	locked   map[request]Blob // locked; nil when resolving

	mu     sync.Mutex
	served map[request]Blob
	failed error // the first failure that is not "not found"
}

// newResolvingProxy returns a proxy that forwards to the network.
func newResolvingProxy(d *database, x *index) *Proxy {
	return &Proxy{fetch: d.fetch, network: d.network, database: d, index: x, served: map[request]Blob{}}
}

// newLockedProxy returns a proxy that serves only the given modules.
func newLockedProxy(f *fetch.Fetcher, n Network, modules []Module) *Proxy {
	return &Proxy{fetch: f, network: n, locked: requests(modules)}
}

// ServeHTTP answers a GET of the protocol.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	r, err := parseRequest(hr.URL.Path)
	if err != nil || hr.Method != http.MethodGet {
		http.Error(w, "not a request of the module proxy protocol", http.StatusBadRequest)
		return
	}
	serve := p.forward
	if p.locked != nil {
		serve = p.serveLocked
	}
	path, data, err := serve(hr.Context(), r)
	switch {
	case errors.Is(err, fetch.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		p.fail(err)
		http.Error(w, err.Error(), http.StatusForbidden)
	case path != "":
		http.ServeFile(w, hr, path)
	default:
		w.Write(data)
	}
}

// forward answers from upstream: a file in the store, or a document.
func (p *Proxy) forward(ctx context.Context, r request) (path string, data []byte, err error) {
	switch r.Kind {
	case kindInfo, kindMod, kindZip:
		path, b, err := download(ctx, p.fetch, p.network, p.index, r)
		if err == nil {
			p.mu.Lock()
			p.served[r] = b
			p.mu.Unlock()
		}
		return path, nil, err
	case kindSumDB:
		if r.Tail == p.network.sumDBName()+"/supported" {
			return "", nil, nil // an empty 200 means yes
		}
		data, err := p.database.document(ctx, r.Tail)
		return "", data, err
	}
	urlPath, err := r.path()
	if err != nil {
		return "", nil, err
	}
	data, err = p.fetch.Document(ctx, p.network.urls(urlPath), sizeLimit(r.Kind))
	return "", data, err
}

// serveLocked answers from the lock. The go command has all hashes in its
// go.sum then, so a request to the checksum database means that something is
// missing there, and is refused like everything else.
func (p *Proxy) serveLocked(ctx context.Context, r request) (path string, data []byte, err error) {
	if r.Kind == kindInfo {
		if _, ok := p.locked[request{Kind: kindMod, Module: r.Module, Version: r.Version}]; ok {
			data, err := json.Marshal(struct{ Version string }{r.Version})
			return "", data, err
		}
	}
	b, ok := p.locked[r]
	if !ok {
		return "", nil, fault.Hint(fault.New(fault.Integrity, "the Go toolchain asks for %s, which is not in the lock", r),
			"run 'image-builder lock --update'")
	}
	urlPath, err := r.path()
	if err != nil {
		return "", nil, err
	}
	path, err = p.fetch.Blob(ctx, fetch.Input{Name: r.String(), URLs: p.network.urls(urlPath), Size: b.Size, SHA256: b.SHA256})
	return path, nil, err
}

func (p *Proxy) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed = err
	}
}

// cause returns why the go command failed, when it was for want of a file:
// what the proxy ran into says more than the go command's own words.
func (p *Proxy) cause(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.failed != nil {
		return p.failed
	}
	return err
}
