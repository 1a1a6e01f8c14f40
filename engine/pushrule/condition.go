package pushrule

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

type condKind uint8

const (
	condNever      condKind = iota // a kind we do not know: it matches nothing
	condMatch                      // event_match
	condIs                         // event_property_is
	condContains                   // event_property_contains
	condName                       // contains_display_name
	condMembers                    // room_member_count
	condPermission                 // sender_notification_permission
)

// cond is one condition, parsed. A condition made by a user also keeps its
// text in the rule; the defaults are printed from these fields.
type cond struct {
	kind    condKind
	me      bool     // the pattern or value is the user's own id
	op      countOp  // room_member_count
	key     string   // the path as written, or the notification key
	path    []string // the path, split
	pattern string   // event_match: as written; room_member_count: "is" as written
	glob    glob
	value   []byte // canonical JSON of a scalar
	count   int64
}

type countOp uint8

const (
	opEqual countOp = iota
	opLess
	opMore
	opAtMost
	opAtLeast
)

// Target is one event as the rules see it. The same Target serves every reader
// of the event; DisplayName belongs to the reader whose rules are asked.
type Target struct {
	Event       *event.Event
	DisplayName string // the reader's in the room; empty where there is none
	Members     int    // joined members of the room
	// SenderMay says whether the sender's power level suffices for the
	// notification key ("room"). It is asked only where a rule needs it, since
	// power levels are dear to look up; nil means no.
	SenderMay func(sender mxid.UserID, key string) bool
}

// holds says whether the condition is true of the target.
func (c *cond) holds(rs *Ruleset, t *Target) bool {
	switch c.kind {
	case condMatch:
		return c.matches(rs, t)
	case condIs:
		val, ok := property(t.Event, c.path)
		return ok && bytes.Equal(val, c.want(rs))
	case condContains:
		return contains(t.Event, c.path, c.want(rs))
	case condName:
		text, ok := stringAt(t.Event, []string{"content", "body"})
		return ok && named(text, t.DisplayName)
	case condMembers:
		return compare(int64(t.Members), c.op, c.count)
	case condPermission:
		return t.SenderMay != nil && t.SenderMay(t.Event.Sender, c.key)
	}
	return false
}

func (c *cond) want(rs *Ruleset) []byte {
	if c.me {
		return rs.meJSON
	}
	return c.value
}

func (c *cond) matches(rs *Ruleset, t *Target) bool {
	if len(c.path) == 1 {
		if s, known := field(t.Event, c.path[0]); known {
			return s.ok && c.matchesString(rs, s.text)
		}
	}
	text, ok := stringAt(t.Event, c.path)
	switch {
	case !ok:
		return false
	case c.me:
		return string(text) == string(rs.me)
	case len(c.path) == 2 && c.path[0] == "content" && c.path[1] == "body":
		return c.glob.word(text)
	}
	return c.glob.whole(text)
}

func (c *cond) matchesString(rs *Ruleset, s string) bool {
	if c.me {
		return s == string(rs.me)
	}
	if c.glob.plain { // the common case by far, without making bytes of a string
		return len(s) == len(c.glob.segs[0]) && strings.EqualFold(s, c.glob.segs[0])
	}
	return c.glob.whole([]byte(s))
}

// envelope is a field of the event that was parsed once already.
type envelope struct {
	text string
	ok   bool
}

// field gives the fields that every event has parsed, so that the usual rules
// need not search the JSON. known is false for all other keys.
func field(e *event.Event, key string) (v envelope, known bool) {
	switch key {
	case "type":
		return envelope{e.Type, true}, true
	case "sender":
		return envelope{string(e.Sender), true}, true
	case "room_id":
		return envelope{string(e.Room), true}, true
	case "event_id":
		return envelope{string(e.ID), true}, true
	case "state_key":
		return envelope{e.StateKey, e.IsState}, true
	}
	return envelope{}, false
}

// property looks up the raw value at a path.
func property(e *event.Event, path []string) ([]byte, bool) {
	switch {
	case len(path) == 0:
		return nil, false
	case path[0] == "content" && len(path) > 1:
		return cjson.LookupPath(e.Content, path[1:]...)
	case len(path) == 1:
		if v, known := field(e, path[0]); known {
			return cjson.AppendString(nil, v.text), v.ok
		}
	}
	return cjson.LookupPath(e.JSON, path...)
}

// stringAt gives the text of a string property. Without an escape in it, it
// is a part of the event's bytes.
func stringAt(e *event.Event, path []string) ([]byte, bool) {
	val, ok := property(e, path)
	if !ok || len(val) < 2 || val[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(val, '\\') < 0 {
		return val[1 : len(val)-1], true
	}
	s, ok := cjson.String(val)
	return []byte(s), ok
}

func contains(e *event.Event, path []string, want []byte) bool {
	arr, ok := property(e, path)
	if !ok || cjson.KindOf(arr) != cjson.ArrayKind {
		return false
	}
	found := false
	// The canonical form spells equal scalars with equal bytes.
	if err := cjson.Array(arr, func(val []byte) bool {
		found = bytes.Equal(val, want)
		return !found
	}); err != nil {
		return false
	}
	return found
}

// named says whether the text has the name in it as words of their own. A name
// is no pattern: "*" and "?" in it stand for themselves.
func named(text []byte, name string) bool {
	if name == "" {
		return false
	}
	for start := 0; start < len(text); start += width(text[start:]) {
		if !startsWord(text, start) {
			continue
		}
		if n, ok := folded(text[start:], name); ok && endsWord(text, start, start+n) {
			return true
		}
	}
	return false
}

// folded says how many bytes of text the name takes from its start, upper and
// lower case being the same.
func folded(text []byte, name string) (int, bool) {
	n := 0
	for _, want := range name {
		if n >= len(text) {
			return 0, false
		}
		got, w := utf8.DecodeRune(text[n:])
		if got != want && unicode.ToLower(got) != unicode.ToLower(want) {
			return 0, false
		}
		n += w
	}
	return n, true
}

func compare(n int64, op countOp, with int64) bool {
	switch op {
	case opLess:
		return n < with
	case opMore:
		return n > with
	case opAtMost:
		return n <= with
	case opAtLeast:
		return n >= with
	}
	return n == with
}

// parseCount reads the "is" of room_member_count.
func parseCount(s string) (countOp, int64, bool) {
	op, rest := opEqual, s
	for _, p := range [...]struct {
		text string
		op   countOp
	}{{"==", opEqual}, {"<=", opAtMost}, {">=", opAtLeast}, {"<", opLess}, {">", opMore}} {
		if r, ok := strings.CutPrefix(s, p.text); ok {
			op, rest = p.op, r
			break
		}
	}
	n, err := strconv.ParseUint(rest, 10, 53)
	return op, int64(n), err == nil
}

// splitPath cuts a dotted path into keys. Spec: appendices, dot-separated
// property paths: only \. and \\ are escapes, any other backslash stands for
// itself.
func splitPath(s string) []string {
	var keys []string
	var key strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '.' || s[i+1] == '\\'):
			i++
			key.WriteByte(s[i])
		case s[i] == '.':
			keys = append(keys, key.String())
			key.Reset()
		default:
			key.WriteByte(s[i])
		}
	}
	return append(keys, key.String())
}
