package room

import (
	"encoding/binary"
	"slices"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/stateres"
	"hearth/engine/store"
)

// resolved is the state after several events: that of the one, the common one,
// or the resolution of all. Spec: rooms v1, v2, v12, state resolution.
func (w *Writer) resolved(s *staged, ends []*Event) (snapshot.Ref, State, error) {
	nums := make([]snapshot.Num, len(ends))
	for i, e := range ends {
		if e.After == 0 {
			return snapshot.Ref{}, nil, fault.E(fault.Internal, "room.resolve", "the state after %s is not known", e.ID)
		}
		nums[i] = e.After
	}
	return w.resolvedOf(s, nums)
}

// resolvedOf is resolved for states by their numbers, of which some may be the same.
func (w *Writer) resolvedOf(s *staged, all []snapshot.Num) (snapshot.Ref, State, error) {
	var nums []snapshot.Num
	for _, num := range all {
		if !slices.Contains(nums, num) {
			nums = append(nums, num)
		}
	}
	sets := make([]State, len(nums))
	refs := make([]snapshot.Ref, len(nums))
	for i, num := range nums {
		var err error
		if refs[i], sets[i], err = w.stateNum(s, num); err != nil {
			return snapshot.Ref{}, nil, err
		}
	}
	if len(sets) == 0 {
		return snapshot.Ref{}, nil, nil // before the room there is nothing
	}
	set, err := w.resolve(sets)
	if err != nil {
		return snapshot.Ref{}, nil, err
	}
	best := 0
	for i := range sets {
		if slices.Equal(sets[i], set) {
			return refs[i], set, nil
		}
		if len(snapshot.Diff(sets[i], set)) < len(snapshot.Diff(sets[best], set)) {
			best = i
		}
	}
	return w.snapshot(s, refs[best], snapshot.Diff(sets[best], set), set), set, nil
}

// stateNum finds a snapshot that may be staged.
func (w *Writer) stateNum(s *staged, num snapshot.Num) (snapshot.Ref, State, error) {
	if num == w.head.snap.Num {
		return w.head.snap, w.head.State, nil
	}
	for _, list := range [...][]staged{w.staged, {*s}} {
		for i := range list {
			for _, n := range list[i].snaps {
				if n.ref.Num == num {
					return n.ref, n.set, nil
				}
			}
		}
	}
	ref, err := w.r.snaps.Ref(uint32(w.head.Room), num)
	if err != nil {
		return ref, nil, err
	}
	set, err := w.r.snaps.Load(uint32(w.head.Room), num)
	return ref, set, err
}

// resolution hands interned states to package stateres, which knows ids.
type resolution struct {
	w    *Writer
	sets []State
	keys []uint32 // that the sets differ in, sorted
	err  error    // the first of a look-up
}

// resolve joins states by the room version's algorithm.
func (w *Writer) resolve(sets []State) (State, error) {
	if len(sets) == 1 {
		return sets[0], nil
	}
	r := &resolution{w: w, sets: sets}
	conflict, keys, err := r.conflict()
	if err != nil {
		return nil, err
	}
	room := stateres.Room{Version: w.head.Version, Lookup: r.lookup, Rejected: r.denied}
	result := room.ResolveConflict(conflict)
	if r.err != nil {
		return nil, r.err
	}
	// What every set holds stays; of what they do not agree on, the result's.
	var delta []snapshot.Pair
	for _, key := range keys {
		p := snapshot.Pair{Key: key}
		typ, stateKey, err := w.r.KeyName(key)
		if err != nil {
			return nil, err
		}
		k := auth.Key{Type: typ, StateKey: stateKey}
		if id, ok := result[k]; ok {
			e, err := w.byID(id)
			if err != nil {
				return nil, err
			}
			p.Event = uint64(e.Num)
			delete(result, k)
		}
		delta = append(delta, p)
	}
	for k, id := range result { // keys that no set disagreed on, and that changed all the same
		key, err := w.r.names.Number(store.StateKeys, stateName(k.Type, k.StateKey))
		if err != nil {
			return nil, err
		}
		e, err := w.byID(id)
		if err != nil {
			return nil, err
		}
		delta = append(delta, snapshot.Pair{Key: key, Event: uint64(e.Num)})
	}
	return sets[0].With(delta), nil
}

