package mqtt

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
)

// publication is a message on its way from its publisher to the disk and to
// its subscribers.
type publication struct {
	m    *Message
	kept bool // m is ours to keep

	from *session // nil: the hub itself
	link *Link    // of from, when it came
	id   uint16
	done func(r Reason, text string) // where the publisher is the hub itself; may be nil

	targets []target
	body    uint64 // number of the copy that several queues share; 0: none
	order   uint64 // of a retained message; see keeper.put
	rows    func(*store.Batch)

	left   atomic.Int32 // what the acknowledgement waits for
	mu     sync.Mutex
	reason Reason
	text   string
}

// target is a session that is to be given the message.
type target struct {
	s      *session
	qos    byte
	retain bool
	ids    []uint32

	seq  uint64
	size int32
}

// fan is what finding the targets needs.
type fan struct {
	hits
	targets []target
}

var fans = sync.Pool{New: func() any { return new(fan) }}

func (f *fan) release() {
	clear(f.subs)
	clear(f.shared)
	clear(f.turns)
	clear(f.targets)
	f.subs, f.shared, f.turns, f.targets = f.subs[:0], f.shared[:0], f.turns[:0], f.targets[:0]
	if cap(f.subs) < 1024 {
		fans.Put(f)
	}
}

// publish brings a message that was let in to where it belongs. It may wait
// where too much is on its way to the disk already.
func (b *Broker) publish(p *publication) {
	b.figures.received.Add(1)
	p.left.Store(1)
	carried := p.m.QoS == 0
	if b.o.Tap != nil {
		p.left.Store(2)
		v := b.o.Tap(p.m, p.settle)
		if v.Refuse.Failed() {
			p.answer(v.Refuse, v.Text)
			return
		}
		if !v.Later {
			p.left.Add(-1)
		}
		p.rows = v.Rows
		carried = carried || v.Carries
	}
	durable := p.rows != nil
	if p.m.Retain {
		ok := true
		if carried {
			ok = b.keep.hold(p.m)
		} else if ok = b.keep.admit(p.m); ok {
			durable, p.order = true, b.keep.number()
		}
		if !ok {
			p.answer(QuotaExceeded, "there are too many retained messages")
			return
		}
	}
	f := fans.Get().(*fan)
	defer f.release()
	b.fanOut(p, f)
	if len(f.targets) == 0 {
		p.mu.Lock() // its room may have refused it already
		if !p.reason.Failed() {
			p.reason = NoSubscribers
		}
		p.mu.Unlock()
	}
	for i := range f.targets {
		durable = durable || f.targets[i].qos > 0 && f.targets[i].s.kept
	}
	if s := p.from; s != nil && !durable {
		s.mu.Lock()
		durable = p.m.QoS == 2 && s.kept || s.pending > 0 // in order behind what waits for the disk
		s.mu.Unlock()
	}
	if durable {
		p.targets = slices.Clone(f.targets)
		p.submit(b)
		return
	}
	for i := range f.targets {
		f.targets[i].s.give(p, &f.targets[i])
	}
	p.settle(nil)
}

// fanOut finds who is to be given the message.
func (b *Broker) fanOut(p *publication, f *fan) {
	b.tree.match(p.m.Topic, &f.hits)
	for i, members := range f.shared {
		if u := b.choose(p, members, f.turns[i]); u != nil {
			f.subs = append(f.subs, u)
		}
	}
	if len(f.subs) > 1 {
		slices.SortFunc(f.subs, func(x, y *subscription) int { return cmp.Compare(x.s.serial, y.s.serial) })
	}
	for _, u := range f.subs {
		if u.noLocal && u.s == p.from || p.m.Except != "" && u.s.owner() == p.m.Except {
			continue
		}
		qos, retain := min(u.qos, p.m.QoS), u.asPublished && p.m.Retain
		if n := len(f.targets); n > 0 && f.targets[n-1].s == u.s {
			t := &f.targets[n-1] // one copy, however many of its filters match
			t.qos, t.retain = max(t.qos, qos), t.retain || retain
			if u.id != 0 {
				t.ids = append(t.ids, u.id)
			}
			continue
		}
		u.s.mu.Lock()
		ok := !u.s.dead && (qos > 0 || u.s.link != nil) && u.s.judge(p.m.Topic)
		u.s.mu.Unlock()
		if !ok {
			continue
		}
		t := target{s: u.s, qos: qos, retain: retain}
		if u.id != 0 {
			t.ids = []uint32{u.id}
		}
		f.targets = append(f.targets, t)
	}
}

