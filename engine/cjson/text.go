package cjson

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendString appends s as a canonical JSON string. Bytes that are not UTF-8
// become U+FFFD, so what it writes is always JSON.
func AppendString[S ~string](dst []byte, s S) []byte { return appendQuoted(dst, string(s)) }

// AppendStrings appends strings as a JSON array, empty where there are none.
func AppendStrings[S ~string](dst []byte, list []S) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}

func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[from:i]...)
				dst = append(dst, "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		if c < 0x20 || c == '"' || c == '\\' {
			dst = append(dst, s[from:i]...)
			dst = appendEscaped(dst, c)
			from = i + 1
		}
		i++
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// appendEscaped writes the escape of a quote, a backslash or a control character.
func appendEscaped(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// nextRune decodes the escape at s[i], a checked string. whole is false for half a
// surrogate pair, which becomes U+FFFD.
func nextRune(s []byte, i int) (r rune, n int, whole bool) {
	if s[i+1] != 'u' {
		return rune(unescape(s[i+1])), 2, true
	}
	r = hex4(s[i+2 : i+6])
	if !utf16.IsSurrogate(r) {
		return r, 6, true
	}
	if len(s) >= i+12 && s[i+6] == '\\' && s[i+7] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(s[i+8:i+12])); pair != utf8.RuneError {
			return pair, 12, true
		}
	}
	return utf8.RuneError, 6, false
}

// appendRequoted writes the checked JSON string s in canonical spelling. whole is
// false where it held half a surrogate pair.
func appendRequoted(dst, s []byte) (_ []byte, whole bool) {
	whole = true
	dst = append(dst, '"')
	for i := 1; i < len(s)-1; {
		if n := plainRun(s, i); n > 0 {
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		if s[i] != '\\' { // a byte of a character beyond ASCII
			dst = append(dst, s[i])
			i++
			continue
		}
		r, n, ok := nextRune(s, i)
		whole = whole && ok
		if r < 0x20 || r == '"' || r == '\\' {
			dst = appendEscaped(dst, byte(r))
		} else {
			dst = utf8.AppendRune(dst, r)
		}
		i += n
	}
	return append(dst, '"'), whole
}

// AppendDecoded appends what the JSON string val stands for. ok is false where val
// is no string; dst is then returned as it was.
func AppendDecoded(dst, val []byte) (_ []byte, ok bool) {
	if len(val) == 0 || val[0] != '"' {
		return dst, false
	}
	end, _, err := scanString(val, 0)
	if err != nil || end != len(val) {
		return dst, false
	}
	text := val[1 : len(val)-1]
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return append(dst, text...), true
		}
		dst = append(dst, text[:i]...)
		r, n, _ := nextRune(text, i)
		dst = utf8.AppendRune(dst, r)
		text = text[i+n:]
	}
}
