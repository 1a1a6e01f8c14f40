// Package stream is the spine of Hearth: one ordered log on disk. Everything
// that somebody must be told about becomes an entry with the next position, in
// the same batch as the rows it changes; whoever has to be told reads on from a
// cursor of its own.
//
// The tip is the highest position up to which everything is on disk. Pebble
// shows a batch to readers before its sync is done, so nobody reads past the
// tip: what left the process is never lost. Positions are given, and batches
// applied, in one order under one lock; the sync is waited for outside it, so
// many commits share one.
package stream

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"hearth/engine/store"
)

// Pos is a position in the log. The first entry has position 1.
type Pos uint64

// Log is the open log.
type Log struct {
	st  *store.Store
	tip atomic.Uint64

	mu   sync.Mutex // held from giving positions until the batch is applied
	last Pos        // highest position given

	recent recent // the newest entries, for readers that are close behind

	wakeMu  sync.Mutex
	pending []pendingWake        // in order of position, not yet at the tip
	parked  map[uint32][]*Parked // by user
	changed chan struct{}        // closed when the tip moves; nil while nobody asks

	followers []*Follower
}

type pendingWake struct {
	pos   Pos
	users [][]uint32
}

// Open reads where the log ends.
func Open(st *store.Store) (*Log, error) {
	l := &Log{st: st, parked: map[uint32][]*Parked{}}
	prefix := store.Log.Prefix()
	key, err := st.Last(prefix, store.After(prefix))
	if err != nil {
		return nil, err
	}
	if len(key) == 9 {
		l.last = Pos(binary.BigEndian.Uint64(key[1:]))
	}
	floor, err := st.Floor(store.FloorPos)
	if err != nil {
		return nil, err
	}
	l.last = max(l.last, Pos(floor))
	l.tip.Store(uint64(l.last))
	return l, nil
}

// Tip is the highest position that readers may look at.
func (l *Log) Tip() Pos { return Pos(l.tip.Load()) }

// Tx is a batch on its way into the log. It is alive during the call that was
// handed it.
type Tx struct {
	*store.Batch
	l    *Log
	pos  Pos
	wake [][]uint32
	put  []recentEntry
	then func()
}

// Put gives the entry the next position and writes it.
func (tx *Tx) Put(e *Entry) Pos {
	tx.pos++
	row := e.appendTo(make([]byte, 0, 24+len(e.Diff)))
	var kbuf [9]byte
	tx.Set(store.U64(store.Log.Key(kbuf[:0]), uint64(tx.pos)), row)
	tx.put = append(tx.put, recentEntry{tx.pos, row})
	return tx.pos
}

// Next is the position the next Put will give.
func (tx *Tx) Next() Pos { return tx.pos + 1 }

// Wake has the parked requests of these users woken when the tip has reached
// this batch. The slice is kept and must not be written to afterwards.
func (tx *Tx) Wake(users ...uint32) {
	if len(users) > 0 {
		tx.wake = append(tx.wake, users)
	}
}

// Then has f called once the batch is applied, still under the log's lock: so
// before the tip can reach the batch, by another's sync too. f must be quick and
// not call the log. There is one f for a batch.
func (tx *Tx) Then(f func()) { tx.then = f }

// Pending is a batch that is applied but perhaps not on disk.
type Pending struct {
	l *Log
	b *store.Batch
	// Pos is the position of the batch's last entry, or of the entry before it where it has none.
	Pos Pos
}

