package deb_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// pkg describes a package for the tests.
type pkg struct {
	name     string
	control  string            // more fields, each with its line end
	members  map[string]string // maintainer scripts and the like
	files    []tar.Header
	contents map[string]string // by the name of the header
}

func fileTime() time.Time { return time.Date(2025, 8, 9, 10, 11, 12, 0, time.UTC) }

func dir(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
}

func file(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}

func hardLink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

func owned(h tar.Header, uid, gid int) tar.Header { h.Uid, h.Gid = uid, gid; return h }

// content is what a file holds: by default the package's and its own name.
func (p pkg) content(name string) string {
	if c, ok := p.contents[name]; ok {
		return c
	}
	return p.name + " " + name + "\n"
}

// dataTar returns the archive of the package's files.
func (p pkg) dataTar(t testing.TB) []byte {
	t.Helper()
	return tarOf(t, p.files, p.content)
}

func tarOf(t testing.TB, headers []tar.Header, content func(string) string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = content(h.Name)
		}
		h.Size, h.Format = int64(len(body)), tar.FormatGNU
		if h.ModTime.IsZero() {
			h.ModTime = fileTime()
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (p pkg) controlTar(t testing.TB) []byte {
	t.Helper()
	text := map[string]string{"control": fmt.Sprintf("Package: %s\nVersion: 1.0\nArchitecture: amd64\nMaintainer: T <t@example.org>\n%s", p.name, p.control)}
	for k, v := range p.members {
		text[k] = v
	}
	headers := []tar.Header{dir("./", 0o755)}
	for k := range text {
		headers = append(headers, file("./"+k, 0o755))
	}
	slices.SortFunc(headers, func(a, b tar.Header) int { return strings.Compare(a.Name, b.Name) })
	return tarOf(t, headers, func(name string) string { return text[strings.TrimPrefix(name, "./")] })
}

// build writes the package's .deb file.
func (p pkg) build(t testing.TB) string {
	t.Helper()
	return writeFile(t, p.name+".deb", arOf(
		arMember{"debian-binary", []byte("2.0\n")},
		arMember{"control.tar.gz", compress(t, "gz", p.controlTar(t))},
		arMember{"data.tar.zst", compress(t, "zst", p.dataTar(t))},
	))
}

func buildAll(t testing.TB, packages ...pkg) []string {
	t.Helper()
	out := make([]string, len(packages))
	for i, p := range packages {
		out[i] = p.build(t)
	}
	return out
}

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

type arMember struct {
	name string
	data []byte
}

func arOf(members ...arMember) []byte {
	b := bytes.NewBufferString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o100644, len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// compress packs data; xz is the host's, for we only read it.
func compress(t testing.TB, kind string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	switch kind {
	case "":
		return data
	case "gz":
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
	case "zst":
		w := must[*zstd.Encoder](t)(zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1)))
		w.Write(data)
		w.Close()
	case "xz":
		c := exec.Command(hostTool(t, "xz"), "-c")
		c.Stdin, c.Stdout = bytes.NewReader(data), &b
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
