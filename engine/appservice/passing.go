package appservice

import (
	"context"
	"slices"
	"strconv"

	"hearth/engine/fault"
	"hearth/engine/room"
)

// passing is what one service is told only while it listens: who types and who is
// there, and whose one-time keys are taken. The newest of each is kept until the one
// before was taken. For a service that does not answer none is kept but whose keys
// are taken, which it hears when it has all that it lacked.
type passing struct {
	news
	owed []uint32
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

const notTold = "application service %s: typing, presence and key counts are not told: %v"

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
	p := a.passing(s.ID)
	add(&p.rooms, n.rooms)
	add(&p.users, n.users)
	add(&p.claimed, n.claimed)
	if p.busy || a.ctx.Err() != nil {
		return
	}
	p.busy = true
	a.ended.Go(func() { a.passOn(s.ID, p) })
}

// passing is what waits for one service. It needs mu.
func (a *AppServices) passing(id string) *passing {
	p := a.soon[id]
	if p == nil {
		p = &passing{}
		a.soon[id] = p
	}
	return p
}

// owe notes users whose keys were taken and of whom a service was not told.
func (a *AppServices) owe(id string, users []uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	add(&a.passing(id).owed, users)
}

// putPassing tells a service what is in a transaction that holds nothing of the log,
// and of the users that owe has noted.
func (a *AppServices) putPassing(ctx context.Context, t *transaction) error {
	a.mu.Lock()
	p := a.passing(t.s.ID)
	t.claimed, p.owed = p.owed, nil
	p.seq++
	txn := "p" + strconv.FormatInt(a.o.Now().UnixMilli(), 36) + "-" + strconv.FormatUint(p.seq, 10)
	a.mu.Unlock()
	if t.empty() {
		return nil
	}
	err := a.put(ctx, t, txn)
	if err != nil {
		a.owe(t.s.ID, t.claimed)
	}
	return err
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
		a.mu.Unlock()
		s := a.Services().ByID(id)
		if s == nil {
			continue // it is no more
		}
		a.owe(id, n.claimed)
		if err := a.passOne(s, &n); err != nil {
			a.o.Log(notTold, id, err)
		}
	}
}

func (a *AppServices) passOne(s *Service, n *news) error {
	if _, waits, err := a.box.Of(s.ID); err != nil || waits {
		return err // who is behind with events is not told of what has passed
	}
	t := &transaction{s: s}
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
	return a.putPassing(a.ctx, t)
}
