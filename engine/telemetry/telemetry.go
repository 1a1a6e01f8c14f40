// Package telemetry is the log of what sensors say: samples by topic, in
// compressed columns, kept for a while and no longer. It is no part of any room:
// a room's history is kept for ever and replicated, and one event a second makes
// it unusable in weeks.
//
// Samples wait in memory and are written as one chunk a topic and minute, so that
// a sample costs the disk two or three bytes. What may be lost on a power cut is
// that minute, but for samples whose senders wait for an acknowledgement: those
// are written as they are to a tail within a window, together with all others
// that wait, and then acknowledged. The window is a second for who sends now and
// then; where such samples come all the time it grows to eight, because each
// synced commit costs a flash disk more than a thousand samples.
//
// It refuses to know rooms and mappings; package bridge says which topics are
// kept and how long. Each day ends with one deletion of a range.
package telemetry

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// Bounds of the log.
const (
	maxPayload = 16 << 10
	maxTopics  = 20_000
	maxPending = 4 << 20 // bytes of samples in memory; more are written at once
	maxTopic   = 1024
)

// Options are what a log is opened with.
type Options struct {
	Now    func() time.Time
	Days   int           // samples older than so many days go; 0: 30
	Bytes  int64         // what all samples may take, the oldest days go first; 0: 1 GiB
	Window time.Duration // how long samples may wait in memory; 0: a minute

	// Along is called before samples are written, where not nil: what it writes
	// without a sync of its own goes to the disk with them. A sync costs a disk
	// more than many rows.
	Along func()
}

// Log is the open log. All methods may be called at the same time.
type Log struct {
	st    *store.Store
	o     Options
	names names

	mu      sync.Mutex
	open    map[uint32]*pending // by topic: what is in no chunk
	taken   map[uint32]*pending // what a flush is writing; nil where none is
	bytes   int                 // of samples in open
	waiting []func(error)       // whose samples are in no tail yet
	slots   uint32              // tails on disk
	days    map[uint32]int64    // bytes by day
	keep    func(topic string) int

	wake chan struct{} // holds one where somebody waits for an acknowledgement
	full chan struct{} // holds one where too much is in memory
}

// pending are the samples of one topic that are in no chunk, in order of arrival.
type pending struct {
	list  []Sample
	saved int  // how many of them are in a tail
	wait  bool // one of the others is waited for
}

// Open reads the tails that the last run left, and what days there are.
func Open(st *store.Store, o Options) (*Log, error) {
	if o.Days == 0 {
		o.Days = 30
	}
	if o.Bytes == 0 {
		o.Bytes = 1 << 30
	}
	if o.Window == 0 {
		o.Window = time.Minute
	}
	l := &Log{st: st, o: o, open: map[uint32]*pending{}, days: map[uint32]int64{}, wake: make(chan struct{}, 1), full: make(chan struct{}, 1)}
	l.names = names{st: st, num: map[string]uint32{}, name: map[uint32]string{}}
	if err := l.names.load(); err != nil {
		return nil, err
	}
	if err := l.loadTails(); err != nil {
		return nil, err
	}
	return l, l.loadDays()
}

// KeepDays has f say for how many days the samples of a topic are kept where
// that is less than for all; 0: as all. It is set before Run.
func (l *Log) KeepDays(f func(topic string) int) { l.keep = f }

