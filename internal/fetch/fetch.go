// Package fetch is the only door to the network for inputs. Every byte that it
// stores has a digest known beforehand; a document without one is handed to a
// caller who must verify its signature.
//
// Proxies are taken from the usual environment variables (HTTPS_PROXY …).
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/store"
)

// ErrNotFound says that every server answered that it does not have the file.
var ErrNotFound = errors.New("not found")

// Options of a Fetcher.
type Options struct {
	Offline  bool         // refuse everything that is not in the store
	Parallel int          // downloads at once; default 8
	Client   *http.Client // default: one with time limits on connecting and stalling
}

// Input is a file to fetch.
type Input struct {
	Name   string   // as shown to the user
	URLs   []string // tried in order
	Size   int64    // bytes; negative when unknown
	SHA256 string   // hex
}

// Fetcher downloads into a store.
type Fetcher struct {
	store   *store.Store
	options Options
	retries atomic.Int64

	firstWait time.Duration // before the second attempt; each further one waits three times as long
	stall     time.Duration // how long a server may send nothing
}

// New returns a Fetcher that puts what it downloads into s.
func New(s *store.Store, o Options) *Fetcher {
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	if o.Client == nil {
		o.Client = newClient()
	}
	return &Fetcher{store: s, options: o, firstWait: 500 * time.Millisecond, stall: stallTimeout}
}

// Retries returns how many attempts had to be repeated so far.
func (f *Fetcher) Retries() int64 { return f.retries.Load() }

// Store returns the store that downloads go to.
func (f *Fetcher) Store() *store.Store { return f.store }

// Offline reports whether the network is off.
func (f *Fetcher) Offline() bool { return f.options.Offline }

// Blob returns the path of an input in the store, downloading it if it is
// missing. A file of another size or digest is an Integrity fault.
func (f *Fetcher) Blob(ctx context.Context, in Input) (path string, err error) {
	return f.blob(ctx, in, func(int64) {})
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (f *Fetcher) blob(ctx context.Context, in Input, progress func(n int64)) (string, error) {
	if !hexDigest.MatchString(in.SHA256) {
		return "", fault.New(fault.Integrity, "fetch %s: %q is no SHA-256 digest, and nothing is fetched without one", in.Name, in.SHA256)
	}
	if path, ok := f.store.Blob(in.SHA256); ok {
		return path, nil
	}
	if f.options.Offline {
		return "", offline(in.Name)
	}
	unlock, err := f.store.Lock(ctx, "blob-"+in.SHA256)
	if err != nil {
		return "", err
	}
	defer unlock()
	if path, ok := f.store.Blob(in.SHA256); ok {
		return path, nil
	}
	err = f.each(ctx, in.Name, in.URLs, func(url string) error { return f.download(ctx, url, in, progress) })
	if err != nil {
		return "", err
	}
	path, _ := f.store.Blob(in.SHA256)
	return path, nil
}

func offline(name string) error {
	return fault.Hint(fault.New(fault.Network, "%s is not in the store, and the network is off", name),
		"run once without --offline")
}

// Blobs fetches inputs in parallel and shows a bar. Inputs that are in the
// store cost nothing.
func (f *Fetcher) Blobs(ctx context.Context, name string, in []Input) (err error) {
	missing, total := f.missing(in)
	if len(missing) == 0 {
		return nil
	}
	ctx, task := event.Start(ctx, name)
	defer func() { task.Done(err) }()
	var done atomic.Int64
	task.Progress(0, total, event.Bytes)
	bar := newThrottle(func() { task.Progress(done.Load(), total, event.Bytes) })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.options.Parallel)
	for _, i := range missing {
		group.Go(func() error {
			_, err := f.blob(ctx, i, func(n int64) { done.Add(n); bar.tick() })
			return err
		})
	}
	err = group.Wait()
	bar.report()
	return err
}

// missing returns what is not in the store, each once, and its size in bytes,
// or 0 when a part of it is unknown.
func (f *Fetcher) missing(in []Input) (out []Input, size int64) {
	unknown := false
	seen := map[string]bool{}
	for _, i := range in {
		if _, ok := f.store.Blob(i.SHA256); ok || seen[i.SHA256] {
			continue
		}
		seen[i.SHA256] = true
		out = append(out, i)
		size += i.Size
		unknown = unknown || i.Size < 0
	}
	if unknown {
		size = 0
	}
	return out, size
}

