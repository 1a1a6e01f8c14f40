package media

import (
	"bufio"
	"compress/zlib"
	"encoding/binary"
	"image/png"
	"io"
)

// pngRows reads a PNG row by row, so that a screenshot of any size takes a few
// kilobytes. Package image/png holds all of the picture in four or eight bytes
// a pixel; it is used for the interlaced ones only, which cannot be read so.
type pngRows struct {
	r       *bufio.Reader
	left    uint32 // bytes of the present IDAT not read yet
	z       io.Reader
	w, h    int
	depth   int
	color   byte
	palette [256][4]byte // RGBA
	key     [3]uint16    // the colour that is transparent
	keyed   bool
	last    []byte // the row above, and this one, as they are stored
	row     []byte
}

// Colour types. Spec: PNG, section 11.2.1.
const (
	pngGray      = 0
	pngRGB       = 2
	pngPalette   = 3
	pngGrayAlpha = 4
	pngRGBA      = 6
)

func (p *Picture) decodePNG(f io.ReaderAt, size int64) (*raster, error) {
	var b [17]byte
	if err := readAt(f, b[:], 12); err != nil {
		return nil, err
	}
	if b[16] != 0 {
		m, err := png.Decode(bufio.NewReader(io.NewSectionReader(f, 0, size)))
		if err != nil {
			return nil, err
		}
		return anyRaster(m), nil
	}
	d := &pngRows{w: p.Width, h: p.Height, depth: int(b[12]), color: b[13]}
	n := d.samples()
	ok := n > 0 && (d.depth == 8 || d.depth == 16 && d.color != pngPalette ||
		(d.depth == 1 || d.depth == 2 || d.depth == 4) && (d.color == pngGray || d.color == pngPalette))
	if !ok || b[14] != 0 || b[15] != 0 {
		return nil, errPicture
	}
	stored := (d.w*n*d.depth + 7) / 8
	d.last, d.row = make([]byte, stored), make([]byte, stored)
	d.r = bufio.NewReader(io.NewSectionReader(f, 8+25, size))
	if err := d.header(); err != nil {
		return nil, err
	}
	var err error
	if d.z, err = zlib.NewReader(d); err != nil {
		return nil, err
	}
	return converted(part{w: d.w, h: d.h, n: 4}, d.next), nil
}

// samples is how many there are of a pixel; 0 for an unknown colour type.
func (d *pngRows) samples() int {
	switch d.color {
	case pngGray, pngPalette:
		return 1
	case pngGrayAlpha:
		return 2
	case pngRGB:
		return 3
	case pngRGBA:
		return 4
	}
	return 0
}

// header reads the chunks before the pixels.
func (d *pngRows) header() error {
	for i := range d.palette {
		d.palette[i][3] = 255
	}
	for range maxParts {
		typ, n, err := d.chunk()
		if err != nil {
			return err
		}
		var body [3 * 256]byte
		switch {
		case typ == "IDAT":
			d.left = n
			return nil
		case typ == "PLTE" && n <= uint32(len(body)):
			if _, err := io.ReadFull(d.r, body[:n]); err != nil {
				return err
			}
			for i := range d.palette[:n/3] {
				copy(d.palette[i][:3], body[3*i:])
			}
			n = 0
		case typ == "tRNS" && n <= 256:
			if _, err := io.ReadFull(d.r, body[:n]); err != nil {
				return err
			}
			d.transparent(body[:n])
			n = 0
		}
		if _, err := d.r.Discard(int(n) + 4); err != nil { // and the checksum
			return err
		}
	}
	return errPicture
}

func (d *pngRows) chunk() (typ string, n uint32, err error) {
	var b [8]byte
	if _, err := io.ReadFull(d.r, b[:]); err != nil {
		return "", 0, errPicture
	}
	if n = binary.BigEndian.Uint32(b[:]); n > 1<<31-1 {
		return "", 0, errPicture
	}
	return string(b[4:]), n, nil
}

