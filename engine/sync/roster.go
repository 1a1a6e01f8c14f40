package sync

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/slide"
	"hearth/engine/stream"
)

// roster is a user's rooms, those with the latest event first. It is what the
// windows of sliding sync are cut out of. It follows the log, so that an event
// moves one room to the front and nothing else is looked at; whatever it lost is
// read again.
type roster struct {
	user uint32
	id   mxid.UserID

	mu     sync.Mutex
	pos    stream.Pos // everything up to here is in; 0: nothing is yet
	places []place

	private bool // direct and tags are read, and invites are judged
	direct  map[room.Num]struct{}
	tags    map[room.Num][]string
}

// place is a room in a roster.
type place struct {
	room   room.Num
	member room.Membership
	mark   mark
	last   stream.Pos // of the last event the user may hear of
	typ    string     // of the room, where facts are known
}

// mark is what is known of a room in a roster.
type mark uint8

const (
	unlisted  mark = 1 << iota // not for the user to hear of
	forgotten                  // only for who still takes it for open
	departed                   // the user left: only for who was told of the room
	known                      // the facts are
	encrypted
	silenced // an invite by somebody whose invites the user does not take
)

// rosters are those of the users who sync; see maxPlaces.
type rosters struct {
	mu   sync.Mutex
	of   map[uint32]*roster
	used []uint32 // the least recently used first
}

// maxPlaces bounds the rosters in memory to about two megabytes. It is looked at
// when another is made: what is in use is never among those that go.
const maxPlaces = 40_000

// roster gives the roster of a user, locked, with everything up to the tip. The
// caller unlocks it.
func (s *Sync) roster(user uint32, id mxid.UserID) (*roster, error) {
	s.rosters.mu.Lock()
	r := s.rosters.of[user]
	if r == nil {
		s.rosters.trim()
		r = &roster{user: user, id: id}
		s.rosters.of[user] = r
	} else {
		i := slices.Index(s.rosters.used, user)
		s.rosters.used = slices.Delete(s.rosters.used, i, i+1)
	}
	s.rosters.used = append(s.rosters.used, user)
	s.rosters.mu.Unlock()
	r.mu.Lock()
	if err := r.advance(s); err != nil {
		r.pos = 0
		r.mu.Unlock()
		return nil, err
	}
	return r, nil
}

// trim forgets rosters until there is room for another.
func (rs *rosters) trim() {
	n := 0
	for i, user := range slices.Backward(rs.used) {
		r := rs.of[user]
		if !r.mu.TryLock() {
			continue // in use, and counted when it is not
		}
		n += len(r.places) + 16
		r.mu.Unlock()
		if n > maxPlaces {
			for _, user := range rs.used[:i+1] {
				delete(rs.of, user)
			}
			rs.used = slices.Delete(rs.used, 0, i+1)
			return
		}
	}
}

func (r *roster) advance(s *Sync) error {
	to := s.log.Tip()
	if r.pos == 0 || to-r.pos > shortLag {
		return r.build(s)
	}
	if to <= r.pos {
		return nil
	}
	var buf [16]line
	lines, err := readLog(buf[:0], s.log, r.pos, to)
	if err != nil {
		return err
	}
	for _, l := range lines {
		switch l.kind {
		case stream.RoomEvent:
			err = r.happened(s, l)
		case stream.Standing, stream.Local:
			if l.user == r.user {
				err = r.stand(s, room.Num(l.room))
			}
		case stream.AccountData:
			r.private = r.private && l.user != r.user
		}
		if err != nil {
			return err
		}
	}
	r.pos = to
	return nil
}

// happened takes in an event.
func (r *roster) happened(s *Sync, l line) error {
	num := room.Num(l.room)
	i := r.find(num)
	if l.state {
		if i >= 0 {
			r.places[i].mark &^= known
		}
		if err := r.stand(s, num); err != nil {
			return err
		}
		i = r.find(num)
	}
	if i >= 0 && r.places[i].member == room.Join {
		r.places[i].last = l.pos
		r.front(i)
	}
	return nil
}

// front moves a place to where its last event has it, which is near the front.
func (r *roster) front(i int) {
	p := r.places[i]
	j := 0
	for j < i && r.places[j].last > p.last {
		j++
	}
	copy(r.places[j+1:i+1], r.places[j:i])
	r.places[j] = p
}

func (r *roster) find(num room.Num) int {
	for i := range r.places {
		if r.places[i].room == num {
			return i
		}
	}
	return -1
}

