package filter

import (
	"strings"

	"hearth/engine/cjson"
)

// AppendFields appends of an event in client form what event_fields names, or
// all of it where the filter names nothing. A path that names an object takes
// all of it. Spec: client-server, filtering, event_fields.
func (f *Filter) AppendFields(dst, event []byte) []byte {
	if f == nil || f.Fields == nil {
		return append(dst, event...)
	}
	return appendChosen(dst, event, f.Fields)
}

// appendChosen appends the members of obj that one of the paths begins with.
func appendChosen(dst, obj []byte, paths []string) []byte {
	dst = append(dst, '{')
	start := len(dst)
	broken := cjson.Object(obj, func(key, val []byte) bool {
		var below []string
		whole := false
		for _, path := range paths {
			rest, deeper, ok := cutKey(path, key)
			if ok && deeper {
				below = append(below, rest)
			}
			whole = whole || ok && !deeper
		}
		if !whole && (len(below) == 0 || cjson.KindOf(val) != cjson.ObjectKind) {
			return true
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, string(key)), ':')
		if whole {
			dst = append(dst, val...)
		} else {
			dst = appendChosen(dst, val, below)
		}
		return true
	})
	if broken != nil { // our own bytes: an empty object is the safest answer
		dst = dst[:start]
	}
	return append(dst, '}')
}

// cutKey takes the first key off a dotted path, if it is the given one. rest is
// the path below it where there is one (deeper). Only \. and \\ are escapes.
// Spec: appendices, dot-separated property paths.
func cutKey(path string, key []byte) (rest string, deeper, ok bool) {
	n := 0
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '.':
			return path[i+1:], true, n == len(key)
		case c == '\\' && i+1 < len(path) && strings.IndexByte(`.\`, path[i+1]) >= 0:
			i++
			c = path[i]
		}
		if n == len(key) || key[n] != c {
			return "", false, false
		}
		n++
	}
	return "", false, n == len(key)
}