// transparent reads a tRNS chunk. Spec: PNG, section 11.3.1.1.
func (d *pngRows) transparent(b []byte) {
	if d.color == pngPalette {
		for i, a := range b {
			d.palette[i][3] = a
		}
		return
	}
	if len(b) < 2*d.samples() || d.color != pngGray && d.color != pngRGB {
		return
	}
	for i := range d.samples() {
		d.key[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	d.keyed = true
}

// Read gives the bytes of the IDAT chunks one behind the other.
func (d *pngRows) Read(p []byte) (int, error) {
	for d.left == 0 {
		if _, err := d.r.Discard(4); err != nil {
			return 0, err
		}
		typ, n, err := d.chunk()
		if err != nil {
			return 0, err
		}
		if typ != "IDAT" {
			return 0, io.ErrUnexpectedEOF
		}
		d.left = n
	}
	n, err := d.r.Read(p[:min(len(p), int(d.left))])
	d.left -= uint32(n)
	return n, err
}

// next decodes the next row.
func (d *pngRows) next(_ int, out []byte) error {
	d.last, d.row = d.row, d.last
	var filter [1]byte
	if _, err := io.ReadFull(d.z, filter[:]); err != nil {
		return errPicture
	}
	if _, err := io.ReadFull(d.z, d.row); err != nil {
		return errPicture
	}
	if err := d.unfilter(filter[0]); err != nil {
		return err
	}
	d.convert(out)
	return nil
}

// unfilter undoes a row's prediction. Spec: PNG, section 9.
func (d *pngRows) unfilter(how byte) error {
	n := max(d.samples()*d.depth/8, 1)
	row, up := d.row, d.last
	switch how {
	case 0:
	case 1:
		for i := n; i < len(row); i++ {
			row[i] += row[i-n]
		}
	case 2:
		for i := range row {
			row[i] += up[i]
		}
	case 3:
		for i := range row {
			left := 0
			if i >= n {
				left = int(row[i-n])
			}
			row[i] += byte((left + int(up[i])) / 2)
		}
	case 4:
		for i := range row {
			var left, corner byte
			if i >= n {
				left, corner = row[i-n], up[i-n]
			}
			row[i] += paeth(left, up[i], corner)
		}
	default:
		return errPicture
	}
	return nil
}

func paeth(a, b, c byte) byte {
	pa, pb := int(b)-int(c), int(a)-int(c)
	pc := abs(pa + pb)
	pa, pb = abs(pa), abs(pb)
	switch {
	case pa <= pb && pa <= pc:
		return a
	case pb <= pc:
		return b
	}
	return c
}

// convert makes premultiplied RGBA of the stored row.
func (d *pngRows) convert(out []byte) {
	n := d.samples()
	for x := range d.w {
		to := out[4*x:]
		var s [4]uint16
		for c := range n {
			s[c] = d.sample(x*n + c)
		}
		switch d.color {
		case pngPalette:
			p := &d.palette[s[0]]
			premultiply(to, p[0], p[1], p[2], p[3])
		case pngGray, pngGrayAlpha:
			v, a := d.byteOf(s[0]), byte(255)
			if d.color == pngGrayAlpha {
				a = d.byteOf(s[1])
			} else if d.keyed && s[0] == d.key[0] {
				a = 0
			}
			premultiply(to, v, v, v, a)
		default:
			a := byte(255)
			if d.color == pngRGBA {
				a = d.byteOf(s[3])
			} else if d.keyed && s[0] == d.key[0] && s[1] == d.key[1] && s[2] == d.key[2] {
				a = 0
			}
			premultiply(to, d.byteOf(s[0]), d.byteOf(s[1]), d.byteOf(s[2]), a)
		}
	}
}

// sample is the i-th stored value of the row.
func (d *pngRows) sample(i int) uint16 {
	switch d.depth {
	case 8:
		return uint16(d.row[i])
	case 16:
		return binary.BigEndian.Uint16(d.row[2*i:])
	}
	bit := i * d.depth
	return uint16(d.row[bit/8]>>(8-d.depth-bit%8)) & (1<<d.depth - 1)
}

// byteOf brings a stored value to eight bits.
func (d *pngRows) byteOf(v uint16) byte {
	switch d.depth {
	case 8:
		return byte(v)
	case 16:
		return byte(v >> 8)
	}
	return byte(uint32(v) * 255 / (1<<d.depth - 1))
}
