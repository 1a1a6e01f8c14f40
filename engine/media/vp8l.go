package media

import (
	"bufio"
	"io"
)

// This is a decoder of lossless WebP that cannot be made to take more memory
// than the header lets expect. The one in golang.org/x/image allocates for up to
// 65,536 groups of five code trees whatever the size of the picture: a file of
// 160 kB with four pixels takes 170 MB.

// vp8lTables is the memory of all code tables at most: see maxGroups.
const vp8lTables = 6 << 20

// maxGroups bounds the groups of prefix codes; encoders make some hundreds, the
// usual one at most 2,600. maxSymbols bounds what all of their tables hold.
const (
	maxGroups  = 4096
	maxSymbols = 2 << 20
)

// pixels is a lossless picture: alpha, red, green, blue from the highest byte.
type pixels struct {
	w, h int
	argb []uint32
}

// rgba is the picture as a raster.
func (p *pixels) rgba() *raster {
	return converted(part{w: p.w, h: p.h, n: 4}, func(y int, row []byte) error {
		for x, c := range p.argb[y*p.w:][:p.w] {
			premultiply(row[4*x:], byte(c>>16), byte(c>>8), byte(c), byte(c>>24))
		}
		return nil
	})
}

// vp8l is the state of decoding one stream. The first error sticks, and what is
// read after it is zero, so that only ends of work look at it.
type vp8l struct {
	r       *bufio.Reader
	bits    uint64
	n       uint // bits in bits
	ended   int  // bits that were asked for behind the end
	bad     bool
	symbols int // of all tables so far
}

func (d *vp8l) fill() {
	for d.n <= 56 {
		c, err := d.r.ReadByte()
		if err != nil {
			d.ended += 8
		}
		d.bits |= uint64(c) << d.n
		d.n += 8
	}
	if d.ended > 128 { // reading ahead is allowed, inventing is not
		d.bad = true
	}
}

// read takes up to 24 bits, the lowest first.
func (d *vp8l) read(n uint) uint32 {
	if d.n < n {
		d.fill()
	}
	v := uint32(d.bits) & (1<<n - 1)
	d.bits >>= n
	d.n -= n
	return v
}

// decodeVP8L decodes a picture with its header. Spec: RFC 9649, section 3.
func decodeVP8L(r io.Reader) (*pixels, error) {
	d := &vp8l{r: bufio.NewReader(r)}
	if d.read(8) != 0x2f {
		return nil, errVP8L
	}
	w, h := int(d.read(14))+1, int(d.read(14))+1
	alpha := d.read(1) != 0
	if d.read(3) != 0 {
		return nil, errVP8L
	}
	p, err := d.picture(w, h)
	if err == nil && !alpha {
		for i := range p.argb {
			p.argb[i] |= 0xff000000
		}
	}
	return p, err
}

// decodeVP8LStream decodes a picture whose size is known from elsewhere.
func decodeVP8LStream(r io.Reader, w, h int) (*pixels, error) {
	d := &vp8l{r: bufio.NewReader(r)}
	return d.picture(w, h)
}

// picture reads the transforms and the pixels, and undoes the transforms.
func (d *vp8l) picture(w, h int) (*pixels, error) {
	var todo []transform
	seen, tw := uint(0), w
	for !d.bad && d.read(1) != 0 {
		t := transform{kind: d.read(2), w: tw}
		if seen&(1<<t.kind) != 0 {
			return nil, errVP8L
		}
		seen |= 1 << t.kind
		tw = d.transform(&t, h)
		todo = append(todo, t)
	}
	pix := d.entropy(tw, h, true)
	if d.bad {
		return nil, errVP8L
	}
	for i := len(todo) - 1; i >= 0; i-- {
		pix = todo[i].undo(pix, h)
	}
	return &pixels{w, h, pix}, nil
}

