// Package slide reads requests of sliding sync: which rooms a client wants to
// hear of, by lists and by name, and what of each. It is rules about JSON and no
// more; package sync finds the rooms and answers.
//
// Two spellings are read: that of the proposal's last text (MSC4186), and the one
// before it, which the clients that are about speak. They differ in names and in
// how required state is written, so one reader takes both, and a client may mix
// them. Unknown members are ignored; known ones of a wrong type are refused.
//
// Everything in a request is bounded here, since a hub keeps some of it for as
// long as the connection lasts.
package slide

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// The bounds of a request. Spec: MSC4186, request body.
const (
	maxLists         = 100
	maxSubscriptions = 1000 // the proposal says 100, but clients that are about never forget a room they have shown
	maxRanges        = 100
	maxElements      = 200 // of required state, for one rule
	maxWanted        = 500 // of required state, for all rules that differ: each is looked for in each room
	maxFiltered      = 500 // of what the filters of all lists name
	maxListed        = 200 // strings in a list of a filter or an extension
	maxString        = 255
	maxTxnID         = 64

	// MaxTimeline is the most events of a room's timeline that one answer tells.
	MaxTimeline = 100
	// All is the end of a range without one.
	All = 1<<31 - 1
)

// Request is a parsed request. The zero Request asks for nothing.
type Request struct {
	ConnID   string
	Pos      string
	TxnID    string
	Timeout  int64  // milliseconds
	Presence string // set_presence; empty where it is not given

	Lists         []List         // by key
	Subscriptions []Subscription // by room
	ToDevice      ToDevice
	E2EE          bool
	AccountData   Scope
	Receipts      Scope
	Typing        Scope
	Threads       Threads

	Kept int // about how many bytes it takes
}

// Rule is what a client wants to hear of the rooms that a list or a subscription
// names. Spec: MSC4186, room config.
type Rule struct {
	Timeline int // events at most
	State    *Required
}

// List is a window on the user's rooms, the latest first.
type List struct {
	Key string
	Rule
	Ranges []Range // sorted; what lies in any of them
	Filter Filter
}

// Range is a stretch of a list, both ends included.
type Range struct{ From, To int }

// Has says whether a place in the list lies in its window.
func (l *List) Has(at int) bool {
	for _, r := range l.Ranges {
		if at >= r.From && at <= r.To {
			return true
		}
	}
	return false
}

// All says whether so many places all lie in its window.
func (l *List) All(count int) bool {
	at := 0
	for slices.ContainsFunc(l.Ranges, func(r Range) bool { return at >= r.From && at <= r.To }) {
		if at++; at >= count {
			break
		}
	}
	return at >= count
}

// Subscription is a room that the client wants to hear of wherever it stands.
type Subscription struct {
	Room string
	Rule
}

// ToDevice asks for the messages that wait for the device.
type ToDevice struct {
	On    bool
	Limit int
	Since string
}

// Threads asks for changes of thread subscriptions. Spec: MSC4308.
type Threads struct {
	On    bool
	Limit int
}

// Scope is for which rooms an extension is wanted: those of some lists and some
// of the subscriptions.
type Scope struct {
	On    bool
	lists []string // nil: all
	rooms []string // nil: all
}

// List says whether the extension is wanted for the rooms of a list.
func (s *Scope) List(key string) bool { return s.On && named(s.lists, key) }

// Room says whether it is wanted for a room that is subscribed to.
func (s *Scope) Room(id string) bool { return s.On && named(s.rooms, id) }

// ByName says whether the extension names any rooms.
func (s *Scope) ByName() bool {
	return s.On && slices.ContainsFunc(s.rooms, func(id string) bool { return id != "*" })
}

// Extra says whether it is wanted for a room by name, whatever lists it is in.
func (s *Scope) Extra(id string) bool { return s.On && slices.Contains(s.rooms, id) }

func named(list []string, name string) bool {
	return list == nil || slices.Contains(list, "*") || slices.Contains(list, name)
}

