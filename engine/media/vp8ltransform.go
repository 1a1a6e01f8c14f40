package media

// Kinds of transform. Spec: RFC 9649, section 3.5.
const (
	predict = iota
	crossColor
	subtractGreen
	colorIndex
)

// transform is something the encoder did to the pixels, and with what.
type transform struct {
	kind uint32
	w    int  // of the pixels after undoing it
	bits uint // blocks of the steering image, or pixels in a byte
	data []uint32
}

// transform reads one, and gives the width of what it leaves to be read.
func (d *vp8l) transform(t *transform, h int) int {
	switch t.kind {
	case predict, crossColor:
		t.bits = uint(d.read(3)) + 2
		t.data = d.entropy(blocks(t.w, t.bits), blocks(h, t.bits), false)
	case colorIndex:
		n := int(d.read(8)) + 1
		colors := d.entropy(n, 1, false)
		if d.bad {
			break
		}
		for i := 1; i < n; i++ {
			colors[i] = addPixels(colors[i], colors[i-1])
		}
		t.data = make([]uint32, 256) // what is behind the end is transparent
		copy(t.data, colors)
		switch {
		case n <= 2:
			t.bits = 3
		case n <= 4:
			t.bits = 2
		case n <= 16:
			t.bits = 1
		}
		return blocks(t.w, t.bits)
	}
	return t.w
}

// undo gives the pixels before the transform.
func (t *transform) undo(pix []uint32, h int) []uint32 {
	switch t.kind {
	case predict:
		t.unpredict(pix, h)
	case crossColor:
		t.uncross(pix)
	case subtractGreen:
		for i, c := range pix {
			g := c >> 8 & 0xff
			pix[i] = c&0xff00ff00 | (c+g<<16)&0xff0000 | (c+g)&0xff
		}
	case colorIndex:
		return t.unpack(pix, h)
	}
	return pix
}

func (t *transform) unpack(pix []uint32, h int) []uint32 {
	if t.bits == 0 {
		for i, c := range pix {
			pix[i] = t.data[c>>8&0xff]
		}
		return pix
	}
	out := make([]uint32, t.w*h)
	w, size := blocks(t.w, t.bits), uint(8)>>t.bits // bits of one pixel
	for y := range h {
		for x := range t.w {
			c := pix[y*w+x>>t.bits] >> 8 & 0xff
			c = c >> (uint(x) & (1<<t.bits - 1) * size) & (1<<size - 1)
			out[y*t.w+x] = t.data[c]
		}
	}
	return out
}

func (t *transform) uncross(pix []uint32) {
	bw := blocks(t.w, t.bits)
	delta := func(a, b uint32) uint32 { return uint32(int32(int8(a)) * int32(int8(b)) >> 5) }
	for i, c := range pix {
		m := t.data[(i/t.w>>t.bits)*bw+i%t.w>>t.bits]
		green := c >> 8
		red := c>>16 + delta(m, green)
		blue := c + delta(m>>8, green) + delta(m>>16, red)
		pix[i] = c&0xff00ff00 | red&0xff<<16 | blue&0xff
	}
}

func (t *transform) unpredict(pix []uint32, h int) {
	w, bw := t.w, blocks(t.w, t.bits)
	pix[0] = addPixels(pix[0], 0xff000000)
	for x := 1; x < w; x++ {
		pix[x] = addPixels(pix[x], pix[x-1])
	}
	for y := 1; y < h; y++ {
		i := y * w
		pix[i] = addPixels(pix[i], pix[i-w])
		modes := t.data[(y>>t.bits)*bw:]
		for x := 1; x < w; x++ {
			i++
			// Right of the last pixel of the row above comes the first of this one.
			pix[i] = addPixels(pix[i], predicted(modes[x>>t.bits]>>8&15, pix[i-1], pix[i-w], pix[i-w-1], pix[i-w+1]))
		}
	}
}

// predicted is what a mode says of a pixel by those to its left, top, top left
// and top right. Spec: RFC 9649, section 4.1.
func predicted(mode, l, t, tl, tr uint32) uint32 {
	switch mode {
	case 1:
		return l
	case 2:
		return t
	case 3:
		return tr
	case 4:
		return tl
	case 5:
		return mean(mean(l, tr), t)
	case 6:
		return mean(l, tl)
	case 7:
		return mean(l, t)
	case 8:
		return mean(tl, t)
	case 9:
		return mean(t, tr)
	case 10:
		return mean(mean(l, tl), mean(t, tr))
	case 11:
		return nearer(l, t, tl)
	case 12:
		return each(l, t, tl, func(l, t, tl int) int { return l + t - tl })
	case 13:
		return each(mean(l, t), tl, 0, func(m, tl, _ int) int { return m + (m-tl)/2 })
	}
	return 0xff000000
}

func addPixels(a, b uint32) uint32 {
	return (a&0xff00ff00+b&0xff00ff00)&0xff00ff00 | (a&0x00ff00ff+b&0x00ff00ff)&0x00ff00ff
}

// mean is that of each component, rounded down.
func mean(a, b uint32) uint32 { return (a^b)&0xfefefefe>>1 + a&b }

// nearer is the one of l and t that l + t - tl is nearer to.
func nearer(l, t, tl uint32) uint32 {
	pl, pt := 0, 0
	for s := 0; s < 32; s += 8 {
		a, b, c := int(l>>s&0xff), int(t>>s&0xff), int(tl>>s&0xff)
		pl += abs(b - c)
		pt += abs(a - c)
	}
	if pl < pt {
		return l
	}
	return t
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}

// each puts f of each component together, cut to what a component holds.
func each(a, b, c uint32, f func(a, b, c int) int) (out uint32) {
	for s := 0; s < 32; s += 8 {
		v := f(int(a>>s&0xff), int(b>>s&0xff), int(c>>s&0xff))
		out |= uint32(min(max(v, 0), 255)) << s
	}
	return out
}
