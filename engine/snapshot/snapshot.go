// Package snapshot keeps the state of rooms at their events: sets of pairs
// (interned type and state key, event number), each stored as a short
// difference to its parent or, after a bounded chain of those, whole.
//
// A snapshot is written once and never changed. Snapshots end with their room,
// all at once, or when who removes a room's history has looked which are needed, so
// no reference count is written on the way of every event (the counts would cost a
// row for each message).
package snapshot

import (
	"encoding/binary"
	"slices"
	"sync"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// Num names a snapshot within its room. 0 is the unknown state, which is never
// read as an empty one.
type Num uint32

// Pair is one entry of a room's state. In a difference an Event of 0 says that
// the key is no longer there.
type Pair struct {
	Key   uint32 // store.StateKeys number of type and state key
	Event uint64 // event number
}

// Set is the state of a room, sorted by key. Sets are shared and never
// written to.
type Set []Pair

// Get finds the event of a key; 0 where there is none.
func (s Set) Get(key uint32) uint64 {
	i, ok := slices.BinarySearchFunc(s, key, byKey)
	if !ok {
		return 0
	}
	return s[i].Event
}

func byKey(p Pair, key uint32) int {
	switch {
	case p.Key < key:
		return -1
	case p.Key > key:
		return 1
	}
	return 0
}

// With is the set after a difference, which need not be sorted.
func (s Set) With(delta []Pair) Set {
	out := make(Set, len(s), len(s)+len(delta))
	copy(out, s)
	for _, d := range delta {
		i, ok := slices.BinarySearchFunc(out, d.Key, byKey)
		switch {
		case ok && d.Event == 0:
			out = slices.Delete(out, i, i+1)
		case ok:
			out[i].Event = d.Event
		case d.Event != 0:
			out = slices.Insert(out, i, d)
		}
	}
	return out
}

// Diff is what turns a into b.
func Diff(a, b Set) []Pair {
	var out []Pair
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case j == len(b) || i < len(a) && a[i].Key < b[j].Key:
			out = append(out, Pair{Key: a[i].Key})
			i++
		case i == len(a) || b[j].Key < a[i].Key:
			out = append(out, b[j])
			j++
		default:
			if a[i].Event != b[j].Event {
				out = append(out, b[j])
			}
			i, j = i+1, j+1
		}
	}
	return out
}

// Ref is a snapshot with its place in the chain, which decides how its
// children are written.
type Ref struct {
	Num   Num
	Depth uint32 // differences between it and the nearest whole one
}

// chain is how many differences may follow each other: long chains save
// writes, short ones reads; the larger the set the dearer a whole copy.
func chain(size int) uint32 { return uint32(min(max(size/16, 16), 128)) }

// Next says where in its chain a snapshot will stand: a difference of delta
// pairs to its parent, or whole, with depth 0.
func Next(parent Ref, num Num, delta, full int) Ref {
	if parent.Num != 0 && parent.Depth < chain(full) && delta < full/2+1 {
		return Ref{Num: num, Depth: parent.Depth + 1}
	}
	return Ref{Num: num}
}

// Put writes the snapshot num, which is full and differs from its parent by
// delta, as Next has it. A parent of 0 has it written whole.
func Put(b *store.Batch, room uint32, num Num, parent Ref, delta []Pair, full Set) Ref {
	ref := Next(parent, num, len(delta), len(full))
	val := make([]byte, 0, 16+6*len(delta))
	pairs := []Pair(full)
	if ref.Depth > 0 {
		val = binary.AppendUvarint(val, uint64(parent.Num))
		pairs = delta
	} else {
		val = append(val, 0)
	}
	val = binary.AppendUvarint(val, uint64(ref.Depth))
	for _, p := range pairs {
		val = binary.AppendUvarint(val, uint64(p.Key))
		val = binary.AppendUvarint(val, p.Event)
	}
	b.Set(key(nil, room, num), val)
	return ref
}

