package mqtt

import (
	"sync"
	"time"
)

// Link is the way to a connected client, given to Connect by who owns the
// socket. None of its functions may block, and none may call the broker.
type Link struct {
	// Deliver queues one PUBLISH for the socket. It is false where the packet is
	// longer than the client takes; then the message is over.
	Deliver func(d *Delivery) bool
	// Answer queues a PUBACK, PUBREC, PUBREL or PUBCOMP.
	Answer func(a Answer)
	// Full says that the socket has enough to write. When it has not any more,
	// Client.Ready is called.
	Full func() bool
	// Close ends the connection, with a DISCONNECT where the client knows reasons.
	Close func(r Reason, text string)
}

// Delivery is one message on its way to one client. It is valid during the call
// of Link.Deliver only.
type Delivery struct {
	*Message
	ID      uint16 // packet id; 0 for QoS 0
	QoS     byte   // as the subscription has it
	Retain  bool
	Dup     bool
	SubIDs  []uint32
	Seconds uint32 // left of the message's time, where Expires is set
}

// Kind is the kind of an Answer: the type of its packet.
type Kind byte

// The answers, as MQTT numbers packets.
const (
	PubAck  Kind = 4
	PubRec  Kind = 5
	PubRel  Kind = 6
	PubComp Kind = 7
)

// Answer is a packet that has an id and a reason.
type Answer struct {
	Kind   Kind
	ID     uint16
	Reason Reason
	Text   string
}

// session is what the broker knows of one client, connected or not.
//
// Messages of QoS 1 and 2 to the client have sequence numbers, given when they
// are queued. A packet id is made from the sequence number, so that it is the
// same after a power cut without ever being written. Three marks say how far
// each message has come:
//
//	[window: sent, not acknowledged] [head: in memory] [loaded, ready: on disk] [ready, next: being committed]
//
// A session that is kept has a row on disk for each of them until it is
// acknowledged; one that is not has rows only for those that memory had no room
// for (loaded < next), written without a sync.
type session struct {
	b      *Broker
	key    string   // name, NUL, client id
	id     Identity // of the last connection; mu guards it
	client string
	serial uint64

	mu      sync.Mutex
	link    *Link // nil: not connected
	num     uint32
	version byte
	kept    bool // on disk; never changes
	dead    bool
	started bool // the client has its CONNACK
	expiry  uint32
	left    time.Time // when the connection ended
	subs    []*subscription

	next     uint64 // sequence number of the next message
	ready    uint64 // below it all rows are synced
	loaded   uint64 // below it all messages are in window or head, or over
	dupBelow uint64 // what is sent below it may have been sent before
	sent     uint64 // highest that was ever sent, plus one
	head     []queued
	window   []flying
	flying   int // entries of window that are not over
	most     int // how many the client takes at one time
	inMemory int // bytes of head
	onDisk   int64
	count    int64 // messages on disk
	loading  bool
	replays  []*replay

	received map[uint16]byte // QoS 2 packet ids that came, and how far they are
	inbound  int             // messages of the client's that are not acknowledged yet
	pending  int             // of these, in the committer
	room     *sync.Cond      // made when somebody waits for inbound to fall

	will     *Message
	willWait uint32
	willDue  time.Time // zero: no will is to come

	judged   map[string]bool
	judgedAt uint64
	dropped  uint64 // QoS 0 messages there was no room for
}

// owner is the name of who the session belongs to, which id says too, but mu guards.
func (s *session) owner() string { return s.key[:len(s.key)-len(s.client)-1] }

// queued is a message in memory on its way to the client.
type queued struct {
	m      *Message
	seq    uint64
	body   uint64 // number of the shared copy on disk; 0: none
	size   int32  // bytes of its row; 0: it has none
	qos    byte
	retain bool
	over   bool // a released QoS 2 message: only its PUBREL goes out
	ids    []uint32
}

// flying is a message that was sent and is not acknowledged.
type flying struct {
	seq   uint64
	body  uint64
	size  int32
	state byte
}

// States of a received packet id.
const (
	unanswered = iota
	askedAgain // unanswered, and the client sent it once more
	answered
)

// States of a flying message.
const (
	awaitsAck  = iota // QoS 1
	awaitsRec         // QoS 2
	recording         // PUBREC came, its row is being written
	awaitsComp        // PUBREL was sent
	over
)

// firstSeq is the first sequence number of a session; 0 is none.
const firstSeq = 1

// packetID is made from a sequence number: 1 to 65535.
func packetID(seq uint64) uint16 { return uint16(seq%65535) + 1 }

// open says whether the client takes another message of QoS 1 or 2. It needs mu.
func (s *session) open() bool {
	return s.link != nil && s.started && s.flying < s.most && !s.link.Full() &&
		(len(s.window) == 0 || s.loaded-s.window[0].seq < 65000)
}

