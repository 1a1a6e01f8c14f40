package engine

import (
	"slices"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// tell wakes who is to know of typing and presence, and tells other servers, until
// the engine ends. A
// member of a room is told of who types there, a user of those they share a
// room with.
func (e *Engine) tell() {
	e.Ephemeral.Run(e.stop, func(rooms, users []uint32) {
		e.AppServices.Tell(rooms, users)
		var wake []uint32
		for _, num := range rooms {
			wake = e.localOf(wake, room.Num(num))
		}
		seen := map[room.Num]bool{}
		for _, user := range users {
			wake = append(wake, user)
			// A room that cannot be read is told of by the next request that fails.
			_ = e.Rooms.Of(user, func(m room.Member) bool {
				if m.Membership == room.Join && !seen[m.Room] {
					seen[m.Room] = true
					wake = e.localOf(wake, m.Room)
				}
				return true
			})
		}
		slices.Sort(wake)
		e.log.Wake(slices.Compact(wake)...)
		e.Federation.Moved(rooms, users)
	})
}

func (e *Engine) localOf(users []uint32, num room.Num) []uint32 {
	h, err := e.Rooms.Head(num)
	if err != nil {
		return users
	}
	return append(users, h.Local...)
}

// Typing says that a user types in a room, or no longer does. Errors: Forbidden
// for who is not in the room.
func (e *Engine) Typing(user uint32, id mxid.RoomID, typing bool, long time.Duration) error {
	num, err := e.mustBeIn("engine.Typing", user, id)
	if err != nil {
		return err
	}
	e.Ephemeral.SetTyping(uint32(num), user, typing, long)
	return nil
}

// Shares says whether two users are in a room together.
func (e *Engine) Shares(user, other uint32) (shared bool, err error) {
	var asked error
	err = e.Rooms.Of(user, func(m room.Member) bool {
		if m.Membership != room.Join {
			return true
		}
		var o room.Member
		if o, asked = e.Rooms.MemberOf(m.Room, other); asked != nil {
			return false
		}
		shared = o.Membership == room.Join
		return !shared
	})
	if err == nil {
		err = asked
	}
	return shared, err
}

// Marks says how far a user has read. Empty ids are not moved.
// Spec: client-server, receipts and fully read markers.
type Marks struct {
	Read      mxid.EventID // m.read: told to the room
	Private   mxid.EventID // m.read.private: told to the user alone
	FullyRead mxid.EventID // m.fully_read: account data
	Thread    string       // of the receipts: empty, ephemeral.Main or the id of a thread's root
}

// Mark moves a user's receipts and marker in one batch.
//
// Errors: Forbidden for who is not in the room, NotFound for an event that is
// not, Invalid for a thread that is none.
func (e *Engine) Mark(user uint32, id mxid.RoomID, m *Marks) error {
	const op = "engine.Mark"
	num, err := e.mustBeIn(op, user, id)
	if err != nil {
		return err
	}
	if m.Thread != "" && m.Thread != ephemeral.Main {
		if root, err := e.Rooms.Lookup(mxid.EventID(m.Thread)); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		} else if err != nil || root.In != num {
			return fault.E(fault.Invalid, op, "thread_id is no event of the room")
		}
	}
	var receipts []*ephemeral.Receipt
	for _, r := range [...]struct {
		typ ephemeral.ReceiptType
		to  mxid.EventID
	}{{ephemeral.Read, m.Read}, {ephemeral.ReadPrivate, m.Private}} {
		if r.to == "" {
			continue
		}
		ev, err := e.Rooms.Lookup(r.to)
		if err == nil && ev.In != num {
			err = fault.E(fault.NotFound, op, "the event is not in this room")
		}
		if err != nil {
			return err
		}
		receipts = append(receipts, &ephemeral.Receipt{
			Room: uint32(num), User: user, Type: r.typ, Thread: m.Thread, Event: r.to, At: ev.At.Pos, Time: e.clock.now().UnixMilli(),
		})
	}
	head, err := e.Rooms.Head(num)
	if err != nil {
		return err
	}
	defer e.Accounts.Hold(user)()
	_, err = e.log.Commit(func(tx *stream.Tx) error { return e.mark(tx, head, receipts, user, m.FullyRead) })
	return err
}

func (e *Engine) mark(tx *stream.Tx, head *room.Head, receipts []*ephemeral.Receipt, user uint32, fully mxid.EventID) error {
	for _, rc := range receipts {
		changed, err := e.Ephemeral.PutReceipt(tx, rc)
		if err != nil {
			return err
		}
		if changed && rc.Type == ephemeral.Read {
			tx.Wake(head.Local...)
		} else if changed {
			tx.Wake(user)
		}
	}
	if fully == "" {
		return nil
	}
	content := append(cjson.AppendString([]byte(`{"event_id":`), string(fully)), '}')
	return e.Accounts.PutData(tx, user, uint32(head.Room), account.TypeFullyRead, content)
}
