// Package topic holds the grammar of publish and subscribe: which texts are
// topic names and filters, what a filter matches, which of two filters is the
// more specific, and whether one filter lets through all that another asks for.
//
// It is pure and refuses to know sessions, rooms and things. Levels are compared
// byte for byte. As the protocol wants it, a filter that begins with a wildcard
// matches no topic that begins with '$'.
// Spec: MQTT 5.0, 4.7 Topic Names and Topic Filters.
package topic

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxBytes is the most bytes of a name or filter that are taken. The protocol
// allows 65,535; nothing needs them, and they would be kept by session.
const MaxBytes = 1024

// MaxLevels bounds the levels of a name or filter.
const MaxLevels = 64

// Errors of names and filters.
var (
	ErrEmpty    = errors.New("a topic is not empty")
	ErrLong     = errors.New("the topic is longer than 1024 bytes or has more than 64 levels")
	ErrText     = errors.New("the topic is not valid UTF-8, or holds a NUL")
	ErrWildcard = errors.New("a topic to publish to holds no wildcards")
	ErrFilter   = errors.New("in a filter + stands for a whole level, and # for all that follow, at the end only")
)

func check(s string) error {
	switch {
	case s == "":
		return ErrEmpty
	case len(s) > MaxBytes || strings.Count(s, "/") >= MaxLevels:
		return ErrLong
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return ErrText
	}
	return nil
}

// CheckName says why a text is no topic that can be published to.
func CheckName(s string) error {
	if err := check(s); err != nil {
		return err
	}
	if strings.ContainsAny(s, "+#") {
		return ErrWildcard
	}
	return nil
}

// CheckFilter says why a text is no filter that can be subscribed to.
func CheckFilter(s string) error {
	if err := check(s); err != nil {
		return err
	}
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "+", level == "#" && !more:
		case strings.ContainsAny(level, "+#"):
			return ErrFilter
		}
	}
	return nil
}

// Match says whether a filter matches a topic name. It does not allocate.
func Match(filter, name string) bool {
	if reserved(filter, name) {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		n, nrest, nmore := strings.Cut(name, "/")
		switch {
		case f == "#":
			return true
		case f != "+" && f != n:
			return false
		case !fmore:
			return !nmore
		case !nmore:
			return frest == "#" // a/# matches a too
		}
		filter, name = frest, nrest
	}
}

// reserved says whether a filter's first level is a wildcard where the name's
// begins with '$': those are not for whoever asks for everything.
func reserved(filter, name string) bool {
	return strings.HasPrefix(name, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#"))
}

// Covers says whether every topic that asked matches is matched by allowed too:
// who may read allowed may subscribe to asked.
func Covers(allowed, asked string) bool {
	if reserved(allowed, asked) {
		return false
	}
	for {
		a, arest, amore := strings.Cut(allowed, "/")
		q, qrest, qmore := strings.Cut(asked, "/")
		switch {
		case a == "#":
			return true
		case q == "#", a != "+" && a != q:
			return false
		case !amore:
			return !qmore
		case !qmore:
			return arest == "#"
		}
		allowed, asked = arest, qrest
	}
}

// Captures gives the levels of a name for which the wildcards of a filter that
// matches it stand, in order; a final # is one capture, perhaps empty. ok is
// false where the filter does not match.
func Captures(filter, name string) (levels []string, ok bool) {
	if !Match(filter, name) {
		return nil, false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		n, nrest, nmore := strings.Cut(name, "/")
		switch {
		case f == "#":
			return append(levels, name), true
		case f == "+":
			levels = append(levels, n)
		}
		if !fmore {
			return levels, true
		}
		if !nmore { // a/# on a
			return append(levels, ""), true
		}
		filter, name = frest, nrest
	}
}

// Compare orders filters by how specific they are, the most specific first: at
// the first level in which they differ in kind a plain level comes before +, and
// + before #. It is 0 where neither is more specific.
func Compare(a, b string) int {
	for {
		al, arest, amore := strings.Cut(a, "/")
		bl, brest, bmore := strings.Cut(b, "/")
		if c := rank(al) - rank(bl); c != 0 {
			return c
		}
		switch {
		case !amore && !bmore:
			return 0
		case !amore:
			return -1 // shorter without #: it names one level only
		case !bmore:
			return 1
		}
		a, b = arest, brest
	}
}

func rank(level string) int {
	switch level {
	case "+":
		return 1
	case "#":
		return 2
	}
	return 0
}

// Overlap says whether some topic is matched by both filters.
func Overlap(a, b string) bool {
	if strings.HasPrefix(a, "$") != strings.HasPrefix(b, "$") && (reserved(a, b) || reserved(b, a)) {
		return false
	}
	for {
		al, arest, amore := strings.Cut(a, "/")
		bl, brest, bmore := strings.Cut(b, "/")
		switch {
		case al == "#", bl == "#":
			return true
		case al != bl && al != "+" && bl != "+":
			return false
		case !amore && !bmore:
			return true
		case !amore:
			return brest == "#"
		case !bmore:
			return arest == "#"
		}
		a, b = arest, brest
	}
}
