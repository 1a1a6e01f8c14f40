package cjson

import (
	"bytes"
	"slices"
	"strconv"
)

// member is one member of an object in the output: where its key's text begins
// and ends (between the quotes) and where its value ends.
type member struct{ key, keyEnd, end int }

// canon writes src canonically behind dst. Input that is already canonical is
// not touched as it is scanned: src[from:pos] is text read and not yet copied, and
// is copied in one piece at the first deviation or the end.
type canon struct {
	src    []byte
	dst    []byte
	from   int
	pos    int
	depth  int
	strict bool
}

// Canonical appends the canonical form of the JSON text src to dst: keys sorted
// by code point, no white space, the shortest spelling of strings and integers.
// Of equal keys the last wins. On an error dst is returned as it was.
//
// Strict is for room versions from 6 on: numbers have to be integers from MinInt
// to MaxInt, and escapes that are half a surrogate pair are refused. An exponent
// is accepted where it spells such an integer ("1e10" is written 10000000000),
// a decimal point never.
//
// Lenient keeps what versions 1 to 5 allow: integers of any size as they stand,
// other numbers as the shortest decimal that gives the same double, in the
// spelling of Python's repr (with which those rooms' events were hashed), and
// half a surrogate pair becomes U+FFFD. Spec: appendices, Canonical JSON.
func Canonical(dst, src []byte, strict bool) ([]byte, error) {
	var buf [48]member
	c := canon{src: src, dst: slices.Grow(dst, len(src)), strict: strict}
	c.space()
	if err := c.value(buf[:0]); err != nil {
		return dst, err
	}
	c.space()
	if c.pos < len(src) {
		return dst, &SyntaxError{c.pos, "text behind the value"}
	}
	c.flush()
	return c.dst, nil
}

// flush copies what is pending.
func (c *canon) flush() {
	c.dst = append(c.dst, c.src[c.from:c.pos]...)
	c.from = c.pos
}

// out is the place in the output that the current place in the input has.
func (c *canon) out() int { return len(c.dst) + c.pos - c.from }

// view is output from a to b, copied or pending. No token lies in both.
func (c *canon) view(a, b int) []byte {
	if n := len(c.dst); a >= n {
		return c.src[c.from+a-n : c.from+b-n]
	}
	return c.dst[a:b]
}

func (c *canon) space() {
	if c.pos < len(c.src) && c.src[c.pos] <= ' ' {
		c.flush()
		c.pos = skipSpace(c.src, c.pos)
		c.from = c.pos
	}
}

// value takes one value. outer holds the members so far of all objects around it,
// innermost last; objects within append to it and leave nothing behind. It is an
// argument and no field so that it stays on Canonical's stack.
func (c *canon) value(outer []member) (err error) {
	if c.pos >= len(c.src) {
		return &SyntaxError{c.pos, "text ends where a value is due"}
	}
	switch ch := c.src[c.pos]; {
	case ch == '"':
		return c.string()
	case ch == '{' || ch == '[':
		if c.depth == MaxDepth {
			return &RangeError{c.pos, "nested too deep"}
		}
		c.depth++
		if ch == '{' {
			err = c.object(outer)
		} else {
			err = c.array(outer)
		}
		c.depth--
		return err
	case ch == '-' || '0' <= ch && ch <= '9':
		return c.number()
	}
	end, err := scanLiteral(c.src, c.pos)
	if err != nil {
		return err
	}
	c.pos = end
	return nil
}

func (c *canon) string() error {
	end, plain, err := scanString(c.src, c.pos)
	if err != nil {
		return err
	}
	if plain {
		c.pos = end
		return nil
	}
	c.flush()
	text := c.src[c.pos:end]
	var whole bool
	if c.dst, whole = appendRequoted(c.dst, text); !whole && c.strict {
		return &RangeError{c.pos, "half a surrogate pair in string"}
	}
	c.pos, c.from = end, end
	return nil
}

func (c *canon) number() error {
	end, plain, err := scanNumber(c.src, c.pos)
	if err != nil {
		return err
	}
	text := c.src[c.pos:end]
	if plain && (!c.strict || inRange(text)) {
		c.pos = end
		return nil
	}
	c.flush()
	if n, ok := exponentInt(text); ok {
		c.dst = strconv.AppendInt(c.dst, n, 10)
	} else if c.strict {
		return &RangeError{c.pos, "number is not an integer within ±(2^53-1)"}
	} else if c.dst, ok = appendFloat(c.dst, text); !ok {
		return &RangeError{c.pos, "number too large"}
	}
	c.pos, c.from = end, end
	return nil
}

// inRange says whether a plain integer lies within MinInt to MaxInt.
func inRange(text []byte) bool {
	if text[0] == '-' {
		text = text[1:]
	}
	const limit = "9007199254740991"
	return len(text) < len(limit) || len(text) == len(limit) && string(text) <= limit
}

