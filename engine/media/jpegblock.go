package media

// fill reads bytes until there are more than 56 bits. A zero behind a 0xff is
// stuffing, anything else a marker, which is left to be read; from there on
// there are zeros, as there are behind the end: a picture that was cut is grey
// where nothing came. Spec: ITU T.81, F.2.2.5.
func (d *jpegRows) fill() {
	for d.n <= 56 {
		d.bits, d.n = d.bits<<8|uint64(d.data()), d.n+8
	}
}

func (d *jpegRows) data() byte {
	if d.ended {
		return 0
	}
	c, err := d.r.ReadByte()
	if err != nil {
		d.ended = true
		return 0
	}
	if c != 0xff {
		return c
	}
	m := byte(0xff)
	for m == 0xff && err == nil {
		m, err = d.r.ReadByte()
	}
	if err == nil && m == 0 {
		return 0xff
	}
	if d.ended = true; err == nil {
		_ = d.r.UnreadByte() // it was read just now
	}
	return 0
}

// symbol reads one symbol.
func (d *jpegRows) symbol(c *jpegCode) (byte, error) {
	if d.n < 16 {
		d.fill()
	}
	if f := c.fast[byte(d.bits>>(d.n-8))]; f != 0 {
		d.n -= uint(f >> 8)
		return byte(f), nil
	}
	for n := uint(1); n <= 16; n++ {
		code := int32(d.bits>>(d.n-n)) & (1<<n - 1)
		if code <= c.most[n] {
			if at := code + c.offset[n]; at >= 0 && int(at) < len(c.symbol) {
				d.n -= n
				return c.symbol[at], nil
			}
			break
		}
	}
	return 0, errPicture
}

// number reads a value of so many bits. Spec: ITU T.81, F.2.2.1, EXTEND.
func (d *jpegRows) number(n uint) int32 {
	if n == 0 {
		return 0
	}
	if d.n < n {
		d.fill()
	}
	d.n -= n
	v := int32(d.bits>>d.n) & (1<<n - 1)
	if v < 1<<(n-1) {
		v -= 1<<n - 1
	}
	return v
}

// block reads one block into coef, as far as it is of use.
func (d *jpegRows) block(c *jpegComp) error {
	q := &d.quant[c.quant]
	clear(d.coef[:])
	d.rowsUsed, d.colsUsed = 1, 1
	n, err := d.symbol(&d.codes[0][c.dc])
	if err != nil || n > 15 {
		return errPicture
	}
	c.last += d.number(uint(n))
	d.coef[0] = float32(c.last) * float32(q[0])
	ac := &d.codes[1][c.ac]
	for k := 1; k < 64; k++ {
		rs, err := d.symbol(ac)
		if err != nil {
			return err
		}
		run, n := int(rs>>4), uint(rs&15)
		if n == 0 {
			if run < 15 {
				break // the rest is zeros
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return errPicture
		}
		v := d.number(n)
		at := int(zigzag[k])
		if row, col := at/8, at%8; row < d.side && col < d.side {
			d.coef[at] = float32(v) * float32(q[k])
			d.rowsUsed, d.colsUsed = max(d.rowsUsed, row+1), max(d.colsUsed, col+1)
		}
	}
	return nil
}

// draw transforms coef and writes side by side pixels.
func (d *jpegRows) draw(to []byte, stride int) {
	n := d.side
	if d.rowsUsed == 1 && d.colsUsed == 1 {
		v := level(d.coef[0] / 8)
		for y := range n {
			for x := range n {
				to[y*stride+x] = v
			}
		}
		return
	}
	var half [8][8]float32 // rows of frequencies, columns of pixels
	for fy := range d.rowsUsed {
		for x := range n {
			var s float32
			for fx := range d.colsUsed {
				s += d.basis[x][fx] * d.coef[8*fy+fx]
			}
			half[fy][x] = s
		}
	}
	for y := range n {
		b := &d.basis[y]
		for x := range n {
			var s float32
			for fy := range d.rowsUsed {
				s += b[fy] * half[fy][x]
			}
			to[y*stride+x] = level(s)
		}
	}
}

// level brings a value around zero to a byte.
func level(v float32) byte { return byte(min(max(v+128.5, 0), 255)) }
