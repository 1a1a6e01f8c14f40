package filter

import (
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// Bounds on a filter. A parked request holds one.
const (
	maxBytes = 64 << 10 // of the JSON
	maxList  = 2000     // members of one list
	maxLimit = 1 << 20  // what a limit is cut to; readers have lower ceilings of their own
)

const op = "filter.Parse"

// Parse reads a filter. Unknown members are ignored, as the specification may
// grow; known ones of a wrong type are refused. The bytes are not kept.
func Parse(src []byte) (*Filter, error) {
	if len(src) > maxBytes {
		return nil, fault.E(fault.TooLarge, op, "a filter may have %d bytes", maxBytes)
	}
	if err := cjson.Check(src); err != nil {
		return nil, fault.E(fault.NotJSON, op, "a filter must be JSON: %w", err)
	}
	f := &Filter{}
	err := members(src, "a filter", func(key string, val []byte) (err error) {
		switch key {
		case "event_fields":
			f.Fields, err = list(key, val, "")
		case "event_format":
			f.Federation, err = format(val)
		case "presence":
			f.Presence, err = part(key, val)
		case "account_data":
			f.AccountData, err = part(key, val)
		case "room":
			err = f.Room.parse(val)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ParseRoomEvents reads a RoomEventFilter, as /messages, /context and /search
// take it. Empty bytes give nil, which lets everything pass.
func ParseRoomEvents(src []byte) (*Part, error) {
	switch {
	case len(src) == 0:
		return nil, nil
	case len(src) > maxBytes:
		return nil, fault.E(fault.TooLarge, op, "a filter may have %d bytes", maxBytes)
	}
	if err := cjson.Check(src); err != nil {
		return nil, fault.E(fault.NotJSON, op, "a filter must be JSON: %w", err)
	}
	return part("a filter", src)
}

func (r *Room) parse(src []byte) error {
	return members(src, "room", func(key string, val []byte) (err error) {
		switch key {
		case "rooms":
			r.rooms, err = list(key, val, "!")
		case "not_rooms":
			r.notRooms, err = list(key, val, "!")
		case "include_leave":
			r.IncludeLeave, err = flag(key, val)
		case "state":
			r.State, err = part(key, val)
		case "timeline":
			r.Timeline, err = part(key, val)
		case "ephemeral":
			r.Ephemeral, err = part(key, val)
		case "account_data":
			r.AccountData, err = part(key, val)
		}
		return err
	})
}

func part(name string, src []byte) (*Part, error) {
	p := &Part{limit: -1}
	err := members(src, name, func(key string, val []byte) error { return p.set(key, val) })
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Part) set(key string, val []byte) (err error) {
	switch key {
	case "types":
		p.types, err = list(key, val, "")
	case "not_types":
		p.notTypes, err = list(key, val, "")
	case "senders":
		p.senders, err = list(key, val, "@")
	case "not_senders":
		p.notSenders, err = list(key, val, "@")
	case "rooms":
		p.rooms, err = list(key, val, "!")
	case "not_rooms":
		p.notRooms, err = list(key, val, "!")
	case "related_by_senders":
		p.RelatedSenders, err = list(key, val, "@")
	case "related_by_rel_types":
		p.RelatedTypes, err = list(key, val, "")
	case "rel_types", "org.matrix.msc3874.rel_types":
		p.relTypes, err = list(key, val, "")
	case "not_rel_types", "org.matrix.msc3874.not_rel_types":
		p.notRelTypes, err = list(key, val, "")
	case "limit":
		p.limit, err = limit(val)
	case "contains_url":
		var with bool
		with, err = flag(key, val)
		p.url = urlWithout
		if with {
			p.url = urlWith
		}
	case "lazy_load_members":
		p.lazyMembers, err = flag(key, val)
	case "include_redundant_members":
		p.redundantMembers, err = flag(key, val)
	case "unread_thread_notifications":
		p.threadCounts, err = flag(key, val)
	}
	return err
}

// members calls set for the members of an object, except those that are null,
// which some clients send for what they leave out.
func members(src []byte, name string, set func(key string, val []byte) error) error {
	if cjson.KindOf(src) != cjson.ObjectKind {
		return fault.E(fault.BadJSON, op, "%s must be an object", name)
	}
	var failed error
	err := cjson.Object(src, func(key, val []byte) bool {
		if cjson.KindOf(val) != cjson.NullKind {
			failed = set(string(key), val)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fault.E(fault.BadJSON, op, "%w", err)
	}
	return nil
}

// list reads an array of strings that begin with the sigil.
func list(key string, val []byte, sigil string) ([]string, error) {
	if cjson.KindOf(val) != cjson.ArrayKind {
		return nil, fault.E(fault.BadJSON, op, "%s must be an array", key)
	}
	out := []string{}
	var failed error
	err := cjson.Array(val, func(item []byte) bool {
		s, ok := cjson.String(item)
		switch {
		case !ok:
			failed = fault.E(fault.BadJSON, op, "%s must hold strings", key)
		case !strings.HasPrefix(s, sigil):
			failed = fault.E(fault.Invalid, op, "%q in %s does not begin with %s", s, key, sigil)
		case len(out) == maxList:
			failed = fault.E(fault.TooLarge, op, "%s may hold %d strings", key, maxList)
		}
		out = append(out, s)
		return failed == nil
	})
	if failed == nil && err != nil {
		failed = fault.E(fault.BadJSON, op, "%w", err)
	}
	if failed != nil {
		return nil, failed
	}
	return out, nil
}

func flag(key string, val []byte) (bool, error) {
	b, ok := cjson.Bool(val)
	if !ok {
		return false, fault.E(fault.BadJSON, op, "%s must be true or false", key)
	}
	return b, nil
}

// limit takes 0 too, which the specification does not, because clients that
// want no timeline at all ask for it so.
func limit(val []byte) (int, error) {
	n, ok := cjson.Int(val)
	if !ok {
		return 0, fault.E(fault.BadJSON, op, "limit must be an integer")
	}
	if n < 0 {
		return 0, fault.E(fault.Invalid, op, "limit must not be negative")
	}
	return int(min(n, maxLimit)), nil
}

func format(val []byte) (bool, error) {
	s, ok := cjson.String(val)
	switch {
	case !ok:
		return false, fault.E(fault.BadJSON, op, "event_format must be a string")
	case s != "client" && s != "federation":
		return false, fault.E(fault.Invalid, op, "event_format must be client or federation")
	}
	return s == "federation", nil
}
