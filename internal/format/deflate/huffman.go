package deflate

import (
	"math/bits"
	"slices"
)

// The symbols of lengths and distances, RFC 1951 section 3.2.5.
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31,
		35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
		3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	lengthSymbol = lengthSymbols()
	// codeOrder is the order in which the lengths of the code length codes come.
	codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

// lengthSymbols returns the symbol, less 257, of each length less 3.
func lengthSymbols() (table [256]uint8) {
	for s := range lengthBase {
		for i := int(lengthBase[s]) - minMatch; i < len(table); i++ {
			table[i] = uint8(s)
		}
	}
	return table
}

// distSymbol returns the symbol of a distance less 1.
func distSymbol(d uint32) uint32 {
	if d < 4 {
		return d
	}
	n := uint32(bits.Len32(d)) - 1
	return n<<1 | d>>(n-1)&1
}

// distExtra returns how many extra bits a distance symbol has.
func distExtra(symbol uint32) uint8 { return uint8(max(symbol>>1, 1) - 1) }

const (
	maxCodeBits     = 15
	maxCodeCodeBits = 7
)

// code is a Huffman code, bit-reversed as deflate wants it.
type code struct {
	bits uint16
	len  uint8
}

// sorter builds code lengths from counts; its fields are scratch space.
type sorter struct {
	keys   []uint32 // count<<9 | symbol, ascending
	weight [2 * litSymbols]uint32
	parent [2 * litSymbols]uint16
	depth  [2 * litSymbols]uint8
}

// lengths sets the length of each symbol's code so that the whole is as short
// as a Huffman code of at most limit bits can be, or nearly so where the limit
// bites. At least two symbols get a code, as some decoders refuse a lone one.
func (s *sorter) lengths(codes []code, freq []uint32, limit int) {
	s.collect(codes, freq)
	n := len(s.keys)
	s.tree(n)
	var perLen [maxCodeBits + 1]int
	s.depth[2*n-2] = 0
	for i := 2*n - 3; i >= 0; i-- {
		s.depth[i] = s.depth[s.parent[i]] + 1
		if i < n {
			perLen[min(int(s.depth[i]), limit)]++
		}
	}
	fitLimit(&perLen, limit)
	// The rarest symbols get the longest codes.
	i := 0
	for l := limit; l > 0; l-- {
		for range perLen[l] {
			codes[s.keys[i]&511].len = uint8(l)
			i++
		}
	}
}

// collect sorts the symbols that occur by their counts.
func (s *sorter) collect(codes []code, freq []uint32) {
	s.keys = s.keys[:0]
	for i, n := range freq {
		codes[i] = code{}
		if n != 0 {
			s.keys = append(s.keys, n<<9|uint32(i))
		}
	}
	for i := uint32(0); len(s.keys) < 2; i++ {
		if freq[i] == 0 {
			s.keys = append(s.keys, i)
		}
	}
	slices.Sort(s.keys)
}

// tree joins the two lightest nodes until one is left. Leaves are 0..n-1;
// inner nodes follow in ascending weight, so two queues do for a heap.
func (s *sorter) tree(n int) {
	for i, k := range s.keys {
		s.weight[i] = k >> 9
	}
	leaf, inner := 0, n
	for next := n; next < 2*n-1; next++ {
		var sum uint32
		for range 2 {
			pick := &inner
			if leaf < n && (inner == next || s.weight[leaf] <= s.weight[inner]) {
				pick = &leaf
			}
			sum += s.weight[*pick]
			s.parent[*pick] = uint16(next)
			*pick++
		}
		s.weight[next] = sum
	}
}

// fitLimit lengthens codes shorter than limit until those cut down to limit
// fit: the Kraft sum must be exactly one.
func fitLimit(perLen *[maxCodeBits + 1]int, limit int) {
	sum := 0
	for l := 1; l <= limit; l++ {
		sum += perLen[l] << (limit - l)
	}
	for ; sum > 1<<limit; sum-- {
		l := limit - 1
		for perLen[l] == 0 {
			l--
		}
		// One code of l bits becomes two of l+1; the second takes over from
		// one of limit bits.
		perLen[l]--
		perLen[l+1] += 2
		perLen[limit]--
	}
}

// assign gives the codes their bits in canonical order (RFC 1951, 3.2.2).
func assign(codes []code) {
	var perLen, next [maxCodeBits + 2]uint16
	for _, c := range codes {
		perLen[c.len]++
	}
	perLen[0] = 0
	for l := 1; l <= maxCodeBits; l++ {
		next[l+1] = (next[l] + perLen[l]) << 1
	}
	for i := range codes {
		if l := codes[i].len; l != 0 {
			codes[i].bits = bits.Reverse16(next[l]) >> (16 - l)
			next[l]++
		}
	}
}
