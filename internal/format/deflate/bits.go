package deflate

import (
	"encoding/binary"
	"slices"
)

// maxStored is the most bytes that a stored block holds.
const maxStored = 65535

// bitWriter packs bits, least significant first.
type bitWriter struct {
	dst []byte
	acc uint64
	n   uint // bits in acc, below 32 between calls
}

func (w *bitWriter) reset(dst []byte) { w.dst, w.acc, w.n = dst, 0, 0 }

// bits writes the low n <= 32 bits of v; the others must be zero.
func (w *bitWriter) bits(v uint64, n uint) {
	w.acc |= v << w.n
	w.n += n
	if w.n >= 32 {
		w.dst = binary.LittleEndian.AppendUint32(w.dst, uint32(w.acc))
		w.acc >>= 32
		w.n -= 32
	}
}

// flush pads to a whole byte.
func (w *bitWriter) flush() {
	for w.n > 0 {
		w.dst = append(w.dst, byte(w.acc))
		w.acc >>= 8
		w.n -= min(w.n, 8)
	}
}

func (w *bitWriter) finish() []byte {
	w.flush()
	dst := w.dst
	w.dst = nil
	return dst
}

// stored writes raw as stored blocks, at least one.
func (w *bitWriter) stored(raw []byte, last bool) {
	for {
		k := min(len(raw), maxStored)
		w.bits(header(0, last && k == len(raw)), 3)
		w.flush()
		w.dst = binary.LittleEndian.AppendUint16(w.dst, uint16(k))
		w.dst = binary.LittleEndian.AppendUint16(w.dst, ^uint16(k))
		w.dst = append(w.dst, raw[:k]...)
		if raw = raw[k:]; len(raw) == 0 {
			return
		}
	}
}

// tokens writes the tokens and the end of the block. It keeps the writer's
// state in registers: this is the innermost loop.
func (w *bitWriter) tokens(tokens []uint32, c *codeSet) {
	// A token has at most 15+5+15+13 = 48 bits.
	dst := slices.Grow(w.dst, len(tokens)*6+16)
	buf := dst[:cap(dst)]
	at, acc, n := len(dst), w.acc, w.n
	for _, t := range tokens {
		if n >= 32 {
			binary.LittleEndian.PutUint32(buf[at:], uint32(acc))
			acc >>= 32
			n -= 32
			at += 4
		}
		if t < matchFlag {
			x := c.lit[t&0xff]
			acc |= uint64(x.bits) << (n & 63)
			n += uint(x.len)
			continue
		}
		x := c.length[t>>16&0xff]
		acc |= uint64(x.bits) << (n & 63)
		n += uint(x.len)
		if n >= 32 {
			binary.LittleEndian.PutUint32(buf[at:], uint32(acc))
			acc >>= 32
			n -= 32
			at += 4
		}
		d := t & 0xffff
		s := distSymbol(d)
		y := c.dist[s&31]
		extra := distExtra(s)
		acc |= (uint64(y.bits) | uint64(d&(1<<extra-1))<<y.len) << (n & 63)
		n += uint(y.len + extra)
	}
	w.dst, w.acc, w.n = buf[:at], acc, n
	w.bits(0, 0)
	x := c.lit[endOfBlock]
	w.bits(uint64(x.bits), uint(x.len))
}