// stand reads how the user stands to a room, where that may have changed.
func (r *roster) stand(s *Sync, num room.Num) error {
	m, err := s.rooms.MemberOf(num, r.user)
	if err != nil {
		return err
	}
	i := r.find(num)
	if m.Membership == room.None {
		if i >= 0 {
			r.places = slices.Delete(r.places, i, i+1)
		}
		return nil
	}
	if i >= 0 && r.places[i].member == m.Membership && (m.Membership == room.Join || m.Pos <= r.places[i].last) {
		return nil // it was about somebody else
	}
	p := place{room: num}
	if i >= 0 {
		p = r.places[i]
		r.places = slices.Delete(r.places, i, i+1)
	}
	if err := p.judge(s, r, &m); err != nil {
		return err
	}
	p.last = max(m.Pos, p.last)
	if m.Membership != room.Join {
		p.last = m.Pos
	}
	r.private = r.private && m.Membership != room.Invite
	r.places = append(r.places, p)
	r.front(len(r.places) - 1)
	return nil
}

// judge works out of a standing whether the room is in the list.
// Spec: MSC4186, lists.
func (p *place) judge(s *Sync, r *roster, m *room.Member) error {
	p.member = m.Membership
	p.mark = 0
	if m.Forgotten {
		p.mark |= forgotten
	}
	if m.Membership != room.Leave && m.Membership != room.Ban {
		return nil
	}
	own, err := s.rooms.Event(m.Event)
	if fault.Is(err, fault.NotFound) {
		p.mark |= unlisted
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case own.Sender == r.id:
		p.mark |= departed
	case own.Replaces == 0:
		p.mark |= unlisted // banned from where the user never was
	}
	return nil
}

// build reads all of the user's rooms.
func (r *roster) build(s *Sync) error {
	for range maxTries {
		to := s.log.Tip()
		old := r.places
		var newest stream.Pos
		var list []room.Member
		if err := s.rooms.Of(r.user, func(m room.Member) bool {
			newest = max(newest, m.Pos)
			if m.Membership != room.None {
				list = append(list, m)
			}
			return true
		}); err != nil {
			return err
		}
		if newest > to {
			s.log.WaitTip(newest)
			continue
		}
		slices.SortFunc(old, func(a, b place) int { return cmp.Compare(a.room, b.room) })
		places := make([]place, 0, len(list))
		for i := range list {
			p, err := r.read(s, &list[i], to, old)
			if fault.Is(err, fault.NotFound) {
				continue // being purged
			}
			if err != nil {
				return err
			}
			places = append(places, p)
		}
		slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(b.last, a.last) })
		r.places, r.pos, r.private = places, to, false
		return nil
	}
	return fault.E(fault.Busy, "sync.Slide", "your rooms change faster than they can be told")
}

// read makes the place of one room. What is known from before, and stays so, is
// taken over.
func (r *roster) read(s *Sync, m *room.Member, to stream.Pos, old []place) (place, error) {
	p := place{room: m.Room, last: m.Pos}
	if err := p.judge(s, r, m); err != nil || m.Membership != room.Join {
		return p, err
	}
	if i, ok := slices.BinarySearchFunc(old, m.Room, func(p place, num room.Num) int { return cmp.Compare(p.room, num) }); ok {
		p.typ = old[i].typ // never changes; whether it is encrypted may
	}
	err := s.rooms.Timeline(m.Room, room.Key{}, room.After(to), true, func(k room.Key, _ room.EventNum) (bool, error) {
		p.last = k.Pos
		return false, nil
	})
	return p, err
}

// facts reads what the state of a room says that filters ask for.
func (r *roster) facts(s *Sync, p *place) error {
	if p.mark&known != 0 {
		return nil
	}
	p.mark &^= encrypted
	create, err := r.stateOf(s, p, "m.room.create")
	if err != nil {
		return err
	}
	p.typ, _ = cjson.LookupString(create, "type")
	if p.typ == "m.space" {
		p.typ = "m.space" // not a copy for each
	}
	crypt, err := r.stateOf(s, p, "m.room.encryption")
	if err != nil {
		return err
	}
	if crypt != nil {
		p.mark |= encrypted
	}
	p.mark |= known
	return nil
}

// stateOf gives the content of a state event, as far as the user knows the room;
// nil where there is none.
func (r *roster) stateOf(s *Sync, p *place, typ string) ([]byte, error) {
	m, err := s.rooms.MemberOf(p.room, r.user)
	if err != nil {
		return nil, err
	}
	if m.Outside {
		told, err := s.rooms.Invitation(p.room, r.user)
		return strippedContent(told.Told, typ), err
	}
	h, err := s.rooms.Head(p.room)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := s.rooms.StateEvent(h.State, typ, "")
	if err != nil || e == nil {
		return nil, err
	}
	return e.Content, nil
}

// strippedContent finds a state event among stripped ones.
func strippedContent(told []byte, typ string) (content []byte) {
	list := append(append([]byte{'['}, told...), ']')
	_ = cjson.Array(list, func(e []byte) bool {
		val, _ := cjson.Lookup(e, "type")
		key, _ := cjson.LookupString(e, "state_key")
		if cjson.Is(val, typ) && key == "" {
			content, _ = cjson.Lookup(e, "content")
		}
		return content == nil
	})
	return content
}

