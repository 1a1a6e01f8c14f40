package appservice

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// Bounds of one transaction.
const (
	maxEvents   = 100 // also of entries that say that to-device messages wait
	maxBytes    = 512 << 10
	maxReceipts = 100 // rooms
	maxLists    = 500 // users
)

// maxRun is how many transactions follow each other before other services have
// their turn.
const maxRun = 50

// transaction is what a service is told at once.
type transaction struct {
	s         *Service
	events    []byte // separated by commas, as all the others
	count     int
	ephemeral []byte
	toDevice  []byte
	taken     []taken // to-device messages in it
	rooms     map[room.Num]struct{}
	receipts  []room.Num // rooms with receipts
	users     []uint32   // own users with messages
	lists     []uint32   // users whose device keys changed
	strangers []uint32   // users who perhaps share no room any more
	claimed   []uint32   // own users whose one-time keys were claimed
	entries   int        // of the log that it holds
}

// taken is what of a device's queue a transaction holds.
type taken struct {
	device uint64
	upto   stream.Pos
}

func (t *transaction) empty() bool {
	return len(t.events)+len(t.ephemeral)+len(t.toDevice)+len(t.lists)+len(t.strangers)+len(t.claimed) == 0
}

// held is how much there is in it, in no unit.
func (t *transaction) held() int {
	return t.count + len(t.receipts) + len(t.users) + len(t.lists) + len(t.strangers)
}

// full says whether what follows has to wait for the next transaction.
func (t *transaction) full() bool {
	return t.count+len(t.users) >= maxEvents || len(t.events) >= maxBytes || len(t.receipts) >= maxReceipts ||
		len(t.lists)+len(t.strangers) >= maxLists
}

// deliver brings a service what is behind from; see outbox.Deliver. The outbox's
// own idea of where a service stands is not asked: it may be behind that.
//
// The same events never go under two ids. Where a transaction of several entries
// ends is on disk before it is sent. One of a single entry, which is what there is
// as long as people chat, needs no sync: its id is the entry's position. What of
// it gets lost with the process is the little that came since the disk was last
// written to, so that the first entries after a start go one by one again.
func (a *AppServices) deliver(ctx context.Context, id string, from, upto stream.Pos) (stream.Pos, error) {
	s := a.Services().ByID(id)
	if s == nil || s.URL == "" {
		return upto, nil
	}
	at, ok, err := a.place(id)
	if err != nil || !ok {
		return from, err
	}
	for sent := 0; at.acked < upto; {
		if at.acked > from && (sent >= maxRun || hurried(ctx)) {
			return at.acked, nil // the outbox comes again
		}
		end, again := upto, at.ends > at.acked
		if again {
			end = min(at.ends, upto)
		}
		most := maxEvents
		if again {
			most = math.MaxInt
		} else if a.alone(id) {
			most = 1
		}
		t, reached, err := a.gather(s, at.acked, end, most)
		if err != nil {
			return max(from, at.acked), err
		}
		if t.empty() {
			if err := a.pass(id, progress{acked: reached, ends: at.ends}); err != nil {
				return from, err
			}
			at.acked = reached
			continue
		}
		if at.ends != reached {
			at.ends = reached
			if err := a.save(id, at, t.entries > 1); err != nil {
				return from, err
			}
		}
		if err := a.put(ctx, t, strconv.FormatUint(uint64(reached), 10)); err != nil {
			return max(from, at.acked), err
		}
		sent++
		// What the service has taken goes first: after a crash between the two it is
		// told the same transaction without the messages, which it has already.
		for _, m := range t.taken {
			if err := a.E2EE.Acknowledge(m.device, m.upto); err != nil {
				return max(from, at.acked), err
			}
		}
		at = progress{acked: reached}
		if err := a.save(id, at, false); err != nil {
			return max(from, reached), err
		}
	}
	if err := a.putPassing(ctx, &transaction{s: s}); err != nil {
		a.o.Log(notTold, id, err)
	}
	return upto, nil
}

