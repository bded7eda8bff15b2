package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/store"
)

func newFetcher(t *testing.T, o Options) *Fetcher {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := New(s, o)
	f.firstWait = time.Millisecond
	return f
}

// content is some file, larger than the buffers on the way.
var content = bytes.Repeat([]byte("0123456789abcdef"), 20_000)

func digestOf(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

func input(urls ...string) Input {
	return Input{Name: "file", URLs: urls, Size: int64(len(content)), SHA256: digestOf(content)}
}

// serve answers every request with h and counts them.
func serve(t *testing.T, h http.HandlerFunc) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/file", requests
}

// file serves content, with ranges.
func file(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// refused is an address where nobody listens.
func refused(t *testing.T) string {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	return s.URL + "/file"
}

func checkBlob(t *testing.T, path string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("blob has %d bytes, %v", len(got), err)
	}
}

func checkFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("error is %v (%v), want a %v fault", err, fault.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not say %q: %v", w, err)
		}
	}
}

// checkNothing makes sure that the store holds no blob of that digest, and
// tells whether something is kept for resuming.
func checkNothing(t *testing.T, f *Fetcher, digest string) (kept bool) {
	t.Helper()
	if path, ok := f.store.Blob(digest); ok {
		t.Errorf("blob %s is in the store", path)
	}
	_, err := os.Stat(f.store.Partial(digest))
	return err == nil
}

func TestBlobIsFetchedOnce(t *testing.T) {
	url, requests := serve(t, file)
	f := newFetcher(t, Options{})
	for range 2 {
		path, err := f.Blob(t.Context(), input(url))
		checkBlob(t, path, err)
	}
	unknown := input(url)
	unknown.Size = -1
	path, err := f.Blob(t.Context(), unknown)
	checkBlob(t, path, err)
	if requests.Load() != 1 || f.Retries() != 0 {
		t.Errorf("%d requests, %d retries", requests.Load(), f.Retries())
	}
	if checkPartial, _ := os.ReadDir(f.store.Dir() + "/tmp"); len(checkPartial) != 0 {
		t.Errorf("left in tmp: %v", checkPartial)
	}
}

func TestDroppedConnectionIsResumed(t *testing.T) {
	const cut = 100_000
	var ranges []string
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) > 1 {
			file(w, r)
			return
		}
		w.Header().Set("Content-Length", "320000")
		w.Write(content[:cut])
		panic(http.ErrAbortHandler)
	})
	f := newFetcher(t, Options{})
	path, err := f.Blob(t.Context(), input(url))
	checkBlob(t, path, err)
	if f.Retries() != 1 || len(ranges) != 2 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") || ranges[1] == "bytes=0-" {
		t.Errorf("%d retries, ranges %q", f.Retries(), ranges)
	}
}

func TestServerWithoutRanges(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(content) })
	f := newFetcher(t, Options{})
	os.WriteFile(f.store.Partial(digestOf(content)), content[:1000], 0o644)
	path, err := f.Blob(t.Context(), input(url))
	checkBlob(t, path, err)
	if f.Retries() != 0 {
		t.Errorf("%d retries", f.Retries())
	}
}

func TestStalePartial(t *testing.T) {
	other := bytes.Repeat([]byte("x"), len(content))
	for name, c := range map[string]struct {
		partial []byte
		size    int64
		retries int64
	}{
		"other content":             {other[:1000], int64(len(content)), 1},
		"other content, whole size": {other, int64(len(content)), 1},
		"longer":                    {append(other, 'x'), int64(len(content)), 1},
		"complete":                  {content, int64(len(content)), 0},
		"longer, size unknown":      {append(other, 'x'), -1, 1},
		"complete, size unknown":    {content, -1, 0}, // the server says 416
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := serve(t, file)
			f := newFetcher(t, Options{})
			in := input(url)
			in.Size = c.size
			os.WriteFile(f.store.Partial(in.SHA256), c.partial, 0o644)
			path, err := f.Blob(t.Context(), in)
			checkBlob(t, path, err)
			if f.Retries() != c.retries {
				t.Errorf("%d retries, want %d", f.Retries(), c.retries)
			}
		})
	}
}

func TestWrongContent(t *testing.T) {
	tampered := append([]byte("!"), content[1:]...)
	for name, body := range map[string][]byte{
		"tampered": tampered, "longer": append(content[:len(content):len(content)], '!'), "shorter": content[:1000], "empty": nil,
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(body) })
			f := newFetcher(t, Options{})
			_, err := f.Blob(t.Context(), input(url))
			checkFault(t, err, fault.Integrity, digestOf(content), "SHA-256 is ", url, "bytes")
			if fault.HintOf(err) == "" {
				t.Error("no hint")
			}
			if checkNothing(t, f, digestOf(content)) {
				t.Error("wrong content is kept for resuming")
			}
			if name == "tampered" && !strings.Contains(err.Error(), digestOf(tampered)) {
				t.Errorf("error does not name the digest that came: %v", err)
			}
		})
	}
}

