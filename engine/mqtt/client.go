package mqtt

import (
	"strings"
	"sync"

	"hearth/engine/store"
)

// ID is the client's identifier, Name whose it is.
func (c *Client) ID() string { return c.s.client }

// Name is the identity that the client was let in as.
func (c *Client) Name() string { return c.id.Name }

// Publish takes a PUBLISH of the client's. The message is valid during the call
// only. The answer, if it has one, comes through Link.Answer. An error ends the
// connection.
//
// Spec: MQTT 5, 3.3.4, 4.3 and 4.9.
func (c *Client) Publish(m *Message, id uint16) error {
	s := c.s
	m.From, m.ClientID, m.ID = c.id, s.client, id
	p := &publication{m: m, from: s, link: c.l, id: id}
	if m.QoS > 0 {
		ours, err := c.enter(m.QoS, id)
		if err != nil || !ours {
			return err
		}
	}
	if !c.b.o.May(c.id, Publish, m.Topic) {
		c.b.figures.denied.Add(1)
		p.answer(NotAuthorised, "")
		return nil
	}
	c.b.publish(p)
	return nil
}

// enter counts a message of QoS 1 or 2 in. ours is false where it is one that
// came before.
func (c *Client) enter(qos byte, id uint16) (ours bool, err error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if qos == 2 {
		if state, known := s.received[id]; known {
			switch {
			case s.link != c.l:
			case state == answered:
				s.link.Answer(Answer{Kind: PubRec, ID: id})
			default:
				s.received[id] = askedAgain
			}
			return false, nil
		}
	}
	for s.link == c.l && s.inbound >= s.b.limits.Inflight {
		if s.version >= 5 || qos == 2 && len(s.received) >= s.b.limits.Inflight {
			return false, Refuse(ReceiveMaxExceeded, "")
		}
		if s.room == nil {
			s.room = sync.NewCond(&s.mu)
		}
		s.room.Wait() // of 3.1.1, where no number was agreed on
	}
	if s.link != c.l {
		return false, Refuse(TakenOver, "")
	}
	// Of a session that is kept, those that came on connections before count too.
	if qos == 2 && len(s.received) >= 2*s.b.limits.Inflight {
		return false, Refuse(ReceiveMaxExceeded, "too many messages of QoS 2 are not released")
	}
	s.inbound++
	if qos == 2 {
		if s.received == nil {
			s.received = map[uint16]byte{}
		}
		s.received[id] = unanswered
	}
	return true, nil
}

// Release takes a PUBREL: the client will not send that message again.
func (c *Client) Release(id uint16) {
	s := c.s
	s.mu.Lock()
	_, known := s.received[id]
	if s.link != c.l {
		s.mu.Unlock()
		return
	}
	if !known {
		s.link.Answer(Answer{Kind: PubComp, ID: id, Reason: PacketIDNotFound})
		s.mu.Unlock()
		return
	}
	delete(s.received, id)
	if len(s.received) == 0 {
		s.received = nil
	}
	if !s.kept {
		s.arrived()
		s.link.Answer(Answer{Kind: PubComp, ID: id})
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	// Synced before it is answered: the client may use the id for another
	// message then, which must not be taken for this one.
	c.b.commit.submit(job{
		add: func(batch *store.Batch) { batch.Delete(receivedKey(s.num, id)) },
		after: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.link != c.l {
				return
			}
			if err != nil {
				s.link.Close(Unspecified, "")
				return
			}
			s.arrived()
			s.link.Answer(Answer{Kind: PubComp, ID: id})
		},
	})
}

// Acknowledged takes a PUBACK. Unknown ids are let pass: they are told of after
// a message's time was over.
func (c *Client) Acknowledged(id uint16) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c.l {
		return
	}
	if f := s.find(id); f != nil && f.state == awaitsAck {
		s.land(f)
		s.pump()
	}
}

