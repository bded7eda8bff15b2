package boottest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
)

// image is the disk image under test.
type image struct {
	path   string // as the user gave it
	real   string // absolute, symbolic links resolved
	format string // qcow2 or raw, as QEMU names them
	size   int64  // bytes of the file
}

// openImage finds out what a file is by its first sectors, never by its name.
func openImage(path string) (*image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Input, "open the image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fault.New(fault.Environment, "open the image: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fault.New(fault.Input, "%s is not a disk image: it is not a regular file", path)
	}
	head := make([]byte, 1024)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Environment, "read %s: %w", path, err)
	}
	format, why := detect(head[:n])
	if format == "" {
		return nil, fault.Hint(fault.New(fault.Input, "%s is not a disk image that can be booted: %s", path, why),
			"give a qcow2 file or a raw disk with a partition table")
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fault.New(fault.Input, "resolve %s: %w", path, err)
	}
	return &image{path: path, real: real, format: format, size: st.Size()}, nil
}

// detect names the format of an image from its first 1024 bytes, or says why
// it has none that we boot. The magics are those of the formats' documents:
// qcow2 starts with "QFI\xfb" and a version; a raw disk has the signature 55 aa
// at the end of its first sector and, with GPT, "EFI PART" at the second.
func detect(head []byte) (format, why string) {
	switch {
	case len(head) == 0:
		return "", "it is empty"
	case bytes.HasPrefix(head, []byte("QFI\xfb")):
		if len(head) < 8 {
			return "", "its qcow2 header is cut off"
		}
		if v := binary.BigEndian.Uint32(head[4:]); v != 2 && v != 3 {
			return "", "its qcow version is not 2 or 3"
		}
		return "qcow2", ""
	case bytes.HasPrefix(head, []byte("KDMV")), bytes.HasPrefix(head, []byte("# Disk DescriptorFile")):
		return "", "it is a VMDK"
	case bytes.HasPrefix(head, []byte("vhdxfile")):
		return "", "it is a VHDX"
	case bytes.HasPrefix(head, []byte("conectix")):
		return "", "it is a VHD"
	case len(head) < 1024:
		return "", "it is smaller than a partition table"
	case head[510] != 0x55 || head[511] != 0xaa:
		return "", "it has no known magic and no partition table"
	case !bytes.HasPrefix(head[512:], []byte("EFI PART")) && bytes.Equal(head[446:510], make([]byte, 64)):
		return "", "its partition table is empty"
	}
	return "raw", ""
}

// digest returns the SHA-256 of the file in hex.
func (m *image) digest(ctx context.Context) (sum string, err error) {
	_, task := event.Start(ctx, "digest of "+filepath.Base(m.path))
	defer func() { task.Done(err) }()
	f, err := os.Open(m.real)
	if err != nil {
		return "", fault.New(fault.Environment, "open the image: %w", err)
	}
	defer f.Close()
	h, buf := sha256.New(), make([]byte, 1<<20)
	for done := int64(0); ; {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", fault.New(fault.Environment, "read %s: %w", m.path, err)
		}
		task.Progress(done, m.size, event.Bytes)
	}
}

// CheckImage says whether a file is a disk image that Run would start.
func CheckImage(path string) error {
	_, err := openImage(path)
	return err
}