// Begin builds a batch under the log's lock and applies it. fill must be quick:
// whatever is dear (signing, hashing, compressing) is done before. An error of
// fill gives up the batch and the positions. Wait has to follow a nil error;
// until then the caller may let go of its own locks, but must tell nobody.
func (l *Log) Begin(fill func(tx *Tx) error) (Pending, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tx := Tx{Batch: l.st.NewBatch(), l: l, pos: l.last}
	if err := fill(&tx); err != nil {
		tx.Drop()
		return Pending{}, err
	}
	if tx.Empty() {
		tx.Drop()
		return Pending{l: l, Pos: l.last}, nil
	}
	if err := l.st.Start(tx.Batch); err != nil {
		return Pending{}, err
	}
	l.last = tx.pos
	l.recent.add(tx.put)
	if tx.then != nil {
		tx.then()
	}
	if len(tx.wake) > 0 {
		l.wakeMu.Lock()
		l.pending = append(l.pending, pendingWake{tx.pos, tx.wake})
		l.wakeMu.Unlock()
	}
	return Pending{l: l, b: tx.Batch, Pos: tx.pos}, nil
}

// Wait returns when the batch is on disk, and moves the tip.
func (p Pending) Wait() error {
	if p.b == nil {
		if p.l != nil {
			p.l.WaitTip(p.Pos) // nothing to write: it was there, and perhaps not yet on disk
		}
		return nil
	}
	if err := p.b.Wait(); err != nil {
		return err
	}
	p.l.advance(p.Pos)
	return nil
}

// Commit is Begin and Wait, for callers that hold no lock.
func (l *Log) Commit(fill func(tx *Tx) error) (Pos, error) {
	p, err := l.Begin(fill)
	if err != nil {
		return 0, err
	}
	return p.Pos, p.Wait()
}

// advance moves the tip to pos and wakes who waited for it. Batches reach the
// disk in the order they were applied, so when one is there all before it are.
func (l *Log) advance(pos Pos) {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	was := l.Tip()
	if pos <= was {
		return
	}
	l.tip.Store(uint64(pos))
	l.lead(was, pos)
	n := 0
	for n < len(l.pending) && l.pending[n].pos <= pos {
		for _, users := range l.pending[n].users {
			l.tell(users)
		}
		n++
	}
	l.pending = slices.Delete(l.pending, 0, n)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Changed gives a channel that is closed when the tip moves on. Take it before
// reading the tip, or a move between the two is missed.
func (l *Log) Changed() <-chan struct{} {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// Read calls f for the entries after the position after, up to and including
// upto, in order, until f returns false. upto must not be past the tip. The
// entry is valid during the call.
func (l *Log) Read(after, upto Pos, f func(pos Pos, e *Entry) (more bool)) error {
	if after >= upto {
		return nil
	}
	var e Entry
	var room [16]recentEntry
	if rows, ok := l.recent.between(room[:0], after, upto); ok {
		for _, r := range rows {
			if err := e.parse(r.row); err != nil {
				return err
			}
			if !f(r.pos, &e) {
				return nil
			}
		}
		return nil
	}
	var lo, hi [9]byte
	lower := store.U64(store.Log.Key(lo[:0]), uint64(after)+1)
	upper := store.U64(store.Log.Key(hi[:0]), uint64(upto)+1)
	return l.st.Scan(lower, upper, func(key, val []byte) (bool, error) {
		if err := e.parse(val); err != nil {
			return false, err
		}
		return f(Pos(binary.BigEndian.Uint64(key[1:])), &e), nil
	})
}

// ReadBack is Read from the entry at upto back to the one behind after.
func (l *Log) ReadBack(after, upto Pos, f func(pos Pos, e *Entry) (more bool)) error {
	var e Entry
	var lo, hi [9]byte
	lower := store.U64(store.Log.Key(lo[:0]), uint64(after)+1)
	upper := store.U64(store.Log.Key(hi[:0]), uint64(upto)+1)
	return l.st.ScanBack(lower, upper, func(key, val []byte) (bool, error) {
		if err := e.parse(val); err != nil {
			return false, err
		}
		return f(Pos(binary.BigEndian.Uint64(key[1:])), &e), nil
	})
}

// WaitTip returns when the tip has reached pos, which must have been given
// to a batch that is applied.
func (l *Log) WaitTip(pos Pos) {
	for l.Tip() < pos {
		changed := l.Changed()
		if l.Tip() >= pos {
			return
		}
		<-changed
	}
}
