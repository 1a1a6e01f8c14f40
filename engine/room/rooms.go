package room

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Num is a room's interned number.
type Num uint32

// EventNum is an event's number: given at arrival, never changed. 0 is none.
type EventNum uint64

// Options are what Rooms needs beside its store.
type Options struct {
	Signer     event.Signer     // signs the events made here; its Server is this hub's name
	Now        func() time.Time // the clock; never runs backwards
	CacheBytes int              // parsed events and state sets kept in memory
}

// Rooms is all rooms of the hub.
type Rooms struct {
	st      *store.Store
	log     *stream.Log
	names   *store.Names
	snaps   *snapshot.Snapshots
	opts    Options
	codec   *codec
	cache   *eventCache
	tallies *tallies

	lastEvent atomic.Uint64
	lost      bool          // the store was recovered with a loss: rows may be older than others
	txnDay    atomic.Uint32 // the day of the last transaction row
	txns      txnFilter
	standings standings
	purges    purges
	trims     trims

	outlining sync.Mutex // held while an outline is looked for and made

	loading sync.Mutex // held while a room is read from the disk; taken before mu
	mu      sync.Mutex
	live    map[Num]*live
}

// maxLive bounds the rooms whose head is in memory beyond those in use.
const maxLive = 512

// live is a room in memory.
type live struct {
	num  Num
	id   mxid.RoomID
	v    *event.Version
	refs int // guarded by Rooms.mu

	gone  atomic.Bool
	write sync.Mutex // held by the one Writer
	head  atomic.Pointer[Head]
}

// Head is the present of a room. It is never written to once published.
type Head struct {
	Room    Num
	ID      mxid.RoomID
	Version *event.Version

	State   snapshot.Set // current state
	Joined  int          // members that have joined, local and remote
	Invited int          // members invited
	Local   []uint32     // user numbers of this hub's joined members
	Last    stream.Pos   // position of the last timeline event
	Hole    Key          // the newest hole in the timeline: something is missing before the event there; zero: none
	Levels  *auth.PowerLevels

	create, levels, rules *Event // the state events every check needs; nil where absent
	ext                   []extremity
	rest                  snapshot.Num // state of the ends that were too many; 0: none were. See maxEnds
	snap                  snapshot.Ref
	lastSnap              snapshot.Num
}

// extremity is an event that no other event of the room points at yet.
type extremity struct {
	num   EventNum
	id    mxid.EventID
	depth int64
}

// Extremities are the events that no other event of the room follows yet, and
// the greatest depth among them: what the next event follows.
func (h *Head) Extremities() (ids []mxid.EventID, depth int64) {
	for _, x := range h.ext {
		ids, depth = append(ids, x.id), max(depth, x.depth)
	}
	return ids, depth
}

// Open makes the rooms of a store available.
func Open(st *store.Store, log *stream.Log, names *store.Names, opts Options) (*Rooms, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	r := &Rooms{
		st: st, log: log, names: names, opts: opts, codec: c,
		snaps: snapshot.New(st, opts.CacheBytes/4),
		cache: newEventCache(opts.CacheBytes - opts.CacheBytes/4), tallies: newTallies(),
		live: map[Num]*live{},
		txns: txnFilter{st: st},
	}
	for _, t := range [...]store.Table{store.StateBody, store.OtherBody} {
		key, err := st.Last(t.Prefix(), store.After(t.Prefix()))
		if err != nil {
			return nil, err
		}
		if len(key) == 9 {
			r.lastEvent.Store(max(r.lastEvent.Load(), binary.BigEndian.Uint64(key[1:])))
		}
	}
	floor, err := st.Floor(store.FloorEvent)
	if err != nil {
		return nil, err
	}
	r.lost = floor > 0
	r.lastEvent.Store(max(r.lastEvent.Load(), floor))
	return r, errors.Join(r.readPurges(), r.readTrims())
}

// Server is the name of this hub.
func (r *Rooms) Server() mxid.Server { return r.opts.Signer.Server }

// Find gives a room's number; NotFound where this hub does not know the room.
func (r *Rooms) Find(id mxid.RoomID) (Num, error) {
	num, err := r.names.Find(store.Rooms, string(id))
	if err != nil {
		return 0, err
	}
	if num != 0 {
		ok, err := r.st.Has(roomKey(nil, Num(num)))
		if err != nil {
			return 0, err
		}
		if ok {
			return Num(num), nil
		}
	}
	return 0, fault.E(fault.NotFound, "room.Find", "no such room")
}

// Head gives the present of a room.
func (r *Rooms) Head(num Num) (*Head, error) {
	l, err := r.acquire(num)
	if err != nil {
		return nil, err
	}
	defer r.release(l)
	return l.head.Load(), nil
}

// Settled waits until everything in the head is on disk, so that it may be told.
func (r *Rooms) Settled(h *Head) { r.log.WaitTip(h.Last) }

// SettledAt is Settled for what was read of members: the newest of their
// positions.
func (r *Rooms) SettledAt(pos stream.Pos) { r.log.WaitTip(pos) }

