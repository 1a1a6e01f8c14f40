package mqtt

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"hearth/engine/store"
)

// Opening is what a CONNECT asks for besides being let in.
type Opening struct {
	CleanStart bool
	Expiry     uint32 // seconds that the session is kept; of 3.1.1: 0, or all ones where it is not clean
	ReceiveMax uint16 // 0: none was given
	Will       *Message
	WillDelay  uint32 // seconds
	WillLasts  uint32 // seconds from when the will is published; 0: for ever
}

// Accept is what a CONNACK says.
type Accept struct {
	Present    bool   // the session was there
	ClientID   string // chosen by the broker; empty: the client's own
	Expiry     uint32 // as it is, which may be less than was asked for
	ReceiveMax uint16
	Packet     int // longest packet
}

// Client is one connection to its session. Its methods are called by one
// goroutine, but for Ready.
type Client struct {
	b  *Broker
	s  *session
	l  *Link
	id Identity // as of this connection: the session is another's by and by
}

const (
	maxClientID = 512
	maxWill     = 8 << 10 // it is in memory for as long as the session is there
	neverEnds   = 0xffffffff
)

// Connect lets a client in, or refuses it with a reason code. What is sent to
// it goes through l, but not before Start.
func (b *Broker) Connect(ctx context.Context, c *Connect, o *Opening, l *Link) (*Client, *Accept, error) {
	id, err := b.o.Auth(ctx, c)
	if err != nil {
		b.figures.refused.Add(1)
		return nil, nil, err
	}
	acc := &Accept{ReceiveMax: uint16(b.limits.Inflight), Packet: b.limits.Packet, Expiry: min(o.Expiry, b.limits.SessionExpiry)}
	client, err := b.clientID(c, o, acc)
	if err != nil {
		return nil, nil, err
	}
	if w := o.Will; w != nil {
		if !ValidTopic(w.Topic) || len(w.Topic) > MaxTopic {
			return nil, nil, Refuse(BadTopic, "the will's topic is not valid")
		}
		if w.memory() > maxWill {
			return nil, nil, Refuse(QuotaExceeded, "a last will may have 8 KiB")
		}
		if !b.o.May(id, Publish, w.Topic) {
			return nil, nil, Refuse(NotAuthorised, "the will may not be published")
		}
		w.From, w.ClientID, w.Will, w.lasts = id, client, true, o.WillLasts
	}
	s, before, err := b.seize(id, client, c, o, acc, l)
	if err != nil {
		return nil, nil, err
	}
	before.settle(b)
	if s.kept {
		if err := b.keepSession(s, acc.Present); err != nil {
			b.detach(s, l, false)
			return nil, nil, err
		}
	}
	if err := b.alive(id); err != nil {
		b.expel(s, id, err)
		return nil, nil, err
	}
	b.figures.connects.Add(1)
	return &Client{b, s, l, id}, acc, nil
}

func (b *Broker) clientID(c *Connect, o *Opening, acc *Accept) (string, error) {
	switch {
	case len(c.ClientID) > maxClientID:
		return "", Refuse(BadClientID, "the client identifier is too long")
	case c.ClientID != "":
		return strings.Clone(c.ClientID), nil
	case c.Version < 5 && !o.CleanStart:
		return "", Refuse(BadClientID, "a session that is kept needs a client identifier")
	}
	var random [15]byte
	_, _ = rand.Read(random[:]) // never fails
	acc.ClientID = "hub" + base32.StdEncoding.EncodeToString(random[:])
	return acc.ClientID, nil
}

// seized is what a new connection leaves to be done about the one before it.
type seized struct {
	link  *Link
	will  *Message
	ended *session
}

func (z *seized) settle(b *Broker) {
	if z.link != nil {
		z.link.Close(TakenOver, "")
	}
	if z.ended != nil {
		b.clean(z.ended)
	}
	if z.will != nil {
		b.publishWill(z.will)
	}
}

// seize gives the client its session, an old or a new one, and takes it from
// whoever had it.
func (b *Broker) seize(id Identity, client string, c *Connect, o *Opening, acc *Accept, l *Link) (*session, *seized, error) {
	key := id.Name + "\x00" + client
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, nil, Refuse(ShuttingDown, "")
	}
	var z seized
	now := b.o.Now()
	s := b.sessions[key]
	if s == nil && b.crowded(id.Name) {
		return nil, nil, Refuse(QuotaExceeded, "there are too many sessions")
	}
	if s != nil {
		s.mu.Lock()
		acc.Present = s.kept && !o.CleanStart && s.expiry > 0 && !s.expired(now)
		z.link = s.link
		if s.will != nil && (s.link != nil && s.willWait == 0 || !acc.Present) {
			z.will = s.will // the connection broke, or its session ends
		}
		s.will, s.willDue = nil, time.Time{}
		if s.link != nil {
			s.rewind()
			s.link = nil
		}
		s.dead = !acc.Present
		s.mu.Unlock()
		delete(b.due, s)
		if !acc.Present {
			z.ended = s
			delete(b.sessions, key)
		}
	}
	if !acc.Present {
		b.serial++
		s = &session{
			b: b, key: key, client: key[len(id.Name)+1:], serial: b.serial, kept: acc.Expiry > 0,
			next: firstSeq, ready: firstSeq, loaded: firstSeq,
		}
		if s.kept {
			s.num = b.takeNumber()
		}
		b.sessions[key] = s
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.link, s.version, s.expiry, s.started = id, l, c.Version, acc.Expiry, false
	s.most = b.limits.Inflight
	if o.ReceiveMax > 0 {
		s.most = min(s.most, int(o.ReceiveMax))
	}
	s.inbound, s.judged = 0, nil
	s.will, s.willWait = o.Will, o.WillDelay
	return s, &z, nil
}

