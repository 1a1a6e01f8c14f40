package wire

import "unicode/utf8"

// unescape appends the percent-decoded form of s to dst; plus makes a + a
// space, as in queries. A % that no two hex digits follow stays as it is.
func unescape(dst, s []byte, plus bool) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%' && i+2 < len(s):
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				break
			}
			c, i = byte(hi<<4|lo), i+2
		case c == '+' && plus:
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// clean says whether decoded text may go on: valid UTF-8 without NUL.
func clean[T ~string | ~[]byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			return false
		}
	}
	return utf8.ValidString(string(s))
}

// plain says whether the escaped text is clean whatever it decodes to: no
// escapes, nothing outside ASCII, no NUL. Nearly every query is.
func plain(s []byte) bool {
	for _, c := range s {
		if c == '%' || c >= utf8.RuneSelf || c == 0 {
			return false
		}
	}
	return true
}
