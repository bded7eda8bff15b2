package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

const (
	attempts     = 4                // per file, over all its URLs in turn
	stallTimeout = 60 * time.Second // without a byte
)

func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 20 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.MaxIdleConnsPerHost = 16
	return &http.Client{Transport: t}
}

// temporaryError is worth another attempt.
type temporaryError struct{ err error }

func (e *temporaryError) Error() string { return e.err.Error() }
func (e *temporaryError) Unwrap() error { return e.err }

// each tries the URLs in order until one works, and goes over them again while
// one of the failures may pass. Every repetition is counted.
func (f *Fetcher) each(ctx context.Context, name string, urls []string, try func(url string) error) error {
	if len(urls) == 0 {
		return fault.New(fault.Internal, "fetch %s: no URL", name)
	}
	var causes []error
	wait := f.firstWait
	for round := range attempts {
		again := false
		causes = causes[:0]
		for _, u := range urls {
			err := try(u)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if fault.KindOf(err) == fault.Integrity {
				event.Current(ctx).Warn(err.Error()) // even if another server has the right file
			}
			causes = append(causes, err)
			var tmp *temporaryError
			again = again || errors.As(err, &tmp)
		}
		if !again || round == attempts-1 {
			break
		}
		f.retries.Add(1)
		event.Current(ctx).Warn(fmt.Sprintf("trying %s again: %v", name, causes[len(causes)-1]))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait *= 3
	}
	return outcome(name, causes)
}

// outcome turns the last round's failures into one error. A server that lied
// about content outweighs one that was down.
func outcome(name string, causes []error) error {
	notFound := true
	for _, err := range causes {
		if k := fault.KindOf(err); k == fault.Integrity || k == fault.Environment || k == fault.Input {
			return err
		}
		notFound = notFound && errors.Is(err, ErrNotFound)
	}
	if notFound {
		return fault.New(fault.Network, "fetch %s: %w", name, errors.Join(causes...))
	}
	return fault.Hint(fault.New(fault.Network, "fetch %s: %w", name, errors.Join(causes...)),
		"check the network, the proxy variables and the mirrors; what was downloaded is kept")
}

// get opens a URL from an offset. The returned function ends the stall watch.
func (f *Fetcher) get(ctx context.Context, raw string, offset int64) (*http.Response, func(), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := &stallError{f.stall}
	watch := time.AfterFunc(f.stall, func() { cancel(stalled) })
	stop := func() { watch.Stop(); cancel(nil) }
	req, err := request(ctx, raw, offset)
	if err != nil {
		stop()
		return nil, nil, err
	}
	resp, err := f.options.Client.Do(req)
	if err != nil {
		err = &temporaryError{fmt.Errorf("%s: %w", req.URL.Redacted(), reason(ctx, err))}
		stop()
		return nil, nil, err
	}
	if err := status(resp, req.URL.Redacted(), offset); err != nil {
		resp.Body.Close()
		stop()
		return nil, nil, err
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, watch: watch, stall: f.stall}
	return resp, stop, nil
}

func request(ctx context.Context, raw string, offset int64) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, fault.New(fault.Input, "bad address %s: %w", redact(raw), withoutURL(err))
	}
	if s := req.URL.Scheme; s != "http" && s != "https" || req.URL.Host == "" {
		return nil, fault.New(fault.Input, "bad address %q: it must begin with http:// or https:// and a host", req.URL.Redacted())
	}
	req.Header.Set("User-Agent", "image-builder")
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	return req, nil
}

// redact returns an address without a password, for messages.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(an address that cannot be read)"
	}
	return u.Redacted()
}

// withoutURL leaves off the address, which may hold a password.
func withoutURL(err error) error {
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// stallError says that a server has stopped sending. The request is cancelled
// then, but the user has not interrupted anything.
type stallError struct{ after time.Duration }

func (e *stallError) Error() string { return fmt.Sprintf("no data for %s", e.after) }

// reason returns why a request failed: the stall rather than the cancelling
// that it led to.
func reason(ctx context.Context, err error) error {
	if stalled := (*stallError)(nil); errors.As(context.Cause(ctx), &stalled) {
		return stalled
	}
	return withoutURL(err)
}

// errNoMore says that a file has nothing after the offset asked for.
var errNoMore = errors.New("nothing after the offset")

func status(resp *http.Response, url string, offset int64) error {
	switch c := resp.StatusCode; {
	case c == http.StatusOK, c == http.StatusPartialContent && offset > 0:
		return nil
	case c == http.StatusRequestedRangeNotSatisfiable && offset > 0:
		return errNoMore
	case c == http.StatusNotFound, c == http.StatusGone, c == http.StatusForbidden:
		// Module proxies answer 403 or 410 for what they do not serve.
		return fmt.Errorf("%s: %s: %w", url, resp.Status, ErrNotFound)
	case c == http.StatusTooManyRequests, c == http.StatusRequestTimeout, c >= 500:
		return &temporaryError{fmt.Errorf("%s: %s", url, resp.Status)}
	default:
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
}

// watchedBody cancels the request when nothing comes for a while.
type watchedBody struct {
	io.ReadCloser
	ctx   context.Context
	watch *time.Timer
	stall time.Duration
}

func (w *watchedBody) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	w.watch.Reset(w.stall)
	if err != nil && err != io.EOF {
		err = reason(w.ctx, err)
	}
	return n, err
}

// throttle calls report at most ten times a second.
type throttle struct {
	last   atomic.Int64
	report func()
}

func newThrottle(report func()) *throttle { return &throttle{report: report} }

func (t *throttle) tick() {
	now := time.Now().UnixNano()
	last := t.last.Load()
	if now-last >= int64(100*time.Millisecond) && t.last.CompareAndSwap(last, now) {
		t.report()
	}
}
