package sync

import (
	"slices"
	"time"

	"hearth/engine/account"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/slide"
	"hearth/engine/stream"
	"hearth/engine/unread"
)

// SlideRequest is one request of sliding sync. Spec: MSC4186.
type SlideRequest struct {
	User   uint32
	UserID mxid.UserID
	Device uint64 // its number

	Body       *slide.Request
	Presence   ephemeral.State
	NoMessages bool // an application service takes the messages to this user's devices
	Final      bool // in the proposal's last words, not in those before it

	conn   *conn
	turn   uint64
	parked bool
}

func (r *SlideRequest) timeout() time.Duration {
	if r.Body.Pos == "" {
		return 0
	}
	return min(time.Duration(r.Body.Timeout)*time.Millisecond, MaxTimeout)
}

// Slide answers a request of sliding sync at once. Where there is nothing to be
// told and the client would wait, ready is false and WaitSlide is to follow. The
// body is to be given back with Done when it has been written.
// Errors: UnknownPos.
func (s *Sync) Slide(req *SlideRequest) (body []byte, ready bool, err error) {
	if err := s.eph.Seen(req.User, req.Device, req.Presence, req.timeout()); err != nil {
		return nil, false, err
	}
	if td := &req.Body.ToDevice; td.On && td.Since != "" {
		if err := s.e2ee.Acknowledge(req.Device, s.messagesAfter(td.Since)); err != nil {
			return nil, false, err
		}
	}
	c, err := s.conn(req)
	if err != nil {
		return nil, false, err
	}
	defer c.mu.Unlock()
	req.conn, req.turn = c, c.turn
	body, told, err := s.slideOn(c, req, req.timeout() <= 0)
	return body, told, err
}

// slideOn makes an answer on a connection, which is locked. Where it tells
// nothing, and always is false, there is none, and the connection moves on by
// itself: the client lacks nothing of what it passes over.
func (s *Sync) slideOn(c *conn, req *SlideRequest, always bool) (body []byte, told bool, err error) {
	buf := s.buffer()
	l, ok := s.lists.Get().(*lists)
	if !ok {
		l = &lists{}
	}
	defer s.lists.Put(l)
	for range maxTries {
		x := &slider{c: c, ask: req, first: req.Body.Pos == "", lists: l}
		behind, err := x.make(s, buf[:0])
		if err != nil {
			s.Done(x.dst)
			return nil, false, err
		}
		buf = x.dst
		if behind > 0 {
			s.log.WaitTip(behind)
			continue
		}
		if !x.news && !always {
			x.step.seq = c.has.seq
			c.take(s, &x.step)
			s.Done(buf)
			return nil, false, nil
		}
		next := x.step // not the slider, which holds much else
		next.rooms = slices.Clip(next.rooms)
		c.next = &next
		return x.dst, true, nil
	}
	return nil, false, fault.E(fault.Busy, "sync.Slide", "your rooms change faster than they can be told")
}

// WaitSlide parks a request that Slide had nothing for, as Wait does.
func (s *Sync) WaitSlide(req *SlideRequest, done func(body []byte, err error)) {
	req.parked = true
	c := req.conn
	c.mu.Lock()
	seen := token{pos: c.has.pos, stamp: c.has.stamp}
	p := &Poll{s: s, slide: req, done: done, busy: true, since: seen}
	if p.expired = c.turn != req.turn; !p.expired {
		c.poll.Store(p)
		c.held = req.Body.Kept
		s.conns.weigh(c)
	}
	c.mu.Unlock()
	p.park(req.User, req.timeout())
}

// slideAgain looks for news for a request that waits.
func (p *Poll) slideAgain(expired bool) (ended bool) {
	req, c := p.slide, p.slide.conn
	c.mu.Lock()
	if c.turn != req.turn { // another has come in its place
		t := p.s.posOf(c, &c.has)
		c.mu.Unlock()
		p.end(append(t.appendTo([]byte(`{"pos":"`)), `"}`...), nil)
		return true
	}
	body, told, err := p.s.slideOn(c, req, expired)
	if told || err != nil {
		c.poll.Store(nil)
		c.held = 0
	}
	p.since = token{pos: c.has.pos, stamp: c.has.stamp}
	c.mu.Unlock()
	if !told && err == nil {
		return false
	}
	p.end(body, err)
	if err == nil {
		p.s.Done(body)
	}
	return true
}

func (s *Sync) posOf(c *conn, h *have) posToken {
	return posToken{incarnation: s.incarnation, pos: h.pos, boot: s.conns.boot, serial: c.serial, seq: h.seq, late: uint64(h.late)}
}

