package federation

import (
	"context"
	"net/url"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// The devices of other servers' users: what those servers tell of them is taken in
// as it comes; where something was missed the whole list is fetched, in the
// background and when somebody asks for keys. Only of users who share a room with
// somebody here does their server tell, so only their lists are kept.

// lists is what is being fetched, and what waits for it.
type lists struct {
	f      *Federation
	ctx    context.Context // ends with the federation
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu      sync.Mutex
	flights map[uint32]*flight
	wanted  map[uint32]struct{} // users whose lists are stale
	waits   map[mxid.Server]*waitFor
	running bool
	timer   *time.Timer
	closed  bool
}

// flight is one fetch that is under way.
type flight struct {
	done  chan struct{}
	err   error
	dirty bool // a change came meanwhile, which may not be in the answer
}

// waitFor is when a server that did not answer is asked again.
type waitFor struct {
	next  time.Time
	fails int
}

const (
	maxFlights   = 512 // lists that are being fetched at once, for all who ask
	fetchTime    = 20 * time.Second
	maxFetchSize = 4 << 20
	staleFirst   = 10 * time.Second
	staleMost    = time.Hour
	// maxStaleWaits bounds the servers that are remembered for not answering.
	maxStaleWaits = 4096
)

func openLists(f *Federation) (*lists, error) {
	l := &lists{f: f, flights: map[uint32]*flight{}, wanted: map[uint32]struct{}{}, waits: map[mxid.Server]*waitFor{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := f.E2EE.Stale(func(user uint32) { l.wanted[user] = struct{}{} }); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin()
	return l, nil
}

func (l *lists) close() {
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.cancel()
	l.ended.Wait()
}

// seen ends the wait for a server.
func (l *lists) seen(server mxid.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.waits[server]; w != nil && w.fails > 0 && time.Until(w.next) > 0 {
		delete(l.waits, server)
		l.begin()
	}
}

// want has a stale list fetched.
func (l *lists) want(user uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted[user] = struct{}{}
	l.begin()
}

// begin has the background at work. It needs mu.
func (l *lists) begin() {
	if !l.running && !l.closed && len(l.wanted) > 0 {
		l.running = true
		l.ended.Go(l.run)
	}
}

// run fetches one list after the other until none is left that may be fetched now.
func (l *lists) run() {
	for {
		user, server, wait := l.next()
		if user == 0 {
			l.mu.Lock()
			l.running = false
			if wait > 0 && !l.closed {
				if l.timer != nil {
					l.timer.Stop()
				}
				l.timer = time.AfterFunc(wait, func() {
					l.mu.Lock()
					defer l.mu.Unlock()
					l.begin()
				})
			}
			l.mu.Unlock()
			return
		}
		err := l.refresh(user)
		l.mu.Lock()
		switch {
		case err == nil:
			delete(l.wanted, user)
			delete(l.waits, server)
		case l.closed:
		case fault.Is(err, fault.NotFound) || fault.Is(err, fault.Forbidden):
			delete(l.wanted, user) // it stays stale until somebody asks for it
		default:
			l.failed(server)
		}
		l.mu.Unlock()
	}
}

// failed puts a server off. It needs mu.
func (l *lists) failed(server mxid.Server) {
	w := l.waits[server]
	if w == nil {
		if len(l.waits) >= maxStaleWaits {
			clear(l.waits)
		}
		w = &waitFor{}
		l.waits[server] = w
	}
	pause := min(staleFirst<<min(w.fails, 20), staleMost)
	w.fails++
	w.next = time.Now().Add(pause/2 + time.Duration(l.f.chance()*float64(pause/2)))
}

// next finds a list that may be fetched now; user 0 where there is none, and how
// long until there is.
func (l *lists) next() (user uint32, server mxid.Server, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for u := range l.wanted {
		if l.closed {
			return 0, "", 0
		}
		id, err := l.f.Rooms.UserID(u)
		if err != nil {
			delete(l.wanted, u)
			continue
		}
		w := l.waits[id.Server()]
		if w == nil {
			return u, id.Server(), 0
		}
		if d := time.Until(w.next); d <= 0 {
			return u, id.Server(), 0
		} else if wait == 0 || d < wait {
			wait = d
		}
	}
	return 0, "", wait
}

// refresh fetches a stale list, unless nobody here shares a room with the user any
// more, or it was fetched meanwhile.
func (l *lists) refresh(user uint32) error {
	known, ok, err := l.f.E2EE.Remote(user)
	if err != nil || !ok || !known.Stale {
		return err
	}
	if shared, err := l.f.shared(user); err != nil || !shared {
		if err == nil {
			err = l.f.E2EE.DropRemote(user)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(l.ctx, fetchTime)
	defer cancel()
	return l.fetch(ctx, user)
}

// fetch asks a user's server for the user's devices and keeps them. Who asks for the
// same meanwhile waits for the same answer.
func (l *lists) fetch(ctx context.Context, user uint32) error {
	l.mu.Lock()
	fl := l.flights[user]
	if fl == nil {
		if l.closed || len(l.flights) >= maxFlights {
			l.mu.Unlock()
			return fault.E(fault.Busy, "federation.devices", "too many lists of devices are being fetched")
		}
		fl = &flight{done: make(chan struct{})}
		l.flights[user] = fl
		l.ended.Go(func() {
			ctx, cancel := context.WithTimeout(l.ctx, fetchTime)
			defer cancel()
			fl.err = l.ask(ctx, user)
			l.mu.Lock()
			delete(l.flights, user)
			dirty := fl.dirty && fl.err == nil
			l.mu.Unlock()
			close(fl.done)
			if dirty {
				if err := l.f.E2EE.MarkStale(user); err == nil {
					l.want(user)
				}
			}
		})
	}
	l.mu.Unlock()
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
		return fault.E(fault.Remote, "federation.devices", "the server has not answered in time")
	}
}

// Spec: server-server, GET /user/devices/{userId}.
func (l *lists) ask(ctx context.Context, user uint32) error {
	id, err := l.f.Rooms.UserID(user)
	if err != nil {
		return err
	}
	body, err := l.f.do(ctx, &Request{Dest: id.Server(), Method: "GET",
		Path: "/_matrix/federation/v1/user/devices/" + url.PathEscape(string(id)), MaxAnswer: maxFetchSize, Time: fetchTime})
	if err != nil {
		return err
	}
	got, err := e2ee.ParseFetched(id, body)
	if err != nil {
		return err
	}
	wake, err := l.f.Rooms.Beside(user)
	if err != nil {
		return err
	}
	return l.f.E2EE.PutRemote(user, got, wake)
}

// changed is whom a change of a user's keys concerns: the user's number, 0 where
// nobody here, and who is to be woken. A fetch that is under way may have missed it.
func (f *Federation) changed(origin mxid.Server, id mxid.UserID) (user uint32, wake []uint32, err error) {
	if id.Server() != origin {
		return 0, nil, nil
	}
	if user, err = f.Rooms.User(id); err != nil || user == 0 {
		return 0, nil, err
	}
	if wake, err = f.Rooms.Beside(user); err != nil || len(wake) == 0 {
		return 0, nil, err
	}
	f.lists.mu.Lock()
	if fl := f.lists.flights[user]; fl != nil {
		fl.dirty = true
	}
	f.lists.mu.Unlock()
	return user, wake, nil
}

// Spec: server-server, m.device_list_update.
func (f *Federation) receiveDevice(origin mxid.Server, content []byte) error {
	if f.lists == nil {
		return nil
	}
	who, _ := cjson.LookupString(content, "user_id")
	id := mxid.UserID(who)
	user, wake, err := f.changed(origin, id)
	if err != nil || user == 0 {
		return err
	}
	device, _ := cjson.LookupString(content, "device_id")
	name, _ := cjson.LookupString(content, "device_display_name")
	keys, _ := cjson.Lookup(content, "keys")
	gone := false
	if val, ok := cjson.Lookup(content, "deleted"); ok {
		if gone, _ = cjson.Bool(val); gone {
			keys = nil
		}
	}
	if cjson.KindOf(keys) == cjson.NullKind {
		keys = nil
	}
	var streamID int64
	if val, ok := cjson.Lookup(content, "stream_id"); ok {
		streamID, _ = cjson.Int(val)
	}
	var prev []int64
	ids, _ := cjson.Lookup(content, "prev_id")
	_ = cjson.Array(ids, func(val []byte) bool { // it was checked when it came
		if n, ok := cjson.Int(val); ok {
			prev = append(prev, n)
		}
		return len(prev) < maxEDUs
	})
	if keys == nil && len(prev) == 0 && !gone {
		// A device that nobody sees, of a user who had no other: who does not know the
		// list learns nothing by it.
		if _, known, err := f.E2EE.Remote(user); err != nil || !known {
			return err
		}
	}
	d, err := e2ee.ParseRemoteDevice(id, device, name, keys)
	if err != nil {
		prev = nil // whatever it says, there is something else than before
	}
	stale, err := f.E2EE.Heard(user, &d, streamID, prev, wake)
	if stale && err == nil {
		f.lists.want(user)
	}
	return err
}

// Spec: server-server, m.signing_key_update.
func (f *Federation) receiveCross(origin mxid.Server, content []byte) error {
	if f.lists == nil {
		return nil
	}
	who, _ := cjson.LookupString(content, "user_id")
	id := mxid.UserID(who)
	user, wake, err := f.changed(origin, id)
	if err != nil || user == 0 {
		return err
	}
	return f.E2EE.HeardCross(user, e2ee.RemoteCross(id, content), wake)
}

// parted forgets the lists of those whom nobody here shares a room with any more
// after a change of a room's state.
func (f *Federation) parted(num room.Num, diff []byte) error {
	var gone []room.EventNum
	if err := room.Changes(diff, func(c room.Change) {
		if c.Old != 0 {
			gone = append(gone, c.Old)
		}
	}); err != nil {
		return err
	}
	for _, ev := range gone {
		old, err := f.Rooms.Event(ev)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if old.Type != "m.room.member" || room.MembershipOf(old.Content) != room.Join {
			continue
		}
		if err := f.partedFrom(num, mxid.UserID(old.StateKey)); err != nil {
			return err
		}
	}
	return nil
}

func (f *Federation) partedFrom(num room.Num, id mxid.UserID) error {
	user, err := f.Rooms.User(id)
	if err != nil || user == 0 {
		return err
	}
	m, err := f.Rooms.MemberOf(num, user)
	if err != nil || m.Membership == room.Join {
		return err
	}
	if id.Server() != f.server {
		return f.forgetList(user)
	}
	h, err := f.Rooms.Head(num)
	if err != nil || len(h.Local) > 0 {
		return err
	}
	var others []uint32
	if err := f.Rooms.Members(num, func(m room.Member) bool {
		if m.Membership == room.Join {
			others = append(others, m.User)
		}
		return true
	}); err != nil {
		return err
	}
	for _, user := range others {
		if err := f.forgetList(user); err != nil {
			return err
		}
	}
	return nil
}

// forgetList forgets a user's list, if there is one and nobody needs it.
func (f *Federation) forgetList(user uint32) error {
	_, known, err := f.E2EE.Remote(user)
	if err != nil || !known {
		return err
	}
	shared, err := f.shared(user)
	if err != nil || shared {
		return err
	}
	return f.E2EE.DropRemote(user)
}

// left says whether an entry may have ended that somebody shares a room.
func left(e *stream.Entry) bool {
	return e.Kind == stream.RoomEvent && len(e.Diff) > 0
}