func TestSecondMirrorHelps(t *testing.T) {
	good, _ := serve(t, file)
	liar, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(content[1:]) })
	missing, _ := serve(t, http.NotFound)
	for name, first := range map[string]string{"refused": refused(t), "404": missing} {
		t.Run(name, func(t *testing.T) {
			f := newFetcher(t, Options{})
			path, err := f.Blob(t.Context(), input(first, good))
			checkBlob(t, path, err)
			if f.Retries() != 0 {
				t.Errorf("%d retries", f.Retries())
			}
		})
	}
	t.Run("a liar is told of", func(t *testing.T) {
		f, events := newFetcher(t, Options{}), &recorder{}
		err := f.Blobs(event.With(t.Context(), events), "fetch", []Input{input(liar, good)})
		if err != nil || events.count(event.Warning) == 0 {
			t.Errorf("%v, %d warnings", err, events.count(event.Warning))
		}
	})
	t.Run("a liar outweighs a server that is down", func(t *testing.T) {
		f := newFetcher(t, Options{})
		_, err := f.Blob(t.Context(), input(liar, refused(t)))
		checkFault(t, err, fault.Integrity)
	})
}

func TestServerErrors(t *testing.T) {
	failing := func(times int64, code int) (string, *atomic.Int64) {
		var n atomic.Int64
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) <= times {
				w.WriteHeader(code)
				return
			}
			file(w, r)
		})
	}
	t.Run("500 twice", func(t *testing.T) {
		url, _ := failing(2, 500)
		f := newFetcher(t, Options{})
		path, err := f.Blob(t.Context(), input(url))
		checkBlob(t, path, err)
		if f.Retries() != 2 {
			t.Errorf("%d retries", f.Retries())
		}
	})
	t.Run("503 for ever", func(t *testing.T) {
		url, requests := failing(99, 503)
		_, err := newFetcher(t, Options{}).Blob(t.Context(), input(url))
		checkFault(t, err, fault.Network, "503", url)
		if requests.Load() != attempts || fault.HintOf(err) == "" || errors.Is(err, ErrNotFound) {
			t.Errorf("%d requests, hint %q", requests.Load(), fault.HintOf(err))
		}
	})
	for _, code := range []int{403, 404, 410} {
		url, requests := failing(99, code)
		_, err := newFetcher(t, Options{}).Blob(t.Context(), input(url))
		checkFault(t, err, fault.Network, url)
		if !errors.Is(err, ErrNotFound) || requests.Load() != 1 {
			t.Errorf("%d: %v after %d requests", code, err, requests.Load())
		}
	}
	_, err := newFetcher(t, Options{}).Blob(t.Context(), input(refused(t)))
	checkFault(t, err, fault.Network, "refused")
}

func TestBadInputs(t *testing.T) {
	f := newFetcher(t, Options{})
	bad := input("http://127.0.0.1/")
	for _, digest := range []string{"", "../../x", strings.ToUpper(digestOf(content)), digestOf(content) + "0"} {
		bad.SHA256 = digest
		_, err := f.Blob(t.Context(), bad)
		checkFault(t, err, fault.Integrity, "file")
	}
	for _, url := range []string{"ftp://host/file", "/file", "http:///file"} {
		_, err := f.Blob(t.Context(), input(url))
		checkFault(t, err, fault.Input, "address")
	}
	_, err := f.Blob(t.Context(), input())
	checkFault(t, err, fault.Internal, "no URL")
	_, err = f.Document(t.Context(), nil, 1)
	checkFault(t, err, fault.Internal, "no URL")
}

func TestPasswordsAreNotShown(t *testing.T) {
	liar, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("no")) })
	secret := func(url string) string { return strings.Replace(url, "http://", "http://me:hunter2@", 1) }
	for _, url := range []string{secret(liar), secret(refused(t)), "http://me:hunter2@[::1/x", "ftp://me:hunter2@host/"} {
		f := newFetcher(t, Options{})
		_, err1 := f.Blob(t.Context(), input(url))
		_, err2 := f.Document(t.Context(), []string{url}, 1)
		f.options.Offline = true
		_, err3 := f.Document(t.Context(), []string{url}, 1)
		for _, err := range []error{err1, err2, err3} {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v", err)
			}
		}
	}
}

func TestOffline(t *testing.T) {
	url, requests := serve(t, file)
	f := newFetcher(t, Options{Offline: true})
	_, err := f.Blob(t.Context(), input(url))
	checkFault(t, err, fault.Network, "file")
	_, err = f.Document(t.Context(), []string{url}, 10)
	checkFault(t, err, fault.Network, url)
	if _, _, err := f.store.PutBlob(bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	path, err := f.Blob(t.Context(), input(url))
	checkBlob(t, path, err)
	if requests.Load() != 0 {
		t.Errorf("%d requests", requests.Load())
	}
}

func TestCancelInTheMiddle(t *testing.T) {
	sent, block := make(chan bool), make(chan bool)
	defer close(block)
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "320000")
		w.Write(content[:5000])
		w.(http.Flusher).Flush()
		sent <- true
		<-block
	})
	f := newFetcher(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-sent; cancel() }()
	err := f.Blobs(ctx, "fetch", []Input{input(url)})
	checkFault(t, err, fault.Interrupted)
	if f.Retries() != 0 {
		t.Errorf("%d retries", f.Retries())
	}
}

func TestStallIsNoInterrupt(t *testing.T) {
	for name, sendFirst := range map[string]bool{"before the header": false, "in the body": true} {
		t.Run(name, func(t *testing.T) {
			block := make(chan bool)
			url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if sendFirst {
					w.Header().Set("Content-Length", "320000")
					w.Write(content[:5000])
					w.(http.Flusher).Flush()
				}
				<-block
			})
			t.Cleanup(func() { close(block) }) // before the server's
			f := newFetcher(t, Options{})
			f.stall = 20 * time.Millisecond
			_, err := f.Blob(t.Context(), input(url))
			checkFault(t, err, fault.Network, "no data for 20ms")
			if requests.Load() != attempts {
				t.Errorf("%d requests", requests.Load())
			}
		})
	}
}