// Parse reads a request's body, which has been checked to be a JSON object. The
// bytes are not kept. Errors: Invalid, BadJSON.
func Parse(body []byte) (*Request, error) {
	r := &Request{}
	p := parser{rules: map[string]*Required{}}
	p.members(body, func(key string, val []byte) {
		switch key {
		case "conn_id":
			r.ConnID = p.text(key, val, maxString)
		case "pos":
			r.Pos = p.text(key, val, maxString)
		case "txn_id":
			r.TxnID = p.text(key, val, maxTxnID)
		case "set_presence":
			r.Presence = p.text(key, val, maxString)
		case "timeout":
			r.Timeout = p.number(key, val, All)
		case "lists":
			r.lists(&p, val)
		case "room_subscriptions":
			r.subscriptions(&p, val)
		case "extensions":
			p.members(val, func(key string, val []byte) { r.extension(&p, key, val) })
		}
	})
	if p.err != nil {
		return nil, p.err
	}
	r.Kept = p.kept
	return r, nil
}

func (r *Request) lists(p *parser, val []byte) {
	p.members(val, func(key string, val []byte) {
		if len(r.Lists) >= maxLists || key == "" || len(key) > maxString {
			p.fail(fault.Invalid, "at most %d lists, with keys of up to %d bytes", maxLists, maxString)
			return
		}
		l := List{Key: key}
		given := false
		p.members(val, func(key string, val []byte) {
			switch key {
			case "ranges":
				given = true
				p.each(key, val, maxRanges, func(val []byte) { l.Ranges = append(l.Ranges, p.span(val)) })
			case "range":
				given = true
				l.Ranges = append(l.Ranges, p.span(val))
			case "filters":
				l.Filter.parse(p, val)
			default:
				l.Rule.parse(p, key, val)
			}
		})
		if !given {
			l.Ranges = []Range{{0, All}}
		}
		l.Rule.State = p.rule(l.Rule.State)
		p.kept += listBytes + len(key) + rangeBytes*len(l.Ranges)
		r.Lists = append(r.Lists, l)
	})
	// Of equal keys the last counts, as everywhere.
	slices.SortStableFunc(r.Lists, func(a, b List) int { return compare(a.Key, b.Key) })
	r.Lists = lastOfEach(r.Lists, func(l *List) string { return l.Key })
}