// acquire gives the room's object in memory, loading it where needed. release
// has to follow.
func (r *Rooms) acquire(num Num) (*live, error) {
	if l := r.inUse(num); l != nil {
		return l, nil
	}
	// One room at a time is read, and looked for again before: a head that was
	// read before another's commit must not take that one's place. Reading asks
	// for other rooms' versions, so mu is free meanwhile.
	r.loading.Lock()
	defer r.loading.Unlock()
	if l := r.inUse(num); l != nil {
		return l, nil
	}
	l, err := r.load(num)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict()
	l.refs++
	r.live[num] = l
	return l, nil
}

// inUse gives the room's object where it is in memory, held for the caller.
func (r *Rooms) inUse(num Num) *live {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live[num]
	if l != nil {
		l.refs++
	}
	return l
}

func (r *Rooms) release(l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.refs--
}

// evict makes place for one more room. Map order is random enough: a room in
// use is loaded again in a few reads.
func (r *Rooms) evict() {
	if len(r.live) < maxLive {
		return
	}
	for num, l := range r.live {
		if l.refs == 0 {
			delete(r.live, num)
			return
		}
	}
}

// load reads a room's head from the disk.
func (r *Rooms) load(num Num) (*live, error) {
	val, ok, err := r.st.Get(nil, roomKey(nil, num))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.E(fault.NotFound, "room.load", "no such room")
	}
	id, err := r.names.Name(store.Rooms, uint32(num))
	if err != nil {
		return nil, err
	}
	h := &Head{Room: num, ID: mxid.RoomID(id)}
	if err := h.parse(val); err != nil {
		return nil, err
	}
	if r.lost {
		// The room's row may be an older one; no snapshot is written over.
		last, err := r.snaps.Last(uint32(num))
		if err != nil {
			return nil, err
		}
		h.lastSnap = max(h.lastSnap, last)
	}
	if h.snap.Num != 0 { // else an outline, which has no state
		if h.State, err = r.snaps.Load(uint32(num), h.snap.Num); err != nil {
			return nil, err
		}
	}
	if h.Local, err = r.localMembers(num); err != nil {
		return nil, err
	}
	// Where all of the history was removed the hole is behind the last event.
	if h.Hole, err = r.lastHole(num, After(h.Last).Next()); err != nil {
		return nil, err
	}
	if err := r.resolveLevels(h); err != nil {
		return nil, err
	}
	l := &live{num: num, id: h.ID, v: h.Version}
	l.head.Store(h)
	return l, nil
}

// resolveLevels fills in the state events every check needs.
func (r *Rooms) resolveLevels(h *Head) (err error) {
	for _, f := range [...]struct {
		to  **Event
		typ string
	}{{&h.create, "m.room.create"}, {&h.levels, "m.room.power_levels"}, {&h.rules, "m.room.join_rules"}} {
		if *f.to, err = r.stateOf(h.State, f.typ, ""); err != nil {
			return err
		}
	}
	h.Levels = auth.ParsePowerLevels(plain(h.create), plain(h.levels))
	return nil
}

// plain gives the event itself; nil stays nil.
func plain(e *Event) *event.Event {
	if e == nil {
		return nil
	}
	return e.Event
}

// stateOf finds a state event in a set; nil where there is none.
func (r *Rooms) stateOf(set snapshot.Set, typ, stateKey string) (*Event, error) {
	key, err := r.names.Find(store.StateKeys, stateName(typ, stateKey))
	if err != nil || key == 0 {
		return nil, err
	}
	num := set.Get(key)
	if num == 0 {
		return nil, nil
	}
	return r.Event(EventNum(num))
}

func stateName(typ, stateKey string) string { return typ + "\x00" + stateKey }

// newestWithin is how many entries of the log are looked at for an event of our
// own. Where all are of others, those that follow ours carry the clock no more.
const newestWithin = 50_000

// Newest is the time of the newest event that was made here, the zero time where
// none of those at the end of the log was. The times of others' events prove
// nothing: any server may write 2100 into one.
func (r *Rooms) Newest() (newest time.Time, err error) {
	entries, bodies := newestWithin, 100 // a body may be gone, or damaged
	var failed error
	err = r.log.ReadBack(0, r.log.Tip(), func(_ stream.Pos, e *stream.Entry) (more bool) {
		entries--
		if e.Kind != stream.RoomEvent || e.Flags&stream.FlagLocal == 0 {
			return entries > 0
		}
		bodies--
		ev, err := r.Event(EventNum(e.Event))
		switch {
		case err == nil:
			newest = time.UnixMilli(ev.Time)
		case fault.Is(err, fault.Corrupt), fault.Is(err, fault.NotFound):
			return entries > 0 && bodies > 0
		default:
			failed = err
		}
		return false
	})
	return newest, errors.Join(err, failed)
}

// All calls f for the rooms with numbers above after, in order, until f returns
// false.
func (r *Rooms) All(after Num, f func(num Num) (more bool)) error {
	return r.st.Scan(roomKey(nil, after+1), store.After(store.RoomRow.Prefix()), func(key, _ []byte) (bool, error) {
		return f(Num(binary.BigEndian.Uint32(key[1:]))), nil
	})
}
