package clientapi

import (
	"time"

	"hearth/engine"
	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// defaultTyping is how long a client is taken to be typing that does not say.
const defaultTyping = 30 * time.Second

// Spec: client-server, PUT /rooms/{roomId}/typing/{userId}.
func (a *API) typing(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	val, ok := cjson.Lookup(body, "typing")
	if !ok {
		return fault.E(fault.Missing, "clientapi.typing", "the body has no typing")
	}
	on, ok := cjson.Bool(val)
	if !ok {
		return fault.E(fault.BadJSON, "clientapi.typing", "typing must be true or false")
	}
	long := defaultTyping
	if val, ok := cjson.Lookup(body, "timeout"); ok && cjson.KindOf(val) != cjson.NullKind {
		ms, ok := cjson.Int(val)
		if !ok {
			return fault.E(fault.BadJSON, "clientapi.typing", "timeout must be a whole number of milliseconds")
		}
		if ms > 0 {
			long = time.Duration(min(ms, ephemeral.MaxTyping.Milliseconds())) * time.Millisecond
		}
	}
	if err := me(r); err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	if err := a.engine.Typing(r.Session.User, mxid.RoomID(r.Path("roomId")), on, long); err != nil {
		return err
	}
	a.engine.Ephemeral.Acted(r.Session.User)
	return r.Empty()
}

// mark reads an event id that something is to be moved to.
func mark(what, id string) (mxid.EventID, error) {
	event, err := mxid.ParseEvent(id)
	if err != nil {
		return "", fault.E(fault.Invalid, "clientapi.mark", "%s is no event id: %w", what, err)
	}
	return event, nil
}

// Spec: client-server, POST /rooms/{roomId}/receipt/{receiptType}/{eventId}.
func (a *API) receipt(r *wire.Req) error {
	const op = "clientapi.receipt"
	body, err := r.Object()
	if err != nil {
		return err
	}
	event, err := mark("the event of the path", r.Path("eventId"))
	if err != nil {
		return err
	}
	var m engine.Marks
	typ := r.Path("receiptType")
	switch t, ok := ephemeral.ParseReceiptType(typ); {
	case ok && t == ephemeral.Read:
		m.Read = event
	case ok:
		m.Private = event
	case typ == "m.fully_read":
		m.FullyRead = event
	default:
		return fault.E(fault.Invalid, op, "there is no receipt of this type")
	}
	if val, ok := cjson.Lookup(body, "thread_id"); ok && cjson.KindOf(val) != cjson.NullKind {
		m.Thread, ok = cjson.String(val)
		if !ok || m.Thread == "" || m.FullyRead != "" {
			return fault.E(fault.Invalid, op, "thread_id must be main or an event id, and m.fully_read has none")
		}
	}
	if err := a.engine.Mark(r.Session.User, mxid.RoomID(r.Path("roomId")), &m); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, POST /rooms/{roomId}/read_markers.
func (a *API) readMarkers(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	var m engine.Marks
	for _, f := range [...]struct {
		key string
		to  *mxid.EventID
	}{{"m.fully_read", &m.FullyRead}, {"m.read", &m.Read}, {"m.read.private", &m.Private}} {
		id, ok, err := text(body, f.key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if *f.to, err = mark(f.key, id); err != nil {
			return err
		}
	}
	if err := a.engine.Mark(r.Session.User, mxid.RoomID(r.Path("roomId")), &m); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, GET /presence/{userId}/status. Shown to those who share
// a room.
func (a *API) presence(r *wire.Req) error {
	other := r.Session.User
	if id := mxid.UserID(r.Path("userId")); id != r.Session.UserID {
		if _, err := mxid.ParseUser(string(id)); err != nil {
			return fault.E(fault.Invalid, "clientapi.presence", "not a user id: %w", err)
		}
		var err error
		if other, err = a.engine.Rooms.User(id); err != nil {
			return err
		}
		shared := false
		if other != 0 {
			if shared, err = a.engine.Shares(r.Session.User, other); err != nil {
				return err
			}
		}
		if !shared {
			return fault.E(fault.Forbidden, "clientapi.presence", "you share no room with this user")
		}
	}
	s, err := a.engine.Ephemeral.Presence(other)
	if err != nil {
		return err
	}
	return r.OK(a.engine.Ephemeral.AppendStatus(r.Out(), s))
}

// Spec: client-server, PUT /presence/{userId}/status.
func (a *API) setPresence(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	name, err := needText(body, "presence")
	if err != nil {
		return err
	}
	state, ok := ephemeral.ParseState(name)
	if !ok {
		return fault.E(fault.Invalid, "clientapi.setPresence", "presence must be online, unavailable or offline")
	}
	status, _, err := text(body, "status_msg")
	if err != nil {
		return err
	}
	if err := me(r); err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	if err := a.engine.Ephemeral.SetPresence(r.Session.User, r.Session.DeviceNum, state, &status); err != nil {
		return err
	}
	return r.Empty()
}
