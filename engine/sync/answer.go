package sync

import (
	"cmp"
	"slices"

	"hearth/engine/account"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
	"hearth/engine/unread"
)

// answer is one answer in the making.
type answer struct {
	s       *Sync
	req     *Request
	f       *filter.Filter
	since   token
	next    token
	initial bool // the client has nothing yet

	dst     []byte
	scratch []byte
	news    bool // something is told

	touched []touch
	plain   filter.Filter            // f where the client has none
	buf     [2]touch                 // touched, mostly
	data    []datum                  // account data of rooms that changed
	ignored map[mxid.UserID]struct{} // whose events are not shown; nil where there are none
	reader  unread.Reader

	most     int // bytes that are written before the rest is left for later; 0: all
	progress progress
	over     bool // nothing is left for later

	behind  stream.Pos // a row is newer than next: the answer has to wait for this position
	entered bool       // the user came into a room
	arrived []uint32   // users who are new in the user's rooms, or whose rooms are new to the user
	parted  []uint32   // users who left the user's rooms, or whose rooms the user left
	devices bool       // somebody's devices changed
	own     bool       // the user's did

	short   bool // lines are all that happened since the token
	lines   []line
	lineBuf [8]line
}

// touch is a room about which there may be something to tell.
type touch struct {
	room    room.Num
	events  bool // events or memberships
	receipt bool // somebody's receipt moved
	mine    bool // the user's own did
	typing  bool
	member  room.Member
	was     room.Membership // at the token
}

// datum is a changed piece of a room's account data.
type datum struct {
	room room.Num
	typ  string
	json []byte
}

// make writes the answer. Where it finds a row that is newer than the moment
// the answer is made for, and not yet on disk, it gives that row's position:
// the answer has to be made again when that is on disk.
func (a *answer) make() (behind stream.Pos, err error) {
	if a.initial {
		a.s.told.forget(a.req.Device)
	}
	a.reader = unread.Reader{User: a.req.User, ID: a.req.UserID}
	if a.ignored, err = a.s.accounts.Ignored(a.req.User); err != nil {
		return 0, err
	}
	if a.ignored != nil {
		a.reader.Ignores = a.ignores
	}
	a.dst = append(a.dst, '{')
	if err := a.collect(); err != nil {
		return 0, err
	}
	if err := a.still(); err != nil {
		return 0, err
	}
	if err := a.place(); err != nil || a.behind > 0 {
		return a.behind, err
	}
	return 0, a.goOn()
}

// goOn writes on behind the last room that is written; over is set at the end.
func (a *answer) goOn() (err error) {
	if a.over, err = a.appendRooms(); err != nil || !a.over {
		return err
	}
	if err := a.appendPresence(); err != nil {
		return err
	}
	if err := a.appendEncryption(); err != nil {
		return err
	}
	a.comma()
	a.dst = append(a.dst, `"next_batch":"`...)
	a.dst = append(a.next.appendTo(a.dst), `"}`...)
	a.news = a.news || a.initial
	return nil
}

// still refuses a device that was logged out while its request waited.
func (a *answer) still() error {
	if !a.own || !a.req.parked || a.req.Device == 0 {
		return nil
	}
	list, err := a.s.accounts.Devices(a.req.User)
	if err != nil || slices.ContainsFunc(list, func(d account.Device) bool { return d.Num == a.req.Device }) {
		return err
	}
	return fault.E(fault.UnknownToken, "sync.Wait", "the device was logged out")
}

// ignores says whether the user ignores another. Spec: client-server, ignoring
// users.
func (a *answer) ignores(user mxid.UserID) bool {
	if a.ignored == nil || user == a.req.UserID {
		return false
	}
	_, ok := a.ignored[user]
	return ok
}

// shortLag is how many entries of the log are read before it is cheaper to ask
// each of the user's rooms.
const shortLag = 512

// collect finds the rooms and data that may have something new, and writes the
// global account data.
func (a *answer) collect() error {
	data := true
	a.devices = !a.initial
	switch {
	case a.initial:
		if err := a.collectAll(); err != nil {
			return err
		}
	case a.next.pos-a.since.pos <= shortLag:
		var err error
		if data, err = a.collectShort(); err != nil {
			return err
		}
	default:
		if err := a.collectLong(); err != nil {
			return err
		}
	}
	if a.req.FullState && !a.initial {
		if err := a.collectAll(); err != nil {
			return err
		}
	}
	for _, num := range a.s.eph.TypingSince(a.s.eph.Since(a.since.stamp)) {
		a.touch(room.Num(num)).typing = true
	}
	if data {
		if err := a.collectData(); err != nil {
			return err
		}
	}
	slices.SortFunc(a.touched, func(x, y touch) int { return cmp.Compare(x.room, y.room) })
	return nil
}

