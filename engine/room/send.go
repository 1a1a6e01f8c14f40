package room

import (
	"bytes"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// Send makes one event in a room and returns when it is on disk. A state event
// that says what the room's state says already, and a transaction that was done
// already, give the id of the event that is there.
//
// Errors: NotFound for an unknown room, Forbidden where the auth rules refuse,
// TooLarge, BadJSON.
func (r *Rooms) Send(room Num, d *Draft) (mxid.EventID, error) {
	w, err := r.Write(room)
	if err != nil {
		return "", err
	}
	defer w.End()
	if old, err := w.Already(d); old != nil || err != nil {
		if err != nil {
			return "", err
		}
		w.End()
		r.log.WaitTip(old.At.Pos)
		return old.ID, nil
	}
	e, err := w.Add(d)
	if err != nil {
		return "", err
	}
	pending, err := w.Commit(nil)
	if err != nil {
		return "", err
	}
	return e.ID, pending.Wait()
}

// Already finds the event that makes a draft unnecessary: the transaction's, or
// the state event that says the same; nil where there is none.
func (w *Writer) Already(d *Draft) (*Event, error) {
	if d.Txn.Device != 0 {
		return w.r.sent(w.head.ID, d)
	}
	if d.StateKey == nil || d.Time != 0 {
		return nil, nil
	}
	old, err := w.State(d.Type, *d.StateKey)
	if err != nil || old == nil || old.Sender != d.Sender || old.Redacted() {
		return nil, err
	}
	content, err := cjson.Canonical(nil, d.Content, w.head.Version.StrictJSON)
	if err != nil || !bytes.Equal(content, old.Content) {
		return nil, nil // Add says what is wrong with the content
	}
	return old, nil
}
