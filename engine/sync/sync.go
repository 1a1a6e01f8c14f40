// Package sync answers /sync and sliding sync: what has changed for one user since
// a token, as one JSON object.
//
// It reads the log from the token's position to the tip, finds the rooms that it
// names, and asks the records for what is new in them. A short lag is read off
// the log; a long one goes by the last position of each of the user's rooms, so
// the cost is what has changed, never how long the client was away or how much
// the hub holds. Answers are appended as bytes to one buffer.
//
// Waiting costs no goroutine: Now answers or says that there is no news, and
// Wait calls back when there is some or the time is over. Package clientapi gives
// the request back to the server meanwhile, as a wire.Waiting.
//
// Of a client of /sync it keeps no state, except a bounded memory of the members a
// device was told of, which spares telling them again and may be lost at any time.
// Whatever a token means is in the token. A token of another incarnation of the
// store, or from beyond its tip, is answered as none.
//
// Sliding sync (slide.go) is the same reading through windows: a user's rooms in
// the order of their last events (roster.go), of which a client asks for a few at
// a time. What it was told of which room has to be remembered between requests
// (conns.go): 24 bytes for a room, in memory only and bounded, the connection that
// was used least recently first to go. On disk it would be a write for each of the
// thousands of answers that a phone asks for in a day, to a card that wears out;
// what a lost connection costs instead is one M_UNKNOWN_POS, after which the client
// asks for its first window again, and the position that it came with says since
// when it is to be told also of rooms that the user left. Messages to devices are
// not at stake: their extension has a token of its own, which is good for ever.
// Nothing is taken for told until the client comes with the position of the answer
// that told it.
package sync

import (
	"math/rand/v2"
	"sync"
	"time"

	"hearth/engine/account"
	"hearth/engine/crew"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
	"hearth/engine/unread"
)

// Sync answers /sync requests. All methods may be called at the same time.
type Sync struct {
	log         *stream.Log
	rooms       *room.Rooms
	accounts    *account.Accounts
	eph         *ephemeral.Records
	unread      *unread.Unread
	e2ee        *e2ee.Records
	incarnation uint64

	told    told
	rosters rosters
	conns   conns

	bufs  sync.Pool // of *[]byte
	lists sync.Pool // of *lists
	crew  *crew.Crew
	over  chan struct{} // closed by Close

	mu     sync.Mutex
	polls  map[*Poll]struct{}
	closed bool
	empty  *sync.Cond // on mu: the last poll has ended, once closed
}

// Parts are the records that an answer is made of.
type Parts struct {
	Store     *store.Store
	Log       *stream.Log
	Rooms     *room.Rooms
	Accounts  *account.Accounts
	Ephemeral *ephemeral.Records
	Unread    *unread.Unread
	E2EE      *e2ee.Records
}

// Open makes the reader over open records.
func Open(p Parts) (*Sync, error) {
	inc, err := p.Store.Incarnation()
	if err != nil {
		return nil, err
	}
	s := &Sync{log: p.Log, rooms: p.Rooms, accounts: p.Accounts, eph: p.Ephemeral, unread: p.Unread, e2ee: p.E2EE, incarnation: inc,
		told: told{at: map[toldKey]stream.Pos{}}, rosters: rosters{of: map[uint32]*roster{}},
		conns: conns{boot: rand.Uint64(), of: map[connKey]*conn{}, bytes: map[*conn]int{}, lost: map[connKey]stream.Pos{}}, over: make(chan struct{}), polls: map[*Poll]struct{}{}}
	s.empty = sync.NewCond(&s.mu)
	s.crew = crew.New(s.over)
	return s, nil
}

// Request is one /sync request. Spec: client-server, GET /sync.
type Request struct {
	User   uint32
	UserID mxid.UserID
	Device uint64 // its number

	Since         string
	Filter        *filter.Filter // nil: the default
	Timeout       time.Duration
	Presence      ephemeral.State // set_presence; Online where the client says nothing
	FullState     bool
	UseStateAfter bool
	NoMessages    bool // an application service takes the messages to this user's devices

	seen   token // what Now looked at, where it found nothing
	parked bool  // it waits, so that what let it in may not hold any more
}

