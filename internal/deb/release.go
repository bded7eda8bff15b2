package deb

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"imagebuilder.dev/internal/fault"
)

// Release is a verified index of a suite.
type Release struct {
	Suite, Codename string
	Date            time.Time
	ValidUntil      time.Time // zero when the suite does not expire
	Signers         []string  // fingerprints (hex) of the keys whose signatures hold
	Text            []byte    // what was signed
	Files           map[string]IndexFile
}

// IndexFile is a file that a Release lists.
type IndexFile struct {
	Size   int64
	SHA256 string
}

// ParseRelease verifies an InRelease file with armored public keys, of which
// one must have signed it, and reads it. name is where it came from, for
// errors; now decides about expiry. Every failure is an Integrity fault.
func ParseRelease(name string, inRelease []byte, keys []string, now time.Time) (*Release, error) {
	block, rest := clearsign.Decode(inRelease)
	if block == nil || !bytes.HasPrefix(inRelease, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return nil, fault.New(fault.Integrity, "%s is not a signed index", name)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fault.New(fault.Integrity, "%s has text outside its signature", name)
	}
	signers, err := verify(block, keys, now)
	if err != nil {
		return nil, fault.Hint(fault.New(fault.Integrity, "verify the signature of %s: %w", name, err),
			"the mirror is not what it claims to be, or its release is newer than this builder's keys")
	}
	r := &Release{Signers: signers, Text: block.Plaintext, Files: map[string]IndexFile{}}
	if err := r.parse(); err != nil {
		return nil, fault.New(fault.Integrity, "read %s: %w", name, err)
	}
	if !r.ValidUntil.IsZero() && now.After(r.ValidUntil) {
		return nil, fault.Hint(fault.New(fault.Integrity, "%s expired on %s", name, r.ValidUntil.Format(time.RFC1123)),
			"the mirror is stale (or this machine's clock is wrong: it says %s); choose another mirror", now.UTC().Format(time.RFC1123))
	}
	return r, nil
}

// verify returns the keys whose signature holds. An index is often signed by
// several keys of which we know some: each signature is tried by itself.
func verify(block *clearsign.Block, keys []string, now time.Time) ([]string, error) {
	sig, err := readAll(block.ArmoredSignature.Body, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read the signature: %w", err)
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	var signers []string
	var causes []error
	for _, key := range keys {
		ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(key))
		if err != nil {
			return nil, fmt.Errorf("read a key: %w", err)
		}
		signer, err := openpgp.CheckDetachedSignature(ring, bytes.NewReader(block.Bytes), bytes.NewReader(sig), config)
		if err != nil {
			causes = append(causes, err)
			continue
		}
		if id := fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint); !slices.Contains(signers, id) {
			signers = append(signers, id)
		}
	}
	if len(signers) == 0 {
		return nil, errors.Join(append(causes, errors.New("no known key has signed it"))...)
	}
	return signers, nil
}

func (r *Release) parse() error {
	var stanza Stanza
	err := ParseControl(bytes.NewReader(r.Text), func(s Stanza) error {
		if stanza != nil {
			return errors.New("more than one paragraph")
		}
		stanza = s
		return nil
	})
	if err != nil {
		return err
	}
	r.Suite, r.Codename = stanza.Get("Suite"), stanza.Get("Codename")
	if r.Date, err = parseDate(stanza.Get("Date")); err != nil {
		return err
	}
	if v := stanza.Get("Valid-Until"); v != "" {
		if r.ValidUntil, err = parseDate(v); err != nil {
			return err
		}
	}
	for line := range strings.Lines(stanza.Get("SHA256")) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || !isSHA256(f[0]) {
			return fmt.Errorf("bad SHA256 line %q", line)
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("bad size in %q", line)
		}
		r.Files[f[2]] = IndexFile{Size: size, SHA256: f[0]}
	}
	return nil
}

// parseDate reads a date of RFC 5322 with the zone as a name or as an offset.
func parseDate(s string) (time.Time, error) {
	t, err := time.Parse("Mon, _2 Jan 2006 15:04:05 MST", s)
	if err != nil {
		t, err = time.Parse("Mon, _2 Jan 2006 15:04:05 -0700", s)
	}
	return t.UTC(), err
}
