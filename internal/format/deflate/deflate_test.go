package deflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// check encodes data, decodes it with the standard library and looks at every
// promise that the package makes.
func check(t *testing.T, e *Encoder, data []byte) []byte {
	t.Helper()
	stream := e.Encode([]byte("prefix"), data)
	if !bytes.HasPrefix(stream, []byte("prefix")) {
		t.Fatal("Encode overwrote what it was to append to")
	}
	stream = stream[6:]
	if limit := len(data) + 5*(len(data)/65535+2); len(stream) > limit {
		t.Fatalf("%d bytes became %d, more than %d", len(data), len(stream), limit)
	}
	r := bytes.NewReader(stream)
	got, err := io.ReadAll(flate.NewReader(r))
	if err != nil {
		t.Fatalf("the standard library refuses the stream: %v", err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back as %d other bytes", len(data), len(got))
	}
	if r.Len() != 0 {
		t.Fatalf("%d bytes follow the end of the stream", r.Len())
	}
	if fresh := NewEncoder().Encode(nil, data); !bytes.Equal(fresh, stream) {
		t.Fatal("the result depends on what the encoder did before")
	}
	var f finder
	f.reset()
	for _, token := range f.tokenize(nil, data) {
		if dist := token&0xffff + 1; token >= matchFlag && dist > Window {
			t.Fatalf("a match reaches back %d bytes", dist)
		}
	}
	return stream
}

// samples are inputs that reach every kind of block and match.
func samples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<16)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	var skewed []byte // a tree deeper than 15 bits wants to be
	a, b := 1, 1
	for c := byte(0); c < 22; c++ {
		skewed = append(skewed, bytes.Repeat([]byte{c}, a)...)
		a, b = b, a+b
	}
	rng.Shuffle(len(skewed), func(i, j int) { skewed[i], skewed[j] = skewed[j], skewed[i] })
	var text strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&text, "line %d of a file: %x\n", i, rng.Uint32()%5000)
	}
	far := slices.Concat(noise[:Window], noise[:Window], noise[1:Window], noise[:64])
	return map[string][]byte{
		"empty": nil, "one": {7}, "three": []byte("aaa"), "four": []byte("aaaa"), "zeros": make([]byte, 1<<16),
		"noise": noise, "skewed": skewed, "text": []byte(text.String()), "window": far,
		"mixed":  slices.Concat([]byte(text.String())[:30000], noise[:20000], make([]byte, 9000), noise[:70]),
		"long":   slices.Concat(bytes.Repeat([]byte(text.String()), 20), noise, noise, noise),
		"sparse": slices.Concat(make([]byte, 30000), []byte{1}, make([]byte, 35000)),
	}
}

func TestEncode(t *testing.T) {
	e := NewEncoder()
	for name, data := range samples() {
		t.Run(name, func(t *testing.T) {
			stream := check(t, e, data)
			t.Logf("%d -> %d", len(data), len(stream))
		})
	}
}

// TestRatio holds the compression to that of the standard library's best
// level, which has a window eight times as large, on data that fits 4 KiB.
func TestRatio(t *testing.T) {
	data := samples()["text"]
	var want bytes.Buffer
	w, err := flate.NewWriter(&want, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Close()
	if got := len(NewEncoder().Encode(nil, data)); got > want.Len()*110/100 {
		t.Errorf("%d bytes, the standard library makes %d", got, want.Len())
	}
}

// TestPositionWraps passes the point where running positions start over.
func TestPositionWraps(t *testing.T) {
	e := NewEncoder()
	data := samples()["text"]
	e.finder.base = restart - int32(len(data))/2
	check(t, e, data)
	if e.finder.base >= restart {
		t.Errorf("position %d was not reset", e.finder.base)
	}
}

func TestLengthsKeepLimit(t *testing.T) {
	var s sorter
	freq := make([]uint32, 30)
	a, b := uint32(1), uint32(1)
	for i := range freq {
		freq[i] = a
		a, b = b, min(a+b, 1<<20)
	}
	codes := make([]code, len(freq))
	for _, limit := range []int{5, 7, 15} {
		s.lengths(codes, freq, limit)
		kraft := 0
		for _, c := range codes {
			if c.len == 0 || int(c.len) > limit {
				t.Fatalf("limit %d: a code of %d bits", limit, c.len)
			}
			kraft += 1 << (limit - int(c.len))
		}
		if kraft != 1<<limit {
			t.Errorf("limit %d: the code is not complete", limit)
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, data := range samples() {
		f.Add(data[:min(len(data), 600)], uint16(1))
	}
	f.Add([]byte("abcabcabd"), uint16(9000))
	e := NewEncoder()
	f.Fuzz(func(t *testing.T, data []byte, repeat uint16) {
		if n := len(data) * int(repeat); n > 0 && n < 1<<16 {
			data = bytes.Repeat(data, int(repeat))
		}
		check(t, e, data)
	})
}

func BenchmarkEncode(b *testing.B) {
	data := samples()["mixed"]
	e := NewEncoder()
	var out []byte
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		out = e.Encode(out[:0], data)
	}
}