// touch gives the mark of a room, made where there is none. It is valid until
// the next call.
func (a *answer) touch(num room.Num) *touch {
	// The last is usually the one: entries of one room come together.
	for i := range slices.Backward(a.touched) {
		if a.touched[i].room == num {
			return &a.touched[i]
		}
	}
	a.touched = append(a.touched, touch{room: num})
	return &a.touched[len(a.touched)-1]
}

// collectShort reads the log. data says whether account data of the user changed.
func (a *answer) collectShort() (data bool, err error) {
	a.devices, a.short = false, true
	if a.lines, err = readLog(a.lineBuf[:0], a.s.log, a.since.pos, a.next.pos); err != nil {
		return false, err
	}
	for _, l := range a.lines {
		switch l.kind {
		case stream.RoomEvent:
			a.touch(room.Num(l.room)).events = true
		case stream.Standing:
			if l.user == a.req.User {
				a.touch(room.Num(l.room)).events = true
			}
		case stream.Receipt:
			t := a.touch(room.Num(l.room))
			t.receipt = true
			t.mine = t.mine || l.user == a.req.User
		case stream.AccountData:
			data = data || l.user == a.req.User
		case stream.Devices:
			a.devices = true
			a.own = a.own || l.user == a.req.User
		}
	}
	return data, nil
}

// collectLong asks each of the user's rooms whether it has anything new.
func (a *answer) collectLong() error {
	var rooms []room.Member
	if err := a.s.rooms.Of(a.req.User, func(m room.Member) bool {
		if m.Membership == room.Join || m.Pos > a.since.pos {
			rooms = append(rooms, m)
		}
		return true
	}); err != nil {
		return err
	}
	for _, m := range rooms {
		events := m.Pos > a.since.pos
		if !events {
			err := a.s.rooms.Timeline(m.Room, room.After(a.since.pos), room.After(a.next.pos), true, func(room.Key, room.EventNum) (bool, error) {
				events = true
				return false, nil
			})
			if err != nil {
				return err
			}
		}
		receipt, mine, err := a.readSince(m.Room)
		if err != nil {
			return err
		}
		if events || receipt {
			a.touched = append(a.touched, touch{room: m.Room, events: events, receipt: receipt, mine: mine})
		}
	}
	return nil
}

// readSince says whether a receipt of a room moved, and whether the user's did.
func (a *answer) readSince(num room.Num) (some, mine bool, err error) {
	err = a.s.eph.ReceiptsSince(uint32(num), ephemeral.Reader{User: a.req.User}, a.since.pos, a.next.pos, func(rc *ephemeral.Receipt) bool {
		some = true
		mine = mine || rc.User == a.req.User
		return !mine
	})
	return some, mine, err
}

// collectAll takes all of the user's rooms.
func (a *answer) collectAll() error {
	marked := len(a.touched)
	return a.s.rooms.Of(a.req.User, func(m room.Member) bool {
		i := slices.IndexFunc(a.touched[:marked], func(t touch) bool { return t.room == m.Room })
		if i < 0 {
			i = len(a.touched)
			a.touched = append(a.touched, touch{room: m.Room})
		}
		a.touched[i].events, a.touched[i].receipt = true, true
		return true
	})
}

// place finds out how the user stands to each room now and stood at the token,
// and forgets the rooms that are not the user's to hear of.
func (a *answer) place() error {
	kept := a.touched[:0]
	for _, t := range a.touched {
		m, err := a.s.rooms.MemberOf(t.room, a.req.User)
		if err != nil {
			return err
		}
		t.member = m
		if t.member.Pos > a.next.pos {
			a.behind = max(a.behind, t.member.Pos)
			return nil
		}
		if t.was, err = a.stood(&t.member); err != nil {
			return err
		}
		if t.member.Membership != room.None && (!t.member.Forgotten || t.parted()) {
			kept = append(kept, t)
		}
	}
	a.touched = kept
	return nil
}

// parted says that the client knows the room as one that the user is in or asked into. Another of the user's
// devices may have left and forgotten it since; to a client that is never told, it stays open.
func (t *touch) parted() bool {
	return t.was == room.Join || t.was == room.Invite || t.was == room.Knock
}

// stood is the membership that a user had at the token.
func (a *answer) stood(m *room.Member) (room.Membership, error) {
	if a.initial {
		return room.None, nil
	}
	if m.Pos <= a.since.pos {
		return m.Membership, nil
	}
	for num := m.Event; num != 0; {
		e, err := a.s.rooms.Event(num)
		if err != nil {
			return room.None, err
		}
		// An event whose history was removed has no place; the row's position is past
		// the token.
		if lost := num == m.Event && e.At.Pos == 0 && !m.Outside; !lost && e.At.Pos <= a.since.pos {
			return room.MembershipOf(e.Content), nil
		}
		num = e.Replaces
	}
	return room.None, nil
}