// Received takes a PUBREC.
func (c *Client) Received(id uint16, r Reason) {
	s := c.s
	s.mu.Lock()
	f := s.find(id)
	switch {
	case s.link != c.l:
	case f == nil || f.state == awaitsAck:
		s.link.Answer(Answer{Kind: PubRel, ID: id, Reason: PacketIDNotFound})
	case r.Failed():
		s.land(f)
		s.pump()
	case f.state == awaitsComp:
		s.link.Answer(Answer{Kind: PubRel, ID: id})
	case f.state == awaitsRec && f.size == 0:
		f.state = awaitsComp
		s.link.Answer(Answer{Kind: PubRel, ID: id})
	case f.state == awaitsRec && !s.kept:
		f.state = awaitsComp
		s.link.Answer(Answer{Kind: PubRel, ID: id})
	case f.state == awaitsRec:
		f.state = recording
		seq, body, size := f.seq, f.body, f.size
		s.mu.Unlock()
		c.record(seq, body, size, id)
		return
	}
	s.mu.Unlock()
}

// record writes that the client has a message of QoS 2, before it is told to
// forget its id: after a power cut only the PUBREL may be sent again.
func (c *Client) record(seq, body uint64, size int32, id uint16) {
	s, b := c.s, c.b
	b.commit.submit(job{
		add: func(batch *store.Batch) {
			batch.Set(queueKey(s.num, seq), appendEntry(nil, entry{qos: 2, released: true}))
			if body != 0 && b.bodies.drop(body) {
				batch.Delete(store.U64(store.ThingMessage.Key(nil), body))
			}
		},
		after: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			f := s.find(id)
			if f != nil && f.seq != seq {
				f = nil
			}
			if err == nil {
				s.shrink(seq, size, f)
			}
			if f == nil || s.link != c.l {
				return
			}
			if err != nil {
				s.link.Close(Unspecified, "")
				return
			}
			f.state, f.body = awaitsComp, 0
			s.link.Answer(Answer{Kind: PubRel, ID: id})
		},
	})
}

// releasedSize is what a row counts for that says no more than that a message
// was released.
const releasedSize = 33

// shrink counts a row anew that became one of a released message; f is its
// flying message, nil where it is not in the window any more. It needs mu.
func (s *session) shrink(seq uint64, size int32, f *flying) {
	if s.dead {
		return
	}
	s.onDisk -= int64(size - releasedSize)
	s.b.queued.Add(int64(releasedSize - size))
	if f != nil {
		f.size = releasedSize
		return
	}
	for i := range s.head {
		if s.head[i].seq == seq {
			s.head[i].size = releasedSize
		}
	}
}

// Completed takes a PUBCOMP.
func (c *Client) Completed(id uint16) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c.l {
		return
	}
	if f := s.find(id); f != nil && f.state == awaitsComp {
		s.land(f)
		s.pump()
	}
}

// Request is one filter of a SUBSCRIBE.
type Request struct {
	Filter      string
	QoS         byte
	NoLocal     bool
	AsPublished bool
	Handling    byte // retain handling
}

// Subscribe takes a SUBSCRIBE with its subscription identifier, 0 for none.
// done is called with one code for each request, when the subscriptions are as
// safe as the session is. Filters must be valid UTF-8 without NUL.
//
// Spec: MQTT 5, 3.8.4.
func (c *Client) Subscribe(reqs []Request, id uint32, done func(codes []Reason)) {
	s, b := c.s, c.b
	codes := make([]Reason, len(reqs))
	var made []*subscription
	for i := range reqs {
		if len(made) >= b.limits.Subscriptions {
			codes[i] = QuotaExceeded
			continue
		}
		u, r := c.subscribe(&reqs[i], id)
		if codes[i] = r; u != nil {
			made = append(made, u)
		}
	}
	b.plant(s, made)
	// A retained message that is being committed was given to those who had
	// subscribed before; the reading begins behind it.
	ready := func(err error) {
		for i := range codes {
			if err != nil && !codes[i].Failed() {
				codes[i] = QuotaExceeded
			}
		}
		done(codes)
		c.replay(made)
	}
	switch {
	case len(made) == 0:
		done(codes)
	case s.kept:
		b.commit.submit(job{
			add: func(batch *store.Batch) {
				for _, u := range made {
					batch.Set(filterKey(s.num, u.name()), appendFilter(nil, u))
				}
			},
			after: ready,
		})
	default:
		done(codes)
		if anyReplay(made) {
			b.commit.submit(job{add: func(*store.Batch) {}, after: func(error) { c.replay(made) }})
		}
	}
}

