package deb_test

import (
	"bytes"
	"crypto"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"imagebuilder.dev/internal/deb"
	"imagebuilder.dev/internal/fault"
)

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// signer makes a key; lifetime 0 is for ever.
func signer(t testing.TB, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	c := config()
	c.KeyLifetimeSecs = uint32(lifetime.Seconds())
	return must[*openpgp.Entity](t)(openpgp.NewEntity("test", "", "test@example.org", c))
}

func config() *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA256, Time: func() time.Time { return now().Add(-time.Hour) }}
}

func armored(t testing.TB, e *openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	w := must[interface {
		Write([]byte) (int, error)
		Close() error
	}](t)(armor.Encode(&b, openpgp.PublicKeyType, nil))
	if err := e.Serialize(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.String()
}

func signed(t testing.TB, text string, by ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	keys := make([]*packet.PrivateKey, len(by))
	for i, e := range by {
		keys[i] = e.PrivateKey
	}
	w, err := clearsign.EncodeMulti(&b, keys, config())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	w.Close()
	b.WriteByte('\n')
	return b.Bytes()
}

const releaseText = `Origin: Example
Suite: stable
Codename: trixie
Date: Sat, 28 Feb 2026 09:17:00 UTC
Valid-Until: Sat, 07 Mar 2026 09:17:00 UTC
Components: main
MD5Sum:
 0123456789abcdef0123456789abcdef 10 main/binary-amd64/Packages.xz
SHA256:
 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa       10 main/binary-amd64/Packages.xz
 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0 main/binary-amd64/Release
`

func TestParseRelease(t *testing.T) {
	known, other, third := signer(t, 0), signer(t, 0), signer(t, 0)
	keys := []string{armored(t, third), armored(t, known)}
	for _, by := range [][]*openpgp.Entity{{known}, {other, known}, {known, other}} {
		r, err := deb.ParseRelease("x", signed(t, releaseText, by...), keys, now())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the suite", r.Suite+"/"+r.Codename, "stable/trixie")
		equal(t, "the date", r.Date, time.Date(2026, 2, 28, 9, 17, 0, 0, time.UTC))
		equal(t, "its end", r.ValidUntil, time.Date(2026, 3, 7, 9, 17, 0, 0, time.UTC))
		equalList(t, "the signers", r.Signers, []string{fmt.Sprintf("%X", known.PrimaryKey.Fingerprint)})
		equal(t, "the number of files", len(r.Files), 2)
		equal(t, "a file", r.Files["main/binary-amd64/Packages.xz"], deb.IndexFile{Size: 10, SHA256: strings.Repeat("a", 64)})
		equal(t, "the text", strings.TrimSpace(string(r.Text)), strings.TrimSpace(releaseText))
	}
	r := must[*deb.Release](t)(deb.ParseRelease("x", signed(t, releaseText, known, third), keys, now()))
	equal(t, "the number of signers", len(r.Signers), 2)
	day := strings.Replace(releaseText, "28 Feb 2026 09:17:00 UTC", " 1 Mar 2026 10:17:00 +0200", 1)
	r = must[*deb.Release](t)(deb.ParseRelease("x", signed(t, day, known), keys, now()))
	equal(t, "a date with an offset", r.Date, time.Date(2026, 3, 1, 8, 17, 0, 0, time.UTC))
}

// every fixture breaks one rule.
func TestParseReleaseRefuses(t *testing.T) {
	known, other, expired := signer(t, 0), signer(t, 0), signer(t, time.Minute)
	good := string(signed(t, releaseText, known))
	sign := func(text string) string { return string(signed(t, text, known)) }
	begin := strings.Index(good, "-----BEGIN PGP SIGNATURE")
	for what, c := range map[string]struct{ text, want string }{
		"another key":              {string(signed(t, releaseText, other)), "verify the signature"},
		"an expired key":           {string(signed(t, releaseText, expired)), "verify the signature"},
		"tampered text":            {strings.Replace(good, "aaaa", "aaab", 1), "verify the signature"},
		"another text's signature": {good[:begin] + sign("Date: x\n")[strings.Index(sign("Date: x\n"), "-----BEGIN PGP SIGNATURE"):], "verify the signature"},
		"no signature":             {releaseText, "not a signed index"},
		"nothing":                  {"", "not a signed index"},
		"text before":              {"SHA256:\n" + good, "not a signed index"},
		"text behind":              {good + "SHA256:\n", "text outside"},
		"two messages":             {good + good, "text outside"},
		"a cut signature":          {good[:begin+60], "x"},
		"an old index":             {sign(strings.Replace(releaseText, "07 Mar", "28 Feb", 1)), "expired on"},
		"no date":                  {sign(strings.Replace(releaseText, "Date: S", "Day: S", 1)), "read x"},
		"a bad end":                {sign(strings.Replace(releaseText, "07 Mar", "7th of March", 1)), "read x"},
		"a short digest":           {sign(strings.Replace(releaseText, "aaaa", "", 1)), "bad SHA256"},
		"a digest that is none":    {sign(strings.Replace(releaseText, "aaaa", "/../", 1)), "bad SHA256"},
		"a bad size":               {sign(strings.Replace(releaseText, " 0 main", " -1 main", 1)), "bad size"},
		"two paragraphs":           {sign(releaseText + "\nSuite: x\n"), "more than one paragraph"},
	} {
		r, err := deb.ParseRelease("x", []byte(c.text), []string{armored(t, known), armored(t, expired)}, now())
		if err == nil {
			t.Errorf("%s: accepted: %+v", what, r)
			continue
		}
		if fault.KindOf(err) != fault.Integrity || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s fault %v, want %q", what, fault.KindOf(err), err, c.want)
		}
	}
	if _, err := deb.ParseRelease("x", []byte(good), nil, now()); err == nil {
		t.Error("an index is accepted without any key")
	}
}

func FuzzParseRelease(f *testing.F) {
	known := signer(f, 0)
	key := armored(f, known)
	good := signed(f, releaseText, known)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("aaaa"), []byte("aaab"), 1))
	f.Add(signed(f, "Date: x\n", known))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := deb.ParseRelease("x", text, []string{key}, now())
		if err != nil {
			if fault.KindOf(err) != fault.Integrity {
				t.Errorf("a %s fault: %v", fault.KindOf(err), err)
			}
			return
		}
		// No key of this process can have signed anything but the seeds.
		if got := strings.TrimSpace(string(r.Text)); got != strings.TrimSpace(releaseText) {
			t.Errorf("a text that was never signed is accepted: %q", got)
		}
	})
}
