package cjson

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// plainRun is how many bytes from src[i] on are plain inside a string: ASCII, no
// control character, no quote and no backslash. Eight bytes are tested at once;
// a subtraction borrows only upwards, so the lowest marked byte is exact.
func plainRun(src []byte, i int) int {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	start := i
	for i+8 <= len(src) {
		v := binary.LittleEndian.Uint64(src[i:])
		m := (v | (v - lo*0x20) | ((v ^ lo*'"') - lo) | ((v ^ lo*'\\') - lo)) & hi
		if m != 0 {
			return i - start + bits.TrailingZeros64(m)/8
		}
		i += 8
	}
	for i < len(src) && src[i] >= 0x20 && src[i] < 0x80 && src[i] != '"' && src[i] != '\\' {
		i++
	}
	return i - start
}

// scanString checks the string that opens at src[i]. It gives the index behind
// the closing quote, and whether the bytes already have their canonical form.
func scanString(src []byte, i int) (end int, plain bool, err error) {
	plain = true
	for i++; ; {
		i += plainRun(src, i)
		if i >= len(src) {
			return 0, false, &SyntaxError{i, "string without end"}
		}
		switch c := src[i]; {
		case c == '"':
			return i + 1, plain, nil
		case c == '\\':
			n, canonical := scanEscape(src[i:])
			if n == 0 {
				return 0, false, &SyntaxError{i, "bad escape"}
			}
			plain = plain && canonical
			i += n
		case c < 0x20:
			return 0, false, &SyntaxError{i, "control character in string"}
		default:
			r, n := utf8.DecodeRune(src[i:])
			if r == utf8.RuneError && n <= 1 {
				return 0, false, &SyntaxError{i, "invalid UTF-8"}
			}
			i += n
		}
	}
}

// scanEscape measures the escape that s starts with: its length, 0 where it is
// none, and whether canonical JSON would write it so.
func scanEscape(s []byte) (n int, canonical bool) {
	if len(s) < 2 {
		return 0, false
	}
	switch s[1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return 2, true
	case '/':
		return 2, false
	case 'u':
		if len(s) < 6 {
			return 0, false
		}
		r := hex4(s[2:6])
		if r < 0 {
			return 0, false
		}
		// Only control characters without a short form are written with \u,
		// in lower case.
		if r >= 0x20 || r == '\b' || r == '\f' || r == '\n' || r == '\r' || r == '\t' {
			return 6, false
		}
		return 6, s[5] < 'A' || s[5] > 'F'
	}
	return 0, false
}

// hex4 reads four hexadecimal digits; -1 where they are not.
func hex4(s []byte) rune {
	var r rune
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// scanNumber checks the number at src[i]. It gives the index behind it, and
// whether it is an integer in its canonical form, of any size.
func scanNumber(src []byte, i int) (end int, plain bool, err error) {
	start := i
	if src[i] == '-' {
		i++
	}
	first := i
	i = skipDigits(src, i)
	switch {
	case i == first:
		return 0, false, &SyntaxError{i, "number without digits"}
	case src[first] == '0' && i > first+1:
		return 0, false, &SyntaxError{first, "number with leading zero"}
	}
	plain = src[first] != '0' || first == start
	if i < len(src) && src[i] == '.' {
		plain = false
		frac := i + 1
		if i = skipDigits(src, frac); i == frac {
			return 0, false, &SyntaxError{i, "fraction without digits"}
		}
	}
	if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
		plain = false
		i++
		if i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		exp := i
		if i = skipDigits(src, exp); i == exp {
			return 0, false, &SyntaxError{i, "exponent without digits"}
		}
	}
	return i, plain, nil
}

func skipDigits(src []byte, i int) int {
	for i < len(src) && '0' <= src[i] && src[i] <= '9' {
		i++
	}
	return i
}

func skipSpace(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\n' || src[i] == '\t' || src[i] == '\r') {
		i++
	}
	return i
}

// scanLiteral checks null, true or false at src[i].
func scanLiteral(src []byte, i int) (end int, err error) {
	rest := src[i:]
	switch {
	case len(rest) >= 4 && (string(rest[:4]) == "null" || string(rest[:4]) == "true"):
		return i + 4, nil
	case len(rest) >= 5 && string(rest[:5]) == "false":
		return i + 5, nil
	}
	return 0, &SyntaxError{i, "no JSON value"}
}

// Check says whether src is exactly one JSON value in valid UTF-8, nested no
// deeper than MaxDepth. Half surrogate pairs in escapes and numbers of any form
// pass; only canonical JSON knows better. It does not allocate on good input.
func Check(src []byte) error {
	// One bit for each open container: set for an object. Beyond MaxDepth none
	// is opened, so the stack is two words and hostile depth costs nothing.
	var open [(MaxDepth + 63) / 64]uint64
	depth, i := 0, 0
	for {
		i = skipSpace(src, i)
		if i >= len(src) {
			return &SyntaxError{i, "text ends where a value is due"}
		}
		var err error
		switch c := src[i]; {
		case c == '{' || c == '[':
			if depth == MaxDepth {
				return &RangeError{i, "nested too deep"}
			}
			bit := uint64(1) << (depth & 63)
			open[depth>>6] &^= bit
			if c == '{' {
				open[depth>>6] |= bit
			}
			depth++
			if i = skipSpace(src, i+1); i < len(src) && src[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				break
			}
			if c == '{' {
				if i, err = checkKey(src, i); err != nil {
					return err
				}
			}
			continue
		case c == '"':
			i, _, err = scanString(src, i)
		case c == '-' || '0' <= c && c <= '9':
			i, _, err = scanNumber(src, i)
		default:
			i, err = scanLiteral(src, i)
		}
		if err != nil {
			return err
		}
		more := false
		if i, depth, more, err = checkAfter(src, i, depth, &open); err != nil || !more {
			return err
		}
	}
}

// checkAfter goes on behind a complete value: it closes what closes there. more
// says that another value is due at i.
func checkAfter(src []byte, i, depth int, open *[2]uint64) (next, left int, more bool, err error) {
	for {
		i = skipSpace(src, i)
		if depth == 0 {
			if i < len(src) {
				return 0, 0, false, &SyntaxError{i, "text behind the value"}
			}
			return i, 0, false, nil
		}
		if i >= len(src) {
			return 0, 0, false, &SyntaxError{i, "text ends inside an object or array"}
		}
		object := open[(depth-1)>>6]>>((depth-1)&63)&1 == 1
		switch c := src[i]; {
		case c == '}' && object, c == ']' && !object:
			depth--
			i++
		case c == ',' && object:
			i, err = checkKey(src, skipSpace(src, i+1))
			return i, depth, true, err
		case c == ',':
			return i + 1, depth, true, nil
		default:
			return 0, 0, false, &SyntaxError{i, "comma or closing bracket expected"}
		}
	}
}

// checkKey checks a key and its colon at src[i].
func checkKey(src []byte, i int) (next int, err error) {
	if i >= len(src) || src[i] != '"' {
		return 0, &SyntaxError{i, "key expected"}
	}
	if i, _, err = scanString(src, i); err != nil {
		return 0, err
	}
	if i = skipSpace(src, i); i >= len(src) || src[i] != ':' {
		return 0, &SyntaxError{i, "colon expected"}
	}
	return i + 1, nil
}
