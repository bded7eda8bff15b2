package kube

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
)

func ask(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := http.Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestResolvingProxy(t *testing.T) {
	u := newUpstream(t)
	u.publishExample(t)
	s := newTestSource(t, u.network, fetch.Options{})
	p := newResolvingProxy(s.database, s.index)
	const mod = "/example.invalid/lib/@v/v1.0.0.mod"
	for range 2 {
		if code, body := ask(t, p, mod); code != http.StatusOK || !strings.HasPrefix(body, "module example.invalid/lib\n") {
			t.Errorf("go.mod: %d %q", code, body)
		}
	}
	if u.asked[mod] != 1 {
		t.Errorf("upstream was asked %d times for the same file", u.asked[mod])
	}
	for path, want := range map[string]int{
		"/example.invalid/lib/@v/list":                          http.StatusOK,
		"/example.invalid/lib/@v/v9.0.0.info":                   http.StatusNotFound,
		"/sumdb/sums.invalid/supported":                         http.StatusOK,
		"/sumdb/sums.invalid/lookup/example.invalid/lib@v1.0.0": http.StatusOK,
		"/etc/passwd": http.StatusBadRequest,
	} {
		if code, body := ask(t, p, path); code != want {
			t.Errorf("%s: %d %q, want %d", path, code, body, want)
		}
	}
	if b := p.served[request{Kind: kindMod, Module: "example.invalid/lib", Version: "v1.0.0"}]; b.Size == 0 {
		t.Error("what was served is not remembered")
	}
}

func TestLockedProxy(t *testing.T) {
	u := newUpstream(t)
	u.publishExample(t)
	s := newTestSource(t, u.network, fetch.Options{})
	_, mod, err := download(t.Context(), s.fetch, u.network, s.index, request{Kind: kindMod, Module: "example.invalid/lib", Version: "v1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	offline := newTestSource(t, u.network, fetch.Options{}) // another store, to be filled by digest
	p := newLockedProxy(offline.fetch, u.network, []Module{{Path: "example.invalid/lib", Version: "v1.0.0", Mod: mod}})
	for path, want := range map[string]int{
		"/example.invalid/lib/@v/v1.0.0.mod":                    http.StatusOK,
		"/example.invalid/lib/@v/v1.0.0.info":                   http.StatusOK,
		"/example.invalid/lib/@v/v1.0.0.zip":                    http.StatusForbidden,
		"/example.invalid/tool/v2/@v/v2.3.4.mod":                http.StatusForbidden,
		"/example.invalid/lib/@v/list":                          http.StatusForbidden,
		"/sumdb/sums.invalid/supported":                         http.StatusForbidden,
		"/sumdb/sums.invalid/lookup/example.invalid/lib@v1.0.0": http.StatusForbidden,
	} {
		if code, body := ask(t, p, path); code != want {
			t.Errorf("%s: %d %q, want %d", path, code, body, want)
		}
	}
	if err := p.cause(io.EOF); fault.KindOf(err) != fault.Integrity {
		t.Errorf("the cause of a failure is %v", err)
	}
}

func TestPublishedNamesNewest(t *testing.T) {
	u := newUpstream(t)
	for _, v := range []string{"v1.36.1", "v1.36.3"} {
		u.publish(t, "k8s.io/kubernetes", v, map[string]string{"go.mod": "module k8s.io/kubernetes\n"})
	}
	s := newTestSource(t, u.network, fetch.Options{})
	_, err := s.Resolve(t.Context(), Request{Kubernetes: "v1.36.9", Containerd: "v2.4.2", CNI: "v1.9.1"})
	if fault.KindOf(err) != fault.Input || !strings.Contains(fault.HintOf(err), "v1.36.3") {
		t.Errorf("got %v (%s, %s)", err, fault.KindOf(err), fault.HintOf(err))
	}
}

func TestChecksums(t *testing.T) {
	u := newUpstream(t)
	u.publishExample(t)
	s := newTestSource(t, u.network, fetch.Options{})
	sums := newChecksums(t.Context(), s.database, s.scratch)
	zip, mod, err := sums.lookup("example.invalid/lib", "v1.0.0")
	if err != nil || !strings.Contains(u.sums["example.invalid/lib@v1.0.0"], zip) || !strings.Contains(u.sums["example.invalid/lib@v1.0.0"], "go.mod "+mod) {
		t.Errorf("got %q, %q, %v", zip, mod, err)
	}
	// The same proxy, but a database that signs with another key.
	forged := u.network
	forged.SumDB = newUpstream(t).network.SumDB
	fresh := newTestSource(t, forged, fetch.Options{})
	_, _, err = newChecksums(t.Context(), fresh.database, fresh.scratch).lookup("example.invalid/lib", "v1.0.0")
	if err == nil {
		t.Error("a tree signed with another key was believed")
	}
}

func TestDamagedBlobIsFetchedAgain(t *testing.T) {
	u := newUpstream(t)
	u.publishExample(t)
	s := newTestSource(t, u.network, fetch.Options{})
	r := request{Kind: kindZip, Module: "example.invalid/lib", Version: "v1.0.0"}
	path, want, err := download(t.Context(), s.fetch, u.network, s.index, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, path, "damaged")
	path, _, err = download(t.Context(), s.fetch, u.network, s.index, r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := describe(path); err != nil || got.SHA256 != want.SHA256 {
		t.Errorf("the store gives %+v, %v, want %+v", got, err, want)
	}
}
