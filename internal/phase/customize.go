package phase

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
)

// UserFile is a file of the spec.
type UserFile struct {
	Path     string
	Data     []byte
	Mode     os.FileMode // permission bits and setuid, setgid, sticky as in chmod(2)
	UID, GID int
}

// Customize adds what the user asked for: packages of the distribution and files.
func Customize(p Packages, userFiles []UserFile) Phase {
	inputs := p.inputs()
	for _, f := range userFiles {
		sum := sha256.Sum256(f.Data)
		inputs = append(inputs, Input{"file", fmt.Sprintf("%s %04o %d:%d", f.Path, f.Mode, f.UID, f.GID), hex.EncodeToString(sum[:])})
	}
	return Phase{Name: "customize", Version: 1, Inputs: inputs, Prepare: p.prepare, Run: func(ctx context.Context, r *Root) error {
		before, err := r.initramfsHooks()
		if err != nil {
			return err
		}
		if err := r.install(ctx, p); err != nil {
			return err
		}
		for _, f := range userFiles {
			if err := r.Write(f.Path, f.Data, f.Mode); err != nil {
				return err
			}
			if f.UID != 0 || f.GID != 0 {
				if err := r.Chown(f.Path, f.UID, f.GID); err != nil {
					return err
				}
			}
		}
		after, err := r.initramfsHooks()
		if err != nil || after == before {
			return err
		}
		return r.initramfs(ctx)
	}}
}

// initramfsHooks returns a digest of what decides about an initramfs: when it
// changes, the initramfs is made again.
func (r *Root) initramfsHooks() (string, error) {
	h := sha256.New()
	for _, dir := range []string{"/etc/initramfs-tools", "/usr/share/initramfs-tools", "/etc/modprobe.d", "/usr/lib/modprobe.d"} {
		if err := r.hashTree(h, dir); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
