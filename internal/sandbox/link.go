package sandbox

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// socketPair returns two ends of a stream: ours as a connection, theirs as a
// file to hand to a child.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "ours")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return c.(*net.UnixConn), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// What a message may hold: the kernel itself takes at most 253 files at once.
const (
	maxMessage = 16 << 20
	maxFiles   = 64
)

// sendMessage sends a length (4 bytes, big endian) with the files attached, and
// then the bytes.
func sendMessage(c *net.UnixConn, msg []byte, files []*os.File) error {
	if len(msg) > maxMessage || len(files) > maxFiles {
		return fmt.Errorf("message of %d bytes and %d files is too large", len(msg), len(files))
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), oob, nil); err != nil {
		return err
	}
	_, err := c.Write(msg)
	return err
}

// receiveMessage takes what sendMessage sent.
func receiveMessage(c *net.UnixConn) (msg []byte, files []*os.File, err error) {
	head, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(head, oob)
	if err != nil {
		return nil, nil, err
	}
	files, err = rights(oob[:oobn])
	defer func() {
		if err != nil {
			closeAll(files)
			msg, files = nil, nil
		}
	}()
	size := binary.BigEndian.Uint32(head)
	switch {
	case err != nil:
		return nil, files, err
	case n == 0:
		return nil, files, io.EOF
	case n != len(head), flags&unix.MSG_CTRUNC != 0:
		return nil, files, io.ErrUnexpectedEOF
	case size > maxMessage:
		return nil, files, fmt.Errorf("message of %d bytes", size)
	}
	msg = make([]byte, size)
	if _, err = io.ReadFull(c, msg); err == io.EOF && size > 0 {
		err = io.ErrUnexpectedEOF
	}
	return msg, files, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func rights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// startPinned starts cmd from a thread of its own that lives as long as the
// child: the kernel sends the parent-death signal when the starting *thread*
// ends, and the runtime may end idle threads.
func startPinned(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			// Wait without reaping: exec.Cmd.Wait does that.
			var info unix.Siginfo
			for unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
			}
		}
		runtime.UnlockOSThread()
	}()
	return <-started
}
