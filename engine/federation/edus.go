package federation

import (
	"context"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// What other servers tell that is no event. Each is believed of the users of the
// server that tells it and of nobody else, and of them only where they share a
// room with somebody here: what nobody would see is not kept.

// Bounds of one EDU. They are above what servers send: larger ones are cut.
const (
	maxReceipts = 512
	maxPresent  = 512
	maxTargets  = 2048    // devices that one message is for
	maxCopies   = 4 << 20 // bytes of what they get together: one text may be for all of somebody's devices
)

// typingHold is how long somebody elsewhere is taken to be typing: their server
// says so again before it is over.
const typingHold = time.Minute

// receiveEDU takes in one EDU. The error says why nothing was made of it; what
// must not be lost is on the disk when it returns nil.
// Spec: server-server, EDUs.
func (f *Federation) receiveEDU(ctx context.Context, origin mxid.Server, typ string, content []byte) error {
	if cjson.KindOf(content) != cjson.ObjectKind {
		return fault.E(fault.BadJSON, "federation.receiveEDU", "the content of an edu is an object")
	}
	switch typ {
	case "m.typing":
		return f.receiveTyping(origin, content)
	case "m.receipt":
		return f.receiveReceipts(origin, content)
	case "m.presence":
		return f.receivePresence(origin, content)
	case "m.direct_to_device":
		return f.receiveToDevice(origin, content)
	case "m.device_list_update":
		return f.receiveDevice(origin, content)
	case "m.signing_key_update", "org.matrix.signing_key_update": // the latter is its name of before
		return f.receiveCross(origin, content)
	}
	return nil // what is not known is passed over
}

// heard finds a room and refuses a server that is not listened to there.
func (f *Federation) heard(origin mxid.Server, id string) (*room.Head, error) {
	num, err := f.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		return nil, err
	}
	head, err := f.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	if len(head.Local) == 0 {
		return nil, fault.E(fault.NotFound, "federation.receiveEDU", "nobody here is in the room")
	}
	return head, f.Admits(head, origin)
}

// joined gives the number of a user of the origin who is in the room; 0 for
// anybody else.
func (f *Federation) joined(origin mxid.Server, in room.Num, id mxid.UserID) (uint32, error) {
	if id.Server() != origin {
		return 0, nil
	}
	user, err := f.Rooms.User(id)
	if err != nil || user == 0 {
		return 0, err
	}
	m, err := f.Rooms.MemberOf(in, user)
	if err != nil || m.Membership != room.Join {
		return 0, err
	}
	return user, nil
}

// shared says whether somebody here is in a room with a user of another server.
func (f *Federation) shared(user uint32) (bool, error) {
	var rooms []room.Num
	err := f.Rooms.Of(user, func(m room.Member) bool {
		if m.Membership == room.Join {
			rooms = append(rooms, m.Room)
		}
		return true
	})
	for _, num := range rooms {
		if err != nil {
			return false, err
		}
		var h *room.Head
		if h, err = f.Rooms.Head(num); err == nil && len(h.Local) > 0 {
			return true, nil
		}
	}
	return false, err
}

// tracked gives the number of a user of the origin who shares a room with
// somebody here; 0 for anybody else.
func (f *Federation) tracked(origin mxid.Server, id mxid.UserID) (uint32, error) {
	if id.Server() != origin {
		return 0, nil
	}
	user, err := f.Rooms.User(id)
	if err != nil || user == 0 {
		return 0, err
	}
	is, err := f.shared(user)
	if err != nil || !is {
		return 0, err
	}
	return user, nil
}

// Spec: server-server, typing notifications.
func (f *Federation) receiveTyping(origin mxid.Server, content []byte) error {
	id, _ := cjson.LookupString(content, "room_id")
	head, err := f.heard(origin, id)
	if err != nil {
		return err
	}
	who, _ := cjson.LookupString(content, "user_id")
	user, err := f.joined(origin, head.Room, mxid.UserID(who))
	if err != nil || user == 0 {
		return err
	}
	val, _ := cjson.Lookup(content, "typing")
	typing, _ := cjson.Bool(val)
	f.Ephemeral.SetTyping(uint32(head.Room), user, typing, typingHold)
	return nil
}

// Spec: server-server, receipts.
func (f *Federation) receiveReceipts(origin mxid.Server, content []byte) error {
	type told struct {
		head *room.Head
		list []*ephemeral.Receipt
	}
	var all []told
	var failed error
	n := 0
	_ = cjson.Object(content, func(id, types []byte) bool { // it was checked when it came
		n++ // a room costs a look as well
		head, err := f.heard(origin, string(id))
		if err != nil {
			failed = err
			return !fault.Is(err, fault.Internal) && n < maxReceipts
		}
		t := told{head: head}
		reads, _ := cjson.Lookup(types, "m.read")
		_ = cjson.Object(reads, func(who, val []byte) bool {
			var rc *ephemeral.Receipt
			if rc, err = f.receipt(origin, head, mxid.UserID(who), val); rc != nil {
				t.list = append(t.list, rc)
			}
			n++
			return err == nil && n < maxReceipts
		})
		if failed = err; len(t.list) > 0 {
			all = append(all, t)
		}
		return err == nil && n < maxReceipts
	})
	if len(all) == 0 {
		return failed
	}
	_, err := f.Log.Commit(func(tx *stream.Tx) error {
		for _, t := range all {
			for _, rc := range t.list {
				changed, err := f.Ephemeral.PutReceipt(tx, rc)
				if err != nil {
					return err
				}
				if changed {
					tx.Wake(t.head.Local...)
				}
			}
		}
		return nil
	})
	return err
}

