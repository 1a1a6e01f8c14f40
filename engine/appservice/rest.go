package appservice

import (
	"errors"
	"math"
	"slices"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// rest adds what entries only name: receipts, to-device messages and the users
// whose devices the service's users have to know.
func (a *AppServices) rest(t *transaction, from, upto stream.Pos) error {
	var failed error
	reader := ephemeral.Reader{Speaks: func(user uint32) bool {
		id, err := a.Rooms.UserID(user)
		failed = errors.Join(failed, err)
		return err == nil && t.s.User(id)
	}}
	for _, num := range t.receipts {
		id, err := a.Rooms.RoomID(num)
		if fault.Is(err, fault.NotFound) {
			continue // purged meanwhile
		}
		if err != nil {
			return err
		}
		event, told, err := a.Ephemeral.AppendReceipts(nil, uint32(num), reader, from, upto)
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if told {
			t.addEphemeral(withMember(event, "room_id", string(id)))
		}
	}
	slices.Sort(t.users)
	t.users = slices.Compact(t.users)
	for _, user := range t.users {
		if err := a.messages(t, user, from, upto); err != nil {
			return err
		}
	}
	return a.sharers(t)
}

// sharers parts the users whose devices have changed, or who came or left, into
// those who share a room with one of the service's and those who do not any more.
// Spec: MSC3202.
func (a *AppServices) sharers(t *transaction) error {
	slices.Sort(t.strangers)
	t.strangers = slices.Compact(t.strangers)
	gone := t.strangers[:0]
	for _, user := range t.strangers {
		shares, err := a.shares(t.s, user)
		if err != nil {
			return err
		}
		if !shares {
			gone = append(gone, user)
		}
	}
	t.strangers = gone
	slices.Sort(t.lists)
	t.lists = slices.Compact(t.lists)
	return a.known(t)
}

// takeMember notes whom a member event lets the service's users share a room
// with, or no more. maxLists bounds how many are told of when one of those goes.
func (a *AppServices) takeMember(t *transaction, e *room.Event) error {
	whom := mxid.UserID(e.StateKey)
	joined := room.MembershipOf(e.Content) == room.Join
	if !t.s.User(whom) {
		user, err := a.Rooms.User(whom)
		switch {
		case err != nil:
			return err
		case joined:
			t.lists = append(t.lists, user)
		default:
			t.strangers = append(t.strangers, user)
		}
		return nil
	}
	list := &t.strangers
	if joined {
		list = &t.lists
	}
	return a.Rooms.Members(e.In, func(m room.Member) bool {
		if m.Membership == room.Join {
			*list = append(*list, m.User)
		}
		return len(*list) < maxLists
	})
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

// messages adds what waits for the devices of one of the service's users: of a
// user that is its alone all there is, which goes when it was told. The messages of
// a user of a shared namespace stay for whoever logs in as that user, and only
// those are told that came with the entries of the transaction; what that user's
// devices took while the service was away it is not told of.
func (a *AppServices) messages(t *transaction, user uint32, from, upto stream.Pos) error {
	id, err := a.Rooms.UserID(user)
	if err != nil {
		return err
	}
	devices, err := a.Accounts.Devices(user)
	if err != nil {
		return err
	}
	by := a.Services().taker(id)
	q := queue{id: id, upto: upto, goes: by != nil && by.ID == t.s.ID, most: mostMessages}
	if !q.goes {
		q.after, q.most = from, math.MaxInt // nothing is told a second time
	}
	for i := range devices {
		if err := a.messagesOf(t, &q, &devices[i]); err != nil {
			return err
		}
	}
	return nil
}

// queue says what of a user's messages a transaction takes.
type queue struct {
	id          mxid.UserID
	after, upto stream.Pos
	goes        bool // they are deleted when they were told
	most        int  // bytes of one device
}

// mostMessages bounds what waits for one device and is told at once; what is
// left is told with the next message. A device's queue seldom holds a hundredth.
const mostMessages = 4 << 20

func (a *AppServices) messagesOf(t *transaction, q *queue, d *account.Device) error {
	begin := len(t.toDevice)
	reached := q.after
	for more := true; more && len(t.toDevice)-begin < q.most; {
		list, last, left, err := a.E2EE.AppendMessages([]byte{'['}, d.Num, reached, q.upto)
		if err != nil {
			return err
		}
		if more = left && last > reached; last == reached {
			break
		}
		reached = last
		if err := cjson.Array(append(list, ']'), func(m []byte) bool {
			if len(t.toDevice) > 0 {
				t.toDevice = append(t.toDevice, ',')
			}
			t.toDevice = append(t.toDevice, withMember(withMember(m, "to_device_id", d.ID), "to_user_id", string(q.id))...)
			return true
		}); err != nil {
			return err
		}
	}
	if q.goes && reached > 0 {
		t.taken = append(t.taken, taken{d.Num, reached})
	}
	return nil
}

// known leaves of the changed device lists those of users who share a room with
// one of the service's. Spec: MSC3202.
func (a *AppServices) known(t *transaction) error {
	kept := t.lists[:0]
	for _, user := range t.lists {
		shares, err := a.shares(t.s, user)
		if err != nil {
			return err
		}
		if shares {
			kept = append(kept, user)
		}
	}
	t.lists = kept
	return nil
}

// shares says whether a user is in a room with one of the service's now.
func (a *AppServices) shares(s *Service, user uint32) (shares bool, err error) {
	var failed error
	err = a.Rooms.Of(user, func(m room.Member) bool {
		if m.Membership != room.Join {
			return true
		}
		if shares, failed = a.present(s, m.Room, nil); fault.Is(failed, fault.NotFound) {
			failed = nil // purged meanwhile
		}
		return !shares && failed == nil
	})
	return shares, errors.Join(err, failed)
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
	if len(t.lists)+len(t.strangers) > 0 {
		var err error
		if b, err = a.appendIDs(append(b, `,"org.matrix.msc3202.device_lists":{"changed":[`...), t.lists); err != nil {
			return nil, err
		}
		if b, err = a.appendIDs(append(b, `],"left":[`...), t.strangers); err != nil {
			return nil, err
		}
		b = append(b, `]}`...)
	}
	return a.counts(b, t)
}

func (a *AppServices) appendIDs(b []byte, users []uint32) ([]byte, error) {
	for i, user := range users {
		id, err := a.Rooms.UserID(user)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = cjson.AppendString(b, string(id))
	}
	return b, nil
}

// counts adds how many one-time keys are left of the users who are told of
// something, and which fallback keys were not used.
func (a *AppServices) counts(b []byte, t *transaction) ([]byte, error) {
	var users []uint32
	for _, user := range slices.Concat(t.users, t.lists, t.claimed) {
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
