package federation

import (
	"context"
	"strconv"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/outbox"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// The sender brings other servers what is theirs. One reader goes through the log
// and finds out for which servers there is something; what it is, is found again
// when it is delivered, from the log and from where each server was at the time.
// So a server that sleeps costs a row in the outbox and nothing else.

// sender is the reader of the log and the outbox of the other servers.
type sender struct {
	*Federation
	box   *outbox.Outbox
	epoch string // the store's incarnation, in the ids of transactions and messages

	fleeting *fleeting
	alone    alone

	mu      sync.Mutex
	uplink  uplink
	failing map[mxid.Server]failing // those that wait for another try

	stop  chan struct{}
	ended sync.WaitGroup
}

// failing is a server that waits for another try.
type failing struct {
	woken  time.Time // when it was last tried before its time because it spoke to us
	silent bool      // it was not reached, as far as is known
}

const (
	// deliveries is how many servers are brought something at once. One that does
	// not answer holds a place for as long as a transaction may take.
	deliveries = 24
	// longestDelivery bounds one: the transactions that are begun within turn, and
	// the last of them.
	longestDelivery = 3 * time.Minute
	// turn is how long one server is brought transactions before another has its turn.
	turn = 20 * time.Second
	// wakeGap is how often a server that speaks to us and does not listen is tried
	// again before its time.
	wakeGap = 5 * time.Second
	// maxStep is how many entries of the log are looked through before the outbox
	// is told.
	maxStep = 256
	// pause is how long the reader waits after the store refused it something.
	pause = 10 * time.Second
)

// openSender goes on where the last process stopped.
func openSender(f *Federation) (*sender, error) {
	s := &sender{Federation: f, failing: map[mxid.Server]failing{}, stop: make(chan struct{})}
	s.fleeting = newFleeting(s)
	s.epoch = strconv.FormatUint(f.life, 36) + "-"
	var err error
	s.box, err = outbox.Open(f.Store, f.Log, outbox.Options{
		Name: "federation", Deliver: s.deliver, Workers: deliveries, Time: longestDelivery, Now: f.o.Now,
	})
	if err != nil {
		return nil, err
	}
	if err := s.box.Each(func(st *outbox.State) bool {
		s.failing[mxid.Server(st.Dest)] = failing{silent: true}
		return true
	}); err != nil {
		return nil, err
	}
	if len(s.failing) > 0 {
		s.missed() // as far as is known
	}
	s.ended.Go(s.read)
	return s, nil
}

func (s *sender) close() error {
	close(s.stop)
	s.closeUplink()
	s.fleeting.close()
	s.ended.Wait()
	return s.box.Close()
}

// seen ends a server's wait: it has just spoken to us.
func (s *sender) seen(server mxid.Server) {
	s.heard()
	now := s.o.Now()
	s.mu.Lock()
	last, waits := s.failing[server]
	if waits = waits && now.Sub(last.woken) > wakeGap; waits {
		last.woken = now
		s.failing[server] = last
	}
	s.mu.Unlock()
	if waits {
		if err := s.box.Alive(string(server)); err != nil {
			s.o.Log("federation: %s was seen and is tried at its time all the same: %v", server, err)
		}
	}
}

// awake says whether what a server is sent now would reach it, as far as is known.
func (s *sender) awake(server mxid.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, waits := s.failing[server]
	return !waits
}

// note keeps whether a server listens.
func (s *sender) note(server mxid.Server, err error) {
	if !reached(err) {
		s.missed()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failing, server)
		return
	}
	known := s.failing[server]
	known.silent = !reached(err)
	s.failing[server] = known
}

// read looks through the log for what concerns other servers, until the end.
func (s *sender) read() {
	follower := s.Log.Follow(s.mine)
	defer follower.Leave()
	for {
		again, err := s.step()
		switch {
		case err != nil:
			s.o.Log("federation: the log is looked through again soon: %v", err)
			select {
			case <-time.After(pause):
			case <-s.stop:
				return
			}
		case again:
			select {
			case <-s.stop:
				return
			default:
			}
		default:
			select {
			case <-follower.News():
			case <-s.stop:
				return
			}
		}
	}
}

// found gathers the servers that something was found for.
type found struct {
	servers map[mxid.Server]struct{}
	rooms   map[room.Num]struct{} // all of whose servers are in
	users   map[uint32]struct{}   // all of whose rooms are in
}