func (r *Request) subscriptions(p *parser, val []byte) {
	p.members(val, func(id string, val []byte) {
		if len(r.Subscriptions) >= maxSubscriptions || len(id) > maxString {
			p.fail(fault.Invalid, "at most %d room subscriptions", maxSubscriptions)
			return
		}
		s := Subscription{Room: id}
		p.members(val, func(key string, val []byte) { s.Rule.parse(p, key, val) })
		s.Rule.State = p.rule(s.Rule.State)
		p.kept += subscriptionBytes + len(id)
		r.Subscriptions = append(r.Subscriptions, s)
	})
	slices.SortStableFunc(r.Subscriptions, func(a, b Subscription) int { return compare(a.Room, b.Room) })
	r.Subscriptions = lastOfEach(r.Subscriptions, func(s *Subscription) string { return s.Room })
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func lastOfEach[T any](list []T, key func(*T) string) []T {
	kept := list[:0]
	for i := range list {
		if i+1 < len(list) && key(&list[i]) == key(&list[i+1]) {
			continue
		}
		kept = append(kept, list[i])
	}
	return kept
}

func (r *Rule) parse(p *parser, key string, val []byte) {
	switch key {
	case "timeline_limit":
		r.Timeline = int(min(p.number(key, val, All), MaxTimeline))
	case "required_state":
		kept := p.kept
		r.State, p.kept = p.required(val), kept // what stays of it is counted with the rule
	}
}

func (r *Request) extension(p *parser, name string, val []byte) {
	switch name {
	case "to_device":
		r.ToDevice.Limit = All
		p.members(val, func(key string, val []byte) {
			switch key {
			case "enabled":
				r.ToDevice.On = p.flag(key, val)
			case "limit":
				r.ToDevice.Limit = int(p.number(key, val, All))
			case "since":
				r.ToDevice.Since = p.text(key, val, maxString)
			}
		})
	case "e2ee":
		p.members(val, func(key string, val []byte) {
			if key == "enabled" {
				r.E2EE = p.flag(key, val)
			}
		})
	case "account_data":
		r.AccountData = p.scope(val)
	case "receipts":
		r.Receipts = p.scope(val)
	case "typing":
		r.Typing = p.scope(val)
	case "io.element.msc4308.thread_subscriptions", "thread_subscriptions":
		r.Threads.Limit = MaxTimeline
		p.members(val, func(key string, val []byte) {
			switch key {
			case "enabled":
				r.Threads.On = p.flag(key, val)
			case "limit":
				if r.Threads.Limit = int(min(p.number(key, val, All), MaxTimeline)); r.Threads.Limit == 0 {
					p.fail(fault.Invalid, "limit of thread_subscriptions must be above zero")
				}
			}
		})
	}
}

func (p *parser) scope(val []byte) (s Scope) {
	p.members(val, func(key string, val []byte) {
		switch key {
		case "enabled":
			s.On = p.flag(key, val)
		case "lists":
			s.lists = p.texts(key, val)
		case "rooms":
			s.rooms = p.texts(key, val)
		}
	})
	return s
}

// span reads a range.
func (p *parser) span(val []byte) (r Range) {
	var ends []int64
	p.each("ranges", val, 2, func(val []byte) { ends = append(ends, p.number("ranges", val, All)) })
	if p.err == nil && (len(ends) != 2 || ends[0] > ends[1]) {
		p.fail(fault.Invalid, "a range has a first and a last place")
	}
	if p.err != nil {
		return r
	}
	return Range{int(ends[0]), int(ends[1])}
}

// parser keeps the first error.
type parser struct {
	err    error
	rules  map[string]*Required // by their text
	wanted int                  // elements of rules that differ
	kept   int                  // about how many bytes of the request stay

	filtered int // what filters name
}

// What parts of a request take beside their texts.
const (
	listBytes         = 256
	rangeBytes        = 16
	subscriptionBytes = 64
	textBytes         = 32
	ruleBytes         = 128
)

// rule finishes a rule about state. Those that ask for the same are one.
func (p *parser) rule(q *Required) *Required {
	q = q.made()
	if same := p.rules[q.text]; same != nil {
		return same
	}
	p.rules[q.text] = q
	p.kept += ruleBytes + 4*len(q.text)
	if p.wanted += len(q.include) + len(q.exclude); p.wanted > maxWanted {
		p.fail(fault.Invalid, "required_state has at most %d elements in all", maxWanted)
	}
	return q
}

func (p *parser) fail(kind fault.Kind, format string, args ...any) {
	if p.err == nil {
		p.err = fault.E(kind, "slide.Parse", format, args...)
	}
}

// members calls f for the members of an object. What is null counts as absent.
func (p *parser) members(obj []byte, f func(key string, val []byte)) {
	if p.err != nil {
		return
	}
	if cjson.KindOf(obj) != cjson.ObjectKind {
		p.fail(fault.BadJSON, "an object was expected")
		return
	}
	err := cjson.Object(obj, func(key, val []byte) bool {
		if cjson.KindOf(val) != cjson.NullKind {
			f(string(key), val)
		}
		return p.err == nil
	})
	if err != nil {
		p.fail(fault.NotJSON, "%w", err)
	}
}

// each calls f for the elements of an array of at most so many.
func (p *parser) each(key string, arr []byte, most int, f func(val []byte)) {
	if p.err != nil {
		return
	}
	if cjson.KindOf(arr) != cjson.ArrayKind {
		p.fail(fault.BadJSON, "%s must be an array", key)
		return
	}
	n := 0
	err := cjson.Array(arr, func(val []byte) bool {
		if n++; n > most {
			p.fail(fault.Invalid, "%s has at most %d elements", key, most)
		} else {
			f(val)
		}
		return p.err == nil
	})
	if err != nil {
		p.fail(fault.NotJSON, "%w", err)
	}
}

func (p *parser) text(key string, val []byte, most int) string {
	s, ok := cjson.String(val)
	if !ok {
		p.fail(fault.BadJSON, "%s must be a string", key)
	} else if len(s) > most {
		p.fail(fault.Invalid, "%s is longer than %d bytes", key, most)
	}
	p.kept += textBytes + len(s)
	return s
}

func (p *parser) texts(key string, val []byte) []string {
	list := []string{}
	p.each(key, val, maxListed, func(val []byte) { list = append(list, p.text(key, val, maxString)) })
	return list
}

func (p *parser) number(key string, val []byte, most int64) int64 {
	n, ok := cjson.Int(val)
	if !ok {
		p.fail(fault.BadJSON, "%s must be a whole number", key)
	} else if n < 0 {
		p.fail(fault.Invalid, "%s must not be below zero", key)
	}
	return min(n, most)
}

func (p *parser) flag(key string, val []byte) bool {
	b, ok := cjson.Bool(val)
	if !ok {
		p.fail(fault.BadJSON, "%s must be true or false", key)
	}
	return b
}
