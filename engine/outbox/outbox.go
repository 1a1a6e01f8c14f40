// Package outbox brings what is in the log to those outside who are to have it,
// however long they are away: push gateways, other servers, application services.
//
// It owns where each destination is. All destinations that are in step share one
// cursor; only one that fails, or waits, has a row of its own, with the position
// up to which it has everything, when it is tried next and why it failed. So a
// destination that sleeps costs two small rows, and neither memory nor a
// goroutine, and news for it costs nothing: it reads on from its row. Waits grow
// with the failures and survive restarts; they end when the other side is seen
// alive.
//
// It refuses to know what is delivered: the log has it, and Deliver reads it
// there. Delivery is at least once: the shared cursor on disk may lag behind what
// was delivered, it never runs ahead of it. What fails is tried again with the
// same bounds, so that Deliver can cut the same pieces with the same ids.
package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Deliver brings a destination what there is for it behind from, up to and
// including upto, which is not past the tip. acked says how far it came: between
// from and upto, upto also where there was nothing. An acked beyond from counts
// with an error too. An error asks for another try later; a fault with a Retry is
// not tried earlier than that, and Later is no failure at all. It must end soon
// when ctx does. It runs for several destinations at once, but never twice for one.
type Deliver func(ctx context.Context, dest string, from, upto stream.Pos) (acked stream.Pos, err error)

// Later is an error that only asks to come again at a time of its own.
type Later struct{ At time.Time }

func (l Later) Error() string { return "not before " + l.At.UTC().Format(time.RFC3339) }

// Options are what an outbox is opened with.
type Options struct {
	Name    string // of its rows in the store: short, without NUL
	Deliver Deliver
	Workers int              // deliveries at once; 0: 4
	First   time.Duration    // the wait after a first failure, about; 0: 10 s
	Most    time.Duration    // the longest wait; 0: an hour
	Time    time.Duration    // one delivery may take; 0: a minute
	Now     func() time.Time // nil: time.Now
	Random  func() float64   // in [0,1); nil: math/rand
}

// maxDest bounds the name of a destination.
const maxDest = 512

// Outbox is the destinations of one kind. All methods may be called at the same time.
type Outbox struct {
	st  *store.Store
	log *stream.Log
	o   Options

	ctx    context.Context // ends with the outbox
	cancel context.CancelFunc
	busy   sync.WaitGroup // deliveries

	mu      sync.Mutex
	told    stream.Pos       // the shared cursor: who is not awake and has no row has everything up to here
	saved   stream.Pos       // the shared cursor on disk
	awake   map[string]*line // who is being delivered to, or stands in the queue
	queue   []string         // who waits for a worker
	workers int
	timer   *time.Timer // for the next row that is due, or for saving
	timerAt time.Time   // zero: not running
	saveAt  time.Time   // zero: there is nothing to save
	closed  bool
}

// line is a destination that is awake.
type line struct {
	row
	kept bool       // it has a row on disk
	idle bool       // it is tried before its time, on a guess
	news stream.Pos // there is something for it up to here
}

const (
	// saveEvery and saveAfter are how far, and how long, the shared cursor on disk
	// may lag: what lies between is delivered twice after a crash.
	saveEvery = 256
	saveAfter = 5 * time.Second
	// maxPulled is how many rows that are due are taken up at once.
	maxPulled = 64
)

// Open goes on where the outbox of that name stopped. An outbox that is new
// begins at the tip.
func Open(st *store.Store, log *stream.Log, o Options) (*Outbox, error) {
	o.defaults()
	b := &Outbox{st: st, log: log, o: o, awake: map[string]*line{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	known, err := st.Has(append(store.Cursor.Prefix(), o.cursor()...))
	if err != nil {
		return nil, err
	}
	if b.told, err = log.Cursor(o.cursor()); err != nil {
		return nil, err
	}
	b.told = min(b.told, log.Tip())
	b.mu.Lock()
	defer b.mu.Unlock()
	if !known {
		// It is on disk before anything is told, or a crash would begin at the tip again.
		b.told = log.Tip()
		batch := st.NewBatch()
		stream.SetCursor(batch, o.cursor(), b.told)
		if err := st.Commit(batch); err != nil && !fault.Is(err, fault.Full) {
			return nil, err
		}
	}
	b.saved = b.told
	return b, b.arm()
}

// Told is the position up to which News knows everything: where the reader that
// calls News goes on.
func (b *Outbox) Told() stream.Pos {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told
}

// News says that the log was read up to a position, which is not past the tip,
// and which destinations there is something for since the last time. upto without
// destinations moves the shared cursor on.
func (b *Outbox) News(upto stream.Pos, dests ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if upto <= b.told || b.closed {
		return nil
	}
	for _, dest := range dests {
		if len(dest) > maxDest {
			return errors.New("outbox: the name of a destination is too long")
		}
		if l := b.awake[dest]; l != nil {
			l.news = upto
			continue
		}
		sleeps, err := b.st.Has(b.o.rowKey(dest))
		if err != nil {
			return err
		}
		if !sleeps {
			b.wake(dest, &line{row: row{From: b.told}, news: upto})
		}
	}
	b.told = upto
	return b.saveSoon()
}

// Alive says that a destination was seen: if it waits for its next try, the wait
// is over.
func (b *Outbox) Alive(dest string) error { return b.tryNow(dest, true) }

// Try has a destination tried now that waits for its next try. Where it fails again
// nothing is different from before, and nothing is written: it was only a guess.
func (b *Outbox) Try(dest string) error { return b.tryNow(dest, false) }

func (b *Outbox) tryNow(dest string, anew bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.awake[dest] != nil || len(dest) > maxDest {
		return nil
	}
	r, ok, err := b.o.row(b.st, dest)
	if err != nil || !ok {
		return err
	}
	if anew {
		r.Failures = 0
	}
	b.wake(dest, &line{row: r, kept: true, news: b.told, idle: !anew})
	return nil
}

// State is where a destination is, for people.
type State struct {
	Dest     string
	From     stream.Pos // it has everything up to here
	Failures int        // in a row
	Next     time.Time  // the next try; in the past where it is being tried
	Since    time.Time  // the first of the failures; zero without any
	Error    string     // the last one
}

// Each calls f for the destinations that are not in step, until f returns false.
func (b *Outbox) Each(f func(s *State) (more bool)) error {
	return b.o.each(b.st, "", func(dest string, r *row) bool { return f(r.state(dest)) })
}

// Awake lists the destinations that are being delivered to, or stand in the
// queue, and lack something up to a position. Of those Each may know nothing yet.
func (b *Outbox) Awake(upto stream.Pos) (dests []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for dest, l := range b.awake {
		if l.From < upto {
			dests = append(dests, dest)
		}
	}
	return dests
}

// Of is the state of one destination; ok is false where it is in step.
func (b *Outbox) Of(dest string) (s *State, ok bool, err error) {
	r, ok, err := b.o.row(b.st, dest)
	if err != nil || !ok {
		return nil, false, err
	}
	return r.state(dest), true, nil
}

// Close ends the deliveries and waits for them. What was under way is delivered
// again after the next start.
func (b *Outbox) Close() error {
	b.mu.Lock()
	b.closed = true
	if b.timer != nil {
		b.timer.Stop()
	}
	b.mu.Unlock()
	b.cancel()
	b.busy.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.save(); !fault.Is(err, fault.Full) { // what lies behind is delivered twice
		return err
	}
	return nil
}
