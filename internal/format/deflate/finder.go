package deflate

import (
	"encoding/binary"
	"math/bits"
)

const (
	hashBits  = 14
	hash3Bits = 12
	maxChain  = 24   // candidates looked at for a match
	goodMatch = 12   // with a match this long the search for a better one is shortened
	niceMatch = 128  // a match this long is taken at once
	maxLazy   = 32   // a match this long is not weighed against the next
	tooFar    = 4096 // a match of 3 bytes costs more than its bytes beyond this
	skipShift = 7    // after 1<<skipShift literals in a row every second place is looked at, and so on
	// restart is where the running position starts over.
	restart = 1 << 30
)

// finder turns bytes into literals and matches. Positions run on from one
// input to the next, farther apart than Window, so that what an earlier input
// left in the tables is out of reach and nothing has to be cleared.
type finder struct {
	head  [1 << hashBits]int32  // last position of a hash of four bytes
	head3 [1 << hash3Bits]int32 // the same of three bytes
	prev  [Window]uint16        // distance to the one before with the same hash
	base  int32                 // position of the input's first byte
	src   []byte
}

func (f *finder) reset() {
	clear(f.head[:])
	clear(f.head3[:])
	f.base = Window + 1
}

type match struct{ length, dist int }

// betterThan weighs a match one byte later against m: the length it gains
// against the bits that its distance costs.
func (m match) betterThan(old match) bool {
	if m.length == 0 {
		return false
	}
	return 4*(m.length-old.length)+bits.Len(uint(old.dist))-bits.Len(uint(m.dist)) > 2
}

// tokenize appends the tokens of src: a literal is its byte, a match is
// matchFlag | (length-3)<<16 | distance-1.
func (f *finder) tokenize(tokens []uint32, src []byte) []uint32 {
	if int(f.base)+len(src) > restart {
		f.reset()
	}
	f.src = src
	cur, have := match{}, false
	misses := 0 // literals since the last match
	for i := 0; i < len(src); {
		if !have {
			cur = f.find(i, 0)
		}
		have = false
		if cur.length == 0 {
			tokens = append(tokens, uint32(src[i]))
			i++
			// What has not repeated for long is likely noise: look less often.
			for n := misses >> skipShift; n > 0 && i < len(src); n-- {
				tokens = append(tokens, uint32(src[i]))
				i++
			}
			misses++
			continue
		}
		misses = 0
		if cur.length < maxLazy && i+1 < len(src) {
			if next := f.find(i+1, cur.length); next.betterThan(cur) {
				tokens = append(tokens, uint32(src[i]))
				cur, have = next, true
				i++
				continue
			}
			f.insert(i+2, i+cur.length)
		} else {
			f.insert(i+1, i+cur.length)
		}
		tokens = append(tokens, matchFlag|uint32(cur.length-minMatch)<<16|uint32(cur.dist-1))
		i += cur.length
	}
	f.base += int32(len(src)) + Window + 1
	f.src = nil
	return tokens
}

func hash4(v uint32) uint32 { return v * 0x9E3779B1 >> (32 - hashBits) }
func hash3(v uint32) uint32 { return v << 8 * 0x9E3779B1 >> (32 - hash3Bits) }

// insert makes the positions from, from+1, ... to-1 known.
func (f *finder) insert(from, to int) {
	src := f.src
	to = min(to, len(src)-3)
	for i := from; i < to; i++ {
		v := binary.LittleEndian.Uint32(src[i:])
		pos := f.base + int32(i)
		h := &f.head[hash4(v)]
		f.prev[pos&windowMask] = distance16(pos - *h)
		*h = pos
		f.head3[hash3(v)] = pos
	}
}

func distance16(d int32) uint16 {
	if d > Window {
		return Window + 1
	}
	return uint16(d)
}

// find makes position i known and returns the best match there, if there is
// one as long as atLeast.
func (f *finder) find(i, atLeast int) (best match) {
	src := f.src
	if i+4 > len(src) {
		return best
	}
	v := binary.LittleEndian.Uint32(src[i:])
	pos := f.base + int32(i)
	h := &f.head[hash4(v)]
	dist := pos - *h
	f.prev[pos&windowMask] = distance16(dist)
	*h = pos
	h3 := &f.head3[hash3(v)]
	dist3 := pos - *h3
	*h3 = pos
	chain := maxChain
	if atLeast >= goodMatch {
		chain = maxChain / 4
	}
	bestLen := max(atLeast-1, minMatch)
	limit := min(maxMatch, len(src)-i)
	if bestLen >= limit {
		return best
	}
	for d := int(dist); d <= Window; chain-- {
		// The byte that would make the match longer decides first.
		at := i - d
		if src[at+bestLen] == src[i+bestLen] && binary.LittleEndian.Uint32(src[at:]) == v {
			if n := matchLen(src, at, i, limit); n > bestLen {
				bestLen, best = n, match{n, d}
				if n >= niceMatch || n == limit {
					return best
				}
			}
		}
		if chain == 0 {
			break
		}
		d += int(f.prev[(pos-int32(d))&windowMask])
	}
	if best.length == 0 && atLeast <= minMatch && dist3 <= tooFar {
		at := i - int(dist3)
		if (binary.LittleEndian.Uint32(src[at:])^v)<<8 == 0 {
			return match{minMatch, int(dist3)}
		}
	}
	return best
}

// matchLen returns how many bytes at a and b, a < b, are equal, at most limit.
func matchLen(src []byte, a, b, limit int) int {
	n := 0
	for n+8 <= limit {
		x := binary.LittleEndian.Uint64(src[a+n:]) ^ binary.LittleEndian.Uint64(src[b+n:])
		if x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < limit && src[a+n] == src[b+n] {
		n++
	}
	return n
}
