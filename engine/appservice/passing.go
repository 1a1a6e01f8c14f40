package appservice

import (
	"slices"
	"strconv"

	"hearth/engine/fault"
	"hearth/engine/room"
)

// passing is what one service is told only while it listens: who types, who is
// there and whose one-time keys are taken. The newest of each is kept until the one before was taken, and none
// for a service that does not answer.
type passing struct {
	news
	busy bool
	seq  uint64
}

// news is what has changed.
type news struct {
	rooms, users, claimed []uint32 // who types in the rooms; whose presence, whose keys
}

func (n *news) empty() bool { return len(n.rooms)+len(n.users)+len(n.claimed) == 0 }

// add notes what is not noted yet.
func add(list *[]uint32, more []uint32) {
	for _, n := range more {
		if len(*list) < maxPassing && !slices.Contains(*list, n) {
			*list = append(*list, n)
		}
	}
}

// maxPassing bounds the subjects that wait for one service.
const maxPassing = 256

// Tell says that typing in rooms, or the presence of users, has changed. It does
// not wait. Spec: application-service, pushing ephemeral data.
func (a *AppServices) Tell(rooms, users []uint32) {
	for _, s := range a.Services().All() {
		if s.Ephemeral {
			a.tell(s, &news{rooms: rooms, users: users})
		}
	}
}

// Claimed says that one-time keys of users of this hub were claimed: a service
// that speaks for one uploads new ones. It does not wait. Spec: MSC3202.
func (a *AppServices) Claimed(users []uint32) error {
	for _, s := range a.Services().All() {
		var n news
		for _, user := range users {
			id, err := a.Rooms.UserID(user)
			if err != nil {
				return err
			}
			if s.Encrypted && s.User(id) {
				n.claimed = append(n.claimed, user)
			}
		}
		if !n.empty() {
			a.tell(s, &n)
		}
	}
	return nil
}

func (a *AppServices) tell(s *Service, n *news) {
	if s.URL == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.soon[s.ID]
	if p == nil {
		p = &passing{}
		a.soon[s.ID] = p
	}
	add(&p.rooms, n.rooms)
	add(&p.users, n.users)
	add(&p.claimed, n.claimed)
	if p.busy || a.ctx.Err() != nil {
		return
	}
	p.busy = true
	a.ended.Go(func() { a.passOn(s.ID, p) })
}

// passOn brings a service what has come together for it, until there is no more.
func (a *AppServices) passOn(id string, p *passing) {
	for {
		a.mu.Lock()
		n := p.news
		p.news = news{}
		if p.busy = !n.empty() && a.ctx.Err() == nil; !p.busy {
			a.mu.Unlock()
			return
		}
		p.seq++
		seq := p.seq
		a.mu.Unlock()
		s := a.Services().ByID(id)
		if s == nil {
			continue // it is no more
		}
		if err := a.passOne(s, &n, seq); err != nil {
			a.o.Log("application service %s: typing, presence and key counts are not told: %v", s.ID, err)
		}
	}
}

func (a *AppServices) passOne(s *Service, n *news, seq uint64) error {
	if _, waits, err := a.box.Of(s.ID); err != nil || waits {
		return err // who is behind with events is not told of what has passed
	}
	t := &transaction{s: s, claimed: n.claimed}
	for _, num := range n.rooms {
		in, err := a.interested(s, room.Num(num), nil)
		if fault.Is(err, fault.NotFound) {
			continue // purged meanwhile
		}
		if err != nil {
			return err
		}
		if !in {
			continue
		}
		id, err := a.Rooms.RoomID(room.Num(num))
		if err != nil {
			return err
		}
		event, err := a.Ephemeral.AppendTyping(nil, num)
		if err != nil {
			return err
		}
		t.addEphemeral(withMember(event, "room_id", string(id)))
	}
	for _, user := range n.users {
		id, err := a.Rooms.UserID(user)
		if err != nil {
			return err
		}
		if !s.User(id) { // its own are its business in whatever room
			if shares, err := a.shares(s, user); err != nil || !shares {
				if err != nil {
					return err
				}
				continue
			}
		}
		event, err := a.Ephemeral.AppendPresence(nil, user)
		if err != nil {
			return err
		}
		t.addEphemeral(event)
	}
	if t.empty() {
		return nil
	}
	body, err := a.body(t)
	if err != nil {
		return err
	}
	txn := a.era + "-p" + strconv.FormatInt(a.o.Now().UnixMilli(), 36) + "-" + strconv.FormatUint(seq, 10)
	_, err = a.ask(a.ctx, s, "PUT", "/transactions/"+txn, body)
	return err
}
