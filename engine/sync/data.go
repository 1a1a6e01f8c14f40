package sync

import (
	"slices"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// collectData writes the user's changed account data that is of no room, and
// keeps what is of rooms until these are written.
func (a *answer) collectData() error {
	since := a.since.pos
	if a.initial {
		since = 0
	}
	rules := a.initial // everybody has push rules; who changed none has the default ones
	list := a.list(`"account_data":{"events":[`)
	err := a.s.accounts.DataSince(a.req.User, since, a.next.pos, func(c *account.Change) bool {
		switch {
		case c.Room != 0 && a.initial: // each room's are read with the room
		case a.initial && account.IsDeleted(c.Type, c.Content):
		case c.Room != 0:
			a.data = append(a.data, datum{room.Num(c.Room), c.Type, slices.Clone(c.Content)})
			a.touch(room.Num(c.Room))
		case c.Type == account.TypePushRules:
			rules = true
		case a.f.AccountData.Passes(c.Type, a.req.UserID, c.Content):
			list.item()
			a.dst = appendDatum(a.dst, c.Type, c.Content)
		}
		return true
	})
	if err != nil {
		return err
	}
	if rules && a.f.AccountData.Passes(account.TypePushRules, a.req.UserID, nil) {
		list.item()
		if err := a.appendPushRules(); err != nil {
			return err
		}
	}
	list.end(`]}`)
	return nil
}

func appendDatum(dst []byte, typ string, content []byte) []byte {
	dst = append(append(dst, `{"content":`...), content...)
	dst = cjson.AppendString(append(dst, `,"type":`...), typ)
	return append(dst, '}')
}

// appendPushRules writes the m.push_rules event: what is stored is only what
// the user changed, what is told is all. Spec: client-server, m.push_rules.
func (a *answer) appendPushRules() error {
	rules, err := a.s.accounts.PushRules(a.req.User, a.req.UserID)
	if err != nil {
		return err
	}
	a.dst = rules.AppendClient(append(a.dst, `{"content":`...))
	a.dst = append(a.dst, `,"type":"m.push_rules"}`...)
	return nil
}

// list writes what may turn out to be nothing: the head is written before the
// first item only.
type list struct {
	a     *answer
	head  string
	items int
}

func (a *answer) list(head string) *list { return &list{a: a, head: head} }

// item goes before each item.
func (l *list) item() {
	if l.items == 0 {
		l.a.comma()
		l.a.dst = append(l.a.dst, l.head...)
	} else {
		l.a.dst = append(l.a.dst, ',')
	}
	l.items++
}

// end closes a list that has items. Where it has any there is news.
func (l *list) end(tail string) {
	if l.items > 0 {
		l.a.dst = append(l.a.dst, tail...)
		l.a.news = true
	}
}

// comma parts a member from the one before it.
func (a *answer) comma() {
	if last := a.dst[len(a.dst)-1]; last != '{' && last != '[' {
		a.dst = append(a.dst, ',')
	}
}

// maxPresence bounds the users whose presence one answer tells.
const maxPresence = 1000

// appendPresence writes the presence of others who share a room with the user:
// where it changed, and where they and the user are new to each other.
func (a *answer) appendPresence() error {
	p := a.f.Presence
	if p.Nothing() || !p.PassesType("m.presence") {
		return nil
	}
	since := a.s.eph.Since(a.since.stamp)
	if a.initial {
		since = 0
	}
	changed := a.s.eph.PresenceSince(since)
	if len(changed) == 0 && len(a.arrived) == 0 {
		return nil
	}
	changed, _, err := a.sharing(changed)
	if err != nil {
		return err
	}
	arrived, err := a.present(a.arrived)
	if err != nil {
		return err
	}
	users := append(changed, arrived...)
	slices.Sort(users)
	users = slices.Compact(users)
	list := a.list(`"presence":{"events":[`)
	for _, user := range users[:min(len(users), maxPresence)] {
		id, err := a.s.rooms.UserID(user)
		if err != nil {
			return err
		}
		if user == a.req.User || !p.PassesSender(id) || a.ignores(id) {
			continue
		}
		list.item()
		if a.dst, err = a.s.eph.AppendPresence(a.dst, user); err != nil {
			return err
		}
	}
	list.end(`]}`)
	return nil
}

// present leaves of the users those who are not offline.
func (a *answer) present(users []uint32) (kept []uint32, err error) {
	for _, user := range users {
		s, err := a.s.eph.Presence(user)
		if err != nil {
			return nil, err
		}
		if s.State != 0 {
			kept = append(kept, user)
		}
	}
	return kept, nil
}

// sharing tells those users who have joined a room that the user has joined
// from those who have not.
func (a *answer) sharing(users []uint32) (with, without []uint32, err error) {
	if len(users) == 0 || len(users) == 1 && users[0] == a.req.User {
		return users, nil, nil
	}
	mine := map[room.Num]struct{}{}
	if err := a.s.rooms.Of(a.req.User, func(m room.Member) bool {
		if m.Membership == room.Join {
			mine[m.Room] = struct{}{}
		}
		return true
	}); err != nil {
		return nil, nil, err
	}
	for _, user := range users {
		shared := user == a.req.User
		if err := a.s.rooms.Of(user, func(m room.Member) bool {
			if m.Membership == room.Join && !shared {
				_, shared = mine[m.Room]
			}
			return !shared
		}); err != nil {
			return nil, nil, err
		}
		if shared {
			with = append(with, user)
		} else {
			without = append(without, user)
		}
	}
	return with, without, nil
}

// appendRoomData writes the account data of a room: all of it for a room that
// is new to the client, which is told of none too, else what changed.
func (a *answer) appendRoomData(num room.Num, id mxid.RoomID, all bool) error {
	part := a.f.Room.AccountData
	if part.Nothing() || !part.PassesRoom(id) {
		return nil
	}
	list := a.list(`"account_data":{"events":[`)
	add := func(typ string, content []byte) {
		if part.Passes(typ, a.req.UserID, content) {
			list.item()
			a.dst = appendDatum(a.dst, typ, content)
		}
	}
	if all {
		err := a.s.accounts.RoomData(a.req.User, uint32(num), func(typ string, content []byte) {
			if !account.IsDeleted(typ, content) {
				add(typ, content)
			}
		})
		if err != nil {
			return err
		}
	} else {
		for i := range a.data {
			if a.data[i].room == num {
				add(a.data[i].typ, a.data[i].json)
			}
		}
	}
	if all && list.items == 0 {
		list.item()
	}
	list.end(`]}`)
	return nil
}
