package event

import (
	"crypto/sha256"
	"errors"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// fields are the raw values of an event's keys; nil where absent.
type fields struct {
	auth, content, depth, id, hashes, time, prev, redacts []byte
	room, sender, signatures, stateKey, typ               []byte
}

func (f *fields) read(json []byte) error {
	err := cjson.Object(json, func(key, val []byte) bool {
		switch string(key) {
		case "auth_events":
			f.auth = val
		case "content":
			f.content = val
		case "depth":
			f.depth = val
		case "event_id":
			f.id = val
		case "hashes":
			f.hashes = val
		case "origin_server_ts":
			f.time = val
		case "prev_events":
			f.prev = val
		case "redacts":
			f.redacts = val
		case "room_id":
			f.room = val
		case "sender":
			f.sender = val
		case "signatures":
			f.signatures = val
		case "state_key":
			f.stateKey = val
		case "type":
			f.typ = val
		}
		return true
	})
	if err != nil {
		return errShape
	}
	return nil
}

// packer gathers the strings of an event on the stack, so that they become one
// allocation: each is appended to text and its end noted. It is passed by value
// and returned, since what is stored through a pointer has to lie on the heap.
type packer struct {
	text []byte
	ends []int
}

// add notes the string that val stands for.
func (p packer) add(val []byte) (packer, bool) {
	text, ok := cjson.AppendDecoded(p.text, val)
	return packer{text, append(p.ends, len(text))}, ok
}

// skip notes a string that is not there.
func (p packer) skip() packer { return packer{p.text, append(p.ends, len(p.text))} }

// addRefs notes the event ids of prev_events or auth_events: plain strings, in
// versions 1 and 2 pairs of an id and its hashes. It counts them.
func (p packer) addRefs(v *Version, list []byte) (_ packer, n int, ok bool) {
	ok = true
	err := cjson.Array(list, func(val []byte) bool {
		if v.IDs == IDInEvent {
			val, ok = pairID(val)
		}
		if ok {
			p, ok = p.add(val)
		}
		n++
		return ok
	})
	return p, n, ok && err == nil
}

// cut takes the string of number i off the packed text. Text and ends are two
// arguments and no struct, or the ends would have to lie on the heap as well.
func cut(text string, ends []int, i int) string {
	from := 0
	if i > 0 {
		from = ends[i-1]
	}
	return text[from:ends[i]]
}

// pairID takes the id of a pair [id, hashes].
func pairID(pair []byte) (id []byte, ok bool) {
	n := 0
	err := cjson.Array(pair, func(val []byte) bool {
		if n == 0 {
			id = val
		}
		n++
		ok = n == 2 && cjson.KindOf(val) == cjson.ObjectKind
		return n <= 2
	})
	return id, ok && err == nil
}

// Parse reads an event that the hub itself kept: canonical bytes, checked when
// they came. The event keeps json; nobody may write to it afterwards. The id is
// worked out from the hash; use ParseAs where it is known.
func Parse(v *Version, json []byte) (*Event, error) { return ParseAs(v, json, "") }

// ParseAs is Parse for an event whose id the caller knows, which saves the hash.
func ParseAs(v *Version, json []byte, id mxid.EventID) (*Event, error) {
	var f fields
	err := f.read(json)
	if err == nil {
		var e *Event
		if e, err = assemble(v, json, &f, id); err == nil {
			return e, nil
		}
	}
	return nil, fault.E(fault.Corrupt, "event.Parse", "stored event: %w", err)
}

// The ways in which an event is not one.
var (
	errContent  = errors.New("content is not an object")
	errDepth    = errors.New("depth is not an integer")
	errTime     = errors.New("origin_server_ts is not an integer")
	errID       = errors.New("event_id is not a string")
	errRoom     = errors.New("room_id is not a string")
	errSender   = errors.New("sender is not a string")
	errType     = errors.New("type is not a string")
	errStateKey = errors.New("state_key is not a string")
	errPrev     = errors.New("prev_events is not a list of references")
	errAuth     = errors.New("auth_events is not a list of references")
)

// assemble makes the Event of fields with the right types. It judges no grammar.
func assemble(v *Version, json []byte, f *fields, id mxid.EventID) (*Event, error) {
	e := &Event{Version: v, ID: id, Content: f.content, JSON: json}
	if cjson.KindOf(f.content) != cjson.ObjectKind {
		return nil, errContent
	}
	var ok bool
	if e.Depth, ok = cjson.Int(f.depth); !ok {
		return nil, errDepth
	}
	if e.Time, ok = cjson.Int(f.time); !ok {
		return nil, errTime
	}
	var buf [1024]byte
	var ends [40]int
	p, err := packID(packer{buf[:0], ends[:0]}, e, f)
	if err != nil {
		return nil, err
	}
	// A state_key of null is in no version's format, yet others have taken
	// such events for messages.
	e.IsState = f.stateKey != nil && cjson.KindOf(f.stateKey) != cjson.NullKind
	if p, err = packHead(p, e, f); err != nil {
		return nil, err
	}
	var prev int
	if p, prev, ok = p.addRefs(v, f.prev); !ok {
		return nil, errPrev
	}
	if p, _, ok = p.addRefs(v, f.auth); !ok {
		return nil, errAuth
	}
	e.unpack(string(p.text), p.ends, prev)
	return e, nil
}

// packID notes the event id, where it is not given from its hash or its field, and
// the room id: in version 12 a create event's follows from the event id.
func packID(p packer, e *Event, f *fields) (packer, error) {
	ok := true
	switch {
	case e.Version.IDs == IDInEvent:
		if p, ok = p.add(f.id); !ok {
			return p, errID
		}
	case e.ID != "":
		p = p.skip()
	default:
		hash, err := ReferenceHash(e.Version, e.JSON)
		if err != nil {
			return p, err
		}
		p.text = e.Version.appendID(p.text, &hash)
		p = p.skip()
	}
	if f.room == nil && e.Version.RoomIDIsCreate && ruleOf(f.typ) == keepCreate {
		p = p.skip()
	} else if p, ok = p.add(f.room); !ok {
		return p, errRoom
	}
	return p, nil
}

// packHead notes sender, type, state key and the target of a redaction. A
// redaction without a proper target redacts nothing.
func packHead(p packer, e *Event, f *fields) (_ packer, err error) {
	var ok bool
	if p, ok = p.add(f.sender); !ok {
		return p, errSender
	}
	if p, ok = p.add(f.typ); !ok {
		return p, errType
	}
	if !e.IsState {
		p = p.skip()
	} else if p, ok = p.add(f.stateKey); !ok {
		return p, errStateKey
	}
	if ruleOf(f.typ) != keepRedaction {
		return p.skip(), nil
	}
	target := f.redacts
	if e.Version.RedactsInContent {
		target, _ = cjson.Lookup(f.content, "redacts")
	}
	p, _ = p.add(target)
	return p, nil
}

// unpack takes the strings in the order in which they were noted.
func (e *Event) unpack(text string, ends []int, prev int) {
	if id := mxid.EventID(cut(text, ends, 0)); id != "" {
		e.ID = id
	}
	e.Room = mxid.RoomID(cut(text, ends, 1))
	if e.Room == "" && e.Version.RoomIDIsCreate {
		e.Room = roomOf(e.ID)
	}
	e.Sender = mxid.UserID(cut(text, ends, 2))
	e.Type = cut(text, ends, 3)
	e.StateKey = cut(text, ends, 4)
	e.Redacts = mxid.EventID(cut(text, ends, 5))
	const head = 6
	refs := make([]mxid.EventID, len(ends)-head)
	for i := range refs {
		refs[i] = mxid.EventID(cut(text, ends, head+i))
	}
	e.Prev, e.Auth = refs[:prev:prev], refs[prev:]
}

// ID works out the id of an event in canonical form.
func ID(v *Version, json []byte) (mxid.EventID, error) {
	if v.IDs == IDInEvent {
		id, ok := cjson.LookupString(json, "event_id")
		if !ok {
			return "", errID
		}
		return mxid.EventID(id), nil
	}
	hash, err := ReferenceHash(v, json)
	if err != nil {
		return "", err
	}
	var buf [sha256.Size * 2]byte
	return mxid.EventID(v.appendID(buf[:0], &hash)), nil
}
