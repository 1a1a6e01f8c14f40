package mqtt

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/crew"
	"hearth/engine/fault"
	"hearth/engine/store"
)

// Limits bound what clients may make the broker hold. A zero field takes the
// default, which is the number behind it.
type Limits struct {
	Sessions        int    // all, of those who are away too: 20,000
	Inflight        int    // messages under way to one client, and from it: 256
	Subscriptions   int    // of one session: 1,000
	AllSubs         int    // of all sessions: 100,000
	Queue           int64  // bytes that wait on disk for one session: 512 MiB
	AllQueues       int64  // and for all: 2 GiB
	Memory          int64  // bytes of messages held in memory for one session: 128 KiB
	AllMemory       int64  // and for all: 8 MiB
	Retained        int    // retained messages: 50,000
	RetainedBytes   int64  // and their bytes: 64 MiB
	Packet          int    // longest packet: 1 MiB
	SessionExpiry   uint32 // longest time that a session is kept, seconds: 90 days
	RetainedSeconds int    // how long a retained value of QoS 0 may wait for the disk: 60
}

func (l *Limits) fill() {
	set(&l.Sessions, 20_000)
	set(&l.Inflight, 256)
	set(&l.Subscriptions, 1000)
	set(&l.AllSubs, 100_000)
	set(&l.Queue, 512<<20)
	set(&l.AllQueues, 2<<30)
	set(&l.Memory, 128<<10)
	set(&l.AllMemory, 8<<20)
	set(&l.Retained, 50_000)
	set(&l.RetainedBytes, 64<<20)
	set(&l.Packet, 1<<20)
	set(&l.SessionExpiry, 90*24*3600)
	set(&l.RetainedSeconds, 60)
}

func set[T int | int64 | uint32](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// Options are what a Broker is made of.
type Options struct {
	Store  *store.Store
	Auth   Auth
	Alive  Alive // nil: who was let in stays in
	May    May   // nil: everybody may do everything
	Tap    Tap   // nil: messages are nobody else's business
	Limits Limits
	Now    func() time.Time                 // nil: the system's clock
	Log    func(format string, args ...any) // lines worth an owner's eye; nil: dropped
}

// Broker is all sessions and what they share. Its methods may be called from
// everywhere at the same time, but not from May.
type Broker struct {
	o      Options
	limits Limits
	st     *store.Store
	tree   tree
	keep   *keeper
	commit *committer
	crew   *crew.Crew
	stop   chan struct{}
	ends   sync.WaitGroup

	hands   sync.Mutex
	working int        // pieces of work that do has under way
	idle    *sync.Cond // working has become 0
	resting bool       // no more is begun

	mu       sync.Mutex // comes before any session's
	sessions map[string]*session
	due      map[*session]struct{} // away with an expiry or a will to come; for tick
	nextNum  uint32                // next session number of one that is kept
	serial   uint64                // orders sessions for the fan-out
	closed   bool

	bodies   bodies
	rights   atomic.Uint64 // generation of remembered answers of May
	memory   atomic.Int64  // bytes of messages in memory
	queued   atomic.Int64  // bytes in queues on disk
	subs     atomic.Int64
	spillNum atomic.Uint32 // last session number of one that is not kept, from firstSpill on
	figures  figures
	began    time.Time
	sys      sysTopics
}

// firstSpill is where the numbers of sessions begin that are not kept. They are
// given anew at each start, after which none of their rows is left.
const firstSpill = 1 << 31

// Open reads the sessions that the store holds, and starts the broker.
func Open(o Options) (*Broker, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.May == nil {
		o.May = func(Identity, Op, string) bool { return true }
	}
	o.Limits.fill()
	b := &Broker{
		o: o, limits: o.Limits, st: o.Store, stop: make(chan struct{}), began: o.Now(),
		sessions: map[string]*session{}, due: map[*session]struct{}{}, nextNum: 1,
	}
	b.spillNum.Store(firstSpill)
	b.crew = crew.New(b.stop)
	b.idle = sync.NewCond(&b.hands)
	b.bodies.counts = map[uint64]*[bodyChunk]uint16{}
	b.commit = newCommitter(b)
	var err error
	if b.keep, err = openKeeper(b); err == nil {
		err = b.load()
	}
	if err != nil {
		return nil, fault.E(fault.KindOf(err), "mqtt.Open", "the broker's sessions cannot be read: %w", err)
	}
	b.ends.Go(b.commit.run)
	b.ends.Go(b.commit.finish)
	b.ends.Go(b.run)
	return b, nil
}

// Leave takes leave of all clients, and lets no other in. Last wills are not
// sent: those of sessions that are kept wait for the hub's return.
func (b *Broker) Leave() {
	b.mu.Lock()
	b.closed = true
	var links []*Link
	for _, s := range b.sessions {
		s.mu.Lock()
		if s.link != nil {
			links = append(links, s.link)
		}
		s.mu.Unlock()
	}
	b.mu.Unlock()
	for _, l := range links {
		l.Close(ShuttingDown, "")
	}
}

// Close ends the broker, and brings to the disk what may wait there. The
// connections have ended before, after Leave.
func (b *Broker) Close() error {
	b.Leave()
	b.hands.Lock()
	again := b.resting
	b.resting = true
	b.hands.Unlock()
	if again {
		return nil
	}
	close(b.stop)
	b.ends.Wait()
	b.hands.Lock()
	for b.working > 0 {
		b.idle.Wait()
	}
	b.hands.Unlock()
	b.commit.flushDrops()
	return b.keep.flush()
}

// do has f done by another goroutine, unless the broker ends; Close waits for it.
func (b *Broker) do(f func()) {
	b.hands.Lock()
	defer b.hands.Unlock()
	if b.resting {
		return
	}
	b.working++
	b.crew.Go(func() {
		f()
		b.hands.Lock()
		if b.working--; b.working == 0 {
			b.idle.Broadcast()
		}
		b.hands.Unlock()
	})
}

// run looks once a second who is due.
func (b *Broker) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
		b.tick(b.o.Now())
	}
}

