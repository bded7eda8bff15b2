package deflate

import "math/bits"

const (
	litSymbols  = 286
	distSymbols = 30
	endOfBlock  = 256
	// chunkTokens is the grain at which a block may end.
	chunkTokens = 2048
	// headerBits is what the description of a block's codes typically costs.
	headerBits = 70 * 8
)

// frequencies counts the symbols of a block.
type frequencies struct {
	lit  [litSymbols]uint32
	dist [distSymbols]uint32
}

// block is a run of tokens that share one set of codes.
type block struct {
	tokens []uint32
	bytes  int // of input
	freq   frequencies
}

// planner cuts the tokens of an input into blocks.
type planner struct{ blocks []block }

// split cuts tokens into blocks: a new one begins where describing new codes
// costs less than coding on with the old ones. There is at least one block.
func (p *planner) split(tokens []uint32) []block {
	p.blocks = p.blocks[:0]
	var cur block
	curCost := 0
	for start := 0; start < len(tokens); start += chunkTokens {
		next := count(tokens[start:min(start+chunkTokens, len(tokens))])
		nextCost := next.freq.cost()
		joint := cur.freq
		joint.add(&next.freq)
		jointCost := joint.cost()
		full := len(cur.tokens)+len(next.tokens) > maxBlockTokens
		if len(cur.tokens) > 0 && (full || curCost+nextCost+headerBits < jointCost) {
			p.push(cur)
			cur, curCost = next, nextCost
			continue
		}
		cur.tokens = tokens[start-len(cur.tokens) : start+len(next.tokens)]
		cur.bytes += next.bytes
		cur.freq, curCost = joint, jointCost
	}
	p.push(cur)
	return p.blocks
}

func (p *planner) push(b block) {
	b.freq.lit[endOfBlock] = 1
	p.blocks = append(p.blocks, b)
}

// count returns the tokens as a block of their own.
func count(tokens []uint32) block {
	b := block{tokens: tokens}
	for _, t := range tokens {
		if t < matchFlag {
			b.freq.lit[t]++
			b.bytes++
			continue
		}
		length := t >> 16 & 0xff
		b.freq.lit[257+uint32(lengthSymbol[length])]++
		b.freq.dist[distSymbol(t&0xffff)]++
		b.bytes += int(length) + minMatch
	}
	return b
}

func (f *frequencies) add(g *frequencies) {
	for i, n := range g.lit {
		f.lit[i] += n
	}
	for i, n := range g.dist {
		f.dist[i] += n
	}
}

// cost estimates the bits of the symbols, extra bits aside, by their entropy.
func (f *frequencies) cost() int { return (entropy(f.lit[:]) + entropy(f.dist[:])) >> logScale }

// entropy is in units of 1/1<<logScale bits. Whole numbers keep the result the
// same on every machine.
func entropy(freq []uint32) int {
	total, sum := 0, 0
	for _, n := range freq {
		if n != 0 {
			total += int(n)
			sum += int(n) * log2(n)
		}
	}
	if total == 0 {
		return 0
	}
	return total*log2(uint32(total)) - sum
}

const logScale = 12

// log2 is the binary logarithm of n > 0 in units of 1/1<<logScale, to within
// a hundredth: a parabola between the powers of two.
func log2(n uint32) int {
	e := bits.Len32(n) - 1
	x := int(uint64(n)<<logScale>>e) - 1<<logScale
	curve := x * (1<<logScale - x) >> logScale
	return e<<logScale + x + curve*354>>10
}