// hurried says whether a delivery has not the time for another transaction: one
// that is broken off counts as a failure.
func hurried(ctx context.Context) bool {
	end, limited := ctx.Deadline()
	return limited && time.Until(end) < askTime
}

// put makes the body and puts it to the service, under an id of this era.
func (a *AppServices) put(ctx context.Context, t *transaction, id string) error {
	body, err := a.body(t)
	if err != nil {
		return err
	}
	_, err = a.ask(ctx, t.s, "PUT", "/transactions/"+a.era+"-"+id, body)
	return err
}

// gather collects what is a service's between two positions, until there is
// enough for one transaction, or most entries are in it; reached is how far that
// was. With math.MaxInt there is no bound: it is all that was sent before.
func (a *AppServices) gather(s *Service, from, upto stream.Pos, most int) (t *transaction, reached stream.Pos, err error) {
	t = &transaction{s: s, rooms: map[room.Num]struct{}{}}
	last := from
	var failed error
	err = a.Log.Read(from, upto, func(pos stream.Pos, e *stream.Entry) bool {
		if t.entries >= most || t.full() && most < math.MaxInt {
			return false
		}
		had := t.held()
		// A room may be purged, and be gone, while what happened in it still waits.
		if failed = a.take(t, e); failed != nil && !fault.Is(failed, fault.NotFound) {
			return false
		}
		failed = nil
		if t.held() > had {
			t.entries++
			last = pos
		}
		return true
	})
	if reached = last; t.entries == 0 || most == math.MaxInt {
		reached = upto
	}
	if err = errors.Join(err, failed); err != nil {
		return nil, from, err
	}
	return t, reached, a.rest(t, from, reached)
}

// take adds what one entry means to the service.
func (a *AppServices) take(t *transaction, e *stream.Entry) error {
	switch e.Kind {
	case stream.RoomEvent:
		return a.takeEvent(t, room.EventNum(e.Event))
	case stream.Standing:
		return a.takeStanding(t, e)
	case stream.Receipt:
		if !t.s.Ephemeral {
			return nil
		}
		in, err := a.interested(t.s, room.Num(e.Room), nil)
		if err == nil && in {
			if _, known := t.rooms[room.Num(e.Room)]; !known {
				t.rooms[room.Num(e.Room)] = struct{}{}
				t.receipts = append(t.receipts, room.Num(e.Room))
			}
		}
		return err
	case stream.ToDevice:
		if !t.s.Encrypted || e.User == 0 { // without a user it is for another server's
			return nil
		}
		id, err := a.Rooms.UserID(e.User)
		if err == nil && t.s.User(id) {
			t.users = append(t.users, e.User)
		}
		return err
	case stream.Devices:
		if t.s.Encrypted {
			t.lists = append(t.lists, e.User)
		}
	}
	return nil
}

// takeEvent adds an event, as a client reads it.
func (a *AppServices) takeEvent(t *transaction, num room.EventNum) error {
	e, err := a.Rooms.Event(num)
	if err != nil {
		return err
	}
	in, err := a.interested(t.s, e.In, e)
	if err != nil || !in {
		return err
	}
	if t.s.Encrypted && e.IsState && e.Type == typeMember {
		if err := a.takeMember(t, e); err != nil {
			return err
		}
	}
	told, err := a.shown(t.s, e)
	if err != nil {
		return err
	}
	return a.addEvent(t, e, told)
}

func (a *AppServices) addEvent(t *transaction, e *room.Event, told []byte) (err error) {
	begin := len(t.events)
	if begin > 0 {
		t.events = append(t.events, ',')
	}
	if t.events, err = a.Rooms.AppendClient(t.events, e, room.Reader{Outside: told}); err != nil {
		t.events = t.events[:begin]
		return err
	}
	t.count++
	return nil
}

const typeMember = "m.room.member"

