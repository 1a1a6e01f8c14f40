// Package push tells users of what their push rules notify of, through their
// pushers: push gateways, and mail.
//
// It owns one reader of the log and one outbox. The reader only finds out for
// whom there is something; what it is, is found again when it is delivered, from
// the log, the rules and the receipts as they are then. So a pusher that was away
// for a week is told of the newest that is still unread, not of a week; what was
// read meanwhile is not told at all; and nothing is kept for it but a position.
//
// It refuses to count by itself (package unread does), to open a connection (who
// builds the engine gives it the ways out), and to cost anything where nobody has
// a pusher: then the reader sleeps.
package push

import (
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"time"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/outbox"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
	"hearth/engine/unread"
)

// Parts are the records that push reads.
type Parts struct {
	Store    *store.Store
	Log      *stream.Log
	Rooms    *room.Rooms
	Accounts *account.Accounts
	Unread   *unread.Unread
}

// Push is the open reader. All methods may be called at the same time.
type Push struct {
	Parts
	o   Options
	box *outbox.Outbox

	mu    sync.Mutex
	users map[uint32]struct{} // who has a pusher, or had one
	badge map[string]tally    // what a pusher was told last

	begun chan struct{} // told when somebody has the first pusher
	stop  chan struct{}
	ended sync.WaitGroup
}

// Open begins to read where the last process stopped. Without a way to push
// gateways nothing is read.
func Open(parts Parts, o Options) (*Push, error) {
	o.defaults()
	p := &Push{Parts: parts, o: o, users: map[uint32]struct{}{}, badge: map[string]tally{},
		begun: make(chan struct{}, 1), stop: make(chan struct{})}
	if err := p.Accounts.PusherUsers(func(user uint32) { p.users[user] = struct{}{} }); err != nil {
		return nil, err
	}
	var err error
	p.box, err = outbox.Open(p.Store, p.Log, outbox.Options{Name: "push", Deliver: p.deliver, Now: o.Now, Most: o.Most, First: o.First})
	if err != nil {
		return nil, err
	}
	if o.Post != nil {
		p.ended.Go(p.read)
	}
	return p, nil
}

// Close ends the reader and the deliveries.
func (p *Push) Close() error {
	close(p.stop)
	p.ended.Wait()
	return p.box.Close()
}

// Outbox is where the pushers' destinations stand, for the owner to see.
func (p *Push) Outbox() *outbox.Outbox { return p.box }

// Added says that a user has set a pusher, which is on disk. A pusher that was
// failing is tried at once: the app is there.
func (p *Push) Added(user uint32, id account.PusherID) error {
	p.mu.Lock()
	first := len(p.users) == 0
	p.users[user] = struct{}{}
	delete(p.badge, destOf(user, id))
	p.mu.Unlock()
	if first {
		// Nobody else missed anything up to where the pusher begins.
		if pu, ok, err := p.Accounts.Pusher(user, id); err != nil || !ok {
			return err
		} else if err := p.box.News(pu.Since); err != nil {
			return err
		}
		select {
		case p.begun <- struct{}{}:
		default: // it was told already
		}
	}
	return p.box.Alive(destOf(user, id))
}

func (p *Push) anybody() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.users) > 0
}

func (p *Push) has(user uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.users[user]
	return ok
}

// destOf is the name of a pusher in the outbox.
func destOf(user uint32, id account.PusherID) string {
	return strconv.FormatUint(uint64(user), 10) + "/" + hex.EncodeToString(id[:])
}

func parseDest(dest string) (user uint32, id account.PusherID, ok bool) {
	num, text, _ := strings.Cut(dest, "/")
	n, err := strconv.ParseUint(num, 10, 32)
	raw, herr := hex.DecodeString(text)
	if err != nil || herr != nil || len(raw) != len(id) {
		return 0, id, false
	}
	return uint32(n), account.PusherID(raw), true
}

// maxStep is how many entries are looked through before the outbox is told.
const maxStep = 256

// pause is how long the reader waits after the store refused it something.
const pause = 10 * time.Second

