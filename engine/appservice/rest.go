package appservice

import (
	"slices"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// rest adds what entries only name: receipts, to-device messages and the users
// whose devices the service's users have to know.
func (a *AppServices) rest(t *transaction, from, upto stream.Pos) error {
	reader, err := a.Rooms.User(t.s.Sender)
	if err != nil {
		return err
	}
	for _, num := range t.receipts {
		id, err := a.Rooms.RoomID(num)
		if err != nil {
			return err
		}
		event, told, err := a.Ephemeral.AppendReceipts(nil, uint32(num), reader, from, upto)
		if err != nil {
			return err
		}
		if told {
			t.addEphemeral(withMember(event, "room_id", string(id)))
		}
	}
	slices.Sort(t.users)
	for _, user := range slices.Compact(t.users) {
		if err := a.messages(t, user, upto); err != nil {
			return err
		}
	}
	slices.Sort(t.lists)
	t.lists = slices.Compact(t.lists)
	return a.known(t)
}

func (t *transaction) addEphemeral(event []byte) {
	if len(t.ephemeral) > 0 {
		t.ephemeral = append(t.ephemeral, ',')
	}
	t.ephemeral = append(t.ephemeral, event...)
}

// withMember puts one more member in front of those of an object.
func withMember(obj []byte, name, value string) []byte {
	out := cjson.AppendString(append([]byte(nil), '{'), name)
	out = cjson.AppendString(append(out, ':'), value)
	if len(obj) > 2 {
		out = append(out, ',')
	}
	return append(out, obj[1:]...)
}

// messages adds what waits for the devices of one of the service's users.
func (a *AppServices) messages(t *transaction, user uint32, upto stream.Pos) error {
	id, err := a.Rooms.UserID(user)
	if err != nil {
		return err
	}
	devices, err := a.Accounts.Devices(user)
	if err != nil {
		return err
	}
	for i := range devices {
		d := &devices[i]
		list, last, _, err := a.E2EE.AppendMessages([]byte{'['}, d.Num, 0, upto)
		if err != nil {
			return err
		}
		if last == 0 {
			continue
		}
		if err := cjson.Array(append(list, ']'), func(m []byte) bool {
			if len(t.toDevice) > 0 {
				t.toDevice = append(t.toDevice, ',')
			}
			t.toDevice = append(t.toDevice, withMember(withMember(m, "to_device_id", d.ID), "to_user_id", string(id))...)
			return true
		}); err != nil {
			return err
		}
		t.taken = append(t.taken, taken{d.Num, last})
	}
	return nil
}

// known leaves of the changed device lists those of users who share a room with
// one of the service's. Spec: MSC3202.
func (a *AppServices) known(t *transaction) error {
	kept := t.lists[:0]
	for _, user := range t.lists {
		shares := false
		var failed error
		if err := a.Rooms.Of(user, func(m room.Member) bool {
			if m.Membership != room.Join {
				return true
			}
			shares, failed = a.present(t.s, m.Room, nil)
			return !shares && failed == nil
		}); err != nil || failed != nil {
			return firstError(err, failed)
		}
		if shares {
			kept = append(kept, user)
		}
	}
	t.lists = kept
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// body writes the transaction. Members that are not of the specification's
// stable part stand under the names that bridges look for.
// Spec: application-service, PUT /_matrix/app/v1/transactions; MSC2409, MSC3202.
func (a *AppServices) body(t *transaction) ([]byte, error) {
	b := append(append([]byte(`{"events":[`), t.events...), ']')
	list := func(name string, items []byte) {
		if len(items) > 0 {
			b = append(append(append(append(b, `,"`...), name...), `":[`...), items...)
			b = append(b, ']')
		}
	}
	if t.s.Ephemeral {
		list("ephemeral", t.ephemeral)
		list("de.sorunome.msc2409.ephemeral", t.ephemeral)
	}
	if !t.s.Encrypted {
		return append(b, '}'), nil
	}
	list("to_device", t.toDevice)
	list("de.sorunome.msc2409.to_device", t.toDevice)
	if len(t.lists) > 0 {
		b = append(b, `,"org.matrix.msc3202.device_lists":{"changed":[`...)
		for i, user := range t.lists {
			id, err := a.Rooms.UserID(user)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = cjson.AppendString(b, string(id))
		}
		b = append(b, `],"left":[]}`...)
	}
	return a.counts(b, t)
}

// counts adds how many one-time keys are left of the users who are told of
// something, and which fallback keys were not used.
func (a *AppServices) counts(b []byte, t *transaction) ([]byte, error) {
	var users []uint32
	for _, user := range append(slices.Clone(t.users), t.lists...) {
		id, err := a.Rooms.UserID(user)
		if err != nil {
			return nil, err
		}
		if t.s.User(id) && !slices.Contains(users, user) {
			users = append(users, user)
		}
	}
	if len(users) == 0 {
		return append(b, '}'), nil
	}
	counts, unused := []byte(`{`), []byte(`{`)
	for i, user := range users {
		id, err := a.Rooms.UserID(user)
		if err != nil {
			return nil, err
		}
		devices, err := a.Accounts.Devices(user)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			counts, unused = append(counts, ','), append(unused, ',')
		}
		if counts, unused, err = a.countsOf(counts, unused, id, devices); err != nil {
			return nil, err
		}
	}
	b = append(append(b, `,"org.matrix.msc3202.device_one_time_keys_count":`...), counts...)
	b = append(append(b, `},"org.matrix.msc3202.device_unused_fallback_key_types":`...), unused...)
	return append(b, `}}`...), nil
}

func (a *AppServices) countsOf(counts, unused []byte, id mxid.UserID, devices []account.Device) (c, u []byte, err error) {
	counts = append(cjson.AppendString(counts, string(id)), `:{`...)
	unused = append(cjson.AppendString(unused, string(id)), `:{`...)
	for j := range devices {
		if j > 0 {
			counts, unused = append(counts, ','), append(unused, ',')
		}
		counts = append(cjson.AppendString(counts, devices[j].ID), ':')
		if counts, err = a.E2EE.AppendCounts(counts, devices[j].Num); err != nil {
			return nil, nil, err
		}
		unused = append(cjson.AppendString(unused, devices[j].ID), ':')
		if unused, err = a.E2EE.AppendUnused(unused, devices[j].Num); err != nil {
			return nil, nil, err
		}
	}
	return append(counts, '}'), append(unused, '}'), nil
}