// takeNumber gives the next session number. It needs b.mu.
func (b *Broker) takeNumber() uint32 {
	n := b.nextNum
	b.nextNum++
	return n
}

// expired says whether the session's time after its last connection is over. It
// needs mu.
func (s *session) expired(now time.Time) bool {
	return s.link == nil && s.expiry != neverEnds && !s.left.IsZero() && now.Sub(s.left) >= time.Duration(s.expiry)*time.Second
}

// keepSession writes the session's row before the client is told that it has one.
func (b *Broker) keepSession(s *session, present bool) error {
	if present {
		b.commit.flushDrops() // what was acknowledged must not be read again
	}
	err := b.commit.sync(func(batch *store.Batch) {
		s.mu.Lock()
		defer s.mu.Unlock()
		batch.Set(sessionKey(s.num), s.row())
	})
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	if dead && err == nil { // its rows were removed before it had this one
		err = b.removeRows(s.num)
	}
	return err
}

// Start has messages sent to the client, which was given its CONNACK.
func (c *Client) Start() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c.l {
		return
	}
	s.started = true
	for _, u := range s.subs {
		if u.replay && len(s.replays) < len(s.subs) {
			s.replays = append(s.replays, &replay{u: u})
		}
	}
	s.pump()
}

// Ready says that the link takes more again.
func (c *Client) Ready() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.link == c.l {
		c.s.pump()
	}
}

// Leave ends the connection as the client asked for by DISCONNECT: withWill has
// the last will sent all the same, expiry, where not nil, is the new time that
// the session is kept. The error is a ProtocolError where it was 0 before.
func (c *Client) Leave(withWill bool, expiry *uint32) error {
	s := c.s
	s.mu.Lock()
	bad := expiry != nil && *expiry > 0 && s.expiry == 0
	if expiry != nil && !bad {
		s.expiry = min(*expiry, c.b.limits.SessionExpiry)
	}
	s.mu.Unlock()
	if bad {
		c.b.detach(s, c.l, true)
		return Refuse(ProtocolError, "a session that was not to be kept cannot become one that is")
	}
	c.b.detach(s, c.l, withWill)
	return nil
}

// Lost says that the connection broke, or was ended by this side.
func (c *Client) Lost() { c.b.detach(c.s, c.l, true) }

// rewind puts what was sent and is not acknowledged back to be sent again. It
// needs mu.
func (s *session) rewind() {
	for i := range s.window {
		if s.window[i].state != over {
			s.loaded = min(s.loaded, s.window[i].seq)
			break
		}
	}
	for i := range s.head {
		if s.head[i].seq > 0 {
			s.loaded = min(s.loaded, s.head[i].seq)
			break
		}
	}
	s.drain()
	s.dupBelow = s.sent
	s.window, s.flying = nil, 0
	s.replays, s.judged = nil, nil
	if s.room != nil {
		s.room.Broadcast()
	}
}

// detach ends a connection; a session that is not kept ends with it.
func (b *Broker) detach(s *session, l *Link, withWill bool) {
	now := b.o.Now()
	b.mu.Lock()
	s.mu.Lock()
	if s.link != l || s.dead {
		s.mu.Unlock()
		b.mu.Unlock()
		return
	}
	s.rewind()
	s.link, s.left, s.started = nil, now, false
	if !withWill {
		s.will = nil
	}
	ends := !s.kept || s.expiry == 0
	var will *Message
	if b.closed { // it waits for the hub's return, and so does its sender
		ends = ends && !s.kept
	} else if s.will != nil && (s.willWait == 0 || ends) {
		will, s.will = s.will, nil
	}
	if s.will != nil {
		s.willDue = now.Add(time.Duration(s.willWait) * time.Second)
	}
	b.rest(s, ends) // lets go of both
	if will != nil {
		b.publishWill(will)
	}
}

// rest writes down a session without a connection, or removes it where it ends. It
// needs b.mu and s.mu, and lets go of both.
func (b *Broker) rest(s *session, ends bool) {
	if ends {
		s.dead = true
		delete(b.sessions, s.key)
		delete(b.due, s)
	} else {
		b.due[s] = struct{}{}
	}
	b.mu.Unlock()
	if !ends {
		s.write()
	}
	s.mu.Unlock()
	if ends {
		b.clean(s)
	}
}

