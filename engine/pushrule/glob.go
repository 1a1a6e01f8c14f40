package pushrule

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPattern bounds a pattern in bytes. Matching costs at most the product of
// pattern and text, and the text may be a whole event.
const maxPattern = 1024

// glob is a pattern cut at its stars, lower-cased. Between two stars only "?"
// is special. With one segment there is no star.
//
// Cutting makes backtracking needless: taking each segment at the earliest
// place leaves the most room for those after it. So a hostile pattern costs
// pattern times text, never more.
type glob struct {
	segs  []string
	plain bool // one segment without "?": comparable as it stands
}

// newGlob compiles a pattern. Spec: appendices, glob-style matching.
func newGlob(pattern string) glob {
	segs := strings.Split(lower(pattern), "*")
	return glob{segs: segs, plain: len(segs) == 1 && !strings.Contains(segs[0], "?")}
}

// lower maps rune by rune, as the text is mapped while it is compared.
func lower(s string) string { return strings.Map(unicode.ToLower, s) }

// whole says whether the pattern matches all of text.
func (g glob) whole(text []byte) bool {
	last := len(g.segs) - 1
	pos, ok := prefix(text, g.segs[0])
	if !ok {
		return false
	}
	if last == 0 {
		return pos == len(text)
	}
	for _, seg := range g.segs[1:last] {
		if _, pos, ok = find(text, seg, pos); !ok {
			return false
		}
	}
	return suffix(text[pos:], g.segs[last])
}

// word says whether the pattern matches some part of text that starts and ends
// at a word boundary. Spec: client-server, push rules, event_match.
func (g glob) word(text []byte) bool {
	last := len(g.segs) - 1
	for from := 0; ; {
		start, pos, ok := find(text, g.segs[0], from)
		if !ok {
			return false
		}
		if !startsWord(text, start) || last == 0 && !endsWord(text, start, pos) {
			if start >= len(text) {
				return false
			}
			from = start + width(text[start:])
			continue
		}
		if last == 0 {
			return true
		}
		return g.tail(text, pos)
	}
}

// tail matches the segments after the first anywhere from pos on, the last one
// so that it ends a word. Segment 0 lies at its earliest place, so what does not
// match from here matches from no later place either.
func (g glob) tail(text []byte, pos int) bool {
	last := len(g.segs) - 1
	for _, seg := range g.segs[1:last] {
		_, end, ok := find(text, seg, pos)
		if !ok {
			return false
		}
		pos = end
	}
	if g.segs[last] == "" {
		return true // a trailing star reaches on to the end
	}
	for {
		start, end, ok := find(text, g.segs[last], pos)
		if !ok {
			return false
		}
		if endsWord(text, start, end) {
			return true
		}
		pos = start + width(text[start:])
	}
}

// find gives the earliest place at or after from where seg matches.
func find(text []byte, seg string, from int) (start, end int, ok bool) {
	for at := from; at <= len(text); at += width(text[at:]) {
		if n, ok := prefix(text[at:], seg); ok {
			return at, at + n, true
		}
		if at == len(text) {
			break
		}
	}
	return 0, 0, false
}

// prefix says how many bytes of text the segment takes from its start.
func prefix(text []byte, seg string) (int, bool) {
	n := 0
	for i := 0; i < len(seg); {
		if n >= len(text) {
			return 0, false
		}
		if s, t := seg[i], text[n]; s < utf8.RuneSelf && t < utf8.RuneSelf {
			if 'A' <= t && t <= 'Z' {
				t += 'a' - 'A'
			}
			if s != t && s != '?' {
				return 0, false
			}
			i, n = i+1, n+1
			continue
		}
		s, sw := utf8.DecodeRuneInString(seg[i:])
		t, tw := utf8.DecodeRune(text[n:])
		if s != '?' && s != unicode.ToLower(t) {
			return 0, false
		}
		i, n = i+sw, n+tw
	}
	return n, true
}

// suffix says whether text ends with the segment: it has as many runes as the
// segment from some place on, and they match.
func suffix(text []byte, seg string) bool {
	at := len(text)
	for range utf8.RuneCountInString(seg) {
		if at == 0 {
			return false
		}
		_, w := utf8.DecodeLastRune(text[:at])
		at -= w
	}
	_, ok := prefix(text[at:], seg)
	return ok
}

func width(text []byte) int {
	_, w := utf8.DecodeRune(text)
	return max(w, 1)
}

// startsWord says whether a match from start on begins at a boundary: at the
// start of the text, after a boundary character, or with one.
func startsWord(text []byte, start int) bool {
	return start == 0 || start >= len(text) || !inWord(text[start-1]) || !inWord(text[start])
}

// endsWord is startsWord for the end of the match from start to end.
func endsWord(text []byte, start, end int) bool {
	return end >= len(text) || !inWord(text[end]) || end > start && !inWord(text[end-1]) || end == 0
}

// inWord is false for every byte of a character outside ASCII, which are all
// boundaries by the specification's definition.
func inWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// Match says whether a glob-style pattern matches all of a text, whatever the
// case of either. Spec: appendices, glob-style matching.
func Match(pattern, text string) bool {
	return len(pattern) <= maxPattern && newGlob(pattern).whole([]byte(text))
}
