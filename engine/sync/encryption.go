package sync

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/stream"
)

// appendEncryption writes what clients need to encrypt: the messages that wait
// for the device, whose devices changed, and how many of the device's own keys
// are left. Spec: client-server, send-to-device messaging and end-to-end
// encryption, extensions to /sync.
func (a *answer) appendEncryption() error {
	if err := a.appendToDevice(); err != nil {
		return err
	}
	if !a.initial {
		if err := a.appendDeviceLists(); err != nil {
			return err
		}
	}
	var err error
	a.comma()
	if a.dst, err = a.s.e2ee.AppendCounts(append(a.dst, `"device_one_time_keys_count":`...), a.req.Device); err != nil {
		return err
	}
	a.dst, err = a.s.e2ee.AppendUnused(append(a.dst, `,"device_unused_fallback_key_types":`...), a.req.Device)
	return err
}

// appendToDevice writes the messages behind the last one that was told. They
// are told again until the client comes back with a token that has them.
func (a *answer) appendToDevice() error {
	if a.req.NoMessages {
		return nil
	}
	mark := len(a.dst)
	a.comma()
	a.dst = append(a.dst, `"to_device":{"events":[`...)
	after := stream.Pos(a.since.device)
	out, last, _, err := a.s.e2ee.AppendMessages(a.dst, a.req.Device, after, a.next.pos)
	if err != nil {
		return err
	}
	if last == after {
		a.dst = a.dst[:mark]
		return nil
	}
	a.dst = append(out, `]}`...)
	a.next.device = uint64(last)
	a.news = true
	return nil
}

// appendDeviceLists writes whose keys the client has to ask for anew, and whose
// it may forget.
func (a *answer) appendDeviceLists() error {
	users := slices.Clone(a.arrived)
	if a.entered {
		// Nothing changed of the user's own, but it is what servers tell and clients
		// have come to rely on: the user's other devices are among those in the room.
		users = append(users, a.req.User)
	}
	if a.devices {
		if err := a.s.e2ee.ChangedSince(a.since.pos, a.next.pos, func(user uint32) { users = append(users, user) }); err != nil {
			return err
		}
		// Signatures by the user's own key are for the user's devices alone.
		if err := a.s.e2ee.SignedSince(a.req.User, a.since.pos, a.next.pos, func(user uint32) { users = append(users, user) }); err != nil {
			return err
		}
	}
	if len(users)+len(a.parted) == 0 {
		return nil
	}
	changed, _, err := a.sharing(unique(users))
	if err != nil {
		return err
	}
	_, left, err := a.sharing(unique(a.parted))
	if err != nil || len(changed)+len(left) == 0 {
		return err
	}
	a.comma()
	a.dst = append(a.dst, `"device_lists":{"changed":[`...)
	if err := a.appendUsers(changed); err != nil {
		return err
	}
	a.dst = append(a.dst, `],"left":[`...)
	if err := a.appendUsers(left); err != nil {
		return err
	}
	a.dst = append(a.dst, `]}`...)
	a.news = true
	return nil
}

func unique(users []uint32) []uint32 {
	users = slices.Clone(users)
	slices.Sort(users)
	return slices.Compact(users)
}

func (a *answer) appendUsers(users []uint32) error {
	for _, user := range users {
		id, err := a.s.rooms.UserID(user)
		if err != nil {
			return err
		}
		a.comma()
		a.dst = cjson.AppendString(a.dst, id)
	}
	return nil
}