// Add takes a sample in. Where done is not nil it is called once the sample is on
// disk, or with the error that kept it from there; never where Add gives one.
//
// Errors: TooLarge; Limit where there are too many topics.
func (l *Log) Add(topic string, payload []byte, done func(error)) error {
	const op = "telemetry.Add"
	if len(payload) > maxPayload {
		return fault.E(fault.TooLarge, op, "a sample has at most %d bytes, this one has %d", maxPayload, len(payload))
	}
	s := Sample{l.o.Now().UnixMilli(), slices.Clone(payload)}
	l.mu.Lock()
	defer l.mu.Unlock()
	num, err := l.names.number(topic) // under mu, so that it is not given back meanwhile
	if err != nil {
		return err
	}
	p := l.open[num]
	if p == nil {
		p = &pending{}
		l.open[num] = p
	}
	p.list = append(p.list, s)
	if l.bytes += len(payload) + 48; l.bytes > maxPending {
		poke(l.full)
	}
	if done != nil {
		p.wait = true
		l.waiting = append(l.waiting, done)
		poke(l.wake)
	}
	return nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// The window of acknowledgements: a second while there is credit, of which each
// commit takes one and which comes back at one in eight seconds.
const (
	ackWindow  = time.Second
	ackEvery   = 8 * time.Second
	ackCredits = 60
)

// Run writes what waits until stop is closed, and all of it then. fail is told
// what goes wrong.
func (l *Log) Run(stop <-chan struct{}, fail func(error)) {
	flush := time.NewTicker(l.o.Window)
	defer flush.Stop()
	clean := time.NewTicker(time.Hour)
	defer clean.Stop()
	tell := func(err error) {
		if err != nil && !fault.Is(err, fault.Full) {
			fail(err)
		}
	}
	tell(l.Clean())
	var ack <-chan time.Time
	credit, last := float64(ackCredits), time.Now()
	for {
		select {
		case <-stop:
			tell(l.Flush())
			return
		case <-flush.C:
			tell(l.Flush())
		case <-l.full:
			tell(l.Flush())
		case <-clean.C:
			tell(l.Clean())
		case <-l.wake:
			if ack != nil {
				continue
			}
			credit = min(credit+float64(time.Since(last))/float64(ackEvery), ackCredits)
			last = time.Now()
			wait := ackWindow
			if credit < 1 {
				wait = max(wait, time.Duration((1-credit)*float64(ackEvery)))
			}
			credit--
			ack = time.After(wait)
		case <-ack:
			ack = nil
			tell(l.Acknowledge())
		}
	}
}

// Acknowledge writes the samples that somebody waits for, and tells them.
// Acknowledge, Flush and Clean are for one goroutine at a time: Run's.
func (l *Log) Acknowledge() error {
	l.mu.Lock()
	waiting, slot := l.waiting, l.slots
	l.waiting = nil
	type part struct {
		p    *pending
		upto int
	}
	var parts []part
	var row []byte
	for num, p := range l.open {
		if !p.wait {
			continue
		}
		for list := p.list[p.saved:]; len(list) > 0; {
			one, n := appendChunk(nil, list)
			row = binary.AppendUvarint(row, uint64(num))
			row = append(binary.AppendUvarint(row, uint64(len(one))), one...)
			list = list[n:]
		}
		parts = append(parts, part{p, len(p.list)})
		p.wait = false
	}
	l.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	err := error(nil)
	if len(row) > 0 { // else a flush has written them
		b := l.st.NewBatch()
		b.Set(store.U32(store.ChunkTail.Prefix(), slot), row)
		l.along()
		err = l.st.Commit(b)
	}
	l.mu.Lock()
	for _, part := range parts {
		if err == nil {
			part.p.saved = part.upto
		}
	}
	if err == nil && len(row) > 0 {
		l.slots++
	}
	l.mu.Unlock()
	for _, done := range waiting {
		done(err)
	}
	return err
}

// Flush writes all that waits as chunks. Samples that the disk does not take are
// lost, and whoever waits for one is told.
func (l *Log) Flush() error {
	l.mu.Lock()
	taken, waiting, slots := l.open, l.waiting, l.slots
	l.open, l.taken, l.waiting, l.bytes = map[uint32]*pending{}, taken, nil, 0
	l.mu.Unlock()
	err := error(nil)
	if len(taken) > 0 {
		err = l.write(taken, slots)
	}
	l.mu.Lock()
	l.taken = nil
	if err == nil {
		l.slots = 0
	}
	l.mu.Unlock()
	for _, done := range waiting {
		done(err)
	}
	return err
}

// write puts samples into chunks, and drops the tails that held some of them.
func (l *Log) write(taken map[uint32]*pending, slots uint32) error {
	b := l.st.NewBatch()
	grown := map[uint32]int64{}
	var row []byte
	for num, p := range taken {
		for list := p.list; len(list) > 0; {
			var n int
			same := sameDay(list)
			row, n = appendChunk(row[:0], list[:same])
			first, last := span(list[:n])
			b.Set(chunkKey(num, first, last), row)
			grown[dayOf(first)] += int64(len(row)) + 25
			list = list[n:]
		}
	}
	for slot := range slots {
		b.Delete(store.U32(store.ChunkTail.Prefix(), slot))
	}
	l.mu.Lock()
	for day, n := range grown {
		l.days[day] += n
		b.Set(dayKey(day), binary.AppendUvarint(nil, uint64(l.days[day])))
	}
	l.mu.Unlock()
	l.along()
	return l.st.Commit(b)
}

func (l *Log) along() {
	if l.o.Along != nil {
		l.o.Along()
	}
}

const dayMillis = 24 * 60 * 60 * 1000

func dayOf(at int64) uint32 { return uint32(max(at, 0) / dayMillis) }

// sameDay is how many samples at the front are of one day.
func sameDay(list []Sample) int {
	for i := range list {
		if dayOf(list[i].At) != dayOf(list[0].At) {
			return i
		}
	}
	return len(list)
}

// span is the earliest and the latest time of samples.
func span(list []Sample) (first, last int64) {
	first, last = list[0].At, list[0].At
	for i := range list {
		first, last = min(first, list[i].At), max(last, list[i].At)
	}
	return first, last
}

func dayKey(day uint32) []byte { return store.U32(store.U32(store.Chunk.Prefix(), day), 0) }

func topicKey(day, topic uint32) []byte {
	return store.U32(store.U32(store.Chunk.Prefix(), day), topic)
}

func chunkKey(topic uint32, first, last int64) []byte {
	return store.U64(store.U64(topicKey(dayOf(first), topic), uint64(first)), uint64(last))
}

// loadTails takes up what was acknowledged and is in no chunk yet.
func (l *Log) loadTails() error {
	return l.st.ScanPrefix(store.ChunkTail.Prefix(), func(key, val []byte) (bool, error) {
		if len(key) != 5 {
			return false, corrupt()
		}
		l.slots = max(l.slots, binary.BigEndian.Uint32(key[1:])+1)
		r := reader{src: val}
		for len(r.src) > 0 {
			num := uint32(r.uint())
			c, err := parseChunk(r.bytes(r.uint()))
			if err != nil {
				return false, err
			}
			p := l.open[num]
			if p == nil {
				p = &pending{}
				l.open[num] = p
			}
			for i, at := range c.times {
				p.list = append(p.list, Sample{at, c.appendPayload(nil, i)})
			}
			p.saved = len(p.list)
		}
		if r.bad {
			return false, corrupt()
		}
		return true, nil
	})
}

// loadDays reads how much each day takes, by one look for each day.
func (l *Log) loadDays() error {
	for day := uint32(0); ; day++ {
		found := false
		err := l.st.Scan(dayKey(day), store.After(store.Chunk.Prefix()), func(key, val []byte) (bool, error) {
			if len(key) < 9 {
				return false, corrupt()
			}
			found, day = true, binary.BigEndian.Uint32(key[1:])
			if n, k := binary.Uvarint(val); k > 0 && binary.BigEndian.Uint32(key[5:]) == 0 {
				l.days[day] = int64(n)
			} else {
				l.days[day] = 0
			}
			return false, nil
		})
		if err != nil || !found {
			return err
		}
	}
}