// read looks through the log for those who have pushers, until the end.
func (p *Push) read() {
	for {
		if !p.anybody() {
			select {
			case <-p.begun:
			case <-p.stop:
				return
			}
		}
		changed := p.Log.Changed()
		again, err := p.step()
		switch {
		case err != nil:
			p.o.Log("push: the log is looked through again soon: %v", err)
			select {
			case <-time.After(pause):
			case <-p.stop:
				return
			}
		case !again:
			select {
			case <-changed:
			case <-p.stop:
				return
			}
		}
	}
}

// step looks through the next entries; again says that there may be more.
func (p *Push) step() (again bool, err error) {
	after, tip := p.box.Told(), p.Log.Tip()
	upto := min(tip, after+maxStep)
	if upto <= after {
		return false, nil
	}
	found := map[uint32]struct{}{}
	type candidate struct {
		room uint32
		num  room.EventNum
		only uint32 // whom alone it concerns; 0: everybody in the room
	}
	var events []candidate
	err = p.Log.Read(after, upto, func(_ stream.Pos, e *stream.Entry) bool {
		switch e.Kind {
		case stream.RoomEvent:
			events = append(events, candidate{e.Room, room.EventNum(e.Event), 0})
		case stream.Standing:
			if p.has(e.User) {
				events = append(events, candidate{e.Room, room.EventNum(e.Event), e.User})
			}
		case stream.Receipt: // the badge may have changed
			if p.has(e.User) {
				found[e.User] = struct{}{}
			}
		}
		return true
	})
	for _, c := range events {
		if err == nil {
			err = p.concerns(room.Num(c.room), c.num, c.only, found)
		}
	}
	var dests []string
	for user := range found {
		if err != nil {
			return false, err
		}
		var list []account.Pusher
		if list, err = p.Accounts.Pushers(user); len(list) == 0 && err == nil {
			p.mu.Lock()
			delete(p.users, user)
			p.mu.Unlock()
		}
		for i := range list {
			dests = append(dests, destOf(user, list[i].ID()))
		}
	}
	if err != nil {
		return false, err
	}
	return upto < tip, p.box.News(upto, dests...)
}

// concerns adds those to found whom an event may be told to: of all in the room,
// or only the one who is named.
func (p *Push) concerns(num room.Num, ev room.EventNum, only uint32, found map[uint32]struct{}) error {
	e, err := p.Rooms.Event(ev)
	if fault.Is(err, fault.NotFound) {
		return nil // aged since
	}
	if err != nil {
		return err
	}
	h, err := p.Rooms.Head(num)
	if fault.Is(err, fault.NotFound) {
		return nil // the room has gone
	}
	if err != nil {
		return err
	}
	users := h.Local
	if only != 0 {
		users = []uint32{only}
	} else if e.Type == "m.room.member" && e.IsState && room.MembershipOf(e.Content) == room.Invite {
		target, err := p.Rooms.User(mxid.UserID(e.StateKey))
		if err != nil {
			return err
		}
		users = append(users[:len(users):len(users)], target)
	}
	for _, user := range users {
		if _, known := found[user]; known || !p.has(user) {
			continue
		}
		r, err := p.reader(user)
		if err != nil {
			return err
		}
		hit := e.Sender == r.ID // who sends has read
		if !hit {
			a, err := p.Unread.Judge(r, h, e)
			if err != nil {
				return err
			}
			hit = a.Notify
		}
		if hit {
			found[user] = struct{}{}
		}
	}
	return nil
}

// reader is a user as package unread knows them.
func (p *Push) reader(user uint32) (*unread.Reader, error) {
	id, err := p.Rooms.UserID(user)
	if err != nil {
		return nil, err
	}
	ignored, err := p.Accounts.Ignored(user)
	if err != nil {
		return nil, err
	}
	r := &unread.Reader{User: user, ID: id}
	if len(ignored) > 0 {
		r.Ignores = func(sender mxid.UserID) bool {
			_, is := ignored[sender]
			return is
		}
	}
	return r, nil
}
