package room

import (
	"encoding/binary"
	"slices"
	"sync"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Membership is a user's standing in a room. Spec: m.room.member.
type Membership uint8

// The memberships. They are on disk.
const (
	None Membership = iota
	Invite
	Join
	Leave
	Ban
	Knock
)

var membershipNames = [...]string{"", "invite", "join", "leave", "ban", "knock"}

func (m Membership) String() string { return membershipNames[m] }

// ParseMembership reads a membership's name; None where it is none.
func ParseMembership(s string) Membership {
	if i := slices.Index(membershipNames[1:], s); i >= 0 {
		return Membership(i + 1)
	}
	return None
}

// MembershipOf reads the membership of an m.room.member event's content.
func MembershipOf(content []byte) Membership {
	s, _ := cjson.LookupString(content, "membership")
	return ParseMembership(s)
}

// memberChange is what a change of a room's state does to the member indexes.
type memberChange struct {
	user     uint32
	server   uint32 // of another server's user
	event    EventNum
	local    bool
	outside  bool // the hub is not in the room; see Outside
	old, new Membership
}

// memberChange works out the change from one member event of a user to another,
// either of which may be nil, and counts it in the working head.
func (w *Writer) memberChange(old, new *Event) (*memberChange, error) {
	c := &memberChange{}
	id := mxid.UserID("")
	if old != nil {
		id, c.old = mxid.UserID(old.StateKey), MembershipOf(old.Content)
	}
	if new != nil {
		id, c.new, c.event = mxid.UserID(new.StateKey), MembershipOf(new.Content), new.Num
	}
	var err error
	if c.user, err = w.r.names.Number(store.Users, string(id)); err != nil {
		return nil, err
	}
	if c.local = id.Server() == w.r.Server(); !c.local && (c.old == Join) != (c.new == Join) {
		if c.server, err = w.r.names.Number(store.Servers, string(id.Server())); err != nil {
			return nil, err
		}
	}
	h := w.head
	h.Joined += count(c.new, Join) - count(c.old, Join)
	h.Invited += count(c.new, Invite) - count(c.old, Invite)
	if c.local && (c.old == Join) != (c.new == Join) {
		local := slices.Clone(h.Local)
		if c.new == Join {
			h.Local = append(local, c.user)
		} else {
			h.Local = slices.DeleteFunc(local, func(u uint32) bool { return u == c.user })
		}
	}
	return c, nil
}

func count(m, is Membership) int {
	if m == is {
		return 1
	}
	return 0
}

// event reads an event that may be staged.
func (w *Writer) event(num EventNum) (*Event, error) {
	for i := range w.staged {
		if w.staged[i].ev.Num == num {
			return w.staged[i].ev, nil
		}
	}
	return w.r.Event(num)
}

func userRoomKey(dst []byte, user uint32, room Num) []byte {
	return store.U32(store.U32(store.UserRoom.Key(dst), user), uint32(room))
}

func memberKey(dst []byte, room Num, user uint32) []byte {
	return store.U32(store.U32(store.Member.Key(dst), uint32(room)), user)
}

const (
	memberLocal     = 1 << iota // the user is of this hub
	memberForgotten             // the user forgot the room
	memberOutside               // the hub is not in the room
)

// appendRows writes both indexes of a member's standing.
func (c *memberChange) appendRows(tx *stream.Tx, room Num, pos stream.Pos, buf []byte) []byte {
	m := Member{Membership: c.new, Event: c.event, Pos: pos, Local: c.local, Outside: c.outside}
	buf = m.appendTo(buf[:0])
	var kbuf [9]byte
	tx.Set(userRoomKey(kbuf[:0], c.user, room), buf)
	tx.Set(memberKey(kbuf[:0], room, c.user), buf)
	return buf
}

// Member is a user's standing in one room.
type Member struct {
	Room       Num
	User       uint32
	Membership Membership
	Event      EventNum   // the m.room.member event
	Pos        stream.Pos // position of the last change
	Local      bool       // the user is of this hub
	Forgotten  bool       // the user has left and forgotten the room
	Outside    bool       // Event came alone, from another server: the hub was not in the room; see Rooms.Invitation
}

func (m *Member) appendTo(dst []byte) []byte {
	flags := byte(0)
	if m.Local {
		flags |= memberLocal
	}
	if m.Forgotten {
		flags |= memberForgotten
	}
	if m.Outside {
		flags |= memberOutside
	}
	dst = append(dst, byte(m.Membership), flags)
	dst = binary.AppendUvarint(dst, uint64(m.Event))
	return binary.AppendUvarint(dst, uint64(m.Pos))
}

func (m *Member) parse(val []byte) error {
	d := decoder{src: val}
	m.Membership = Membership(d.byte())
	flags := d.byte()
	m.Local, m.Forgotten, m.Outside = flags&memberLocal != 0, flags&memberForgotten != 0, flags&memberOutside != 0
	m.Event, m.Pos = EventNum(d.uint()), stream.Pos(d.uint())
	if int(m.Membership) >= len(membershipNames) {
		return fault.E(fault.Corrupt, "room", "a member row of unknown membership")
	}
	return d.err("member row")
}

// MemberOf gives a user's standing in a room; Membership None where the user
// never had any.
func (r *Rooms) MemberOf(room Num, user uint32) (Member, error) {
	m, epoch, ok := r.standings.get(room, user)
	if ok {
		return m, nil
	}
	m = Member{Room: room, User: user}
	var kbuf [9]byte
	var vbuf [32]byte
	val, ok, err := r.st.Get(vbuf[:0], userRoomKey(kbuf[:0], user, room))
	if err != nil {
		return m, err
	}
	if ok {
		if err := m.parse(val); err != nil {
			return m, err
		}
	}
	r.standings.put(m, epoch)
	return m, nil
}

// standings keeps what MemberOf has read: each delivery to a client asks for
// the client's standing in the room. A full one is emptied, which needs no
// bookkeeping on the way of each event.
//
// While a change is on its way (begin to end) the standing is read from the
// store: another's commit may bring the change to the disk, and wake readers,
// before the one who made it comes to forget what is kept here.
type standings struct {
	mu     sync.Mutex
	epoch  uint64 // counts changes, so that a row read before one is not kept after it
	m      map[standing]Member
	moving map[standing]int
}

type standing struct {
	room Num
	user uint32
}

// keptStandings bounds the standings in memory; one takes about a hundred bytes.
const keptStandings = 4096

func (s *standings) get(room Num, user uint32) (m Member, epoch uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok = s.m[standing{room, user}]
	return m, s.epoch, ok
}

func (s *standings) put(m Member, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := standing{m.Room, m.User}
	if s.epoch != epoch || s.moving[k] > 0 {
		return
	}
	if s.m == nil || len(s.m) >= keptStandings {
		s.m = map[standing]Member{}
	}
	s.m[k] = m
}

// begin has to come before the batch that changes a standing is applied.
func (s *standings) begin(room Num, user uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := standing{room, user}
	delete(s.m, k)
	if s.moving == nil {
		s.moving = map[standing]int{}
	}
	s.moving[k]++
}

// end has to follow begin, whether the batch was applied or not.
func (s *standings) end(room Num, user uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	k := standing{room, user}
	if s.moving[k]--; s.moving[k] <= 0 {
		delete(s.moving, k)
	}
}

// Of calls f for every room in which the user has or had a standing, forgotten
// ones included, in order of room number.
func (r *Rooms) Of(user uint32, f func(m Member) (more bool)) error {
	return r.members(store.U32(store.UserRoom.Prefix(), user), func(a, b uint32, m *Member) bool {
		m.User, m.Room = a, Num(b)
		return f(*m)
	})
}

// Members calls f for everybody who has or had a standing in the room, in
// order of user number.
func (r *Rooms) Members(room Num, f func(m Member) (more bool)) error {
	return r.members(store.U32(store.Member.Prefix(), uint32(room)), func(a, b uint32, m *Member) bool {
		m.Room, m.User = Num(a), b
		return f(*m)
	})
}

func (r *Rooms) members(prefix []byte, f func(a, b uint32, m *Member) bool) error {
	return r.st.ScanPrefix(prefix, func(key, val []byte) (bool, error) {
		if len(key) != 9 {
			return false, fault.E(fault.Corrupt, "room", "a member key of %d bytes", len(key))
		}
		var m Member
		if err := m.parse(val); err != nil {
			return false, err
		}
		return f(binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint32(key[5:]), &m), nil
	})
}

// localMembers lists this hub's joined members of a room.
func (r *Rooms) localMembers(room Num) (users []uint32, err error) {
	err = r.Members(room, func(m Member) bool {
		if m.Local && m.Membership == Join {
			users = append(users, m.User)
		}
		return true
	})
	return users, err
}

// Forget marks a room as forgotten by a user who is not in it any more.
// Errors: Unknown where the user still is.
func (r *Rooms) Forget(room Num, user uint32) error {
	w, err := r.Write(room) // a join at the same moment comes before or after, and is never written over
	if err != nil {
		return err
	}
	defer w.End()
	m, err := r.MemberOf(room, user)
	if err != nil {
		return err
	}
	switch m.Membership {
	case Leave, Ban:
	case None:
		return fault.E(fault.Unknown, "room.Forget", "you never were in this room")
	default:
		return fault.E(fault.Unknown, "room.Forget", "leave the room before you forget it")
	}
	m.Forgotten = true
	r.standings.begin(room, user)
	defer r.standings.end(room, user)
	pending, err := r.log.Begin(func(tx *stream.Tx) error {
		m.Pos = tx.Put(&stream.Entry{Kind: stream.Local, Room: uint32(room), User: user})
		row := m.appendTo(nil)
		tx.Set(userRoomKey(nil, user, room), row)
		tx.Set(memberKey(nil, room, user), row)
		return nil
	})
	if err != nil {
		return err
	}
	w.End()
	return pending.Wait()
}
