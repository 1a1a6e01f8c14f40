package appservice

import (
	"slices"
	"strconv"

	"hearth/engine/room"
)

// passing is what one service is told only while it listens: who types and who
// is there. The newest of each is kept until the one before was taken, and none
// for a service that does not answer.
type passing struct {
	rooms, users []uint32
	busy         bool
	seq          uint64
}

// maxPassing bounds the subjects that wait for one service.
const maxPassing = 256

// Tell says that typing in rooms, or the presence of users, has changed. It does
// not wait. Spec: application-service, pushing ephemeral data.
func (a *AppServices) Tell(rooms, users []uint32) {
	for _, s := range a.Services().All() {
		if !s.Ephemeral || s.URL == "" {
			continue
		}
		a.mu.Lock()
		p := a.soon[s.ID]
		if p == nil {
			p = &passing{}
			a.soon[s.ID] = p
		}
		for _, num := range rooms {
			if len(p.rooms) < maxPassing && !slices.Contains(p.rooms, num) {
				p.rooms = append(p.rooms, num)
			}
		}
		for _, user := range users {
			if len(p.users) < maxPassing && !slices.Contains(p.users, user) {
				p.users = append(p.users, user)
			}
		}
		begin := !p.busy && a.ctx.Err() == nil
		p.busy = p.busy || begin
		if begin {
			a.ended.Go(func() { a.passOn(s, p) })
		}
		a.mu.Unlock()
	}
}

// passOn brings a service what has come together for it, until there is no more.
func (a *AppServices) passOn(s *Service, p *passing) {
	for {
		a.mu.Lock()
		rooms, users := p.rooms, p.users
		p.rooms, p.users = nil, nil
		if p.busy = len(rooms)+len(users) > 0 && a.ctx.Err() == nil; !p.busy {
			a.mu.Unlock()
			return
		}
		p.seq++
		seq := p.seq
		a.mu.Unlock()
		if err := a.passOne(s, rooms, users, seq); err != nil {
			a.o.Log("application service %s: typing and presence are not told: %v", s.ID, err)
		}
	}
}

func (a *AppServices) passOne(s *Service, rooms, users []uint32, seq uint64) error {
	if _, waits, err := a.box.Of(s.ID); err != nil || waits {
		return err // who is behind with events is not told of what has passed
	}
	t := &transaction{s: s}
	for _, num := range rooms {
		in, err := a.interested(s, room.Num(num), nil)
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
	t.lists = users
	if err := a.known(t); err != nil {
		return err
	}
	for _, user := range t.lists {
		event, err := a.Ephemeral.AppendPresence(nil, user)
		if err != nil {
			return err
		}
		t.addEphemeral(event)
	}
	t.lists = nil
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
