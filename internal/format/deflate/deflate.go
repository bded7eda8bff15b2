// Package deflate compresses one block of data at a time into a raw deflate
// stream (RFC 1951) whose matches reach back at most 4 KiB.
//
// That is what the clusters of a qcow2 image need: QEMU reads them with a
// 12-bit window. The general-purpose libraries either have no such window or
// search it too shallowly, so this package has a match finder of its own: hash
// chains that fit the first-level cache, lazy evaluation, and Huffman blocks
// split where the statistics of the data change.
//
// The result depends on the input alone: not on what the encoder compressed
// before, nor on the machine.
package deflate

// Window is the farthest distance of a match, in bytes.
const Window = 4096

const (
	minMatch   = 3
	maxMatch   = 258
	windowMask = Window - 1
	matchFlag  = 1 << 31
	// maxBlockTokens bounds a Huffman block so that its counts fit 16 bits.
	maxBlockTokens = 1<<16 - 1
)

// Encoder compresses. It may be used again and again, but by one goroutine at
// a time. The zero value is not usable; see NewEncoder.
type Encoder struct {
	finder finder
	tokens []uint32
	plan   planner
	out    bitWriter
	codes  blockCodes
}

// NewEncoder returns an encoder of about 0.3 MiB.
func NewEncoder() *Encoder {
	e := &Encoder{}
	e.finder.reset()
	e.codes.init()
	return e
}

// Encode appends a complete deflate stream of src to dst and returns it. The
// stream is at most len(src) + 5*(len(src)/65535+2) bytes long.
func (e *Encoder) Encode(dst, src []byte) []byte {
	e.tokens = e.finder.tokenize(e.tokens[:0], src)
	e.out.reset(dst)
	blocks := e.plan.split(e.tokens)
	pos := 0
	for i, b := range blocks {
		e.writeBlock(src[pos:pos+b.bytes], b, i == len(blocks)-1)
		pos += b.bytes
	}
	return e.out.finish()
}

// writeBlock writes one block in the cheapest of the three ways.
func (e *Encoder) writeBlock(raw []byte, b block, last bool) {
	c := &e.codes
	c.build(&b.freq)
	dynamic, fixed, stored := c.dynamicBits(&b.freq), c.fixedBits(&b.freq), storedBits(len(raw))
	switch {
	case stored < dynamic && stored < fixed:
		e.out.stored(raw, last)
	case fixed <= dynamic:
		e.out.bits(header(1, last), 3)
		e.out.tokens(b.tokens, &c.fixed)
	default:
		e.out.bits(header(2, last), 3)
		c.writeHeader(&e.out)
		e.out.tokens(b.tokens, &c.dynamic)
	}
}

func header(kind uint64, last bool) uint64 {
	if last {
		return kind<<1 | 1
	}
	return kind << 1
}

// storedBits is what a stored block of n bytes costs at most.
func storedBits(n int) int { return 8*n + (3+7+32)*(n/maxStored+1) }
