package telemetry

import (
	"bytes"
	"strconv"
	"strings"

	"hearth/engine/cjson"
)

// path is where a number of a shape stands in the JSON that it is: member names
// and places in arrays, joined by dots; "" where the payload is one number.
//
// Sensors call their members AM2301 or DS18B20-1, and what is cut out of a payload
// is every number: a name may have holes of its own. It is known for a sample only.
type path struct {
	name string // with opens and shuts around the number of a hole
	ok   bool   // it is a JSON number of its own
	open bool   // the name has holes
}

// Noncharacters, which no name has, stand around the number of a hole in one.
const opens, shuts = "\ufdd0", "\ufdd1"

// paths gives the place of each number of a shape.
func paths(shape []byte) []path {
	if len(shape) == 0 || shape[0] != 0 {
		return nil
	}
	var text []byte
	n, quoted, escaped := 0, false, false
	for _, c := range shape[1:] {
		switch {
		case c != hole:
			text = append(text, c)
			quoted, escaped = quoted != (c == '"' && !escaped), quoted && c == '\\' && !escaped
			continue
		case quoted:
			text = append(strconv.AppendInt(append(text, opens...), int64(n), 10), shuts...)
		default:
			text = strconv.AppendInt(text, int64(n), 10)
		}
		n, escaped = n+1, false
	}
	list := make([]path, n)
	if n > 0 && cjson.Check(text) == nil {
		walk(text, "", list)
	}
	return list
}

// walk notes where the numbers of val stand, which are the numbers of the holes.
func walk(val []byte, at string, list []path) {
	sub := func(name string) string {
		if at == "" {
			return name
		}
		return at + "." + name
	}
	switch val = bytes.TrimSpace(val); cjson.KindOf(val) {
	case cjson.NumberKind:
		if i, ok := cjson.Int(val); ok && i >= 0 && i < int64(len(list)) {
			list[i] = path{at, true, strings.Contains(at, opens)}
		}
	case cjson.ObjectKind:
		_ = cjson.Object(val, func(key, v []byte) bool { walk(v, sub(string(key)), list); return true }) // it was checked
	case cjson.ArrayKind:
		i := 0
		_ = cjson.Array(val, func(v []byte) bool { walk(v, sub(strconv.Itoa(i)), list); i++; return true }) // it was checked
	}
}

// appendName appends the name as it is in a sample; number appends the text of a
// hole.
func (p *path) appendName(dst []byte, number func(dst []byte, hole int) []byte) []byte {
	for rest := []byte(p.name); ; {
		before, behind, found := bytes.Cut(rest, []byte(opens))
		dst = append(dst, before...)
		if !found {
			return dst
		}
		digits, after, _ := bytes.Cut(behind, []byte(shuts))
		h, err := strconv.Atoi(string(digits))
		if err == nil {
			dst = number(dst, h)
		}
		rest = after
	}
}
