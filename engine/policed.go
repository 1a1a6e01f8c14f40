package engine

import (
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// Where a room has a policy server, what is said there is shown to that first.

// post is Rooms.Send with the word of the room's policy server.
//
// Errors: those of Rooms.Send and federation.Policed.
func (e *Engine) post(num room.Num, d *room.Draft) (mxid.EventID, error) {
	h, err := e.Rooms.Head(num)
	if err != nil {
		return "", err
	}
	if p, err := e.Rooms.Policy(h); err != nil {
		return "", err
	} else if p == nil {
		return e.Rooms.Send(num, d)
	}
	w, err := e.Rooms.Write(num)
	if err != nil {
		return "", err
	}
	defer func() { w.End() }() // of the writer that is there then
	if old, err := w.Already(d); old != nil || err != nil {
		if err != nil {
			return "", err
		}
		head := w.Head()
		w.End()
		e.Rooms.Settled(head)
		return old.ID, nil
	}
	made, pending, err := e.commit(&w, d)
	if err != nil {
		return "", err
	}
	return made.ID, pending.Wait()
}

// commit makes an event and commits it, and shows it to the room's policy server
// before: then the room is let go of, so that who does not answer holds up nobody,
// and *w is another writer afterwards.
func (e *Engine) commit(w **room.Writer, d *room.Draft) (*room.Event, stream.Pending, error) {
	p, err := e.Rooms.Policy((*w).Head())
	if err != nil {
		return nil, stream.Pending{}, err
	}
	var made *room.Event
	if p == nil {
		made, err = (*w).Add(d)
	} else {
		made, err = e.show(w, d)
	}
	if err != nil {
		return nil, stream.Pending{}, err
	}
	pending, err := (*w).Commit(nil)
	return made, pending, err
}

// show makes an event, has the policy server sign it, and stages it.
func (e *Engine) show(w **room.Writer, d *room.Draft) (*room.Event, error) {
	drawn, err := (*w).Make(d)
	if err != nil {
		return nil, err
	}
	num := (*w).Head().Room
	(*w).End()
	if e.Federation == nil { // the hub is starting
		return nil, fault.E(fault.Remote, "engine.show", "the room's policy server was not asked yet")
	}
	signed, err := e.Federation.Policed(e.life, num, drawn)
	if err != nil {
		return nil, err
	}
	again, err := e.Rooms.Write(num)
	if err != nil {
		return nil, err
	}
	*w = again
	if d.Txn.Device != 0 { // the same request may have come twice
		if old, err := again.Already(d); old != nil || err != nil {
			return old, err
		}
	}
	return again.Enter(signed, d.Txn)
}

// policeOf is the policy server of a room, empty where there is none.
func (e *Engine) policeOf(num room.Num) mxid.Server {
	h, err := e.Rooms.Head(num)
	if err != nil {
		return ""
	}
	p, err := e.Rooms.Policy(h)
	if err != nil || p == nil {
		return ""
	}
	return p.Via
}
