package engine

import (
	"bytes"
	"time"

	"hearth/engine/delay"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// Later takes in an event that is to be sent after a delay, and gives the id by
// which it can be hurried, put off or taken back. Who is not in the room may not.
// Spec: MSC4140.
func (e *Engine) Later(user uint32, in mxid.RoomID, d *room.Draft, after time.Duration) (string, error) {
	if after > delay.MaxDelay {
		return "", fault.E(fault.Invalid, "engine.Later", "the delay is at most %d milliseconds", delay.MaxDelay.Milliseconds())
	}
	if _, err := e.mustBeIn("engine.Later", user, in); err != nil {
		return "", err
	}
	return e.delayed.Add(&delay.Event{
		User: user, Sender: d.Sender, Room: in, Type: d.Type, StateKey: d.StateKey, Content: bytes.Clone(d.Content), // the request's own
		Delay: after.Milliseconds(), Since: e.clock.now().UnixMilli(), Device: d.Txn.Device, Txn: d.Txn.ID,
	})
}

// Delayed is what waits to be sent.
func (e *Engine) Delayed() *delay.Queue { return e.delayed }

// RestartDelayed lets the time of an event run anew.
func (e *Engine) RestartDelayed(id string) error {
	return e.delayed.Restart(id, e.clock.now().UnixMilli())
}

// SendDelayed sends an event now that was to be sent later.
func (e *Engine) SendDelayed(id string) error {
	e.sending.Lock()
	defer e.sending.Unlock()
	d, err := e.delayed.Get(id)
	if err != nil {
		return err
	}
	if err := e.sendDelayed(d); err != nil {
		return err
	}
	return e.delayed.Drop(id)
}

// sendDelayed sends an event that waits. Where the hub loses its power between
// this and dropping it, it is sent again, and the transaction makes it one. The
// caller holds sending.
func (e *Engine) sendDelayed(d *delay.Event) error {
	u, err := e.Accounts.User(d.User)
	switch {
	case err != nil:
		return err
	case u.Suspended || u.Locked || u.Deactivated: // since it was asked for
		return fault.E(fault.Forbidden, "engine.SendDelayed", "%s may not send any more", d.Sender)
	}
	num, err := e.Rooms.Find(d.Room)
	if err != nil {
		return err
	}
	draft := room.Draft{Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, Content: d.Content}
	if d.StateKey != nil {
		_, err = e.State(num, &draft)
	} else {
		draft.Txn = room.Txn{Device: d.Device, ID: "delayed/" + d.ID}
		_, err = e.Send(num, &draft)
	}
	return err
}

// retryDelayed is how long what could not be sent for a fault of the hub's own
// waits before it is tried again.
const retryDelayed = 10 * time.Second

// SendDue sends what is due, and gives how long it is until more is; 0 where
// nothing waits. What the room refuses is dropped.
func (e *Engine) SendDue() (next time.Duration, err error) {
	e.sending.Lock()
	defer e.sending.Unlock()
	now := e.clock.now().UnixMilli()
	due, at := e.delayed.Due(now)
	for _, d := range due {
		if _, gone := e.delayed.Get(d.ID); gone != nil {
			continue // taken back meanwhile, or superseded
		}
		if err := e.sendDelayed(d); err != nil && (fault.Is(err, fault.Internal) || fault.Is(err, fault.Full) || fault.Is(err, fault.Busy)) {
			return retryDelayed, err
		}
		if err := e.delayed.Drop(d.ID); err != nil && !fault.Is(err, fault.NotFound) {
			return retryDelayed, err
		}
	}
	if at == 0 {
		return 0, nil
	}
	return time.Duration(max(at-now, 1)) * time.Millisecond, nil
}

// runDelayed sends events when they are due, until the engine ends.
func (e *Engine) runDelayed(fail func(error)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-timer.C:
		case <-e.delayed.Moved():
		}
		next, err := e.SendDue()
		if err != nil {
			fail(err)
		}
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
	}
}
