package telemetry

import (
	"encoding/binary"
	"math/bits"
)

// A column of whole numbers is kept in the shortest of a few forms. The numbers
// of one chunk are few (a minute of seconds), so that each form is simply sized
// and the smallest taken.
const (
	intsConst   = iota // all are the same
	intsOffset         // what they exceed the least by, in so many bits each
	intsDelta          // what each step exceeds the least step by, in so many bits each
	intsVarint         // each as a varint
	intsDeltaVa        // each step as a varint: a few great steps among small ones
)

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// appendInts encodes numbers; their count is not part of it. Differences wrap
// around, so every number can be kept.
func appendInts(dst []byte, v []int64) []byte {
	if len(v) == 0 {
		return dst
	}
	least, most, same := v[0], v[0], true
	var leastStep, mostStep int64
	plain, steps := 0, 0
	for i, x := range v {
		least, most, same = min(least, x), max(most, x), same && x == v[0]
		plain += uvarintLen(zigzag(x))
		if i > 0 {
			d := x - v[i-1]
			if i == 1 {
				leastStep, mostStep = d, d
			}
			leastStep, mostStep = min(leastStep, d), max(mostStep, d)
			steps += uvarintLen(zigzag(d))
		}
	}
	if same {
		return binary.AppendUvarint(append(dst, intsConst), zigzag(v[0]))
	}
	width, stepWidth := bits.Len64(uint64(most)-uint64(least)), bits.Len64(uint64(mostStep)-uint64(leastStep))
	offset := 1 + uvarintLen(zigzag(least)) + (len(v)*width+7)/8
	delta := 1 + uvarintLen(zigzag(v[0])) + uvarintLen(zigzag(leastStep)) + ((len(v)-1)*stepWidth+7)/8
	switch best := min(offset, delta, plain, steps+uvarintLen(zigzag(v[0]))); best {
	case offset:
		dst = binary.AppendUvarint(append(dst, intsOffset, byte(width)), zigzag(least))
		p := packer{dst: dst}
		for _, x := range v {
			p.put(uint64(x)-uint64(least), width)
		}
		return p.end()
	case delta:
		dst = binary.AppendUvarint(append(dst, intsDelta, byte(stepWidth)), zigzag(v[0]))
		p := packer{dst: binary.AppendUvarint(dst, zigzag(leastStep))}
		for i := range v[1:] {
			p.put(uint64(v[i+1]-v[i])-uint64(leastStep), stepWidth)
		}
		return p.end()
	case plain:
		dst = append(dst, intsVarint)
		for _, x := range v {
			dst = binary.AppendUvarint(dst, zigzag(x))
		}
		return dst
	}
	dst = binary.AppendUvarint(append(dst, intsDeltaVa), zigzag(v[0]))
	for i := range v[1:] {
		dst = binary.AppendUvarint(dst, zigzag(v[i+1]-v[i]))
	}
	return dst
}

// packer writes numbers of some bits each, the lowest bit first.
type packer struct {
	dst []byte
	acc uint64
	n   int // bits in acc, below 8
}

func (p *packer) put(v uint64, width int) {
	for width > 0 {
		take := min(width, 56-p.n)
		p.acc |= (v & (1<<take - 1)) << p.n
		p.n += take
		v, width = v>>take, width-take
		for p.n >= 8 {
			p.dst = append(p.dst, byte(p.acc))
			p.acc, p.n = p.acc>>8, p.n-8
		}
	}
}

func (p *packer) end() []byte {
	if p.n > 0 {
		p.dst = append(p.dst, byte(p.acc))
	}
	return p.dst
}

// reader takes the parts of a chunk off its front. What is cut or cannot be is
// remembered in bad, and reads as zero.
type reader struct {
	src []byte
	bad bool
}

func (r *reader) fail() {
	r.bad, r.src = true, nil
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.src)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.src = r.src[n:]
	return v
}

func (r *reader) int() int64 { return unzigzag(r.uint()) }

func (r *reader) byte() byte {
	if len(r.src) == 0 {
		r.fail()
		return 0
	}
	b := r.src[0]
	r.src = r.src[1:]
	return b
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.src)) {
		r.fail()
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

// ints decodes n numbers, of which the caller has bounded n.
func (r *reader) ints(n int) []int64 {
	if n == 0 {
		return nil
	}
	v := make([]int64, n)
	switch r.byte() {
	case intsConst:
		x := r.int()
		for i := range v {
			v[i] = x
		}
	case intsOffset:
		width := int(r.byte())
		least := r.int()
		r.unpack(v, width, func(_ int, u uint64) int64 { return int64(u + uint64(least)) })
	case intsDelta:
		width := int(r.byte())
		v[0] = r.int()
		least := r.int()
		r.unpack(v[1:], width, func(i int, u uint64) int64 { return v[i] + int64(u+uint64(least)) })
	case intsVarint:
		for i := range v {
			v[i] = r.int()
		}
	case intsDeltaVa:
		v[0] = r.int()
		for i := range v[1:] {
			v[i+1] = v[i] + r.int()
		}
	default:
		r.fail()
	}
	return v
}

// unpack reads numbers of some bits each and has f make what they stand for.
func (r *reader) unpack(v []int64, width int, f func(i int, u uint64) int64) {
	if width > 64 {
		r.fail()
		return
	}
	src := r.bytes(uint64((len(v)*width + 7) / 8))
	if r.bad {
		return
	}
	var acc uint64
	n := 0
	for i := range v {
		var u uint64
		for got := 0; got < width; {
			if n == 0 {
				acc, n, src = uint64(src[0]), 8, src[1:]
			}
			take := min(width-got, n)
			u |= (acc & (1<<take - 1)) << got
			acc, n, got = acc>>take, n-take, got+take
		}
		v[i] = f(i, u)
	}
}