// send hands a message to the link. It needs mu.
func (s *session) send(q *queued) {
	if q.m != nil && q.qos == 0 {
		s.b.figures.sent.Add(1)
		s.link.Deliver(&Delivery{Message: q.m, Retain: q.retain, SubIDs: q.ids, Seconds: q.m.seconds(s.b.o.Now)})
		return
	}
	if q.over {
		s.fly(flying{seq: q.seq, size: q.size, state: awaitsComp})
		s.link.Answer(Answer{Kind: PubRel, ID: packetID(q.seq)})
		return
	}
	d := Delivery{Message: q.m, ID: packetID(q.seq), QoS: q.qos, Retain: q.retain, Dup: q.seq < s.dupBelow, SubIDs: q.ids}
	if d.Seconds = q.m.seconds(s.b.o.Now); d.Seconds == 0 && !q.m.Expires.IsZero() && (q.qos == 1 || !d.Dup) {
		s.forget(q.seq, q.body, q.size)
		return
	}
	s.sent = max(s.sent, q.seq+1)
	if !s.link.Deliver(&d) {
		s.forget(q.seq, q.body, q.size)
		return
	}
	s.b.figures.sent.Add(1)
	state := byte(awaitsAck)
	if q.qos == 2 {
		state = awaitsRec
	}
	s.fly(flying{seq: q.seq, body: q.body, size: q.size, state: state})
}

func (s *session) fly(f flying) {
	s.window = append(s.window, f)
	s.flying++
}

// forget ends a message: its row goes, with the next batch. It needs mu.
func (s *session) forget(seq, body uint64, size int32) {
	if size == 0 {
		return
	}
	s.onDisk -= int64(size)
	s.count--
	s.b.queued.Add(-int64(size))
	s.b.commit.later(drop{s.num, seq, body})
}

// pump sends what the client takes, and has more read from the disk where that
// is all there was. It needs mu.
func (s *session) pump() {
	n := 0
	for n < len(s.head) && s.open() {
		q := &s.head[n]
		s.unhold(q)
		s.send(q)
		n++
	}
	if n > 0 {
		left := copy(s.head, s.head[n:])
		clear(s.head[left:])
		s.head = s.head[:left]
		if left == 0 && cap(s.head) > 64 {
			s.head = nil
		}
	}
	if len(s.head) > 0 || s.loading || s.link == nil || !s.started {
		return
	}
	if (s.loaded < s.ready || len(s.replays) > 0 && s.loaded == s.next) && s.open() {
		s.loading = true
		s.b.do(func() { s.b.loadMore(s) })
	}
}

// hold puts a message at the end of head. It needs mu.
func (s *session) hold(q queued) {
	n := 0
	if q.m != nil {
		n = q.m.memory()
	}
	s.inMemory += n
	s.b.memory.Add(int64(n))
	s.head = append(s.head, q)
}

func (s *session) unhold(q *queued) {
	if q.m != nil {
		n := q.m.memory()
		s.inMemory -= n
		s.b.memory.Add(-int64(n))
	}
}

// drain lets go of all of head. It needs mu.
func (s *session) drain() {
	for i := range s.head {
		s.unhold(&s.head[i])
	}
	s.head = nil
}

// hasRoom says whether memory may take a message of n bytes. It needs mu.
func (s *session) hasRoom(n int) bool {
	return int64(s.inMemory+n) <= s.b.limits.Memory && s.b.memory.Load()+int64(n) <= s.b.limits.AllMemory
}

// find gives the flying message of a packet id; nil where there is none. It
// needs mu.
func (s *session) find(id uint16) *flying {
	if len(s.window) == 0 || id == 0 {
		return nil
	}
	base := s.window[0].seq
	seq := base + (uint64(id-1)+65535-base%65535)%65535
	lo, hi := 0, len(s.window)
	for lo < hi {
		mid := (lo + hi) / 2
		if s.window[mid].seq < seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(s.window) || s.window[lo].seq != seq || s.window[lo].state == over {
		return nil
	}
	return &s.window[lo]
}

// land ends a flying message. It needs mu.
func (s *session) land(f *flying) {
	s.forget(f.seq, f.body, f.size)
	f.state = over
	s.flying--
	n := 0
	for n < len(s.window) && s.window[n].state == over {
		n++
	}
	if n == len(s.window) {
		s.window = s.window[:0]
		if cap(s.window) > 64 {
			s.window = nil
		}
		return
	}
	if n >= 32 || n > len(s.window)/2 {
		s.window = s.window[:copy(s.window, s.window[n:])]
	}
}
