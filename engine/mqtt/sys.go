package mqtt

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// figures count what went through the broker.
type figures struct {
	received, sent, dropped, denied atomic.Uint64
	connects, refused               atomic.Uint64
}

// Figures are counts since the broker began, and what there is now.
type Figures struct {
	Received, Sent uint64 // messages from and to clients
	Dropped        uint64 // QoS 0 messages there was no room for
	Denied         uint64 // publishes and subscriptions without a right
	Connects       uint64
	Refused        uint64 // connections
	Connected      int
	Sessions       int
	Subscriptions  int
	Retained       int
	RetainedBytes  int64
	QueuedBytes    int64 // on disk
	MemoryBytes    int64 // of messages
	Heaviest       Load
}

// Load is what one session makes the broker hold.
type Load struct {
	Name, ClientID string
	Connected      bool
	Messages       int64 // that wait on disk
	Bytes          int64
	Memory         int // bytes that wait in memory
	Dropped        uint64
}

// Figures counts.
func (b *Broker) Figures() Figures {
	f := Figures{
		Received: b.figures.received.Load(), Sent: b.figures.sent.Load(), Dropped: b.figures.dropped.Load(),
		Denied: b.figures.denied.Load(), Connects: b.figures.connects.Load(), Refused: b.figures.refused.Load(),
		Subscriptions: int(b.subs.Load()), QueuedBytes: b.queued.Load(), MemoryBytes: b.memory.Load(),
	}
	b.keep.mu.Lock()
	f.Retained, f.RetainedBytes = b.keep.count, b.keep.size
	for _, h := range b.keep.waiting {
		if h.fresh && h.m != nil {
			f.Retained++
		}
	}
	b.keep.mu.Unlock()
	for _, l := range b.Loads(1) {
		f.Heaviest = l
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f.Sessions = len(b.sessions)
	for _, s := range b.sessions {
		s.mu.Lock()
		if s.link != nil {
			f.Connected++
		}
		s.mu.Unlock()
	}
	return f
}

// Loads gives the n sessions that hold most, the heaviest first.
func (b *Broker) Loads(n int) []Load {
	var all []Load
	b.mu.Lock()
	for _, s := range b.sessions {
		s.mu.Lock()
		all = append(all, Load{
			Name: s.owner(), ClientID: s.client, Connected: s.link != nil,
			Messages: s.count, Bytes: s.onDisk, Memory: s.inMemory, Dropped: s.dropped,
		})
		s.mu.Unlock()
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y Load) int { return int(y.Bytes + int64(y.Memory) - x.Bytes - int64(x.Memory)) })
	return all[:min(n, len(all))]
}

// sysEvery is how often $SYS topics are published while somebody listens.
const sysEvery = 10 * time.Second

// sysTopics publishes the figures under $SYS/broker. They are nobody's retained
// messages: values that change all the time have no place on the disk.
type sysTopics struct {
	mu   sync.Mutex
	told time.Time
}

func (b *Broker) tellSys(now time.Time) {
	b.sys.mu.Lock()
	due := now.Sub(b.sys.told) >= sysEvery
	b.sys.mu.Unlock()
	if due && b.tree.any("$SYS") {
		b.sys.tell(b)
	}
}

// tell publishes all figures.
func (t *sysTopics) tell(b *Broker) {
	now := b.o.Now()
	t.mu.Lock()
	t.told = now
	t.mu.Unlock()
	f := b.Figures()
	heavy := ""
	if f.Heaviest.Bytes > 0 {
		heavy = f.Heaviest.Name + " " + f.Heaviest.ClientID + " " + strconv.FormatInt(f.Heaviest.Bytes, 10)
	}
	for _, v := range []struct {
		topic string
		n     int64
		text  string
	}{
		{topic: "version", text: "hearth"},
		{topic: "uptime", n: int64(now.Sub(b.began) / time.Second)},
		{topic: "clients/connected", n: int64(f.Connected)},
		{topic: "clients/total", n: int64(f.Sessions)},
		{topic: "clients/refused", n: int64(f.Refused)},
		{topic: "messages/received", n: int64(f.Received)},
		{topic: "messages/sent", n: int64(f.Sent)},
		{topic: "messages/dropped", n: int64(f.Dropped)},
		{topic: "messages/denied", n: int64(f.Denied)},
		{topic: "subscriptions/count", n: int64(f.Subscriptions)},
		{topic: "retained/count", n: int64(f.Retained)},
		{topic: "queues/bytes", n: f.QueuedBytes},
		{topic: "queues/memory", n: f.MemoryBytes},
		{topic: "queues/heaviest", text: heavy},
	} {
		if v.text == "" && v.topic != "queues/heaviest" {
			v.text = strconv.FormatInt(v.n, 10)
		}
		p := &publication{m: &Message{Topic: "$SYS/broker/" + v.topic, Payload: []byte(v.text)}, kept: true}
		p.left.Store(1)
		f := fans.Get().(*fan)
		b.fanOut(p, f)
		for i := range f.targets {
			f.targets[i].s.give(p, &f.targets[i])
		}
		f.release()
	}
}
