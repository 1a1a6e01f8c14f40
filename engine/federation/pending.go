package federation

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
)

// Events that lack what they follow wait on the disk until a filler has fetched
// it. Other servers do not send an event again because of what its result said,
// so what is dropped here is found only when something follows it.

// Bounds of what waits.
const (
	maxPendingRoom  = 1000     // events of one room
	maxPendingPeer  = 600      // of those, what one server has sent
	maxPendingAway  = 50       // of those, what servers have sent that are not in the room
	maxPending      = 8000     // events of all rooms: about 300 bytes of memory each
	maxPendingBytes = 32 << 20 // of all rooms, on the disk
	maxFillers      = 6        // rooms that are worked on at once
	firstWait       = 15 * time.Second
	mostWait        = 30 * time.Minute
	maxTries        = 40               // about a day
	passTime        = 10 * time.Second // then another room has its turn
)

// row is one event that waits.
type row struct {
	room   room.Num
	num    uint64
	origin mxid.Server
	came   int64 // milliseconds
	next   int64 // not tried before, milliseconds
	tries  uint64
	id     mxid.EventID
	json   []byte
}

func (r *row) key() []byte {
	return store.U64(store.U32(store.Pending.Key(nil), uint32(r.room)), r.num)
}

func (r *row) appendTo(dst []byte) []byte {
	dst = append(dst, 1)
	for _, v := range [...]uint64{uint64(r.came), uint64(r.next), r.tries} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, s := range [...]string{string(r.origin), string(r.id)} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return append(dst, r.json...)
}

func (r *row) parse(key, val []byte) error {
	bad := fault.E(fault.Corrupt, "federation", "a row of an event that waits is of unknown form")
	if len(key) != 13 || len(val) == 0 || val[0] != 1 {
		return bad
	}
	r.room, r.num = room.Num(binary.BigEndian.Uint32(key[1:])), binary.BigEndian.Uint64(key[5:])
	val = val[1:]
	uint := func() (v uint64) {
		v, n := binary.Uvarint(val)
		if n <= 0 {
			val, n = nil, 0
		}
		val = val[n:]
		return v
	}
	text := func() string {
		n := min(uint(), uint64(len(val)))
		s := string(val[:n])
		val = val[n:]
		return s
	}
	r.came, r.next, r.tries = int64(uint()), int64(uint()), uint()
	r.origin, r.id = mxid.Server(text()), mxid.EventID(text())
	if len(val) == 0 {
		return bad
	}
	r.json = slices.Clone(val)
	return nil
}

// pending is the rooms with events that wait, and the fillers that work on them.
type pending struct {
	f      *Federation
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	last    uint64 // number of the newest row
	count   int
	bytes   int
	rooms   map[room.Num]*queue
	running int
	ready   []room.Num // wait for a filler
}

// queue is one room's.
type queue struct {
	rows  map[uint64]*waiting
	ids   map[mxid.EventID]struct{}
	wants map[mxid.EventID]uint64 // an event that one of them lacks, and which
	busy  bool                    // a filler works on it, or it stands in ready
	again bool                    // something came meanwhile
	timer *time.Timer             // the next try; nil where none is planned
}

// waiting is what is in memory of a row.
type waiting struct {
	id, lacks mxid.EventID
	origin    mxid.Server
	away      bool // the origin was not in the room
	bytes     int
	next      int64
	tries     uint64
	due       bool // what it lacked has come
}

// before says which of two rows that may be tried is.
func (w *waiting) before(num uint64, other *waiting, otherNum uint64) bool {
	if w.due != other.due {
		return w.due
	}
	return w.tries < other.tries || w.tries == other.tries && num < otherNum
}