// exponentInt reads an integer within the strict range that is spelled with an
// exponent, or as -0.
func exponentInt(text []byte) (int64, bool) {
	mantissa, exponent := text, []byte("0")
	if e := bytes.IndexAny(text, "eE"); e >= 0 {
		mantissa, exponent = text[:e], bytes.TrimPrefix(text[e+1:], []byte("+"))
	}
	if bytes.IndexByte(mantissa, '.') >= 0 || exponent[0] == '-' || !inRange(mantissa) {
		return 0, false
	}
	n, _ := strconv.ParseInt(string(mantissa), 10, 64)
	if n == 0 {
		return 0, true
	}
	exponent = bytes.TrimLeft(exponent, "0")
	if len(exponent) > 2 {
		return 0, false
	}
	e, _ := strconv.Atoi(string(exponent))
	for ; e > 0; e-- {
		if n *= 10; n > MaxInt || n < MinInt {
			return 0, false
		}
	}
	return n, true
}

// appendFloat writes a number as the shortest decimal of the same double: digits
// with a point from 1e-4 up to 1e16, else with an exponent.
func appendFloat(dst, text []byte) ([]byte, bool) {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return dst, false
	}
	abs := max(f, -f)
	if abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64), true
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, '.', '0')
	}
	return dst, true
}

func (c *canon) array(outer []member) error {
	c.pos++
	c.space()
	if c.pos < len(c.src) && c.src[c.pos] == ']' {
		c.pos++
		return nil
	}
	for {
		if err := c.value(outer); err != nil {
			return err
		}
		c.space()
		switch {
		case c.pos < len(c.src) && c.src[c.pos] == ']':
			c.pos++
			return nil
		case c.pos >= len(c.src) || c.src[c.pos] != ',':
			return &SyntaxError{c.pos, "comma or closing bracket expected"}
		}
		c.pos++
		c.space()
	}
}

func (c *canon) object(outer []member) error {
	c.pos++
	ms, base, start, sorted := outer, len(outer), c.out(), true
	c.space()
	if c.pos < len(c.src) && c.src[c.pos] == '}' {
		c.pos++
		return nil
	}
	for {
		m, err := c.member(ms)
		if err != nil {
			return err
		}
		if n := len(ms); sorted && n > base {
			last := ms[n-1]
			sorted = compareKeys(c.view(last.key, last.keyEnd), c.view(m.key, m.keyEnd)) < 0
		}
		ms = append(ms, m)
		if c.pos < len(c.src) && c.src[c.pos] == '}' {
			break
		}
		if c.pos >= len(c.src) || c.src[c.pos] != ',' {
			return &SyntaxError{c.pos, "comma or closing brace expected"}
		}
		c.pos++
		c.space()
	}
	if !sorted {
		c.flush()
		c.reorder(start, ms[base:])
	}
	c.pos++
	return nil
}

// member takes a key, its value and the white space behind.
func (c *canon) member(outer []member) (m member, err error) {
	if c.pos >= len(c.src) || c.src[c.pos] != '"' {
		return m, &SyntaxError{c.pos, "key expected"}
	}
	m.key = c.out() + 1
	if err := c.string(); err != nil {
		return m, err
	}
	m.keyEnd = c.out() - 1
	c.space()
	if c.pos >= len(c.src) || c.src[c.pos] != ':' {
		return m, &SyntaxError{c.pos, "colon expected"}
	}
	c.pos++
	c.space()
	if err := c.value(outer); err != nil {
		return m, err
	}
	m.end = c.out()
	c.space()
	return m, nil
}

// reorder sorts the members of the object whose first member begins at start and
// which reaches to the end of dst. The sorted text is laid out behind it and moved
// down, so no second buffer is needed.
func (c *canon) reorder(start int, ms []member) {
	dst := c.dst
	slices.SortFunc(ms, func(a, b member) int {
		if o := compareKeys(dst[a.key:a.keyEnd], dst[b.key:b.keyEnd]); o != 0 {
			return o
		}
		return a.key - b.key
	})
	end := len(dst)
	for i, m := range ms {
		if i+1 < len(ms) && compareKeys(dst[m.key:m.keyEnd], dst[ms[i+1].key:ms[i+1].keyEnd]) == 0 {
			continue // a later member has the same key
		}
		if len(dst) > end {
			dst = append(dst, ',')
		}
		dst = append(dst, dst[m.key-1:m.end]...)
	}
	n := copy(dst[start:], dst[end:])
	c.dst = dst[:start+n]
}

// compareKeys orders two keys, given in canonical spelling without the quotes, by
// the code points they stand for. UTF-8 sorts as its code points do; only escapes
// have to be undone, and canonical ones stand for one byte each.
func compareKeys(a, b []byte) int {
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return bytes.Compare(a, b)
	}
	for len(a) > 0 && len(b) > 0 {
		x, n := keyByte(a)
		y, m := keyByte(b)
		if x != y {
			return int(x) - int(y)
		}
		a, b = a[n:], b[m:]
	}
	return len(a) - len(b)
}

// keyByte decodes the first byte of a canonically spelled string.
func keyByte(s []byte) (c byte, n int) {
	if s[0] != '\\' {
		return s[0], 1
	}
	if s[1] == 'u' {
		return byte(hex4(s[2:6])), 6
	}
	return unescape(s[1]), 2
}

// unescape is the byte that a one-letter escape stands for.
func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // quote, backslash, slash
}
