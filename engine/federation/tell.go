package federation

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// What a transaction brings beside events, and that must not be lost: where
// somebody has read to, whose keys changed, and messages for single devices. It is
// found by the same entries of the log, so it comes in the same order.

func (sl *slice) addEDU(typ string, content func(dst []byte) []byte) {
	if sl.numEDUs++; sl.numEDUs > 1 {
		sl.edus = append(sl.edus, ',')
	}
	sl.edus = content(append(sl.edus, `{"content":`...))
	sl.edus = append(cjson.AppendString(append(sl.edus, `,"edu_type":`...), typ), '}')
}

// addReceipt adds a receipt that moved at a position, if it has not moved on since:
// then a later entry tells. Spec: server-server, receipts.
func (r *route) addReceipt(sl *slice, c *candidate) error {
	if own, err := r.own(c.User); err != nil || !own {
		return err
	}
	var rc *ephemeral.Receipt
	err := r.Ephemeral.ReceiptsOf(c.Room, c.User, func(one *ephemeral.Receipt) {
		if one.Pos == c.pos && one.Type == ephemeral.Read {
			rc = one
		}
	})
	if err != nil || rc == nil {
		return err
	}
	user, err := r.Rooms.UserID(c.User)
	if err != nil {
		return err
	}
	id, err := r.Rooms.RoomID(room.Num(c.Room))
	if err != nil {
		return err
	}
	sl.addEDU("m.receipt", func(dst []byte) []byte {
		dst = cjson.AppendString(append(dst, '{'), id)
		dst = cjson.AppendString(append(dst, `:{"m.read":{`...), user)
		dst = append(dst, `:{"data":{`...)
		if rc.Thread != "" {
			dst = append(cjson.AppendString(append(dst, `"thread_id":`...), rc.Thread), ',')
		}
		dst = strconv.AppendInt(append(dst, `"ts":`...), rc.Time, 10)
		dst = cjson.AppendString(append(dst, `},"event_ids":[`...), rc.Event)
		return append(dst, `]}}}}`...)
	})
	return nil
}

// shares says whether the server is in a room with a user of ours now.
func (r *route) shares(user uint32) (shared bool, err error) {
	err = r.Rooms.Of(user, func(m room.Member) bool {
		shared = m.Membership == room.Join && r.is(m.Room)
		return !shared
	})
	return shared, err
}

// addDevices adds what an entry says of the keys of a user, as they are now.
// Spec: server-server, device management.
func (r *route) addDevices(sl *slice, c *candidate) error {
	u, ok := e2ee.ParseUpdate(c.Diff)
	if !ok {
		return nil
	}
	if shared, err := r.shares(c.User); err != nil || !shared {
		return err
	}
	id, err := r.Rooms.UserID(c.User)
	if err != nil {
		return err
	}
	if u.Cross {
		return r.addCross(sl, c.User, id)
	}
	return r.addDevice(sl, &told{user: c.User, id: id, device: u.Device, prev: []stream.Pos{u.Prev}, pos: c.pos})
}

// told is a change of a device that is told at a position.
type told struct {
	user   uint32
	id     mxid.UserID
	device string
	prev   []stream.Pos // the changes before it
	pos    stream.Pos
}

func (r *route) addDevice(sl *slice, t *told) error {
	keys, name, err := r.deviceNow(t.user, t.id, t.device)
	if err != nil {
		return err
	}
	sl.addEDU("m.device_list_update", func(dst []byte) []byte {
		dst = append(dst, '{')
		if keys == nil {
			dst = append(dst, `"deleted":true,`...)
		} else if name != "" {
			dst = append(cjson.AppendString(append(dst, `"device_display_name":`...), name), ',')
		}
		dst = cjson.AppendString(append(dst, `"device_id":`...), t.device)
		if len(keys) > 0 {
			dst = append(append(dst, `,"keys":`...), keys...)
		}
		dst = append(dst, `,"prev_id":[`...)
		for _, prev := range t.prev {
			dst = strconv.AppendUint(dst, r.streamID(prev), 10)
		}
		dst = strconv.AppendUint(append(dst, `],"stream_id":`...), r.streamID(t.pos), 10)
		return append(cjson.AppendString(append(dst, `,"user_id":`...), t.id), '}')
	})
	return nil
}

