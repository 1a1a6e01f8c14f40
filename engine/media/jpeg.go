package media

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// jpegRows reads a baseline JPEG, which is what cameras make, one row of blocks
// at a time, and each block only as finely as the thumbnail needs: where eight
// pixels become one, a block's mean is all that is computed. A photograph of 50
// megapixels takes some hundred kilobytes this way. Package image/jpeg holds all
// of the picture, 1.5 to 3 bytes a pixel; it is used for the progressive ones,
// which cannot be read so, and for unusual ones.
type jpegRows struct {
	r     *bufio.Reader
	bits  uint64
	n     uint // bits in bits
	ended bool // a marker has come, or the end: zeros follow

	w, h       int
	hmax, vmax int
	comps      []jpegComp
	quant      [4][64]uint16
	codes      [2][4]jpegCode // DC and AC
	restart    int            // blocks of MCUs between restarts; 0: none

	side  int           // of what is made of a block: 8, 4, 2 or 1
	basis [8][8]float32 // of the transform to so many pixels
	coef  [64]float32   // of the present block, row by row

	rowsUsed, colsUsed int // of coef: what is behind them is zero
}

// jpegComp is one component.
type jpegComp struct {
	id            byte
	h, v          int // blocks of an MCU
	quant, dc, ac byte
	last          int32  // DC of the block before
	stride        int    // bytes of a row
	rows          []byte // one row of MCUs
	width, height int    // of the part that is shown
	shown         int    // rows that were put
}

// jpegCode is a prefix code: first those of up to eight bits by look-up, then by
// the greatest code of each length.
type jpegCode struct {
	fast   [256]uint16 // length in the high byte, symbol in the low one
	most   [17]int32   // greatest code of a length; -1 where there is none
	offset [17]int32   // to add to a code for its place in symbols
	symbol []byte
}

// errUnusual is what image/jpeg may still be able to read.
var errUnusual = errors.New("media: not a JPEG that can be read row by row")

// zigzag is the order of a block's coefficients. Spec: ITU T.81, figure 5.
const zigzag = "\x00\x01\x08\x10\x09\x02\x03\x0a\x11\x18\x20\x19\x12\x0b\x04\x05\x0c\x13\x1a\x21\x28\x30\x29\x22\x1b\x14\x0d\x06\x07\x0e\x15\x1c" +
	"\x23\x2a\x31\x38\x39\x32\x2b\x24\x1d\x16\x0f\x17\x1e\x25\x2c\x33\x3a\x3b\x34\x2d\x26\x1f\x27\x2e\x35\x3c\x3d\x36\x2f\x37\x3e\x3f"

// openJPEG reads up to the pixels. At least shrink pixels across and down will
// become one; what is decoded is at least twice as fine as that, since means of
// parts of means are blurred.
func openJPEG(r io.Reader, shrink float64) (*raster, error) {
	d := &jpegRows{r: bufio.NewReader(r), side: 8}
	for d.side > 1 && shrink*float64(d.side) >= 32 {
		d.side /= 2
	}
	for x := range d.side {
		for u := range d.side {
			d.basis[x][u] = float32(0.5 * math.Cos(float64(2*x+1)*float64(u)*math.Pi/float64(2*d.side)))
		}
		d.basis[x][0] = float32(math.Sqrt(0.125))
	}
	if err := d.header(); err != nil {
		return nil, err
	}
	ra := &raster{w: d.w, h: d.h, scan: d.scan}
	for i := range d.comps {
		c := &d.comps[i]
		ra.parts = append(ra.parts, part{w: c.width, h: c.height, n: 1, full: [2]float64{
			float64(d.w*c.h*d.side) / float64(8*d.hmax), float64(d.h*c.v*d.side) / float64(8*d.vmax),
		}})
	}
	return ra, nil
}

// header reads the markers up to the scan. Spec: ITU T.81, annex B.
func (d *jpegRows) header() error {
	var b [2]byte
	if _, err := io.ReadFull(d.r, b[:]); err != nil {
		return errPicture
	}
	for range 4 * maxParts {
		if _, err := io.ReadFull(d.r, b[:]); err != nil || b[0] != 0xff {
			return errPicture
		}
		for b[1] == 0xff {
			var err error
			if b[1], err = d.r.ReadByte(); err != nil {
				return errPicture
			}
		}
		marker := b[1]
		if _, err := io.ReadFull(d.r, b[:]); err != nil {
			return errPicture
		}
		n := int(binary.BigEndian.Uint16(b[:])) - 2
		if n < 0 {
			return errPicture
		}
		done, err := d.marker(marker, n)
		if done || err != nil {
			return err
		}
	}
	return errPicture
}