// write writes the session's row, before another connection can write its own. It
// needs mu.
func (s *session) write() {
	batch := s.b.st.NewBatch()
	batch.Set(sessionKey(s.num), s.row())
	if err := s.apply(batch); err != nil {
		s.b.o.Log("mqtt: the session %s was not written: %v", s.client, err)
	}
}

// clean removes what there is of a session that is dead.
func (b *Broker) clean(s *session) {
	s.mu.Lock()
	subs := s.subs
	s.subs = nil
	s.drain()
	num := s.num
	b.queued.Add(-s.onDisk)
	s.onDisk, s.count = 0, 0
	s.mu.Unlock()
	for _, u := range subs {
		b.tree.remove(u)
	}
	b.subs.Add(-int64(len(subs)))
	if num != 0 {
		if err := b.removeRows(num); err != nil {
			b.o.Log("mqtt: the rows of a session that ended stay: %v", err)
		}
	}
}

// removeRows deletes all rows of a session.
func (b *Broker) removeRows(num uint32) error {
	b.commit.flushDrops()
	batch := b.st.NewBatch()
	batch.Frees()
	queue := store.U32(store.ThingQueue.Key(nil), num)
	err := b.st.ScanPrefix(queue, func(_, val []byte) (bool, error) {
		e, err := readEntry(val)
		if err == nil && e.body != 0 && b.bodies.drop(e.body) {
			batch.Delete(store.U64(store.ThingMessage.Key(nil), e.body))
		}
		return true, nil
	})
	batch.Delete(sessionKey(num))
	for _, prefix := range [][]byte{queue, store.U32(store.ThingFilter.Key(nil), num), store.U32(store.ThingReceived.Key(nil), num)} {
		batch.DeleteRange(prefix, store.After(prefix))
	}
	if err != nil {
		batch.Drop()
		return err
	}
	if err := b.st.Apply(batch); err != nil {
		batch.Drop()
		return err
	}
	return nil
}

// publishWill publishes a last will, if its sender may still publish there.
func (b *Broker) publishWill(w *Message) {
	if w.From.Name != "" && !b.o.May(w.From, Publish, w.Topic) {
		return
	}
	if w.lasts > 0 {
		w.Expires = b.o.Now().Add(time.Duration(w.lasts) * time.Second)
	}
	b.publish(&publication{m: w, kept: true})
}

// whoIsDue finds the sessions that end or whose last will is due.
func (b *Broker) whoIsDue(now time.Time) (due []*session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.due {
		s.mu.Lock()
		switch {
		case s.link != nil || s.dead:
			delete(b.due, s)
		case s.expired(now) || !s.willDue.IsZero() && !now.Before(s.willDue):
			due = append(due, s)
		}
		s.mu.Unlock()
	}
	return due
}

// dueNow ends a session whose time is over, and sends a will that is due.
func (b *Broker) dueNow(s *session, now time.Time) {
	b.mu.Lock()
	s.mu.Lock()
	if s.link != nil || s.dead {
		s.mu.Unlock()
		b.mu.Unlock()
		return
	}
	will, ends := s.will, s.expired(now)
	s.will, s.willDue = nil, time.Time{}
	b.rest(s, ends) // lets go of both
	if will != nil {
		b.do(func() { b.publishWill(will) })
	}
}

// End ends a session: its connection with the reason, then all that is kept of
// it. It reports whether there was one.
func (b *Broker) End(name, client string, r Reason, text string) bool {
	b.mu.Lock()
	s := b.sessions[name+"\x00"+client]
	if s == nil {
		b.mu.Unlock()
		return false
	}
	b.end(s, r, text) // lets go of b.mu
	return true
}

// end ends a session. It needs b.mu, and lets go of it.
func (b *Broker) end(s *session, r Reason, text string) {
	s.mu.Lock()
	l, will := s.link, s.will
	s.link, s.will, s.dead = nil, nil, true
	if b.sessions[s.key] == s {
		delete(b.sessions, s.key)
	}
	delete(b.due, s)
	if s.room != nil {
		s.room.Broadcast()
	}
	s.mu.Unlock()
	b.mu.Unlock()
	if l != nil {
		l.Close(r, text)
	}
	b.clean(s)
	if will != nil {
		b.publishWill(will)
	}
}

// endHeavy ends a session whose queue has outgrown what one may have. To refuse
// its publishers instead would let one client that never comes back stop a
// topic for everybody; to drop messages would break the promise silently, where
// the end of a session is told: at its return there is none present.
func (b *Broker) endHeavy(s *session) {
	b.mu.Lock()
	s.mu.Lock()
	dead, n := s.dead, s.count
	s.mu.Unlock()
	if dead {
		b.mu.Unlock()
		return
	}
	b.o.Log("mqtt: the session %q of %s was ended: %d messages wait for it, more than one session may have", s.client, s.owner(), n)
	b.end(s, QuotaExceeded, "too many messages wait")
}