// choose picks the member of a group that is given the message: by turns, those
// who are connected first.
func (b *Broker) choose(p *publication, members []*subscription, g *group) *subscription {
	turn := g.next.Add(1)
	var away *subscription
	for i := range members {
		u := members[(int(turn)+i)%len(members)]
		u.s.mu.Lock()
		connected, ok := u.s.link != nil && !u.s.link.Full(), !u.s.dead && (u.s.kept || u.s.link != nil) && u.s.judge(p.m.Topic)
		u.s.mu.Unlock()
		if ok && connected {
			return u
		}
		if ok && away == nil {
			away = u
		}
	}
	return away
}

// keep makes the message ours.
func (p *publication) keep() {
	if !p.kept {
		p.m, p.kept = p.m.Clone(), true
	}
}

// submit has the message committed, and given to its subscribers after that.
func (p *publication) submit(b *Broker) {
	p.keep()
	if s := p.from; s != nil {
		s.mu.Lock()
		s.pending++
		s.mu.Unlock()
	}
	b.commit.submit(job{
		size:  p.m.memory(),
		add:   func(batch *store.Batch) { p.add(b, batch) },
		after: func(err error) { p.after(b, err) },
	})
}

// add puts the message's rows into a batch: one copy, and a row for each queue.
func (p *publication) add(b *Broker, batch *store.Batch) {
	if p.order != 0 {
		b.keep.put(batch, p.m, p.order)
	}
	waits := 0
	for i := range p.targets {
		if p.targets[i].qos > 0 && p.targets[i].s.kept {
			waits++
		}
	}
	var text []byte
	if waits > 0 {
		text = appendMessage(fields.AppendText(nil, p.m.Topic), p.m)
	}
	if waits > 1 {
		p.body = b.bodies.make(waits)
		batch.Set(store.U64(store.ThingMessage.Key(nil), p.body), text)
		text = nil
	}
	for i := range p.targets {
		t := &p.targets[i]
		if t.qos == 0 || !t.s.kept {
			continue
		}
		row := appendEntry(nil, entry{qos: t.qos, retain: t.retain, ids: t.ids, body: p.body, inline: text})
		t.size = int32(len(row) + 32)
		t.seq = t.s.enqueue(t.size)
		batch.Set(queueKey(t.s.num, t.seq), row)
	}
	if s := p.from; s != nil && s.kept && p.m.QoS == 2 {
		batch.Set(receivedKey(s.num, p.id), nil)
	}
	if p.rows != nil {
		p.rows(batch)
	}
}

// enqueue gives a message of size bytes on disk its place in the queue.
func (s *session) enqueue(size int32) uint64 {
	s.mu.Lock()
	seq := s.next
	s.next++
	s.onDisk += int64(size)
	s.count++
	all, heavy := s.b.queued.Add(int64(size)), s.onDisk > s.b.limits.Queue && !s.dead
	s.mu.Unlock()
	if heavy {
		s.b.do(func() { s.b.endHeavy(s) })
	} else if all > s.b.limits.AllQueues {
		s.b.do(func() { s.b.endHeaviest() })
	}
	return seq
}

func (p *publication) after(b *Broker, err error) {
	for i := range p.targets {
		t := &p.targets[i]
		switch {
		case t.qos == 0 || !t.s.kept:
			if err == nil {
				t.s.give(p, t)
			}
		default:
			t.s.committed(p, t, err)
		}
	}
	if s := p.from; s != nil {
		s.mu.Lock()
		s.pending--
		s.mu.Unlock()
	}
	p.settle(err)
}

// committed goes on with a message whose row is on disk, or failed to get there.
func (s *session) committed(p *publication, t *target, err error) {
	m, body := p.m, p.body
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.onDisk -= int64(t.size)
		s.count--
		s.b.queued.Add(-int64(t.size))
		if body != 0 {
			s.b.bodies.drop(body)
		}
	} else if s.dead {
		s.forget(t.seq, body, t.size)
		return
	}
	inOrder := s.loaded == t.seq && s.ready == t.seq
	s.ready = max(s.ready, t.seq+1)
	if err != nil {
		if inOrder {
			s.loaded++
		}
		return
	}
	if s.link == nil || !s.started || !inOrder {
		return
	}
	q := queued{m: m, seq: t.seq, body: body, size: t.size, qos: t.qos, retain: t.retain, ids: t.ids}
	switch {
	case len(s.head) == 0 && s.open():
		s.loaded++
		s.send(&q)
	case s.hasRoom(m.memory()):
		s.loaded++
		s.hold(q)
	}
	s.pump()
}