// MaxTimeout is the longest a request waits; a longer timeout counts as this.
const MaxTimeout = 5 * time.Minute

// maxTries bounds how often an answer is begun anew because the user's rooms
// changed while it was made.
const maxTries = 20

// Now answers a request at once. Where there is nothing to be told and the
// client would wait, ready is false and Wait is to follow. The body is to be
// given back with Done when it has been written.
func (s *Sync) Now(req *Request) (body []byte, ready bool, err error) {
	body, _, ready, err = s.now(req, 0)
	return body, ready, err
}

// now is Now and Start.
func (s *Sync) now(req *Request, most int) (body []byte, rest *Rest, ready bool, err error) {
	req.Timeout = min(req.Timeout, MaxTimeout)
	if err := s.eph.Seen(req.User, req.Device, req.Presence, req.Timeout); err != nil {
		return nil, nil, false, err
	}
	since, known := parseToken(req.Since)
	if known = known && since.incarnation == s.incarnation && since.pos <= s.log.Tip(); !known {
		since = token{}
	}
	if err := s.e2ee.Acknowledge(req.Device, stream.Pos(since.device)); err != nil {
		return nil, nil, false, err
	}
	if known && req.Timeout > 0 && !req.FullState {
		if quiet, err := s.quiet(req.Device, since); quiet || err != nil {
			req.seen = since
			return nil, nil, false, err
		}
	}
	a, err := s.answer(req, since, known, most)
	if err != nil {
		return nil, nil, false, err
	}
	if !a.over {
		return a.dst, &Rest{a}, true, nil
	}
	if a.news || req.Timeout <= 0 || req.FullState {
		return a.dst, nil, true, nil
	}
	s.Done(a.dst)
	req.seen = a.next
	return nil, nil, false, nil
}

// quiet says whether nothing at all has happened since a token. Most requests
// come with the token that the last answer gave, and are parked without a look at
// the store.
func (s *Sync) quiet(device uint64, since token) (bool, error) {
	if s.log.Tip() != since.pos || s.eph.Stamp() != since.stamp {
		return false, nil
	}
	_, last, _, err := s.e2ee.AppendMessages(nil, device, stream.Pos(since.device), since.pos)
	return err == nil && last == stream.Pos(since.device), err
}

// Done takes back a body of Now.
func (s *Sync) Done(body []byte) {
	const keep = 64 << 10 // a first sync may take megabytes; those are not kept
	if cap(body) <= keep {
		body = body[:0]
		s.bufs.Put(&body)
	}
}

func (s *Sync) buffer() []byte {
	if p, ok := s.bufs.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 0, 2048)
}

// answer makes the answer to what is new since a token; where the token is not
// known, everything is. Where most is not 0 and it becomes longer, the rest of it is
// left for later.
func (s *Sync) answer(req *Request, since token, known bool, most int) (*answer, error) {
	buf := s.buffer()
	for range maxTries {
		a := &answer{s: s, req: req, since: since, initial: !known, dst: buf[:0], most: most}
		a.touched = a.buf[:0]
		if a.f = req.Filter; a.f == nil {
			a.f = &a.plain
		}
		// The counter is read before what it counts: what changes meanwhile is told
		// twice rather than never.
		a.next = token{incarnation: s.incarnation, pos: s.log.Tip(), device: since.device, stamp: s.eph.Stamp()}
		behind, err := a.make()
		if err != nil {
			s.Done(a.dst)
			return nil, err
		}
		if behind == 0 {
			return a, nil
		}
		buf = a.dst
		s.log.WaitTip(behind)
	}
	return nil, fault.E(fault.Busy, "sync.Now", "your rooms change faster than they can be told")
}