// conflict finds the keys under which the sets differ, sorted.
func (r *resolution) conflict() (*stateres.Conflict, []uint32, error) {
	var keys []uint32
	for _, s := range r.sets[1:] {
		for _, list := range [...][]snapshot.Pair{snapshot.Diff(r.sets[0], s), snapshot.Diff(s, r.sets[0])} {
			for _, p := range list {
				keys = append(keys, p.Key)
			}
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	r.keys = keys
	c := &stateres.Conflict{Sets: make([]stateres.State, len(r.sets)), Same: r.same}
	for i := range c.Sets {
		c.Sets[i] = stateres.State{}
	}
	for _, key := range keys {
		typ, stateKey, err := r.w.r.KeyName(key)
		if err != nil {
			return nil, nil, err
		}
		for i, s := range r.sets {
			if num := s.Get(key); num != 0 {
				e, err := r.w.event(EventNum(num))
				if err != nil {
					return nil, nil, err
				}
				c.Sets[i][auth.Key{Type: typ, StateKey: stateKey}] = e.ID
			}
		}
	}
	c.EachSame = func(f func(mxid.EventID) bool) {
		for _, p := range r.sets[0] {
			if _, found := slices.BinarySearch(keys, p.Key); found {
				continue
			}
			e, err := r.w.event(EventNum(p.Event))
			if err != nil {
				r.fail(err)
				return
			}
			if !f(e.ID) {
				return
			}
		}
	}
	return c, keys, nil
}

func (r *resolution) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// same gives the event of a key in which the sets do not differ.
func (r *resolution) same(k auth.Key) (mxid.EventID, bool) {
	key, err := r.w.r.names.Find(store.StateKeys, stateName(k.Type, k.StateKey))
	if err != nil {
		r.fail(err)
	}
	if _, differs := slices.BinarySearch(r.keys, key); err != nil || key == 0 || differs {
		return "", false
	}
	num := r.sets[0].Get(key)
	if num == 0 {
		return "", false
	}
	e, err := r.w.event(EventNum(num))
	if err != nil {
		r.fail(err)
		return "", false
	}
	return e.ID, true
}

func (r *resolution) find(id mxid.EventID) *Event {
	e, err := r.w.byID(id)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			r.fail(err)
		}
		return nil
	}
	return e
}

func (r *resolution) lookup(id mxid.EventID) *event.Event {
	e := r.find(id)
	if e == nil || e.Flags&flagRejected != 0 || e.In != r.w.head.Room {
		return nil
	}
	return e.Event
}

func (r *resolution) denied(id mxid.EventID) bool {
	e := r.find(id)
	return e != nil && e.Flags&flagDenied != 0
}

// redactions stages what an accepted event means for others: a redaction
// empties its target where its sender may; an event whose redaction came before
// it is emptied on arrival. Spec: rooms v3, handling redactions.
func (w *Writer) redactions(s *staged) error {
	e := s.ev
	if e.Type == "m.room.redaction" && !e.IsState && e.Redacts != "" {
		target, err := w.byID(e.Redacts)
		switch {
		case fault.Is(err, fault.NotFound):
			s.awaits = append(s.awaits, e.Redacts)
		case err != nil:
			return err
		case target.In == w.head.Room && w.mayRedact(e, target) && !target.Redacted():
			return w.redact(s, target)
		}
		return nil
	}
	if e.Redacted() {
		return nil
	}
	return w.r.st.ScanPrefix(awaitedPrefix(nil, e.ID), func(key, _ []byte) (bool, error) {
		by, err := w.awaiting(key)
		if fault.Is(err, fault.NotFound) {
			return true, nil // on its way out
		}
		if err != nil {
			return false, err
		}
		if by.Redacts != e.ID || by.In != w.head.Room || by.At.Pos == 0 || !w.mayRedact(by, e) {
			return true, nil
		}
		hollow, err := e.Event.Redacted()
		if err != nil {
			return false, err
		}
		e.Event, e.RedactedBy = hollow, by.Num
		e.Flags |= flagRedacted
		s.rel = relation{}
		w.pack(s)
		return false, nil
	})
}

func (w *Writer) mayRedact(by, target *Event) bool {
	return auth.MayRedact(by.Event, target.Event, w.head.Levels)
}

// awaiting reads the event that a row of Awaited names.
func (w *Writer) awaiting(key []byte) (*Event, error) {
	if len(key) < 8 {
		return nil, fault.E(fault.Corrupt, "room", "an awaited key of %d bytes", len(key))
	}
	return w.r.Event(EventNum(binary.BigEndian.Uint64(key[len(key)-8:])))
}