// step looks through the next entries; again says that there may be more.
func (s *sender) step() (again bool, err error) {
	after, tip := s.box.Told(), s.Log.Tip()
	upto := min(tip, after+maxStep)
	if upto <= after {
		return false, nil
	}
	f := found{map[mxid.Server]struct{}{}, map[room.Num]struct{}{}, map[uint32]struct{}{}}
	var entries []stream.Entry
	err = s.Log.Read(after, upto, func(_ stream.Pos, e *stream.Entry) bool {
		if concerns(e) || left(e) {
			kept := *e
			kept.Diff = append([]byte(nil), e.Diff...)
			entries = append(entries, kept)
		}
		return true
	})
	for i := range entries {
		if err == nil && left(&entries[i]) {
			err = s.parted(room.Num(entries[i].Room), entries[i].Diff)
		}
		if err == nil && concerns(&entries[i]) {
			err = s.find(&f, &entries[i])
		}
	}
	if err != nil {
		return false, err
	}
	dests := make([]string, 0, len(f.servers))
	for server := range f.servers {
		if server != s.server && s.Allowed(server) {
			dests = append(dests, string(server))
		}
	}
	return upto < tip, s.box.News(upto, dests...)
}

// brought are the flags of events that are brought to others.
const brought = stream.FlagLocal | stream.FlagRelay

// concerns says whether an entry may be for another server.
func concerns(e *stream.Entry) bool {
	switch e.Kind {
	case stream.RoomEvent:
		return e.Flags&(brought|stream.FlagArrival) != 0
	case stream.Receipt:
		return true
	case stream.Devices:
		return len(e.Diff) > 0
	case stream.ToDevice:
		return e.Event != 0
	default:
		return false
	}
}

// find adds the servers that an entry is for. It may add some that it is not for:
// they find nothing when it is delivered.
func (s *sender) find(f *found, e *stream.Entry) error {
	switch e.Kind {
	case stream.RoomEvent:
		if err := s.inRoom(f, room.Num(e.Room)); err != nil {
			return err
		}
		return s.departed(e.Diff, func(server mxid.Server) { f.servers[server] = struct{}{} })
	case stream.Receipt:
		if own, err := s.own(e.User); err != nil || !own {
			return err
		}
		return s.inRoom(f, room.Num(e.Room))
	case stream.Devices:
		return s.around(f, e.User)
	case stream.ToDevice:
		name, err := s.Names.Name(store.Servers, uint32(e.Event))
		if err == nil {
			f.servers[mxid.Server(name)] = struct{}{}
		}
		return err
	}
	return nil
}

// own says whether a user is of this hub.
func (s *sender) own(user uint32) (bool, error) {
	id, err := s.Rooms.UserID(user)
	return id.Server() == s.server, err
}

// around adds the servers that share a room with a user.
func (s *sender) around(f *found, user uint32) error {
	if _, done := f.users[user]; done {
		return nil
	}
	f.users[user] = struct{}{}
	var rooms []room.Num
	err := s.Rooms.Of(user, func(m room.Member) bool {
		if m.Membership == room.Join {
			rooms = append(rooms, m.Room)
		}
		return true
	})
	for _, num := range rooms {
		if err == nil {
			err = s.inRoom(f, num)
		}
	}
	return err
}

// inRoom adds the servers that are in a room.
func (s *sender) inRoom(f *found, num room.Num) error {
	if _, done := f.rooms[num]; done {
		return nil
	}
	f.rooms[num] = struct{}{}
	if s.alone.has(num) {
		return nil
	}
	others, at := false, s.alone.stamp()
	err := s.Rooms.Servers(num, func(server mxid.Server, _ stream.Pos) bool {
		f.servers[server] = struct{}{}
		others = others || server != s.server
		return true
	})
	if err == nil && !others {
		s.alone.add(num, at)
	}
	return err
}

// departed calls f for the servers of those who lost their standing in a room by
// a change of its state: who is thrown out or no longer invited is told so.
func (s *sender) departed(diff []byte, f func(server mxid.Server)) error {
	var gone []room.EventNum
	if err := room.Changes(diff, func(c room.Change) {
		if c.Old != 0 && c.New != 0 {
			gone = append(gone, c.Old)
		}
	}); err != nil {
		return err
	}
	for _, num := range gone {
		old, err := s.Rooms.Event(num)
		if fault.Is(err, fault.NotFound) {
			continue // aged since
		}
		if err != nil {
			return err
		}
		if old.Type != "m.room.member" {
			continue
		}
		switch server := mxid.UserID(old.StateKey).Server(); room.MembershipOf(old.Content) {
		case room.Join, room.Invite, room.Knock:
			if server != s.server && server != "" {
				f(server)
			}
		}
	}
	return nil
}

// send brings one transaction. What the other server refuses in it is its own
// affair: it was delivered. Spec: server-server, PUT /send/{txnId}.
func (s *sender) send(ctx context.Context, dest mxid.Server, sl *slice) error {
	body, err := s.do(ctx, &Request{
		Dest: dest, Method: "PUT", Path: "/_matrix/federation/v1/send/" + sl.id, Body: s.body(sl), Time: transactionTime,
	})
	if reached(err) {
		s.heard()
	}
	if err != nil {
		return err
	}
	s.refused(dest, body)
	return nil
}

// transactionTime is how long a server may take over one: some work through it
// before they answer.
const transactionTime = time.Minute
