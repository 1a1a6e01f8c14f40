package event

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Limits of an event. Spec: client-server, Size limits; rooms, Event format.
const (
	MaxSize = 65536 // bytes of the canonical form with hashes and signatures
	MaxKey  = 255   // bytes of type, state_key and each id
	MaxPrev = 20    // entries of prev_events
	MaxAuth = 10    // entries of auth_events
)

// maxRaw bounds what Receive looks at: room for white space, escapes and unsigned
// around an event of full size.
const maxRaw = 8 * MaxSize

// Receive reads an event from outside: another server's, or one that a person
// wants to import. It checks the format of the room version and the limits,
// brings the event into canonical form, drops unsigned, and event_id where the
// hash is the id.
//
// Where the content hash does not fit, the event is taken for a redacted one and
// comes back redacted, with redacted set; an event that came redacted is found so
// too. Signatures are not looked at: see Verify. raw is not kept.
// Spec: server-server, Checks performed on receipt of a PDU, 1 and 3.
func Receive(v *Version, raw []byte) (e *Event, redacted bool, err error) {
	return receive(v, raw, MaxPrev, MaxAuth)
}

// ReceivePast is Receive for an event of a room's past: of those that were let in
// before there were limits, the number of references has none but the event's size.
// Spec: server-server, GET /backfill/{roomId}.
func ReceivePast(v *Version, raw []byte) (e *Event, redacted bool, err error) {
	return receive(v, raw, MaxSize, MaxSize)
}

func receive(v *Version, raw []byte, maxPrev, maxAuth int) (e *Event, redacted bool, err error) {
	json, err := clean(v, raw)
	if err != nil {
		return nil, false, err
	}
	if e, err = accept(v, json, maxPrev, maxAuth); err != nil {
		return nil, false, err
	}
	hash, err := ContentHash(json)
	if err != nil {
		return nil, false, badEvent(err)
	}
	if stated, ok := statedHash(json); !ok || !bytes.Equal(stated, hash[:]) {
		e, err = e.Redacted()
		return e, true, err
	}
	return e, false, nil
}

func badEvent(err error) error {
	return fault.E(fault.BadJSON, "event.Receive", "not an event of this room version: %w", err)
}

// jsonFault gives an error of cjson its kind.
func jsonFault(op string, err error) error {
	if _, ok := errors.AsType[*cjson.SyntaxError](err); ok {
		return fault.E(fault.NotJSON, op, "%w", err)
	}
	return fault.E(fault.BadJSON, op, "%w", err)
}

// clean brings raw into canonical form without the keys that are not kept.
func clean(v *Version, raw []byte) ([]byte, error) {
	if len(raw) > maxRaw {
		return nil, fault.E(fault.TooLarge, "event.Receive", "event of %d bytes", len(raw))
	}
	json, err := cjson.Canonical(nil, raw, v.StrictJSON)
	if err != nil {
		return nil, jsonFault("event.Receive", err)
	}
	_, unsigned := cjson.Lookup(json, "unsigned")
	_, id := cjson.Lookup(json, "event_id")
	if unsigned || id && v.IDs != IDInEvent {
		json, err = appendWithout(make([]byte, 0, len(json)), json, func(key []byte) bool {
			return string(key) == "unsigned" || string(key) == "event_id" && v.IDs != IDInEvent
		})
		if err != nil {
			return nil, badEvent(err)
		}
	}
	if len(json) > MaxSize {
		return nil, fault.E(fault.TooLarge, "event.Receive", "event of %d bytes, %d are allowed", len(json), MaxSize)
	}
	return json, nil
}

// accept makes the Event of canonical bytes from outside and judges it.
func accept(v *Version, json []byte, maxPrev, maxAuth int) (*Event, error) {
	var f fields
	if err := f.read(json); err != nil {
		return nil, badEvent(err)
	}
	if err := checkLists(&f, maxPrev, maxAuth); err != nil {
		return nil, badEvent(err)
	}
	e, err := assemble(v, json, &f, "")
	if err != nil {
		return nil, badEvent(err)
	}
	if err := checkSizes("event.Receive", e, v.ByteSizes); err != nil {
		return nil, err
	}
	if err := checkGrammar(e, &f); err != nil {
		return nil, badEvent(err)
	}
	return e, nil
}

// checkLists bounds the references before they are read, and wants the objects
// that every version has.
func checkLists(f *fields, maxPrev, maxAuth int) error {
	for _, list := range []struct {
		val   []byte
		limit int
		name  string
	}{{f.prev, maxPrev, "prev_events"}, {f.auth, maxAuth, "auth_events"}} {
		n := 0
		err := cjson.Array(list.val, func([]byte) bool { n++; return n <= list.limit })
		if err != nil {
			return errors.New(list.name + " is not a list")
		}
		if n > list.limit {
			return errors.New(list.name + " has too many entries")
		}
	}
	if cjson.KindOf(f.signatures) != cjson.ObjectKind {
		return errors.New("signatures is not an object")
	}
	if sum, ok := cjson.Lookup(f.hashes, "sha256"); !ok || cjson.KindOf(sum) != cjson.StringKind {
		return errors.New("hashes has no sha256")
	}
	return nil
}

// checkSizes holds the limits on single keys. What came into rooms whose servers
// counted type and state_key in code points must not be refused for its bytes.
// Spec: client-server, Size limits.
func checkSizes(op string, e *Event, bytes bool) error {
	over := func(s string) bool { return len(s) > MaxKey && (bytes || utf8.RuneCountInString(s) > MaxKey) }
	long := ""
	switch {
	case over(e.Type):
		long = "type"
	case over(e.StateKey):
		long = "state_key"
	case len(e.Sender) > MaxKey:
		long = "sender"
	case len(e.Room) > MaxKey:
		long = "room_id"
	case len(e.ID) > MaxKey:
		long = "event_id"
	default:
		return nil
	}
	return fault.E(fault.TooLarge, op, "%s is longer than %d bytes", long, MaxKey)
}

// checkGrammar judges identifiers and ranges.
func checkGrammar(e *Event, f *fields) error {
	if _, err := mxid.ParseUser(string(e.Sender)); err != nil {
		return errors.New("sender is not a user id")
	}
	// Spec: rooms v12, auth rule 1.2: a create event that names a room can never
	// be the one its room is called after.
	if e.Version.RoomIDIsCreate && ruleOf(f.typ) == keepCreate && f.room != nil {
		return errors.New("create event with a room_id")
	}
	if _, err := mxid.ParseRoom(string(e.Room)); err != nil ||
		e.Version.RoomIDIsCreate && !e.Room.IsHash() || !e.Version.RoomIDIsCreate && e.Room.Server() == "" {
		return errors.New("room_id is not one of this room version")
	}
	if e.Version.IDs == IDInEvent {
		if _, err := mxid.ParseEvent(string(e.ID)); err != nil {
			return errors.New("event_id is not an event id")
		}
		if _, err := mxid.ParseServer(string(e.ID.Server())); err != nil {
			return errors.New("event_id has no domain")
		}
	}
	for _, refs := range [][]mxid.EventID{e.Prev, e.Auth} {
		for _, id := range refs {
			if _, err := mxid.ParseEvent(string(id)); err != nil {
				return errors.New("reference to what is not an event id")
			}
		}
	}
	if e.Depth < 0 {
		return errors.New("depth is negative")
	}
	return nil
}
