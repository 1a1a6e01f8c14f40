// Package ephemeral keeps what is told about a room or a user without being an
// event: who is typing, who is there, who has read how far.
//
// Typing and presence live in memory. Each change of them takes the next number
// of one counter, which means something only together with the boot id of this
// process; sync tokens carry both. Receipts are durable: the newest row for each
// room, user, type and thread, found by the position of its last change, and
// never a history of them.
//
// It refuses to know a room's members. Who is to be woken by a change is for the
// caller: receipts say whether they changed, typing and presence are told by Run.
// What is lost in a crash is who was typing, and who was there; status messages
// are kept.
package ephemeral

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/store"
)

// Options are what the records are opened with.
type Options struct {
	Now func() time.Time // nil: time.Now
}

// Records is the open record. All methods may be called at the same time.
type Records struct {
	st    *store.Store
	names *store.Names
	now   func() time.Time
	boot  uint64
	kick  chan struct{} // tells Run to look again
	moved atomic.Uint64 // position of the newest change of a receipt in this process's life

	mu       sync.Mutex // guards all below
	seq      uint64     // of the last change of typing or presence
	typing   map[uint32]*typists
	present  map[uint32]*person
	lastSeen uint64    // of the last change of presence
	newRooms []uint32  // rooms whose typists changed, not told yet
	newUsers []uint32  // users whose presence changed, not told yet
	tellAt   time.Time // when newUsers are told
}

// Stamp is a moment in the life of this process: the boot id and the counter.
// It is part of sync tokens.
type Stamp struct{ Boot, Seq uint64 }

// Open begins with nobody typing and nobody there.
func Open(st *store.Store, names *store.Names, o Options) (*Records, error) {
	r := &Records{st: st, names: names, now: o.Now, kick: make(chan struct{}, 1),
		typing: map[uint32]*typists{}, present: map[uint32]*person{}}
	if r.now == nil {
		r.now = time.Now
	}
	var id [4]byte // short, since every sync token spells it out
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("ephemeral: %w", err)
	}
	r.boot = uint64(binary.BigEndian.Uint32(id[:]))
	return r, nil
}

// Stamp is now.
func (r *Records) Stamp() Stamp {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stamp{r.boot, r.seq}
}

// Since reads a stamp of a token: the counter to look after. Of another
// process's life nothing is known, so everything is new.
func (r *Records) Since(s Stamp) uint64 {
	if s.Boot != r.boot {
		return 0
	}
	return s.Seq
}

// Run tells news until stop is closed: the rooms whose typists changed and the
// users whose presence changed, each time some did. It also ends what has run
// out of time. It belongs to one goroutine of the engine.
func (r *Records) Run(stop <-chan struct{}, news func(rooms, users []uint32)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-r.kick:
		case <-timer.C:
		}
		rooms, users, wait := r.due(r.now())
		if len(rooms)+len(users) > 0 {
			news(rooms, users)
		}
		timer.Reset(wait)
	}
}

// longest is how long Run sleeps where nothing runs out.
const longest = 10 * time.Minute

// due ends what has run out and gives what is to be told now, and how long
// there will be nothing to do.
func (r *Records) due(now time.Time) (rooms, users []uint32, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := now.Add(longest)
	r.expireTyping(now, &next)
	r.expirePresence(now, &next)
	rooms, r.newRooms = r.newRooms, nil
	if len(r.newUsers) > 0 {
		if r.tellAt.After(now) {
			sooner(&next, r.tellAt)
		} else {
			slices.Sort(r.newUsers)
			users, r.newUsers = slices.Compact(r.newUsers), nil
		}
	}
	return rooms, users, max(next.Sub(now), time.Millisecond)
}

func sooner(next *time.Time, t time.Time) {
	if t.Before(*next) {
		*next = t
	}
}

// changed gives a change its number. It needs mu.
func (r *Records) changed() uint64 {
	r.seq++
	select {
	case r.kick <- struct{}{}:
	default: // Run has been told already
	}
	return r.seq
}
