package room

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
)

// Reader is who an event is written for.
type Reader struct {
	Device uint64 // device number: told the transaction ids of its own events
	// OmitRoom leaves room_id out, as in /sync.
	OmitRoom bool
	// Federation writes the event as servers send it, for filters that ask for it.
	Federation bool
	// Membership of the reader at the event, told in unsigned; None where it is
	// not to be told.
	Membership Membership
	// Outside is what those outside the room are shown of it, stripped events with
	// commas between, to be told with an invitation or a knock; nil: nothing.
	Outside []byte
	// Bundle has what relates to the event told with it; nil where it is not to be.
	Bundle *Bundle
}

// AppendClient writes an event as clients read it. Spec: client-server, room
// event format.
func (r *Rooms) AppendClient(dst []byte, e *Event, to Reader) ([]byte, error) {
	var ubuf [512]byte
	unsigned, err := r.appendUnsigned(ubuf[:0], e, to)
	if err != nil {
		return dst, err
	}
	if to.Federation {
		// The event as kept ends with '}' and sorts unsigned last of its keys.
		dst = append(dst, e.JSON[:len(e.JSON)-1]...)
		dst = append(append(dst, `,"unsigned":`...), unsigned...)
		return append(dst, '}'), nil
	}
	return event.AppendClient(dst, e.Event, event.ClientOptions{Unsigned: unsigned, OmitRoom: to.OmitRoom}), nil
}

// appendUnsigned writes what only this hub says about an event.
func (r *Rooms) appendUnsigned(dst []byte, e *Event, to Reader) ([]byte, error) {
	dst = append(dst, `{"age":`...)
	dst = strconv.AppendInt(dst, max(r.opts.Now().UnixMilli()-e.Time, 0), 10)
	if to.Membership != None {
		dst = append(dst, `,"membership":"`...)
		dst = append(append(dst, to.Membership.String()...), '"')
	}
	if to.Outside != nil {
		name := `,"invite_room_state":[`
		if MembershipOf(e.Content) == Knock {
			name = `,"knock_room_state":[`
		}
		dst = append(append(append(dst, name...), to.Outside...), ']')
	}
	if to.Bundle != nil {
		var err error
		if dst, err = r.appendBundle(dst, e, &to); err != nil {
			return dst, err
		}
	}
	if e.Replaces != 0 && !e.Redacted() {
		old, err := r.Event(e.Replaces)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return dst, err
		}
		if err == nil {
			dst = append(append(dst, `,"prev_content":`...), old.Content...)
			dst = append(dst, `,"prev_sender":`...)
			dst = cjson.AppendString(dst, string(old.Sender))
			dst = append(dst, `,"replaces_state":`...)
			dst = cjson.AppendString(dst, string(old.ID))
		}
	}
	if e.RedactedBy != 0 {
		because, err := r.Event(e.RedactedBy)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return dst, err
		}
		if err == nil {
			dst = append(dst, `,"redacted_because":`...)
			if dst, err = r.AppendClient(dst, because, Reader{Device: to.Device, OmitRoom: to.OmitRoom}); err != nil {
				return dst, err
			}
		}
	}
	if e.TxnDevice != 0 && e.TxnDevice == to.Device {
		dst = append(dst, `,"transaction_id":`...)
		dst = cjson.AppendString(dst, e.Txn)
	}
	return append(dst, '}'), nil
}

// AppendStripped writes an event as it is shown to those outside the room.
func (r *Rooms) AppendStripped(dst []byte, e *Event) []byte {
	return event.AppendStripped(dst, e.Event)
}