// give hands a message to a session that is not kept, or that takes it with
// QoS 0: to its link, to memory, and where that is full to the disk.
func (s *session) give(p *publication, t *target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil || s.dead || !s.started {
		return
	}
	if t.qos == 0 {
		if s.link.Full() {
			s.dropped++
			s.b.figures.dropped.Add(1)
			return
		}
		s.send(&queued{m: p.m, retain: t.retain, ids: t.ids})
		return
	}
	q := queued{m: p.m, seq: s.next, qos: t.qos, retain: t.retain, ids: t.ids}
	if s.loaded == s.next && len(s.head) == 0 && s.open() {
		s.next++
		s.loaded++
		s.ready++
		s.send(&q)
		return
	}
	p.keep()
	q.m = p.m
	if s.loaded == s.next && s.hasRoom(q.m.memory()) {
		s.next++
		s.loaded++
		s.ready++
		s.hold(q)
		s.pump()
		return
	}
	s.spill(&q)
	s.pump()
}

// spill puts a message that memory has no room for on the disk, without waiting
// for it: the session ends with the hub anyway. It needs mu.
func (s *session) spill(q *queued) {
	if s.num == 0 {
		s.num = s.b.spillNum.Add(1)
	}
	row := appendEntry(nil, entry{qos: q.qos, retain: q.retain, ids: q.ids, inline: appendMessage(fields.AppendText(nil, q.m.Topic), q.m)})
	size := int64(len(row) + 32)
	if s.onDisk+size > s.b.limits.Queue || s.b.queued.Load()+size > s.b.limits.AllQueues {
		s.b.do(func() { s.b.endHeavy(s) })
		return
	}
	batch := s.b.st.NewBatch()
	batch.Set(queueKey(s.num, s.next), row)
	if err := s.b.st.Apply(batch); err != nil {
		batch.Drop()
		s.b.do(func() { s.b.endHeavy(s) })
		return
	}
	s.onDisk += size
	s.count++
	s.b.queued.Add(size)
	s.next++
	s.ready++
}

// settle ends one of the things that the acknowledgement waits for.
func (p *publication) settle(err error) {
	if err != nil {
		r, text := ReasonOf(err)
		if fault.Is(err, fault.Full) {
			r, text = QuotaExceeded, "the disk is full"
		}
		p.mu.Lock()
		if !p.reason.Failed() {
			p.reason, p.text = r, text
		}
		p.mu.Unlock()
	}
	if p.left.Add(-1) == 0 {
		p.mu.Lock()
		r, text := p.reason, p.text
		p.mu.Unlock()
		p.answer(r, text)
	}
}

// answer tells the publisher.
func (p *publication) answer(r Reason, text string) {
	if p.from == nil {
		if p.done != nil {
			p.done(r, text)
		}
		return
	}
	if p.m.QoS > 0 {
		p.from.acknowledge(p, r, text)
	}
}

// acknowledge sends PUBACK or PUBREC, where the connection is still the one
// that the message came on.
func (s *session) acknowledge(p *publication, r Reason, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := PubAck
	if p.m.QoS == 2 {
		kind = PubRec
		if r.Failed() {
			delete(s.received, p.id)
		} else if state, ok := s.received[p.id]; ok {
			s.received[p.id] = answered
			if state == askedAgain && s.link != nil && s.link != p.link {
				s.link.Answer(Answer{Kind: kind, ID: p.id, Reason: r, Text: text})
			}
		}
	}
	if s.link != p.link {
		return
	}
	if kind == PubAck || r.Failed() {
		s.arrived()
	}
	s.link.Answer(Answer{Kind: kind, ID: p.id, Reason: r, Text: text})
}

// arrived counts a message of the client's as done. It needs mu.
func (s *session) arrived() {
	s.inbound = max(0, s.inbound-1)
	if s.room != nil {
		s.room.Broadcast()
	}
}