// own reads the user's account data that has to do with the list.
func (r *roster) own(s *Sync) error {
	if r.private {
		return nil
	}
	r.direct, r.tags = nil, nil
	var direct []byte
	if err := s.accounts.DataSince(r.user, 0, s.log.Tip(), func(c *account.Change) bool {
		switch {
		case c.Room == 0 && c.Type == "m.direct":
			direct = slices.Clone(c.Content)
		case c.Room != 0 && c.Type == account.TypeTag:
			r.tag(room.Num(c.Room), c.Content)
		}
		return true
	}); err != nil {
		return err
	}
	if err := r.directs(s, direct); err != nil {
		return err
	}
	for i := range r.places {
		p := &r.places[i]
		p.mark &^= silenced
		if p.member != room.Invite {
			continue
		}
		m, err := s.rooms.MemberOf(p.room, r.user)
		if err != nil {
			return err
		}
		invite, err := s.rooms.Event(m.Event)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if action, err := s.accounts.InvitesFrom(r.user, invite.Sender); err != nil {
			return err
		} else if action != account.TakeInvites {
			p.mark |= silenced
		}
	}
	r.private = true
	return nil
}

// maxDirect bounds the rooms of m.direct that are looked up.
const maxDirect = 10_000

// directs reads m.direct. Spec: client-server, direct messaging.
func (r *roster) directs(s *Sync, content []byte) error {
	r.direct = map[room.Num]struct{}{}
	n := 0
	var err error
	_ = cjson.Object(content, func(_, rooms []byte) bool {
		_ = cjson.Array(rooms, func(val []byte) bool {
			id, _ := cjson.String(val)
			var num room.Num
			if num, err = s.rooms.Find(mxid.RoomID(id)); err == nil {
				r.direct[num] = struct{}{}
			} else if fault.Is(err, fault.NotFound) {
				err = nil
			}
			n++
			return err == nil && n < maxDirect
		})
		return err == nil && n < maxDirect
	})
	return err
}

// maxTags bounds the tags of a room that filters know of.
const maxTags = 100

func (r *roster) tag(num room.Num, content []byte) {
	tags, _ := cjson.Lookup(content, "tags")
	_ = cjson.Object(tags, func(key, _ []byte) bool {
		if r.tags == nil {
			r.tags = map[room.Num][]string{}
		}
		r.tags[num] = append(r.tags[num], strings.Clone(string(key)))
		return len(r.tags[num]) < maxTags
	})
}

// sieve is a list's filter, with what it takes to ask it looked up once.
type sieve struct {
	f      *slide.Filter
	spaces map[mxid.RoomID]struct{} // the rooms in them; nil where they are not asked for
}

// children is what the spaces hold that the lists of one request ask for.
type children map[string][]mxid.RoomID

func (r *roster) sieve(s *Sync, f *slide.Filter, known children) (*sieve, error) {
	v := &sieve{f: f}
	if f.Spaces == nil {
		return v, nil
	}
	v.spaces = map[mxid.RoomID]struct{}{}
	for _, id := range f.Spaces {
		list, ok := known[id]
		if !ok {
			var err error
			if list, err = r.children(s, mxid.RoomID(id)); err != nil {
				return nil, err
			}
			known[id] = list
		}
		for _, child := range list {
			v.spaces[child] = struct{}{}
		}
	}
	return v, nil
}

// children reads the rooms of a space; there are none in one that the user is not in.
func (r *roster) children(s *Sync, space mxid.RoomID) (list []mxid.RoomID, err error) {
	num, err := s.rooms.Find(space)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if i := r.find(num); i < 0 || r.places[i].member != room.Join {
		return nil, nil
	}
	h, err := s.rooms.Head(num)
	if err != nil {
		return nil, err
	}
	err = s.rooms.EachOfType(h.State, "m.space.child", func(e *room.Event) (bool, error) {
		if via, ok := cjson.Lookup(e.Content, "via"); ok && cjson.KindOf(via) == cjson.ArrayKind {
			list = append(list, mxid.RoomID(e.StateKey))
		}
		return true, nil
	})
	return list, err
}

// passes says whether a list shows a room. Spec: MSC4186, SlidingRoomFilter.
func (r *roster) passes(s *Sync, v *sieve, p *place) (bool, error) {
	f := v.f
	_, dm := r.direct[p.room]
	if !f.Invited.Passes(p.member == room.Invite) || !f.DM.Passes(dm) || !f.PassesTags(r.tags[p.room]) {
		return false, nil
	}
	if v.spaces != nil {
		id, err := s.rooms.RoomID(p.room)
		if _, in := v.spaces[id]; !in || err != nil {
			return false, err
		}
	}
	if f.Facts() {
		if err := r.facts(s, p); err != nil {
			return false, err
		}
		if !f.Encrypted.Passes(p.mark&encrypted != 0) || !f.PassesType(p.typ) {
			return false, nil
		}
	}
	if f.Name != "" {
		content, err := r.stateOf(s, p, "m.room.name")
		name, _ := cjson.LookupString(content, "name")
		return strings.Contains(strings.ToLower(name), f.Name), err
	}
	return true, nil
}