// entropy reads one entropy-coded image: the pixels (top) or what steers their
// decoding.
func (d *vp8l) entropy(w, h int, top bool) []uint32 {
	cacheBits := uint(0)
	if d.read(1) != 0 {
		if cacheBits = uint(d.read(4)); cacheBits < 1 || cacheBits > 11 {
			d.bad = true
		}
	}
	pick := picker{}
	groups := 1
	if top && d.read(1) != 0 {
		pick.bits = uint(d.read(3)) + 2
		pick.w = blocks(w, pick.bits)
		pick.table = d.entropy(pick.w, blocks(h, pick.bits), false)
		for i, c := range pick.table {
			pick.table[i] = c >> 8 & 0xffff
			groups = max(groups, int(pick.table[i])+1)
		}
	}
	if groups > maxGroups {
		d.bad = true
	}
	if d.bad {
		return nil
	}
	codes := make([][5]prefixCode, groups)
	for i := range codes {
		for j, n := range [...]int{256 + 24, 256, 256, 256, 40} {
			if j == 0 && cacheBits > 0 {
				n += 1 << cacheBits
			}
			d.prefixCode(&codes[i][j], n)
		}
	}
	if d.bad {
		return nil
	}
	return d.decode(w, h, cacheBits, codes, &pick)
}

// picker says which group of codes is used at a place.
type picker struct {
	bits  uint
	w     int
	table []uint32
}

func (p *picker) at(x, y int) uint32 {
	if p.table == nil {
		return 0
	}
	return p.table[(y>>p.bits)*p.w+x>>p.bits]
}

func blocks(n int, bits uint) int { return (n + 1<<bits - 1) >> bits }

// decode reads the pixels themselves.
func (d *vp8l) decode(w, h int, cacheBits uint, codes [][5]prefixCode, pick *picker) []uint32 {
	pix := make([]uint32, w*h)
	var cache []uint32
	if cacheBits > 0 {
		cache = make([]uint32, 1<<cacheBits)
	}
	stored := 0 // pixels that are in the cache
	for i := 0; i < len(pix) && !d.bad; {
		c := &codes[pick.at(i%w, i/w)]
		g := d.symbol(&c[0])
		switch {
		case g < 256:
			red, blue, alpha := d.symbol(&c[1]), d.symbol(&c[2]), d.symbol(&c[3])
			pix[i] = alpha<<24 | red<<16 | g<<8 | blue
			i++
		case g < 256+24:
			n := int(d.value(g - 256))
			from := i - d.distance(d.value(d.symbol(&c[4])), w)
			if from < 0 || n > len(pix)-i {
				d.bad = true
				return nil
			}
			for ; n > 0; n-- {
				pix[i] = pix[from]
				i, from = i+1, from+1
			}
		default:
			if cache == nil {
				d.bad = true
				return nil
			}
			for ; stored < i; stored++ {
				cache[pix[stored]*0x1e35a7bd>>(32-cacheBits)] = pix[stored]
			}
			pix[i] = cache[g-256-24]
			i++
		}
	}
	return pix
}

// value reads a length or a distance. Spec: RFC 9649, section 5.2.2.
func (d *vp8l) value(prefix uint32) uint32 {
	if prefix < 4 {
		return prefix + 1
	}
	extra := uint(prefix-2) >> 1
	return (2+prefix&1)<<extra + d.read(extra) + 1
}

// near are the first 120 distances as places around a pixel: eight less the
// columns to the right in the low half, rows up in the high half.
const near = "\x18\x07\x17\x19\x28\x06\x27\x29\x16\x1a\x26\x2a\x38\x05\x37\x39\x15\x1b\x36\x3a" +
	"\x25\x2b\x48\x04\x47\x49\x14\x1c\x35\x3b\x46\x4a\x24\x2c\x58\x45\x4b\x34\x3c\x03" +
	"\x57\x59\x13\x1d\x56\x5a\x23\x2d\x44\x4c\x55\x5b\x33\x3d\x68\x02\x67\x69\x12\x1e" +
	"\x66\x6a\x22\x2e\x54\x5c\x43\x4d\x65\x6b\x32\x3e\x78\x01\x77\x79\x53\x5d\x11\x1f" +
	"\x64\x6c\x42\x4e\x76\x7a\x21\x2f\x75\x7b\x31\x3f\x63\x6d\x52\x5e\x00\x74\x7c\x41" +
	"\x4f\x10\x20\x62\x6e\x30\x73\x7d\x51\x5f\x40\x72\x7e\x61\x6f\x50\x71\x7f\x60\x70"

// distance turns a distance code into pixels back.
func (d *vp8l) distance(code uint32, w int) int {
	if code > uint32(len(near)) {
		return int(code) - len(near)
	}
	c := near[code-1]
	return max(int(c>>4)*w+8-int(c&15), 1)
}
