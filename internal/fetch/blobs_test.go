package fetch

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
}

func (r *recorder) Emit(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) count(t event.Type) (n int) {
	for _, e := range r.events {
		if e.Type == t {
			n++
		}
	}
	return n
}

func TestBlobsInParallel(t *testing.T) {
	const n = 20
	var in []Input
	var total int64
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	for i := range n {
		body := "/file" + strings.Repeat("x", i)
		total += int64(len(body))
		in = append(in, Input{Name: body, URLs: []string{url + body[5:]}, Size: int64(len(body)), SHA256: digestOf([]byte(body))})
	}
	in = append(in, in[0]) // twice the same
	f, events := newFetcher(t, Options{Parallel: 4}), &recorder{}
	for range 2 { // the second time nothing is to do, and nothing is shown
		if err := f.Blobs(event.With(t.Context(), events), "fetch files", in); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range in {
		if _, ok := f.store.Blob(i.SHA256); !ok {
			t.Errorf("%s is missing", i.Name)
		}
	}
	if requests.Load() != n || events.count(event.Started) != 1 || events.count(event.Finished) != 1 {
		t.Errorf("%d requests, events %v", requests.Load(), events.events)
	}
	end := events.events[len(events.events)-2]
	if end.Type != event.Progress || end.Done != total || end.Total != total || end.Name != "fetch files" {
		t.Errorf("last progress is %+v, want %d bytes", end, total)
	}
}

func TestBlobsFailTogether(t *testing.T) {
	good, _ := serve(t, file)
	missing, _ := serve(t, http.NotFound)
	bad := input(missing)
	bad.Name, bad.SHA256, bad.Size = "absent", digestOf(nil), -1
	f, events := newFetcher(t, Options{}), &recorder{}
	err := f.Blobs(event.With(t.Context(), events), "fetch", []Input{input(good), bad})
	checkFault(t, err, fault.Network, "absent")
	if events.count(event.Failed) != 1 {
		t.Errorf("events %v", events.events)
	}
	for _, e := range events.events {
		if e.Total != 0 {
			t.Errorf("a total although a size is unknown: %+v", e)
		}
	}
}

func TestDocument(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "0123456789") })
	missing, _ := serve(t, http.NotFound)
	f := newFetcher(t, Options{})
	for _, urls := range [][]string{{url}, {missing, url}, {refused(t), url}} {
		if b, err := f.Document(t.Context(), urls, 10); err != nil || string(b) != "0123456789" {
			t.Errorf("%q, %v", b, err)
		}
	}
	b, err := f.Document(t.Context(), []string{url}, 9)
	checkFault(t, err, fault.Integrity, "larger than 9 bytes")
	if b != nil {
		t.Errorf("got %q", b)
	}
	if _, err = f.Document(t.Context(), []string{missing, missing}, 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestProxyOfTheEnvironment(t *testing.T) {
	transport := newClient().Transport.(*http.Transport)
	got, want := reflect.ValueOf(transport.Proxy).Pointer(), reflect.ValueOf(http.ProxyFromEnvironment).Pointer()
	if got != want {
		t.Error("the client does not look at HTTP_PROXY and HTTPS_PROXY")
	}
}