func (b *Broker) tick(now time.Time) {
	for _, s := range b.whoIsDue(now) {
		b.dueNow(s, now)
	}
	if err := b.keep.tick(now); err != nil {
		b.o.Log("mqtt: retained messages were not written: %v", err)
	}
	b.commit.nudge()
	b.tellSys(now)
}

// Now is the broker's time, which message expiry goes by.
func (b *Broker) Now() time.Time { return b.o.Now() }

// Rejudge forgets what May said about deliveries: rights have changed.
func (b *Broker) Rejudge() { b.rights.Add(1) }

// Publish publishes a message that comes from inside the hub. It returns when
// subscribers of the moment were given it and, with QoS 1 or 2, when it is on
// disk for those who are away. The Tap is offered it as any other.
func (b *Broker) Publish(ctx context.Context, m *Message) error {
	if !ValidTopic(m.Topic) || len(m.Topic) > MaxTopic || m.QoS > 2 {
		return fault.E(fault.Invalid, "mqtt.Publish", "%q is no topic to publish to", m.Topic)
	}
	if len(m.Topic)+len(m.Payload) > b.limits.Packet-64 {
		return fault.E(fault.TooLarge, "mqtt.Publish", "the message is longer than %d bytes", b.limits.Packet)
	}
	done := make(chan error, 1)
	b.publish(&publication{m: m, done: func(r Reason, text string) {
		if r.Failed() {
			done <- Refuse(r, text)
			return
		}
		done <- nil
	}})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-b.stop:
		return fault.E(fault.Busy, "mqtt.Publish", "the hub is stopping")
	}
}

// judge asks whether the session may be given messages of the topic, and
// remembers the answer. It needs s.mu.
func (s *session) judge(topic string) bool {
	if gen := s.b.rights.Load(); s.judged == nil || s.judgedAt != gen || len(s.judged) >= maxJudged {
		s.judged, s.judgedAt = make(map[string]bool, 4), gen
	}
	ok, known := s.judged[topic]
	if !known {
		ok = s.b.o.May(s.id, Receive, topic)
		s.judged[topic] = ok
	}
	return ok
}

// maxJudged bounds the remembered answers of one session.
const maxJudged = 64

var errStopping = errors.New("mqtt: the broker is stopping")
