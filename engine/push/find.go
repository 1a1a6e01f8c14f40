package push

import (
	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/pushrule"
	"hearth/engine/room"
	"hearth/engine/stream"
	"hearth/engine/unread"
)

const (
	// maxBack is how many entries of the log a delivery looks back at most.
	maxBack = 8192
	// maxHits is how many events one delivery tells; of more, the newest. Nobody
	// wants a phone to ring a thousand times for a day without a link.
	maxHits = 20
)

// hit is an event that a user is to be told of.
type hit struct {
	pos     stream.Pos
	e       *room.Event
	head    *room.Head
	actions pushrule.Actions
}

// seeker finds what a user is to be told of.
type seeker struct {
	*Push
	r     *unread.Reader
	upto  stream.Pos
	rooms map[room.Num]room.Membership
}

func (p *Push) seeker(user uint32, upto stream.Pos) (*seeker, error) {
	r, err := p.reader(user)
	return &seeker{Push: p, r: r, upto: upto, rooms: map[room.Num]room.Membership{}}, err
}

// since gives what there is behind a position, oldest first. moved says whether
// the user has read or sent something there, so that counts may have changed.
func (s *seeker) since(from stream.Pos) (hits []hit, moved bool, err error) {
	type entry struct {
		pos  stream.Pos
		room room.Num
		num  room.EventNum
	}
	var events []entry
	if s.upto > maxBack {
		from = max(from, s.upto-maxBack)
	}
	err = s.Log.Read(from, s.upto, func(pos stream.Pos, e *stream.Entry) bool {
		switch {
		case e.User == s.r.User && (e.Kind == stream.RoomEvent || e.Kind == stream.Receipt):
			moved = true
		case e.Kind == stream.RoomEvent, e.Kind == stream.Standing && e.User == s.r.User:
			events = append(events, entry{pos, room.Num(e.Room), room.EventNum(e.Event)})
		}
		return true
	})
	// From the newest back, so that no more are looked at than are told.
	for i := len(events) - 1; i >= 0 && err == nil && len(hits) < maxHits; i-- {
		var h hit
		if h, err = s.look(events[i].room, events[i].num); err == nil && h.e != nil {
			h.pos = events[i].pos
			hits = append(hits, h)
		}
	}
	for i, j := 0, len(hits)-1; i < j; i, j = i+1, j-1 {
		hits[i], hits[j] = hits[j], hits[i]
	}
	return hits, moved, err
}

// look judges one event; e is nil in a hit that is none.
func (s *seeker) look(num room.Num, ev room.EventNum) (h hit, err error) {
	h.head, h.e, h.actions, err = s.judge(num, ev)
	if err != nil || h.e == nil || s.rooms[num] != room.Join {
		return h, err
	}
	pending, err := s.Unread.Pending(s.r, h.head, s.upto, h.e.At.Pos)
	if !pending {
		h.e = nil
	}
	return h, err
}

// judge asks the user's rules about an event of a room that they are in, or
// are invited to by it. e is nil where it is not to be told.
func (s *seeker) judge(num room.Num, ev room.EventNum) (head *room.Head, e *room.Event, a pushrule.Actions, err error) {
	is, known := s.rooms[num]
	if !known {
		m, err := s.Rooms.MemberOf(num, s.r.User)
		if err != nil {
			return nil, nil, a, err
		}
		is = m.Membership
		s.rooms[num] = is
	}
	if is != room.Join && is != room.Invite {
		return nil, nil, a, nil
	}
	if e, err = s.Rooms.Event(ev); fault.Is(err, fault.NotFound) {
		return nil, nil, a, nil // aged since
	}
	if err != nil {
		return nil, nil, a, err
	}
	if e.At.Pos == 0 && is != room.Invite {
		return nil, nil, a, nil // an invite from outside the room that was answered
	}
	if is == room.Invite {
		shown, err := s.shown(e)
		if err != nil || !shown {
			return nil, nil, a, err
		}
	}
	if head, err = s.Rooms.Head(num); err != nil {
		return nil, nil, a, err
	}
	if a, err = s.Unread.Judge(s.r, head, e); err != nil || !a.Notify {
		return nil, nil, a, err
	}
	return head, e, a, nil
}

// shown says whether an event of a room that the user is only invited to is
// the invite, from somebody whose invites they see.
func (s *seeker) shown(e *room.Event) (bool, error) {
	if !e.Is("m.room.member", string(s.r.ID)) || room.MembershipOf(e.Content) != room.Invite {
		return false, nil
	}
	take, err := s.Accounts.InvitesFrom(s.r.User, e.Sender)
	return take == account.TakeInvites, err
}

// tally is what the badge of an app shows.
type tally struct{ unread, calls int }

// count adds up what the user has not read, over all rooms.
func (s *seeker) count() (t tally, err error) {
	var rooms []room.Num
	err = s.Rooms.Of(s.r.User, func(m room.Member) bool {
		if m.Membership == room.Join {
			rooms = append(rooms, m.Room)
		}
		return true
	})
	for _, num := range rooms {
		if err != nil {
			return t, err
		}
		var h *room.Head
		if h, err = s.Rooms.Head(num); err != nil {
			continue
		}
		var c unread.Tally
		c, err = s.Unread.Count(s.r, h, s.upto, nil)
		t.unread += c.All.Notify
		t.calls += c.Calls
	}
	return t, err
}