// plant puts new subscriptions into the tree, unless their session ended meanwhile:
// whoever ended it did not find them there.
func (b *Broker) plant(s *session, made []*subscription) {
	for _, u := range made {
		b.tree.add(u)
	}
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	if dead {
		for _, u := range made {
			b.tree.remove(u)
		}
	}
}

func anyReplay(made []*subscription) bool {
	for _, u := range made {
		if u.replay {
			return true
		}
	}
	return false
}

// subscribe judges one request, and puts its subscription into the session.
func (c *Client) subscribe(r *Request, id uint32) (*subscription, Reason) {
	s, b := c.s, c.b
	group, filter, shared := SplitShared(r.Filter)
	switch {
	case !ValidFilter(r.Filter):
		return nil, BadFilter
	case len(r.Filter) > MaxTopic, strings.Count(filter, "/") >= maxLevels, b.subscribed(c.id.Name):
		return nil, QuotaExceeded
	case !b.o.May(c.id, Subscribe, filter):
		b.figures.denied.Add(1)
		return nil, NotAuthorised
	}
	text := strings.Clone(r.Filter)
	u := &subscription{s: s, id: id, qos: r.QoS, noLocal: r.NoLocal, asPublished: r.AsPublished, handling: r.Handling}
	u.group, u.filter, _ = SplitShared(text)
	_ = group
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, Unspecified
	}
	at := -1
	for i, o := range s.subs {
		if o.filter == u.filter && o.group == u.group {
			at = i
		}
	}
	u.replay = !shared && (u.handling == 0 || u.handling == 1 && at < 0)
	if at >= 0 {
		s.stopReplays(s.subs[at : at+1])
		s.subs[at] = u
		return u, Reason(r.QoS)
	}
	if len(s.subs) >= b.limits.Subscriptions || b.subs.Load() >= int64(b.limits.AllSubs) {
		return nil, QuotaExceeded
	}
	b.subs.Add(1)
	s.subs = append(s.subs, u)
	return u, Reason(r.QoS)
}

// replay begins to send the retained messages of new subscriptions.
func (c *Client) replay(made []*subscription) {
	s := c.s
	s.mu.Lock()
	if s.link != c.l {
		s.mu.Unlock()
		return
	}
	sys := false
	for _, u := range made {
		if u.replay {
			s.replays = append(s.replays, &replay{u: u})
			sys = sys || strings.HasPrefix(u.filter, "$SYS")
		}
	}
	s.pump()
	s.mu.Unlock()
	if sys {
		c.b.do(func() { c.b.sys.tell(c.b) })
	}
}

// Unsubscribe takes an UNSUBSCRIBE; done is called as with Subscribe.
func (c *Client) Unsubscribe(filters []string, done func(codes []Reason)) {
	s, b := c.s, c.b
	codes := make([]Reason, len(filters))
	var gone []*subscription
	s.mu.Lock()
	for i, text := range filters {
		group, filter, _ := SplitShared(text)
		codes[i] = NoSubscription
		for j, u := range s.subs {
			if u.filter == filter && u.group == group {
				gone = append(gone, u)
				s.subs = append(s.subs[:j:j], s.subs[j+1:]...)
				codes[i] = Success
				break
			}
		}
	}
	s.stopReplays(gone)
	s.mu.Unlock()
	for _, u := range gone {
		b.tree.remove(u)
	}
	b.subs.Add(-int64(len(gone)))
	if len(gone) == 0 || !s.kept {
		done(codes)
		return
	}
	b.commit.submit(job{
		add: func(batch *store.Batch) {
			for _, u := range gone {
				batch.Delete(filterKey(s.num, u.name()))
			}
		},
		after: func(err error) {
			for i := range codes {
				if err != nil {
					codes[i] = Unspecified
				}
			}
			done(codes)
		},
	})
}

// stopReplays ends the replays of subscriptions that are gone. It needs mu.
func (s *session) stopReplays(gone []*subscription) {
	for _, u := range gone {
		u.replay = false
		for i, r := range s.replays {
			if r.u == u {
				s.replays = append(s.replays[:i:i], s.replays[i+1:]...)
				break
			}
		}
	}
}
