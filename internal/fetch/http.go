package fetch

import (
	"context"
	"errors"
	"fmt"
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
	attempts     = 4 // per file, over all its URLs in turn
	firstWait    = 500 * time.Millisecond
	stallTimeout = 60 * time.Second // without a byte
)

func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 20 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.ResponseHeaderTimeout = stallTimeout
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
	var causes []error
	wait := firstWait
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
		if k := fault.KindOf(err); k == fault.Integrity || k == fault.Environment {
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
	stop := func() { cancel(nil) }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		stop()
		return nil, nil, fault.New(fault.Input, "bad address %q: %w", raw, err)
	}
	req.Header.Set("User-Agent", "image-builder")
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := f.options.Client.Do(req)
	if err != nil {
		stop()
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, nil, &temporaryError{fmt.Errorf("%s: %w", req.URL.Redacted(), err)}
	}
	if err := status(resp, req.URL.Redacted(), offset); err != nil {
		resp.Body.Close()
		stop()
		return nil, nil, err
	}
	watch := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("no data for %s", stallTimeout)) })
	resp.Body = &watchedBody{resp.Body, watch}
	return resp, func() { watch.Stop(); stop() }, nil
}

func status(resp *http.Response, url string, offset int64) error {
	switch c := resp.StatusCode; {
	case c == http.StatusOK, c == http.StatusPartialContent && offset > 0:
		return nil
	case c == http.StatusNotFound, c == http.StatusGone, c == http.StatusForbidden:
		// Module proxies answer 403 or 410 for what they do not serve.
		return fmt.Errorf("%s: %s: %w", url, resp.Status, ErrNotFound)
	case c == http.StatusRequestedRangeNotSatisfiable, c == http.StatusTooManyRequests, c >= 500:
		return &temporaryError{fmt.Errorf("%s: %s", url, resp.Status)}
	default:
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
}

type watchedBody struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	watch *time.Timer
}

func (w *watchedBody) Read(b []byte) (int, error) {
	n, err := w.body.Read(b)
	w.watch.Reset(stallTimeout)
	return n, err
}

func (w *watchedBody) Close() error { return w.body.Close() }

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