// marker reads one segment; done says that the pixels follow.
func (d *jpegRows) marker(marker byte, n int) (done bool, err error) {
	switch marker {
	case 0xc0, 0xc1, 0xc4, 0xda, 0xdb, 0xdd:
	default:
		_, err := d.r.Discard(n)
		return false, err
	}
	if n > 4<<10 {
		return false, errPicture
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(d.r, body); err != nil {
		return false, errPicture
	}
	switch marker {
	case 0xc4:
		return false, d.defineCodes(body)
	case 0xda:
		return true, d.beginScan(body)
	case 0xdb:
		return false, d.defineQuant(body)
	case 0xdd:
		if n < 2 {
			return false, errPicture
		}
		d.restart = int(binary.BigEndian.Uint16(body))
		return false, nil
	}
	return false, d.beginFrame(body)
}

func (d *jpegRows) defineQuant(b []byte) error {
	for len(b) > 0 {
		wide, to := b[0]>>4, b[0]&15
		size := 64 << (wide & 1)
		if wide > 1 || to > 3 || len(b) < 1+size {
			return errPicture
		}
		for i := range 64 {
			if wide == 1 {
				d.quant[to][i] = binary.BigEndian.Uint16(b[1+2*i:])
			} else {
				d.quant[to][i] = uint16(b[1+i])
			}
		}
		b = b[1+size:]
	}
	return nil
}

// defineCodes reads prefix codes. Spec: ITU T.81, annex C.
func (d *jpegRows) defineCodes(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 || b[0]>>4 > 1 || b[0]&15 > 3 {
			return errPicture
		}
		c := &d.codes[b[0]>>4][b[0]&15]
		*c = jpegCode{}
		total, code := 0, int32(0)
		for n := 1; n <= 16; n++ {
			count := int32(b[n])
			c.offset[n], c.most[n] = int32(total)-code, -1
			if count > 0 {
				c.most[n] = code + count - 1
			}
			code, total = (code+count)<<1, total+int(count)
			if code > 2<<n {
				return errPicture // more codes than there are
			}
		}
		if total > 256 || len(b) < 17+total {
			return errPicture
		}
		c.symbol = b[17:][:total]
		at := int32(0)
		for n := 1; n <= 8; n++ {
			for range b[n] {
				code := at - c.offset[n]
				for i := range int32(1) << (8 - n) {
					c.fast[code<<(8-n)+i] = uint16(n)<<8 | uint16(c.symbol[at])
				}
				at++
			}
		}
		b = b[17+total:]
	}
	return nil
}

func (d *jpegRows) beginFrame(b []byte) error {
	if len(b) < 6 || len(d.comps) > 0 {
		return errPicture
	}
	n := int(b[5])
	if b[0] != 8 || n != 1 && n != 3 || len(b) < 6+3*n {
		return errUnusual
	}
	d.h, d.w = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	if d.w == 0 || d.h == 0 {
		return errPicture
	}
	d.hmax, d.vmax = 1, 1
	for i := range n {
		c := jpegComp{id: b[6+3*i], h: int(b[7+3*i] >> 4), v: int(b[7+3*i] & 15), quant: b[8+3*i]}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.quant > 3 {
			return errPicture
		}
		if n == 1 {
			c.h, c.v = 1, 1 // alone, it comes block by block
		}
		d.hmax, d.vmax = max(d.hmax, c.h), max(d.vmax, c.v)
		d.comps = append(d.comps, c)
	}
	across := (d.w + 8*d.hmax - 1) / (8 * d.hmax)
	for i := range d.comps {
		c := &d.comps[i]
		c.stride = across * c.h * d.side
		c.rows = make([]byte, c.stride*c.v*d.side)
		c.width = min((d.w*c.h*d.side+8*d.hmax-1)/(8*d.hmax), c.stride)
		c.height = (d.h*c.v*d.side + 8*d.vmax - 1) / (8 * d.vmax)
	}
	return nil
}

func (d *jpegRows) beginScan(b []byte) error {
	n := len(d.comps)
	if n == 0 || len(b) < 4+2*n || int(b[0]) != n {
		return errUnusual // one scan for each component
	}
	for i := range d.comps {
		c := &d.comps[i]
		if b[1+2*i] != c.id || b[2+2*i]>>4 > 3 || b[2+2*i]&15 > 3 {
			return errUnusual
		}
		c.dc, c.ac = b[2+2*i]>>4, b[2+2*i]&15
		if len(d.codes[0][c.dc].symbol) == 0 || len(d.codes[1][c.ac].symbol) == 0 {
			return errPicture
		}
	}
	return nil
}

// scan decodes the pixels.
func (d *jpegRows) scan(put func(part, y int, row []byte)) error {
	across, down := (d.w+8*d.hmax-1)/(8*d.hmax), (d.h+8*d.vmax-1)/(8*d.vmax)
	mcus := 0
	for range down {
		for x := range across {
			if d.restart > 0 && mcus > 0 && mcus%d.restart == 0 {
				if err := d.restarts(); err != nil {
					return err
				}
			}
			mcus++
			for i := range d.comps {
				if err := d.mcu(&d.comps[i], x); err != nil {
					return err
				}
			}
		}
		for i := range d.comps {
			c := &d.comps[i]
			for y := 0; y < c.v*d.side && c.shown < c.height; y++ {
				put(i, c.shown, c.rows[y*c.stride:][:c.width])
				c.shown++
			}
		}
	}
	return nil
}

// mcu decodes the blocks of a component in one MCU.
func (d *jpegRows) mcu(c *jpegComp, x int) error {
	for by := range c.v {
		for bx := range c.h {
			if err := d.block(c); err != nil {
				return err
			}
			d.draw(c.rows[by*d.side*c.stride+(x*c.h+bx)*d.side:], c.stride)
		}
	}
	return nil
}

// restarts skips to behind the next restart marker. Spec: ITU T.81, F.2.1.3.1.
func (d *jpegRows) restarts() error {
	d.bits, d.n = 0, 0
	if !d.ended { // not read up to yet
		var b [2]byte
		if _, err := io.ReadFull(d.r, b[:]); err != nil || b[0] != 0xff {
			return errPicture
		}
		if err := d.r.UnreadByte(); err != nil {
			return errPicture
		}
	}
	for {
		m, err := d.r.ReadByte()
		if err != nil || m != 0xff && (m < 0xd0 || m > 0xd7) {
			return errPicture
		}
		if m != 0xff {
			break
		}
	}
	d.ended = false
	for i := range d.comps {
		d.comps[i].last = 0
	}
	return nil
}
