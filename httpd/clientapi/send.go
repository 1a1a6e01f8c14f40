package clientapi

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// active refuses a suspended user: they may read and leave, and no more.
// Spec: client-server, account suspension.
func active(r *wire.Req) error {
	if r.Session.Suspended {
		return fault.E(fault.Suspended, "clientapi", "")
	}
	return nil
}

// room finds the room of the path for somebody who has to be in it: who is not
// is never told whether there is such a room.
func (a *API) room(r *wire.Req) (room.Num, error) {
	num, err := a.engine.Rooms.Find(mxid.RoomID(r.Path("roomId")))
	if fault.Is(err, fault.NotFound) {
		return 0, fault.E(fault.Forbidden, "clientapi.room", "you are not in the room")
	}
	return num, err
}

// maxTxn bounds a transaction id.
const maxTxn = 255

// transaction reads the transaction id of the path; its scope is the device.
func transaction(r *wire.Req) (room.Txn, error) {
	id := r.Path("txnId")
	if len(id) > maxTxn {
		return room.Txn{}, fault.E(fault.Invalid, "clientapi.send", "a transaction id has at most %d bytes", maxTxn)
	}
	return room.Txn{Device: r.Session.DeviceNum, ID: id}, nil
}

// sent answers with the id of an event.
func (a *API) sent(r *wire.Req, id mxid.EventID) error {
	a.engine.Ephemeral.Acted(r.Session.User)
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"event_id":`...), id), '}'))
}

// Spec: client-server, PUT /rooms/{roomId}/send/{eventType}/{txnId}.
func (a *API) send(r *wire.Req) error {
	if wait, ok, err := delayOf(r); ok {
		if err != nil {
			return err
		}
		txn, err := transaction(r)
		if err != nil {
			return err
		}
		return a.later(r, &room.Draft{Type: r.Path("eventType"), Txn: txn}, wait)
	}
	content, err := r.Object()
	if err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	num, err := a.room(r)
	if err != nil {
		return err
	}
	txn, err := transaction(r)
	if err != nil {
		return err
	}
	at, err := stamp(r)
	if err != nil {
		return err
	}
	id, err := a.engine.Send(num, &room.Draft{Type: r.Path("eventType"), Sender: r.Session.UserID, Content: content, Txn: txn, Time: at})
	if err != nil {
		return err
	}
	return a.sent(r, id)
}

// Spec: client-server, PUT /rooms/{roomId}/redact/{eventId}/{txnId}.
func (a *API) redact(r *wire.Req) error {
	content, err := r.Object()
	if err != nil {
		return err
	}
	if _, _, err := text(content, "reason"); err != nil {
		return err
	}
	num, err := a.room(r)
	if err != nil {
		return err
	}
	target, err := mxid.ParseEvent(r.Path("eventId"))
	if err != nil {
		return fault.E(fault.Invalid, "clientapi.redact", "not an event id: %w", err)
	}
	if r.Session.Suspended { // they may take back what is theirs
		if e, err := a.engine.Rooms.Lookup(target); err != nil || e.Sender != r.Session.UserID {
			return active(r)
		}
	}
	txn, err := transaction(r)
	if err != nil {
		return err
	}
	id, err := a.engine.Send(num, &room.Draft{
		Type: "m.room.redaction", Sender: r.Session.UserID, Content: content, Redacts: target, Txn: txn,
	})
	if err != nil {
		return err
	}
	return a.sent(r, id)
}

// Spec: client-server, PUT /rooms/{roomId}/state/{eventType}/{stateKey}.
func (a *API) setState(r *wire.Req) error {
	if wait, ok, err := delayOf(r); ok {
		if err != nil {
			return err
		}
		key := r.Path("stateKey")
		return a.later(r, &room.Draft{Type: r.Path("eventType"), StateKey: &key}, wait)
	}
	content, err := r.Object()
	if err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	num, err := a.room(r)
	if err != nil {
		return err
	}
	at, err := stamp(r)
	if err != nil {
		return err
	}
	key := r.Path("stateKey")
	id, err := a.engine.State(num, &room.Draft{Type: r.Path("eventType"), StateKey: &key, Sender: r.Session.UserID, Content: content, Time: at})
	if err != nil {
		return err
	}
	return a.sent(r, id)
}

// text reads a string member of a body; null counts as absent.
func text(obj []byte, key string) (val string, ok bool, err error) {
	raw, ok := cjson.Lookup(obj, key)
	if !ok || cjson.KindOf(raw) == cjson.NullKind {
		return "", false, nil
	}
	if val, ok = cjson.String(raw); !ok {
		return "", false, fault.E(fault.BadJSON, "clientapi.text", "%s must be a string", key)
	}
	return val, true, nil
}

// needText reads a string member that has to be there.
func needText(obj []byte, key string) (string, error) {
	val, ok, err := text(obj, key)
	if err == nil && !ok {
		err = fault.E(fault.Missing, "clientapi.text", "the body has no %s", key)
	}
	return val, err
}
