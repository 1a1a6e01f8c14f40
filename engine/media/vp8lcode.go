package media

// prefixCode is a canonical prefix code: how many codes there are of each
// length, and the symbols in the order of their codes. It takes two bytes for a
// symbol that occurs and none for others.
type prefixCode struct {
	count  [maxCode + 1]uint16
	symbol []uint16
}

const maxCode = 15

// symbol reads one symbol. Codes come with their highest bit first.
func (d *vp8l) symbol(c *prefixCode) uint32 {
	if len(c.symbol) == 1 {
		return uint32(c.symbol[0]) // takes no bits
	}
	if d.n < maxCode {
		d.fill()
	}
	code, first, index := 0, 0, 0
	for n := uint(1); n <= maxCode; n++ {
		code |= int(d.bits>>(n-1)) & 1
		count := int(c.count[n])
		if code-first < count {
			d.bits >>= n
			d.n -= n
			return uint32(c.symbol[index+code-first])
		}
		index, first = index+count, (first+count)<<1
		code <<= 1
	}
	d.bad = true
	return 0
}

// prefixCode reads the lengths of a code over n symbols.
// Spec: RFC 9649, section 3.7.2.1.
func (d *vp8l) prefixCode(c *prefixCode, n int) {
	if d.bad {
		return
	}
	if d.read(1) != 0 {
		d.simpleCode(c, n)
		return
	}
	var order = [...]byte{17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	var first [len(order)]byte
	for _, i := range order[:4+d.read(4)] {
		first[i] = byte(d.read(3))
	}
	var lengths prefixCode
	d.build(&lengths, first[:])
	left := n
	if d.read(1) != 0 {
		bits := 2 + 2*uint(d.read(3))
		left = 2 + int(d.read(bits))
	}
	var room [256 + 24 + 1<<11]byte
	list, last := room[:n], byte(8)
	for i := 0; i < n && left > 0 && !d.bad; left-- {
		sym := d.symbol(&lengths)
		if sym < 16 {
			if list[i] = byte(sym); sym != 0 {
				last = byte(sym)
			}
			i++
			continue
		}
		value, again := byte(0), 0
		switch sym {
		case 16:
			value, again = last, 3+int(d.read(2))
		case 17:
			again = 3 + int(d.read(3))
		default:
			again = 11 + int(d.read(7))
		}
		if again > n-i {
			d.bad = true
			return
		}
		for range again {
			list[i] = value
			i++
		}
	}
	d.build(c, list)
}

// simpleCode is one of one or two symbols.
func (d *vp8l) simpleCode(c *prefixCode, n int) {
	two := d.read(1) != 0
	bits := uint(1)
	if d.read(1) != 0 {
		bits = 8
	}
	c.symbol = []uint16{uint16(d.read(bits))}
	if two {
		a, b := c.symbol[0], uint16(d.read(8))
		c.symbol = []uint16{min(a, b), max(a, b)}
		c.count[1] = 2
		d.bad = d.bad || a == b || int(b) >= n
	}
	d.bad = d.bad || int(c.symbol[0]) >= n
}

// build makes the code of the lengths. It must be complete: each run of bits
// means something, and nothing is meant twice.
func (d *vp8l) build(c *prefixCode, lengths []byte) {
	used, open := 0, 1
	for _, n := range lengths {
		if n > 0 {
			c.count[n]++
			used++
		}
	}
	for _, n := range c.count[1:] {
		open = open<<1 - int(n)
		if open < 0 {
			d.bad = true
			return
		}
	}
	if d.symbols += used; used == 0 || used > 1 && open != 0 || d.symbols > maxSymbols {
		d.bad = true
		return
	}
	var at [maxCode + 1]int
	for n := 1; n < maxCode; n++ {
		at[n+1] = at[n] + int(c.count[n])
	}
	c.symbol = make([]uint16, used)
	for sym, n := range lengths {
		if n > 0 {
			c.symbol[at[n]] = uint16(sym)
			at[n]++
		}
	}
}