// download gets one URL into the store. It goes on where an earlier attempt
// stopped, and begins anew when the digest does not fit.
func (f *Fetcher) download(ctx context.Context, raw string, in Input, progress func(int64)) error {
	url := redact(raw)
	partial := f.store.Partial(in.SHA256)
	file, err := os.OpenFile(partial, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	resumed := have > 0
	progress(have)
	n, err := f.body(ctx, raw, file, have, in, progress)
	if err != nil {
		progress(-n)
		return err
	}
	digest, size, err := sum(file)
	if err != nil {
		return err
	}
	if digest == in.SHA256 && (in.Size < 0 || size == in.Size) {
		return f.store.Adopt(partial, digest)
	}
	progress(-size)
	if err := os.Remove(partial); err != nil {
		return err
	}
	if resumed {
		return &temporaryError{fmt.Errorf("%s: what was left of an earlier download does not fit", url)}
	}
	err = mismatch(in, url, digest, size)
	if size < in.Size {
		return &temporaryError{err} // a connection without a length may have been cut
	}
	return err
}

func mismatch(in Input, url, digest string, size int64) error {
	want := ""
	if in.Size >= 0 {
		want = fmt.Sprintf(" (%d bytes)", in.Size)
	}
	return fault.Hint(fault.New(fault.Integrity, "%s from %s is not what the signed index or the lock says: SHA-256 is %s (%d bytes), must be %s%s",
		in.Name, url, digest, size, in.SHA256, want), "the mirror is out of step or tampered with: try another mirror, or run 'image-builder lock --update'")
}

// body appends the rest of a file and returns how many bytes the file has then.
func (f *Fetcher) body(ctx context.Context, url string, file *os.File, have int64, in Input, progress func(int64)) (int64, error) {
	if in.Size >= 0 && have >= in.Size {
		return have, nil
	}
	resp, cancel, err := f.get(ctx, url, have)
	if errors.Is(err, errNoMore) {
		return have, nil // the digest decides
	}
	if err != nil {
		return have, err
	}
	defer cancel()
	defer resp.Body.Close()
	if have > 0 && resp.StatusCode != http.StatusPartialContent {
		progress(-have)
		have = 0
		if err := file.Truncate(0); err != nil {
			return 0, err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
	}
	limit := int64(1) << 40
	if in.Size >= 0 {
		limit = in.Size - have + 1 // one more than right is enough to know it is wrong
	}
	n, err := io.Copy(file, io.LimitReader(&countingReader{resp.Body, progress}, limit))
	if err != nil && ctx.Err() == nil {
		if pathErr := new(os.PathError); errors.As(err, &pathErr) {
			return have + n, fmt.Errorf("store %s: %w", in.Name, err)
		}
		err = &temporaryError{fmt.Errorf("%s: %w", redact(url), err)}
	}
	return have + n, err
}

type countingReader struct {
	r     io.Reader
	count func(int64)
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.count(int64(n))
	return n, err
}

func sum(file *os.File) (digest string, size int64, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	h := sha256.New()
	size, err = io.Copy(h, file)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// Document returns a small file of at most limit bytes. It is not verified:
// the caller must do that. A file that no server has is an ErrNotFound.
func (f *Fetcher) Document(ctx context.Context, urls []string, limit int64) (data []byte, err error) {
	if len(urls) == 0 {
		return nil, fault.New(fault.Internal, "fetch: no URL")
	}
	if f.options.Offline {
		return nil, offline(redact(urls[0]))
	}
	err = f.each(ctx, redact(urls[0]), urls, func(url string) error {
		resp, cancel, err := f.get(ctx, url, 0)
		if err != nil {
			return err
		}
		defer cancel()
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err != nil {
			return &temporaryError{fmt.Errorf("%s: %w", redact(url), err)}
		}
		if int64(len(b)) > limit {
			return fault.New(fault.Integrity, "%s is larger than %d bytes", redact(url), limit)
		}
		data = b
		return nil
	})
	return data, err
}
