package deflate

// codeSet is what tokens are written with.
type codeSet struct {
	lit  [litSymbols + 2]code // 286 and 287 exist in the fixed code only
	dist [distSymbols + 2]code
	// length holds, for a length less 3, the code with its extra bits behind.
	length [256]longCode
}

type longCode struct {
	bits uint32
	len  uint8
}

func (c *codeSet) finish() {
	assign(c.lit[:])
	assign(c.dist[:])
	for i := range c.length {
		s := lengthSymbol[i]
		lit := c.lit[257+int(s)]
		extra := uint32(i+minMatch) - uint32(lengthBase[s])
		c.length[i] = longCode{uint32(lit.bits) | extra<<lit.len, lit.len + lengthExtra[s]}
	}
}

// blockCodes holds the codes of one block and those that every block may use.
type blockCodes struct {
	fixed, dynamic codeSet
	sort           sorter
	// The code lengths of dynamic, run-length coded: a symbol and its extra bits.
	runs           []run
	runCodes       [19]code
	nLit, nDist    int
	nCode          int
	lengthsScratch []uint8
}

type run struct{ symbol, extra uint8 }

// init makes the fixed codes of RFC 1951 section 3.2.6.
func (c *blockCodes) init() {
	for i := range c.fixed.lit {
		switch {
		case i < 144:
			c.fixed.lit[i].len = 8
		case i < 256:
			c.fixed.lit[i].len = 9
		case i < 280:
			c.fixed.lit[i].len = 7
		default:
			c.fixed.lit[i].len = 8
		}
	}
	for i := range c.fixed.dist {
		c.fixed.dist[i].len = 5
	}
	c.fixed.finish()
}

// build makes the dynamic codes for the counts.
func (c *blockCodes) build(f *frequencies) {
	c.sort.lengths(c.dynamic.lit[:litSymbols], f.lit[:], maxCodeBits)
	c.sort.lengths(c.dynamic.dist[:distSymbols], f.dist[:], maxCodeBits)
	c.dynamic.finish()
	c.nLit, c.nDist = used(c.dynamic.lit[:litSymbols], 257), used(c.dynamic.dist[:distSymbols], 1)
	all := c.lengthsScratch[:0]
	for _, x := range c.dynamic.lit[:c.nLit] {
		all = append(all, x.len)
	}
	for _, x := range c.dynamic.dist[:c.nDist] {
		all = append(all, x.len)
	}
	c.lengthsScratch = all
	c.runs = runs(c.runs[:0], all)
	var freq [19]uint32
	for _, r := range c.runs {
		freq[r.symbol]++
	}
	c.sort.lengths(c.runCodes[:], freq[:], maxCodeCodeBits)
	assign(c.runCodes[:])
	c.nCode = len(codeOrder)
	for c.nCode > 4 && c.runCodes[codeOrder[c.nCode-1]].len == 0 {
		c.nCode--
	}
}

// used returns how many codes are left without the empty ones at the end.
func used(codes []code, atLeast int) int {
	n := len(codes)
	for n > atLeast && codes[n-1].len == 0 {
		n--
	}
	return n
}

// runs appends the lengths in the alphabet of RFC 1951 section 3.2.7: 16
// repeats the last length 3-6 times, 17 and 18 are 3-10 and 11-138 zeros.
func runs(dst []run, lengths []uint8) []run {
	for i := 0; i < len(lengths); {
		v, n := lengths[i], 1
		for i+n < len(lengths) && lengths[i+n] == v {
			n++
		}
		i += n
		if v != 0 {
			dst = append(dst, run{symbol: v})
			n--
		}
		for n >= minMatch {
			switch {
			case v != 0:
				k := min(n, 6)
				dst, n = append(dst, run{16, uint8(k - 3)}), n-k
			case n > 10:
				k := min(n, 138)
				dst, n = append(dst, run{18, uint8(k - 11)}), n-k
			default:
				dst, n = append(dst, run{17, uint8(n - 3)}), 0
			}
		}
		for ; n > 0; n-- {
			dst = append(dst, run{symbol: v})
		}
	}
	return dst
}

func runExtraBits(symbol uint8) uint {
	switch symbol {
	case 16:
		return 2
	case 17:
		return 3
	case 18:
		return 7
	default:
		return 0
	}
}

// writeHeader writes the description of the dynamic codes.
func (c *blockCodes) writeHeader(w *bitWriter) {
	w.bits(uint64(c.nLit-257), 5)
	w.bits(uint64(c.nDist-1), 5)
	w.bits(uint64(c.nCode-4), 4)
	for _, s := range codeOrder[:c.nCode] {
		w.bits(uint64(c.runCodes[s].len), 3)
	}
	for _, r := range c.runs {
		x := c.runCodes[r.symbol]
		w.bits(uint64(x.bits)|uint64(r.extra)<<x.len, uint(x.len)+runExtraBits(r.symbol))
	}
}

// dynamicBits is the exact size of a block in the dynamic codes.
func (c *blockCodes) dynamicBits(f *frequencies) int {
	n := 3 + 14 + 3*c.nCode
	for _, r := range c.runs {
		n += int(c.runCodes[r.symbol].len) + int(runExtraBits(r.symbol))
	}
	return n + c.dynamic.bits(f)
}

// fixedBits is the exact size of a block in the fixed codes.
func (c *blockCodes) fixedBits(f *frequencies) int { return 3 + c.fixed.bits(f) }

func (c *codeSet) bits(f *frequencies) int {
	n := 0
	for i, k := range f.lit[:endOfBlock+1] {
		n += int(k) * int(c.lit[i].len)
	}
	for i, k := range f.lit[endOfBlock+1:] {
		n += int(k) * int(c.lit[endOfBlock+1+i].len+lengthExtra[i])
	}
	for i, k := range f.dist {
		n += int(k) * int(c.dist[i].len+distExtra(uint32(i)))
	}
	return n
}