func key(dst []byte, room uint32, num Num) []byte {
	return store.U32(store.U32(store.Snapshot.Key(dst), room), uint32(num))
}

// row is a parsed snapshot row.
type row struct {
	parent Num
	depth  uint32
	pairs  []byte
}

func (r *row) parse(val []byte) error {
	parent, n := binary.Uvarint(val)
	depth, m := binary.Uvarint(val[max(n, 0):])
	if n <= 0 || m <= 0 {
		return fault.E(fault.Corrupt, "snapshot", "a cut row")
	}
	r.parent, r.depth, r.pairs = Num(parent), uint32(depth), val[n+m:]
	return nil
}

// each calls f for the row's pairs until it returns false.
func (r *row) each(f func(Pair) bool) error {
	for src := r.pairs; len(src) > 0; {
		k, n := binary.Uvarint(src)
		e, m := binary.Uvarint(src[max(n, 0):])
		if n <= 0 || m <= 0 {
			return fault.E(fault.Corrupt, "snapshot", "a cut pair")
		}
		if !f(Pair{uint32(k), e}) {
			return nil
		}
		src = src[n+m:]
	}
	return nil
}

// Snapshots reads snapshots, with a small cache of whole sets.
type Snapshots struct {
	st *store.Store

	mu    sync.Mutex
	cache []cached // most recently used last
	pairs int      // held by the cache
	epoch uint64   // counts the rooms forgotten, so that a set read before is not kept after
	limit int
}

type cached struct {
	room uint32
	num  Num
	set  Set
}

const pairBytes = 16

// New makes a reader whose cache holds at most cacheBytes of pairs.
func New(st *store.Store, cacheBytes int) *Snapshots {
	return &Snapshots{st: st, limit: cacheBytes / pairBytes}
}

func (s *Snapshots) read(room uint32, num Num, buf []byte, r *row) ([]byte, error) {
	var kbuf [9]byte
	val, ok, err := s.st.Get(buf[:0], key(kbuf[:0], room, num))
	if err != nil {
		return buf, err
	}
	if !ok {
		return buf, fault.E(fault.Corrupt, "snapshot", "snapshot %d of room %d is missing", num, room)
	}
	return val, r.parse(val)
}

// Ref finds a snapshot's place in its chain. num must not be 0.
func (s *Snapshots) Ref(room uint32, num Num) (Ref, error) {
	var r row
	_, err := s.read(room, num, nil, &r)
	return Ref{Num: num, Depth: r.depth}, err
}

// Get finds one key's event in a snapshot without building the whole set; 0
// where the key is not there. num must not be 0.
func (s *Snapshots) Get(room uint32, num Num, key uint32) (uint64, error) {
	if set, ok := s.cached(room, num); ok {
		return set.Get(key), nil
	}
	var vbuf [256]byte
	buf := vbuf[:0]
	var r row
	for {
		var err error
		if buf, err = s.read(room, num, buf, &r); err != nil {
			return 0, err
		}
		found, event := false, uint64(0)
		if err := r.each(func(p Pair) bool {
			if p.Key == key {
				found, event = true, p.Event
			}
			return !found
		}); err != nil {
			return 0, err
		}
		if found || r.parent == 0 {
			return event, nil
		}
		num = r.parent
	}
}

// Load gives the whole set of a snapshot. num must not be 0.
func (s *Snapshots) Load(room uint32, num Num) (Set, error) {
	if set, ok := s.cached(room, num); ok {
		return set, nil
	}
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	var deltas [][]Pair
	var base Set
	for n := num; ; {
		if set, ok := s.cached(room, n); ok {
			base = set
			break
		}
		var r row
		if _, err := s.read(room, n, nil, &r); err != nil {
			return nil, err
		}
		var pairs []Pair
		if err := r.each(func(p Pair) bool { pairs = append(pairs, p); return true }); err != nil {
			return nil, err
		}
		if r.parent == 0 {
			base = pairs
			break
		}
		deltas = append(deltas, pairs)
		n = r.parent
	}
	for _, d := range slices.Backward(deltas) {
		base = base.With(d)
	}
	s.keep(room, num, base, epoch)
	return base, nil
}

