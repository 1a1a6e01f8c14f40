package edkey

import (
	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// point is a point of the curve in extended coordinates: x = X/Z, y = Y/Z,
// xy = T/Z.
type point struct{ x, y, z, t field.Element }

// entry is a point of a table: y+x, y-x and 2dxy.
type entry struct{ sum, diff, t2d field.Element }

// entryBytes is what an entry takes: three elements of five words.
const entryBytes = 3 * 40

// twiceD is twice the curve's constant d. Spec: RFC 8032, section 5.1.
var twiceD = func() *field.Element {
	d, err := new(field.Element).SetBytes([]byte{
		0xa3, 0x78, 0x59, 0x13, 0xca, 0x4d, 0xeb, 0x75, 0xab, 0xd8, 0x41, 0x41, 0x4d, 0x0a, 0x70, 0x00,
		0x98, 0xe8, 0x79, 0x77, 0x79, 0x40, 0xc7, 0x8c, 0x73, 0xfe, 0x6f, 0x2b, 0xee, 0x6c, 0x03, 0x52})
	if err != nil {
		panic("edkey: the curve's constant has 32 bytes")
	}
	return d.Add(d, d)
}()

func (p *point) identity() {
	p.x.Zero()
	p.y.One()
	p.z.One()
	p.t.Zero()
}

func (p *point) from(q *edwards25519.Point) {
	x, y, z, t := q.ExtendedCoordinates()
	p.x, p.y, p.z, p.t = *x, *y, *z, *t
}

// add adds an entry of a table. These formulas hold for all points of the curve,
// those of small order with them: that is why what is checked with a table is
// checked exactly. Spec: RFC 8032, section 5.1.4.
func (p *point) add(q *entry) {
	var a, b, c, d field.Element
	a.Multiply(a.Subtract(&p.y, &p.x), &q.diff)
	b.Multiply(b.Add(&p.y, &p.x), &q.sum)
	c.Multiply(&p.t, &q.t2d)
	d.Add(&p.z, &p.z)
	var f, g field.Element
	f.Subtract(&d, &c)
	g.Add(&d, &c)
	p.finish(&a, &b, &f, &g)
}

// sub subtracts an entry of a table.
func (p *point) sub(q *entry) {
	var a, b, c, d field.Element
	a.Multiply(a.Subtract(&p.y, &p.x), &q.sum)
	b.Multiply(b.Add(&p.y, &p.x), &q.diff)
	c.Multiply(&p.t, &q.t2d)
	d.Add(&p.z, &p.z)
	var f, g field.Element
	f.Add(&d, &c) // the sign of c is the other way round
	g.Subtract(&d, &c)
	p.finish(&a, &b, &f, &g)
}

// addPoint adds a point.
func (p *point) addPoint(q *point) {
	var a, b, c, d, m field.Element
	a.Multiply(a.Subtract(&p.y, &p.x), m.Subtract(&q.y, &q.x))
	b.Multiply(b.Add(&p.y, &p.x), m.Add(&q.y, &q.x))
	c.Multiply(c.Multiply(&p.t, &q.t), twiceD)
	d.Multiply(&p.z, &q.z)
	d.Add(&d, &d)
	var f, g field.Element
	f.Subtract(&d, &c)
	g.Add(&d, &c)
	p.finish(&a, &b, &f, &g)
}

func (p *point) finish(a, b, f, g *field.Element) {
	var e, h field.Element
	e.Subtract(b, a)
	h.Add(b, a)
	p.x.Multiply(&e, f)
	p.y.Multiply(g, &h)
	p.z.Multiply(f, g)
	p.t.Multiply(&e, &h)
}

// double doubles n times; only the last one needs t.
func (p *point) double(n int) {
	var a, b, c, e, f, g, h field.Element
	for i := range n {
		a.Square(&p.x)
		b.Square(&p.y)
		c.Square(&p.z)
		c.Add(&c, &c)
		h.Add(&a, &b)
		e.Square(e.Add(&p.x, &p.y))
		e.Subtract(&h, &e)
		g.Subtract(&a, &b)
		f.Add(&c, &g)
		p.x.Multiply(&e, &f)
		p.y.Multiply(&g, &h)
		p.z.Multiply(&f, &g)
		if i == n-1 {
			p.t.Multiply(&e, &h)
		}
	}
}

// shape is the form of a comb: scalars are cut into digits of width bits, and
// every step-th digit has a row of multiples; the digits between share the rows
// by way of width doublings each.
type shape struct{ width, step int }

func (s shape) digits() int { return 253/s.width + 1 }
func (s shape) rows() int   { return (s.digits() + s.step - 1) / s.step }
func (s shape) row() int    { return 1 << (s.width - 1) } // multiples in a row: digits are signed
func (s shape) bytes() int  { return s.rows() * s.row() * entryBytes }

// comb is the table of one point.
type comb struct {
	shape
	entries []entry
}

// newComb makes the table of a point.
func newComb(s shape, p *edwards25519.Point) *comb {
	points := make([]point, s.rows()*s.row())
	var first point
	first.from(p)
	for r := range s.rows() {
		row := points[r*s.row() : (r+1)*s.row()]
		row[0] = first
		for i := 1; i < len(row); i++ { // row[i] is i+1 times the first
			if i%2 == 1 {
				row[i] = row[i/2]
				row[i].double(1)
			} else {
				row[i] = row[i-1]
				row[i].addPoint(&first)
			}
		}
		first = row[len(row)-1]
		first.double(s.width*s.step - (s.width - 1))
	}
	c := &comb{shape: s, entries: make([]entry, len(points))}
	invertZ(points)
	for i := range points {
		var x, y field.Element
		x.Multiply(&points[i].x, &points[i].z)
		y.Multiply(&points[i].y, &points[i].z)
		e := &c.entries[i]
		e.sum.Add(&y, &x)
		e.diff.Subtract(&y, &x)
		e.t2d.Multiply(e.t2d.Multiply(&x, &y), twiceD)
	}
	return c
}

// invertZ puts the inverse of each point's z in its place, with one inversion
// for all. No z is zero: the formulas above never give one.
func invertZ(points []point) {
	if len(points) == 0 {
		return
	}
	before := make([]field.Element, len(points)) // product of all z before
	var all field.Element
	all.One()
	for i := range points {
		before[i] = all
		all.Multiply(&all, &points[i].z)
	}
	all.Invert(&all)
	for i := len(points) - 1; i >= 0; i-- {
		z := points[i].z
		points[i].z.Multiply(&all, &before[i])
		all.Multiply(&all, &z)
	}
}

// maxDigits is the most digits a scalar has, with digits of four bits.
const maxDigits = 64

// addMultiple adds scalar times the table's point. The scalar is less than the
// order of the base point, little-endian. Where the comb has steps, p has to be
// the identity: it is doubled on the way.
func (c *comb) addMultiple(p *point, scalar *[32]byte) {
	var digits [maxDigits]int16
	c.cut(digits[:c.digits()], scalar)
	for at := c.step - 1; at >= 0; at-- {
		row := c.entries
		for i := at; i < c.digits(); i += c.step {
			if d := digits[i]; d > 0 {
				p.add(&row[d-1])
			} else if d < 0 {
				p.sub(&row[-d-1])
			}
			row = row[c.row():]
		}
		if at > 0 {
			p.double(c.width)
		}
	}
}

// cut writes a scalar as signed digits, each at most half of the radix.
func (s shape) cut(digits []int16, scalar *[32]byte) {
	radix, carry := 1<<s.width, 0
	for i := range digits {
		bit := i * s.width
		v := 0
		if at := bit / 8; at < 32 {
			v = int(scalar[at])
			if at+1 < 32 {
				v |= int(scalar[at+1]) << 8
			}
		}
		d := v>>(bit%8)&(radix-1) + carry
		if carry = 0; d > radix/2 {
			d, carry = d-radix, 1
		}
		digits[i] = int16(d)
	}
}