// receipt reads one receipt; nil where it is not to be believed.
func (f *Federation) receipt(origin mxid.Server, head *room.Head, who mxid.UserID, val []byte) (*ephemeral.Receipt, error) {
	user, err := f.joined(origin, head.Room, who)
	if err != nil || user == 0 {
		return nil, err
	}
	var id mxid.EventID
	ids, _ := cjson.Lookup(val, "event_ids")
	_ = cjson.Array(ids, func(val []byte) bool {
		s, _ := cjson.String(val)
		id, err = mxid.ParseEvent(s)
		return false // there is one
	})
	if id == "" || err != nil {
		return nil, nil
	}
	data, _ := cjson.Lookup(val, "data")
	rc := &ephemeral.Receipt{Room: uint32(head.Room), User: user, Type: ephemeral.Read, Event: id}
	if ts, ok := cjson.Lookup(data, "ts"); ok {
		rc.Time, _ = cjson.Int(ts)
	}
	now := f.o.Now().UnixMilli()
	if rc.Time <= 0 || rc.Time > now {
		rc.Time = now
	}
	rc.Thread, _ = cjson.LookupString(data, "thread_id")
	if ok, err := f.threaded(head, rc.Thread); err != nil || !ok {
		return nil, err
	}
	ev, err := f.Rooms.Lookup(id)
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		return nil, err
	case ev.In != head.Room:
		return nil, nil
	default:
		rc.At = ev.At.Pos
	}
	return rc, nil
}

// threaded says whether a receipt may be of a thread: that of the room itself, or one
// whose root is here. For each there is a row, and names are without number.
func (f *Federation) threaded(head *room.Head, thread string) (bool, error) {
	if thread == "" || thread == "main" {
		return true, nil
	}
	root, err := f.Rooms.Lookup(mxid.EventID(thread))
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil && root.In == head.Room, err
}

// Spec: server-server, presence.
func (f *Federation) receivePresence(origin mxid.Server, content []byte) error {
	push, _ := cjson.Lookup(content, "push")
	now := f.o.Now().UnixMilli()
	var err error
	n := 0
	_ = cjson.Array(push, func(val []byte) bool { // it was checked when it came
		n++
		who, _ := cjson.LookupString(val, "user_id")
		state, _ := cjson.LookupString(val, "presence")
		var s ephemeral.Status
		var ok bool
		if s.State, ok = ephemeral.ParseState(state); !ok {
			return n < maxPresent
		}
		s.Message, _ = cjson.LookupString(val, "status_msg")
		if ago, ok := cjson.Lookup(val, "last_active_ago"); ok {
			if ms, ok := cjson.Int(ago); ok && ms >= 0 && ms < now {
				s.Acted = now - ms
			}
		}
		if active, ok := cjson.Lookup(val, "currently_active"); ok {
			s.Active, _ = cjson.Bool(active)
		}
		var user uint32
		if user, err = f.tracked(origin, mxid.UserID(who)); user != 0 && err == nil {
			err = f.Ephemeral.Told(user, s)
		}
		return (err == nil || fault.Is(err, fault.TooLarge)) && n < maxPresent
	})
	return err
}

// senderOf stands for a server where others have the number of a device, in the
// transactions that were done: no user's number is as high.
func senderOf(server uint32) uint64 { return 0xffff_ffff<<32 | uint64(server) }

// receiveToDevice puts a message into the queues of devices here. The same message
// comes once, whatever the other server makes of our answer. Spec: server-server,
// send-to-device messaging.
func (f *Federation) receiveToDevice(origin mxid.Server, content []byte) error {
	const op = "federation.receiveToDevice"
	sender, _ := cjson.LookupString(content, "sender")
	typ, _ := cjson.LookupString(content, "type")
	id, _ := cjson.LookupString(content, "message_id")
	if from, err := mxid.ParseUser(sender); err != nil || from.Server() != origin {
		return fault.E(fault.Forbidden, op, "a message of somebody else's user")
	}
	if id == "" || len(id) > 255 {
		return fault.E(fault.Invalid, op, "a message needs an id")
	}
	messages, _ := cjson.Lookup(content, "messages")
	list, err := f.addressed(messages)
	if err != nil || len(list) == 0 {
		return err
	}
	server, err := f.Names.Number(store.Servers, string(origin))
	if err != nil {
		return err
	}
	return f.E2EE.Send(&e2ee.Sent{Sender: mxid.UserID(sender), Type: typ, Device: senderOf(server), Txn: id}, list)
}

// addressed finds the devices here that messages are for.
func (f *Federation) addressed(messages []byte) (list []e2ee.Message, err error) {
	size := 0
	_ = cjson.Object(messages, func(who, devices []byte) bool { // it was checked when it came
		id := mxid.UserID(who)
		if id.Server() != f.server {
			return true
		}
		var user uint32
		var have []account.Device
		if user, err = f.Accounts.Find(id); user == 0 || err != nil {
			return err == nil
		}
		if have, err = f.Accounts.Devices(user); err != nil {
			return false
		}
		_ = cjson.Object(devices, func(device, content []byte) bool {
			for i := range have {
				if (string(device) == "*" || string(device) == have[i].ID) && cjson.KindOf(content) == cjson.ObjectKind {
					list = append(list, e2ee.Message{User: user, Device: have[i].Num, Content: content})
					size += len(content)
				}
			}
			return len(list) < maxTargets && size < maxCopies
		})
		return len(list) < maxTargets && size < maxCopies
	})
	if err == nil && size > maxCopies {
		err = fault.E(fault.TooLarge, "federation.receiveToDevice", "a message of more than %d bytes for all its devices", maxCopies)
	}
	return list, err
}
