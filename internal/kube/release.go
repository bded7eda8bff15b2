package kube

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"imagebuilder.dev/internal/event"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/fetch"
)

// Release is a server with the layout of Kubernetes' releases:
// BASE/VERSION/bin/linux/ARCH/NAME, with NAME.sha256 or NAME.sha512 beside it.
type Release struct {
	Base    string // URL without the version
	Version Version
	Arch    string // Go's name
	Fetch   *fetch.Fetcher
}

// Resolve reads the checksums that the server publishes. Files whose server
// has only a SHA-512 are downloaded, to learn their SHA-256 and size.
func (r Release) Resolve(ctx context.Context) (f Files, err error) {
	ctx, task := event.Start(ctx, "resolve Kubernetes "+r.Version.String()+" from "+r.Base)
	defer func() { task.Done(err) }()
	f = Files{Origin: r.Base, Programs: map[string]Blob{}, Archives: map[string]Blob{}}
	for _, name := range nodePrograms {
		if f.Programs[name], err = r.file(ctx, name); err != nil {
			return Files{}, r.missing(name, err)
		}
	}
	for _, name := range releaseArchives {
		if f.Archives[name], err = r.file(ctx, name+".tar"); err != nil {
			return Files{}, r.missing(name+".tar", err)
		}
	}
	for _, name := range optionalArchives {
		b, err := r.file(ctx, name+".tar")
		if errors.Is(err, fetch.ErrNotFound) {
			continue
		}
		if err != nil {
			return Files{}, err
		}
		f.Archives[name] = b
	}
	return f, nil
}

// missing explains that the server lacks a file, or passes another error on.
func (r Release) missing(name string, err error) error {
	if !errors.Is(err, fetch.ErrNotFound) {
		return err
	}
	return fault.Hint(fault.New(fault.Input, "%s has no checksum of %s for Kubernetes %s: %w", r.Base, name, r.Version, err),
		"check kubernetes.version and kubernetes.url; %s.sha256 or %s.sha512 must exist", r.url(name), r.url(name))
}

func (r Release) url(name string) string {
	return fmt.Sprintf("%s/%s/bin/linux/%s/%s", strings.TrimRight(r.Base, "/"), r.Version, r.Arch, name)
}

// file returns the digest of a file. Its size is known once it was fetched.
func (r Release) file(ctx context.Context, name string) (Blob, error) {
	text, err := r.Fetch.Document(ctx, []string{r.url(name) + ".sha256"}, 4096)
	if err == nil {
		digest, err := parseChecksum(text, 32)
		return Blob{SHA256: digest, Size: -1}, r.broken(name, err)
	}
	if !errors.Is(err, fetch.ErrNotFound) {
		return Blob{}, err
	}
	text, err = r.Fetch.Document(ctx, []string{r.url(name) + ".sha512"}, 4096)
	if err != nil {
		return Blob{}, err
	}
	digest, err := parseChecksum(text, 64)
	if err != nil {
		return Blob{}, r.broken(name, err)
	}
	data, err := r.Fetch.Document(ctx, []string{r.url(name)}, sizeLimit(kindZip))
	if err != nil {
		return Blob{}, err
	}
	if sum := sha512.Sum512(data); hex.EncodeToString(sum[:]) != digest {
		return Blob{}, fault.New(fault.Integrity, "%s has the SHA-512 %x, its checksum file says %s", r.url(name), sum, digest)
	}
	return keep(r.Fetch.Store(), data)
}

func (r Release) broken(name string, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Integrity, "the checksum of %s: %w", r.url(name), err)
}

// Download gets the files of a lock into the store. It returns the lock with
// the sizes, which a server does not publish, filled in.
func (r Release) Download(ctx context.Context, f Files) (Files, error) {
	var inputs []fetch.Input
	for name, b := range f.Programs {
		inputs = append(inputs, fetch.Input{Name: name, URLs: []string{r.url(name)}, Size: b.Size, SHA256: b.SHA256})
	}
	for name, b := range f.Archives {
		inputs = append(inputs, fetch.Input{Name: name + ".tar", URLs: []string{r.url(name + ".tar")}, Size: b.Size, SHA256: b.SHA256})
	}
	if err := r.Fetch.Blobs(ctx, "download Kubernetes "+r.Version.String(), inputs); err != nil {
		return Files{}, err
	}
	sized := Files{Origin: f.Origin}
	var err error
	if sized.Programs, err = r.measure(f.Programs); err != nil {
		return Files{}, err
	}
	sized.Archives, err = r.measure(f.Archives)
	return sized, err
}

func (r Release) measure(files map[string]Blob) (map[string]Blob, error) {
	sized := map[string]Blob{}
	for name, b := range files {
		path, ok := r.Fetch.Store().Blob(b.SHA256)
		if !ok {
			return nil, fault.New(fault.Internal, "%s is not in the store after its download", name)
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		sized[name] = Blob{SHA256: b.SHA256, Size: info.Size()}
	}
	return sized, nil
}

var hexDigits = regexp.MustCompile(`^[0-9a-f]+$`)

// parseChecksum reads a checksum file: the digest (of size bytes, in hex), alone
// or followed by a file name as sha256sum writes it.
func parseChecksum(text []byte, size int) (string, error) {
	fields := strings.Fields(string(text))
	if len(fields) == 0 || len(fields) > 2 {
		return "", fmt.Errorf("want a digest and perhaps a file name, got %.80q", text)
	}
	digest := strings.ToLower(fields[0])
	if len(digest) != 2*size || !hexDigits.MatchString(digest) {
		return "", fmt.Errorf("%.140q is no digest of %d hex digits", fields[0], 2*size)
	}
	return digest, nil
}