// shown is what one of the service's users is shown of a room with an invitation,
// or with a knock; nil for any other event.
func (a *AppServices) shown(s *Service, e *room.Event) ([]byte, error) {
	if !e.IsState || e.Type != typeMember || !s.User(mxid.UserID(e.StateKey)) {
		return nil, nil
	}
	if m := room.MembershipOf(e.Content); m != room.Invite && m != room.Knock {
		return nil, nil
	}
	state, err := a.stateAt(e.In, e)
	if err != nil {
		return nil, err
	}
	list, err := a.Rooms.Stripped(state, mxid.UserID(e.StateKey))
	if err != nil {
		return nil, err
	}
	var told []byte
	for i, one := range list {
		if i > 0 {
			told = append(told, ',')
		}
		told = a.Rooms.AppendStripped(told, one)
	}
	return told, nil
}

// takeStanding adds what became of one of the service's users in a room that the
// hub is not in: an invitation, mostly, with what the other server told of the room.
func (a *AppServices) takeStanding(t *transaction, entry *stream.Entry) error {
	user, err := a.Rooms.UserID(entry.User)
	if err != nil {
		return err
	}
	if !t.s.User(user) {
		return nil
	}
	e, err := a.Rooms.Event(room.EventNum(entry.Event))
	if err != nil {
		return err
	}
	var told []byte
	m, err := a.Rooms.MemberOf(e.In, entry.User)
	if err != nil {
		return err
	}
	if m.Event == e.Num { // else it was told with another one
		i, err := a.Rooms.Invitation(e.In, entry.User)
		if err != nil {
			return err
		}
		told = i.Told
	}
	return a.addEvent(t, e, told)
}

// interested says whether a service is told what happens in a room: the room or
// an alias of it lies in its namespaces, or one of its users is joined; and of
// events that one of its users is the target of. e is nil for what is no event.
// Spec: application-service, registration.
func (a *AppServices) interested(s *Service, num room.Num, e *room.Event) (bool, error) {
	id, err := a.Rooms.RoomID(num)
	if err != nil || s.Room(id) {
		return err == nil, err
	}
	if e != nil && e.IsState && e.Type == typeMember && s.User(mxid.UserID(e.StateKey)) {
		return true, nil
	}
	if len(s.aliases) > 0 && a.o.Aliases != nil {
		aliases, err := a.o.Aliases(num)
		if err != nil {
			return false, err
		}
		for _, alias := range aliases {
			if s.Alias(alias) {
				return true, nil
			}
		}
	}
	return a.present(s, num, e)
}

// present says whether a user of the service was joined at an event, or is now.
func (a *AppServices) present(s *Service, num room.Num, e *room.Event) (bool, error) {
	state, err := a.stateAt(num, e)
	if err != nil {
		return false, err
	}
	joined := func(user mxid.UserID) (bool, error) {
		m, err := a.Rooms.StateEvent(state, typeMember, string(user))
		return err == nil && m != nil && room.MembershipOf(m.Content) == room.Join, err
	}
	a.mu.Lock()
	last, known := a.here[place{s.ID, num}]
	a.mu.Unlock()
	if known {
		if in, err := joined(last); in || err != nil {
			return in, err
		}
	}
	found := false
	var failed error
	err = a.Rooms.Members(num, func(m room.Member) bool {
		if !m.Local || m.Membership == room.Invite || m.Membership == room.Knock {
			return true
		}
		user, err := a.Rooms.UserID(m.User)
		if err != nil {
			failed = err
			return false
		}
		if !s.User(user) {
			return true
		}
		if found, failed = joined(user); found {
			a.remember(place{s.ID, num}, user)
		}
		return !found && failed == nil
	})
	if err == nil {
		err = failed
	}
	return found, err
}

// keptPlaces bounds what present remembers.
const keptPlaces = 4096

func (a *AppServices) remember(p place, user mxid.UserID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.here) >= keptPlaces {
		clear(a.here)
	}
	a.here[p] = user
}

// stateAt is the state that decides: after an event, or now. Who leaves by an
// event is its target, and told so. Where the state is not known it is the present.
func (a *AppServices) stateAt(num room.Num, e *room.Event) (room.State, error) {
	if e != nil {
		state, err := a.Rooms.StateAfter(e)
		if !fault.Is(err, fault.NotFound) {
			return state, err
		}
	}
	h, err := a.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	return h.State, nil
}
