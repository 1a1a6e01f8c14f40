package engine

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// State sends a state event that a client wrote.
//
// Errors: Invalid, BadAlias, Forbidden, TooLarge, BadJSON.
func (e *Engine) State(num room.Num, d *room.Draft) (mxid.EventID, error) {
	id, err := e.state(num, d)
	if err != nil {
		return "", err
	}
	in, err := e.Rooms.RoomID(num)
	if err != nil {
		return "", err
	}
	return id, e.delayed.Supersede(in, d.Type, *d.StateKey, d.Sender)
}

func (e *Engine) state(num room.Num, d *room.Draft) (mxid.EventID, error) {
	switch d.Type {
	case "m.room.create":
		return "", fault.E(fault.Invalid, "engine.State", "a room is created once only")
	case "m.room.member":
		return e.memberState(num, d)
	case typeGuestAccess:
		id, err := e.post(num, d)
		if err == nil && *d.StateKey == "" && !welcome(d.Content) {
			err = e.ExpelGuests(num)
		}
		return id, err
	case typeCanonicalAlias:
		if *d.StateKey == "" {
			return e.canonicalState(num, d)
		}
	}
	return e.post(num, d)
}

// Send sends an event that is no state event. A redaction that came by the
// general way names its target in the content; it is moved to where the room's
// version has it.
//
// Errors: those of Rooms.Send and federation.Policed; Missing for a redaction without a target.
func (e *Engine) Send(num room.Num, d *room.Draft) (mxid.EventID, error) {
	if d.Type != "m.room.redaction" {
		return e.post(num, d)
	}
	if d.Redacts == "" {
		target, _ := cjson.LookupString(d.Content, "redacts")
		if _, err := mxid.ParseEvent(target); err != nil {
			return "", fault.E(fault.Missing, "engine.Send", "a redaction names its target in redacts: %w", err)
		}
		d.Redacts = mxid.EventID(target)
	}
	var err error
	if d.Content, err = without(d.Content, "redacts"); err != nil {
		return "", err
	}
	return e.post(num, d)
}
