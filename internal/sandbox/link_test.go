package sandbox

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pair returns two connected ends.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	a, f, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); c.Close() })
	return a, c.(*net.UnixConn)
}

func TestMessages(t *testing.T) {
	a, b := pair(t)
	for _, msg := range [][]byte{nil, []byte("go"), bytes.Repeat([]byte("x"), 3<<20)} {
		go sendMessage(a, msg, nil)
		got, files, err := receiveMessage(b)
		if err != nil || !bytes.Equal(got, msg) || files != nil {
			t.Errorf("%d bytes, %v, %v", len(got), files, err)
		}
	}
	r, w, _ := os.Pipe()
	defer r.Close()
	if err := sendMessage(a, []byte("files"), []*os.File{w, w, w}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	msg, files, err := receiveMessage(b)
	if err != nil || string(msg) != "files" || len(files) != 3 {
		t.Fatalf("%q, %v, %v", msg, files, err)
	}
	for _, f := range files {
		if flags, _ := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Error("a received file would go on to children")
		}
		f.WriteString("x")
	}
	closeAll(files)
	if all, _ := io.ReadAll(r); string(all) != "xxx" {
		t.Errorf("%q", all)
	}
}

func TestHostileMessages(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		want error // nil: any
	}{
		"nothing":     {"", io.EOF},
		"half a size": {"\x00\x00", io.ErrUnexpectedEOF},
		"too large":   {"\x01\x00\x00\x01", nil},
		"4 GiB":       {"\xff\xff\xff\xff", nil},
		"no content":  {"\x00\x00\x00\x05", io.ErrUnexpectedEOF},
		"too short":   {"\x00\x00\x00\x05abcd", io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			io.WriteString(a, c.raw)
			a.Close()
			if msg, _, err := receiveMessage(b); err == nil || msg != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%q, %v", msg, err)
			}
		})
	}
	a, _ := pair(t)
	if err := sendMessage(a, make([]byte, maxMessage+1), nil); err == nil {
		t.Error("sent what nobody takes")
	}
	if err := sendMessage(a, nil, make([]*os.File, maxFiles+1)); err == nil {
		t.Error("sent more files than anybody takes")
	}
}

func TestTooManyFilesAreClosed(t *testing.T) {
	a, b := pair(t)
	r, w, _ := os.Pipe()
	defer r.Close()
	fds := make([]int, maxFiles+20)
	for i := range fds {
		fds[i] = int(w.Fd())
	}
	if _, _, err := a.WriteMsgUnix(make([]byte, 4), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, files, err := receiveMessage(b); err == nil || files != nil {
		t.Errorf("%d files, %v", len(files), err)
	}
	if all, err := io.ReadAll(r); err != nil || len(all) != 0 { // ends only when all copies are closed
		t.Errorf("%q, %v", all, err)
	}
}