// openPending finds what waits since the last run and goes on with it.
func (f *Federation) openPending() (*pending, error) {
	p := &pending{f: f, rooms: map[room.Num]*queue{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if f.Store == nil {
		return p, nil
	}
	err := f.Store.ScanPrefix(store.Pending.Prefix(), func(key, val []byte) (bool, error) {
		var r row
		if err := r.parse(key, val); err != nil {
			return false, err
		}
		p.last = max(p.last, r.num)
		p.add(&r, lacking{})
		return true, nil
	})
	if err != nil {
		p.cancel()
		return nil, err
	}
	for num := range p.rooms {
		p.kick(num)
	}
	return p, nil
}

// close ends the fillers. What waits goes on after the next start.
func (p *pending) close() {
	p.cancel()
	p.mu.Lock()
	for _, q := range p.rooms {
		if q.timer != nil {
			q.timer.Stop()
		}
	}
	p.mu.Unlock()
	p.work.Wait()
}

// goes runs what need not be waited for, until close.
func (p *pending) goes(f func(ctx context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() == nil {
		p.work.Go(func() { f(p.ctx) })
	}
}

// add counts a row in. p.mu is held, or nobody else knows p yet.
func (p *pending) add(r *row, l lacking) {
	q := p.rooms[r.room]
	if q == nil {
		q = &queue{rows: map[uint64]*waiting{}, ids: map[mxid.EventID]struct{}{}, wants: map[mxid.EventID]uint64{}}
		p.rooms[r.room] = q
	}
	q.rows[r.num] = &waiting{id: r.id, lacks: l.lacks, origin: r.origin, away: l.away, bytes: len(r.json), next: r.next, tries: r.tries}
	q.ids[r.id] = struct{}{}
	if l.lacks != "" {
		q.wants[l.lacks] = r.num
	}
	p.bytes += len(r.json)
	p.count++
}

// lacking is an event that has to wait, and an event that it lacks.
type lacking struct {
	e     *event.Event
	lacks mxid.EventID
	away  bool // it came from a server that is not in the room
}

// full says whether a server has put aside as much in the room as it may. Everybody
// may send events of a room, and sign them: what servers send that are not in it
// must not take the place of what those send that are.
func (q *queue) full(origin mxid.Server, away bool) bool {
	if len(q.ids) >= maxPendingRoom {
		return true
	}
	from, outside := 0, 0
	for _, w := range q.rows {
		if w.origin == origin {
			from++
		}
		if w.away {
			outside++
		}
	}
	return from >= maxPendingPeer || away && outside >= maxPendingAway
}

// admit makes rows of events that are to wait, as far as there is place for them
// and they do not wait already. The caller writes them, or drops them. refused are
// those for which there is no place.
func (p *pending) admit(num room.Num, origin mxid.Server, events []lacking, now time.Time) (rows []*row, refused []mxid.EventID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range events {
		full := p.count >= maxPending || p.bytes+len(l.e.JSON) > maxPendingBytes
		if q := p.rooms[num]; q != nil {
			if _, waits := q.ids[l.e.ID]; waits {
				continue
			}
			full = full || q.full(origin, l.away)
		}
		if full {
			refused = append(refused, l.e.ID)
			continue
		}
		p.last++
		r := &row{room: num, num: p.last, origin: origin, came: millis(now), id: l.e.ID, json: l.e.JSON}
		p.add(r, l)
		rows = append(rows, r)
	}
	return rows, refused
}

// drop forgets rows that are not on the disk any more, or never were.
func (p *pending) drop(rows []*row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rows {
		q := p.rooms[r.room]
		if q == nil || q.rows[r.num] == nil {
			continue
		}
		w := q.rows[r.num]
		p.bytes -= w.bytes
		p.count--
		delete(q.rows, r.num)
		delete(q.ids, w.id)
		if q.wants[w.lacks] == r.num {
			delete(q.wants, w.lacks)
		}
		if len(q.rows) == 0 && !q.busy {
			if q.timer != nil {
				q.timer.Stop()
			}
			delete(p.rooms, r.room)
		}
	}
}

// arrived says that events came into a room: what waited for one of them is due.
func (p *pending) arrived(num room.Num, events []mxid.EventID) {
	p.mu.Lock()
	q, due := p.rooms[num], false
	if q != nil {
		for _, id := range events {
			if w := q.rows[q.wants[id]]; w != nil {
				w.next, w.due, due = 0, true, true
			}
		}
	}
	p.mu.Unlock()
	if due {
		p.kick(num)
	}
}

// kick has a room's events looked at, if any wait.
func (p *pending) kick(num room.Num) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.rooms[num]
	if q == nil || p.ctx.Err() != nil {
		return
	}
	if q.busy {
		q.again = true
		return
	}
	q.busy = true
	if p.running >= maxFillers {
		p.ready = append(p.ready, num)
		return
	}
	p.running++
	p.work.Go(func() { p.run(num) })
}

// run works on rooms until none is ready.
func (p *pending) run(num room.Num) {
	for {
		wait := p.pass(num)
		p.mu.Lock()
		q := p.rooms[num]
		switch {
		case p.ctx.Err() != nil:
		case q.again || wait == 0:
			q.again = false
			p.ready = append(p.ready, num)
		case len(q.rows) == 0:
			delete(p.rooms, num)
		default:
			q.busy = false
			if q.timer != nil {
				q.timer.Stop()
			}
			q.timer = time.AfterFunc(wait, func() { p.kick(num) })
		}
		if len(p.ready) == 0 || p.ctx.Err() != nil {
			p.running--
			p.mu.Unlock()
			return
		}
		num = p.ready[0]
		p.ready = p.ready[1:]
		p.mu.Unlock()
	}
}

// pass looks once at the events of a room that are due, and says how long it is
// until the next is: 0 where others have to have their turn first.
func (p *pending) pass(num room.Num) time.Duration {
	for began := time.Now(); p.ctx.Err() == nil; {
		r, soonest, err := p.due(num)
		if err != nil {
			p.f.o.Log("an event that waits in room %d cannot be read: %v", num, err)
			return mostWait
		}
		if r == nil {
			return time.Duration(max(soonest-millis(p.f.o.Now()), 100)) * time.Millisecond
		}
		next := p.settle(r)
		p.mu.Lock()
		p.rooms[num].putOff(r, next)
		p.mu.Unlock()
		if time.Since(began) > passTime {
			return 0
		}
	}
	return mostWait
}

// putOff notes when an event is tried again, and has what its server has sent
// besides wait with it: what is to be had of that server shows with the next try.
// p.mu is held.
func (q *queue) putOff(r *row, next int64) {
	w := q.rows[r.num]
	if w == nil {
		return
	}
	w.next, w.tries, w.due = next, r.tries, false
	for _, other := range q.rows {
		if other.origin == r.origin && !other.due {
			other.next = max(other.next, next)
		}
	}
}

// next finds the row that is due and was tried least, of those the oldest; 0 where
// none is, with the time of the next. p.mu is held.
func (q *queue) next(now int64) (first uint64, soonest int64) {
	soonest = now + mostWait.Milliseconds()
	for n, w := range q.rows {
		if w.next > now {
			soonest = min(soonest, w.next)
		} else if first == 0 || w.before(n, q.rows[first], first) {
			first = n
		}
	}
	return first, soonest
}

// due reads the row of a room that is to be tried next. Where none is, it gives the
// time of the next.
func (p *pending) due(num room.Num) (r *row, soonest int64, err error) {
	p.mu.Lock()
	first, soonest := p.rooms[num].next(millis(p.f.o.Now()))
	p.mu.Unlock()
	if first == 0 {
		return nil, soonest, nil
	}
	r = &row{room: num, num: first}
	key := r.key()
	val, ok, err := p.f.Store.Get(nil, key)
	if err == nil && !ok {
		err = fault.E(fault.Corrupt, "federation", "the row is gone")
	}
	if err == nil {
		err = r.parse(key, val)
	}
	return r, soonest, err
}

// settle tries to bring one event into its room, and gives the time of the next
// try where it has to wait on; 0 where it is done with.
func (p *pending) settle(r *row) (next int64) {
	err := p.f.fillGap(p.ctx, r)
	if p.ctx.Err() != nil {
		return 0
	}
	b := p.f.Store.NewBatch()
	if err != nil && (fault.Is(err, fault.Remote) || ours(err)) && r.tries+1 < maxTries {
		r.tries++
		wait := min(firstWait<<min(r.tries-1, 20), mostWait)
		r.next = millis(p.f.o.Now()) + wait.Milliseconds()
		b.Set(r.key(), r.appendTo(nil))
		if err := p.f.Store.Apply(b); err != nil {
			p.f.o.Log("an event that waits: %v", err)
		}
		return r.next
	}
	if err != nil {
		p.f.o.Log("the event %s that %s sent is dropped: %v", r.id, r.origin, err)
	}
	b.Delete(r.key())
	b.Frees()
	if err := p.f.Store.Apply(b); err != nil {
		p.f.o.Log("an event that waited: %v", err)
		return millis(p.f.o.Now()) + mostWait.Milliseconds()
	}
	p.drop([]*row{r})
	return 0
}

// Waiting counts the events that wait for what they follow, for metrics.
func (f *Federation) Waiting() int {
	f.in.pending.mu.Lock()
	defer f.in.pending.mu.Unlock()
	return f.in.pending.count
}