func (s *Snapshots) cached(room uint32, num Num) (Set, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range slices.Backward(s.cache) {
		if c.room == room && c.num == num {
			s.cache = append(slices.Delete(s.cache, i, i+1), c)
			return c.set, true
		}
	}
	return nil, false
}

// cacheSets bounds how many sets are looked through.
const cacheSets = 32

// Forget forgets the sets of a room whose rows are gone: one that comes back
// counts its snapshots anew.
func (s *Snapshots) Forget(room uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.cache = slices.DeleteFunc(s.cache, func(c cached) bool {
		if c.room == room {
			s.pairs -= len(c.set)
		}
		return c.room == room
	})
}

func (s *Snapshots) keep(room uint32, num Num, set Set, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(set) > s.limit || s.epoch != epoch {
		return
	}
	s.cache = append(s.cache, cached{room, num, set})
	s.pairs += len(set)
	for s.pairs > s.limit || len(s.cache) > cacheSets {
		s.pairs -= len(s.cache[0].set)
		s.cache = slices.Delete(s.cache, 0, 1)
	}
}

// Last is the highest number of a room's snapshots; 0 where it has none.
func (s *Snapshots) Last(room uint32) (Num, error) {
	prefix := store.U32(store.Snapshot.Prefix(), room)
	key, err := s.st.Last(prefix, store.After(prefix))
	if err != nil || len(key) != 9 {
		return 0, err
	}
	return Num(binary.BigEndian.Uint32(key[5:])), nil
}

// Check says what is wrong with a snapshot's row: that it cannot be read, or
// does not continue its parent's chain.
func (s *Snapshots) Check(room uint32, num Num) error {
	var r, parent row
	if _, err := s.read(room, num, nil, &r); err != nil {
		return err
	}
	if err := r.each(func(Pair) bool { return true }); err != nil {
		return err
	}
	if r.parent == 0 {
		if r.depth != 0 {
			return fault.E(fault.Corrupt, "snapshot", "a whole snapshot of depth %d", r.depth)
		}
		return nil
	}
	if _, err := s.read(room, r.parent, nil, &parent); err != nil {
		return err
	}
	if r.depth != parent.depth+1 {
		return fault.E(fault.Corrupt, "snapshot", "depth %d on a parent of depth %d", r.depth, parent.depth)
	}
	return nil
}

// Refers calls f for the pairs in a snapshot's own row, and gives the snapshot that
// it is a difference to; 0 where it is whole.
func (s *Snapshots) Refers(room uint32, num Num, f func(Pair)) (parent Num, err error) {
	var r row
	if _, err := s.read(room, num, nil, &r); err != nil {
		return 0, err
	}
	return r.parent, r.each(func(p Pair) bool {
		f(p)
		return true
	})
}

// Back calls f for the numbers of a room's snapshots, from one downwards, until f
// returns false.
func (s *Snapshots) Back(room uint32, from Num, f func(num Num) (more bool)) error {
	lower := store.U32(store.Snapshot.Prefix(), room)
	return s.st.ScanBack(lower, append(key(nil, room, from), 0), func(k, _ []byte) (bool, error) {
		if len(k) != 9 {
			return false, fault.E(fault.Corrupt, "snapshot", "a key of %d bytes", len(k))
		}
		return f(Num(binary.BigEndian.Uint32(k[5:]))), nil
	})
}

// Drop removes the snapshots with the numbers from one to another, both included.
func Drop(b *store.Batch, room uint32, from, to Num) {
	if from == to {
		b.Delete(key(nil, room, from))
		return
	}
	b.DeleteRange(key(nil, room, from), append(key(nil, room, to), 0))
}