// slider is one answer of sliding sync in the making. What it has in common with
// one of /sync is an answer: the room under way is told as that would tell it to
// who has everything up to a position and plays no timeline over the state.
type slider struct {
	answer
	inner Request
	c     *conn
	ask   *SlideRequest
	first bool
	step  step
	brief bool // the log between the two positions is in lines

	*lists
	counts []int  // of the request's lists
	older  []aged // of rooms that come back, since the earliest of them was told
	aged   bool   // older is read

	outData, outReceipts, outTyping []byte // of the extensions, by room

	part  *filter.Part
	limit int
	extra bool // the extensions have news
}

// lists are what an answer takes one of for each room in its windows. They are used
// again.
type lists struct {
	hits  []hit
	wants []wish
}

// wish is a room that some rule names.
type wish struct {
	room   room.Num
	member room.Membership
	direct bool
	last   stream.Pos
	rule   uint16 // what is asked for of its state, in conn.asked
	limit  int
	scope  toldMark // the extensions it is in: hasData, hasReceipt, hasTypists
	by     []hit    // the rules
}

// aged is a change of a room's account data from before the last answer.
type aged struct {
	pos stream.Pos
	datum
}

// slideBytes is the length at which an answer takes no more rooms: the others are
// told with the next.
const slideBytes = 1 << 20

// make writes the answer; behind is as in answer.make.
func (x *slider) make(s *Sync, dst []byte) (behind stream.Pos, err error) {
	x.inner = Request{User: x.ask.User, UserID: x.ask.UserID, Device: x.ask.Device, UseStateAfter: true, parked: x.ask.parked}
	x.answer = answer{s: s, req: &x.inner, dst: dst, initial: true}
	x.f = &x.plain
	x.touched = x.buf[:0]
	has := &x.c.has
	x.since.pos = has.pos
	x.next = token{stamp: s.eph.Stamp()}
	if x.ignored, err = s.accounts.Ignored(x.req.User); err != nil {
		return 0, err
	}
	x.reader = unread.Reader{User: x.req.User, ID: x.req.UserID}
	if x.ignored != nil {
		x.reader.Ignores = x.ignores
	}
	if err := x.windows(); err != nil { // which says what the tip is
		return 0, err
	}
	x.c.seqs++
	x.step.have = have{seq: x.c.seqs, pos: x.next.pos, stamp: x.next.stamp, data: has.data, keys: has.keys, threads: has.threads, full: x.step.full}
	if err := x.gather(); err != nil {
		return 0, err
	}
	if err := x.still(); err != nil {
		return 0, err
	}
	x.dst = append(x.dst, '{')
	x.appendLists()
	if err := x.appendWanted(); err != nil || x.behind > 0 {
		return x.behind, err
	}
	if err := x.appendExtensions(); err != nil {
		return 0, err
	}
	x.comma()
	x.dst = append(x.dst, `"pos":"`...)
	x.dst = append(s.posOf(x.c, &x.step.have).appendTo(x.dst), '"')
	if x.ask.Body.TxnID != "" {
		x.dst = appendMember(x.dst, "txn_id", x.ask.Body.TxnID)
	}
	x.dst = append(x.dst, '}')
	x.news = x.news || x.first
	return 0, nil
}

// gather finds out what has changed since the last answer.
func (x *slider) gather() error {
	if x.first {
		return nil
	}
	has := &x.c.has
	data := true
	x.devices = true
	if x.brief = x.next.pos-has.pos <= shortLag; x.brief {
		var err error
		if data, err = x.collectShort(); err != nil {
			return err
		}
	} else {
		x.own = true // something may have become of the user's devices
	}
	for _, num := range x.s.eph.TypingSince(x.s.eph.Since(has.stamp)) {
		x.touch(room.Num(num)).typing = true
	}
	if !data || !x.brief {
		return nil
	}
	older, err := x.dataSince(has.pos)
	for i := range older {
		x.data = append(x.data, older[i].datum)
		x.touch(older[i].room)
	}
	return err
}

// dataSince reads the changes of the account data of rooms after a position.
func (x *slider) dataSince(after stream.Pos) (list []aged, err error) {
	err = x.s.accounts.DataSince(x.req.User, after, x.next.pos, func(c *account.Change) bool {
		if c.Room != 0 {
			list = append(list, aged{c.Pos, datum{room.Num(c.Room), c.Type, slices.Clone(c.Content)}})
		}
		return true
	})
	return list, err
}

// found gives what is known to have happened in a room since the last answer.
func (x *slider) found(num room.Num) touch {
	if i := slices.IndexFunc(x.touched, func(t touch) bool { return t.room == num }); i >= 0 {
		return x.touched[i]
	}
	return touch{}
}

// Tip is the position up to which there is anything to tell.
func (s *Sync) Tip() stream.Pos { return s.log.Tip() }