// addArrival tells a server of which devices a user has who came into a room that
// it is in, where it has not been told of them all along. It is told one, and
// that there were changes before: it fetches the others if it lacks them.
// Spec: server-server, device management.
func (r *route) addArrival(sl *slice, c *candidate) error {
	if c.outside || !r.is(room.Num(c.Room)) {
		return nil
	}
	e, err := r.Rooms.Event(room.EventNum(c.Event))
	if fault.Is(err, fault.NotFound) || err == nil && e.Type != "m.room.member" {
		return nil
	}
	if err != nil {
		return err
	}
	id := mxid.UserID(e.StateKey)
	user, err := r.Rooms.User(id)
	if err != nil || user == 0 || id.Server() != r.server {
		return err
	}
	if before, err := r.sharedBefore(user, room.Num(c.Room), c.pos); err != nil || before {
		return err
	}
	list, err := r.Accounts.Devices(user)
	if err != nil || len(list) == 0 {
		return err
	}
	t := told{user: user, id: id, device: list[0].ID, pos: c.pos}
	for i := range list {
		has, err := r.E2EE.HasKeys(user, list[i].ID)
		if err != nil {
			return err
		}
		if has {
			t.device = list[i].ID
			break
		}
	}
	last, err := r.E2EE.LastDevice(user)
	if last != 0 && last < c.pos {
		t.prev = []stream.Pos{last}
	}
	if err != nil {
		return err
	}
	return r.addDevice(sl, &t)
}

// sharedBefore says whether the server was in another room with a user since before
// a position, and is.
func (r *route) sharedBefore(user uint32, but room.Num, pos stream.Pos) (shared bool, err error) {
	err = r.Rooms.Of(user, func(m room.Member) bool {
		if list := r.rooms[m.Room]; m.Room != but && m.Membership == room.Join && m.Pos < pos && r.is(m.Room) {
			shared = list[len(list)-1].from < pos
		}
		return !shared
	})
	return shared, err
}

// deviceNow gives a device's keys and name; nil keys for one that is gone, and empty
// ones where it has none.
func (r *route) deviceNow(user uint32, id mxid.UserID, device string) (keys []byte, name string, err error) {
	d, err := r.Accounts.Device(user, device)
	if fault.Is(err, fault.NotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	all, err := r.E2EE.AppendDeviceKeys(nil, user, id, []e2ee.Device{{ID: d.ID, Num: d.Num, Name: d.Name}})
	keys, ok := cjson.Lookup(all, device)
	if !ok {
		keys = []byte{}
	}
	return keys, d.Name, err
}

// addCross adds a user's cross-signing keys.
func (r *route) addCross(sl *slice, user uint32, id mxid.UserID) error {
	master, ok, err := r.E2EE.AppendCrossKey([]byte(`{"master_key":`), user, id, 0, e2ee.Master)
	if err != nil || !ok {
		return err // they are gone, and there is no way to say so
	}
	all, ok, err := r.E2EE.AppendCrossKey(append(master, `,"self_signing_key":`...), user, id, 0, e2ee.SelfSigning)
	if err != nil {
		return err
	}
	if !ok {
		all = master
	}
	sl.addEDU("m.signing_key_update", func(dst []byte) []byte {
		return append(cjson.AppendString(append(append(dst, all...), `,"user_id":`...), id), '}')
	})
	return nil
}

// streamID names a change of a user's devices to other servers. A position of the
// log means another change after a restore from backup, so the store's incarnation
// is part of it, in what a JSON number can hold.
func (f *Federation) streamID(pos stream.Pos) uint64 {
	return f.life&(1<<20-1)<<32 | uint64(pos)&(1<<32-1)
}

// addToDevice adds a message for devices of the server, under an id that is the same
// whenever it is sent. Spec: server-server, send-to-device messaging.
func (r *route) addToDevice(sl *slice, c *candidate) error {
	members, ok, err := r.E2EE.Away(r.num, c.pos)
	if err != nil || !ok {
		return err
	}
	sl.addEDU("m.direct_to_device", func(dst []byte) []byte {
		dst = cjson.AppendString(append(dst, `{"message_id":`...), r.epoch+strconv.FormatUint(uint64(c.pos), 36))
		return append(append(dst, ','), members...)
	})
	return nil
}
