package telemetry

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
)

// A payload is cut into numbers and the text around them, its shape. A thing
// sends the same shape with other numbers all day, so that the shape is kept once
// for a chunk and each number becomes a column. Nothing is lost by it: the text
// of each number comes back as it was, "21.50" as well as "21.5" and "007".

const (
	hole      = 0x00 // stands for a number in a shape
	maxHoles  = 64
	maxDigits = 15 // of a number; longer ones stay text
)

// cut appends the shape of a payload to dst, and its numbers to nums. A payload
// with a NUL in it is all text. The first byte of a shape says which it is.
func cut(dst, payload []byte, nums [][]byte) (shape []byte, _ [][]byte) {
	if bytes.IndexByte(payload, hole) >= 0 {
		return append(append(dst, 1), payload...), nums
	}
	dst = append(dst, 0)
	last := byte(' ')
	for at := 0; at < len(payload); {
		n := number(payload[at:], last)
		if n == 0 || len(nums) >= maxHoles {
			// Behind a digit that stays text all digits of the run do.
			last = payload[at]
			dst = append(dst, last)
			at++
			continue
		}
		nums = append(nums, payload[at:at+n])
		dst = append(dst, hole)
		at += n
		last = '0'
	}
	return dst, nums
}

func isDigit(b byte) bool { return b-'0' < 10 }

// number is how many bytes at the front of text are a number that a column can
// hold, where last came before it.
func number(text []byte, last byte) int {
	n := 0
	if text[0] == '-' && !isDigit(last) && last|0x20-'a' >= 26 {
		n = 1
	}
	if isDigit(last) || n == len(text) || !isDigit(text[n]) {
		return 0
	}
	digits := 0
	for n < len(text) && isDigit(text[n]) {
		n, digits = n+1, digits+1
	}
	if n+1 < len(text) && text[n] == '.' && isDigit(text[n+1]) {
		for n++; n < len(text) && isDigit(text[n]); n++ {
			digits++
		}
	}
	if digits > maxDigits {
		return 0
	}
	return n
}

// Forms of a column of numbers: how the text of each is made of its digits.
const (
	formShort  = iota // no zeros at the end of the fraction
	formFixed         // so many digits in the fraction
	formDotted        // as short, but at least one digit in the fraction
	formPadded        // whole, so many digits, with zeros in front
	formText          // not digits at all: each text by itself
)

// column is one column of numbers.
type column struct {
	form  byte
	scale int     // digits in the fraction, or in all where padded
	value []int64 // the digits; of scale
	texts [][]byte
}

// parse reads a number's digits at a scale.
func parse(text []byte, scale int) int64 {
	neg := text[0] == '-'
	if neg {
		text = text[1:]
	}
	var v int64
	fraction := -1
	for _, c := range text {
		if c == '.' {
			fraction = 0
			continue
		}
		v = v*10 + int64(c-'0')
		if fraction >= 0 {
			fraction++
		}
	}
	for range scale - max(fraction, 0) {
		v *= 10
	}
	if neg {
		return -v
	}
	return v
}

// columnOf finds the form that gives every text back.
func columnOf(texts [][]byte) column {
	scale, width, whole := 0, len(texts[0]), 0
	for _, t := range texts {
		dot := bytes.IndexByte(t, '.')
		if dot >= 0 {
			scale = max(scale, len(t)-dot-1)
		} else {
			dot = len(t)
		}
		whole = max(whole, dot)
	}
	c := column{scale: scale, value: make([]int64, len(texts))}
	if scale+whole <= 18 {
		for i, t := range texts {
			c.value[i] = parse(t, scale)
		}
		for c.form = formShort; c.form <= formPadded; c.form++ {
			if c.form == formPadded {
				if c.scale = width; scale > 0 {
					break
				}
			}
			if c.gives(texts) {
				return c
			}
		}
	}
	return column{form: formText, texts: texts}
}

func (c *column) gives(texts [][]byte) bool {
	var buf [32]byte
	for i, t := range texts {
		if !bytes.Equal(c.append(buf[:0], i), t) {
			return false
		}
	}
	return true
}

// append writes the text of the i-th number.
func (c *column) append(dst []byte, i int) []byte {
	if c.form == formText {
		return append(dst, c.texts[i]...)
	}
	v := c.value[i]
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	var buf [24]byte
	digits := strconv.AppendUint(buf[:0], uint64(v), 10)
	scale := c.scale
	if c.form == formPadded {
		for range scale - len(digits) {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	least := scale // digits that stay in the fraction
	switch c.form {
	case formShort:
		least = 0
	case formDotted:
		least = min(1, scale)
	}
	if len(digits) <= scale {
		dst = append(dst, '0')
	} else {
		dst = append(dst, digits[:len(digits)-scale]...)
		digits = digits[len(digits)-scale:]
	}
	if scale == 0 {
		return dst
	}
	point := len(dst)
	dst = append(dst, '.')
	for range scale - len(digits) {
		dst = append(dst, '0')
	}
	dst = append(dst, digits...)
	for len(dst)-point-1 > least && dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	if len(dst) == point+1 {
		dst = dst[:point]
	}
	return dst
}

// float is the i-th number.
func (c *column) float(i int) float64 {
	switch c.form {
	case formText:
		f, err := strconv.ParseFloat(string(c.texts[i]), 64)
		if err != nil {
			return math.NaN()
		}
		return f
	case formPadded:
		return float64(c.value[i])
	}
	return float64(c.value[i]) / math.Pow10(c.scale)
}

func (c *column) encode(dst []byte) []byte {
	dst = append(dst, c.form)
	if c.form == formText {
		for _, t := range c.texts {
			dst = append(binary.AppendUvarint(dst, uint64(len(t))), t...)
		}
		return dst
	}
	return appendInts(binary.AppendUvarint(dst, uint64(c.scale)), c.value)
}

func (r *reader) column(n int) (c column) {
	if c.form = r.byte(); c.form == formText {
		c.texts = make([][]byte, n)
		for i := range c.texts {
			c.texts[i] = r.bytes(r.uint())
		}
		return c
	}
	if c.scale = int(min(r.uint(), 64)); c.form > formText || c.scale > 32 {
		r.fail()
	}
	c.value = r.ints(n)
	return c
}
