package room

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// A room whose history was removed begins at its floor. What stood before that
// place is gone from the moment the floor is there, whatever of it is still on the
// disk: messages are not found, state events are outliers, as if another server had
// told them with a state, and the few ends that the room's present rests on keep
// their state and lose their place. So nothing has to be written anew for what
// stays, and nobody sees a history that is half removed.

// trimCut is what is said once of a history that is removed.
type trimCut struct {
	room  Num
	seq   uint64 // counts the removals of the room
	floor Key    // what stood before it is gone

	keepLocal bool  // what was made here stays, though it is not shown
	sweep     bool  // what is left over is looked through, however little it is
	depth     int64 // the greatest among the newest that went
	time      int64 // the latest time among them, in milliseconds
	anchors   []EventNum
}

// trimWork is how far the removal is.
type trimWork struct {
	done     bool
	sweeping bool // the timeline is through, what is left over is looked at
	next     Key  // the first place that was not looked at

	events uint64 // removed so far
	bytes  uint64 // that their bodies took
	left   uint64 // events left over
	need   uint64 // of those that the last look found needed
}

// trimRow is what is on disk about the history that was removed of a room.
type trimRow struct {
	trimCut
	trimWork
}

func trimKey(room Num) []byte { return store.U32(store.Trimmed.Prefix(), uint32(room)) }

func leftoverKey(dst []byte, room Num, num EventNum) []byte {
	return store.U64(store.U32(store.Leftover.Key(dst), uint32(room)), uint64(num))
}

// The flags of a row.
const (
	trimDone = 1 << iota
	trimKeepLocal
	trimSweep
	trimSweeping
)

func (t *trimRow) appendTo(dst []byte) []byte {
	flags := byte(0)
	for i, on := range [...]bool{t.done, t.keepLocal, t.sweep, t.sweeping} {
		if on {
			flags |= 1 << i
		}
	}
	dst = append(dst, 1, flags)
	for _, v := range [...]uint64{t.seq, uint64(t.floor.Pos), uint64(t.floor.Fill), uint64(t.depth), uint64(t.time), uint64(t.next.Pos),
		uint64(t.next.Fill), t.events, t.bytes, t.left, t.need} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, num := range t.anchors {
		dst = binary.AppendUvarint(dst, uint64(num))
	}
	return dst
}

func (t *trimRow) parse(key, val []byte) error {
	d := decoder{src: val}
	if len(key) != 5 || d.byte() != 1 {
		return fault.E(fault.Corrupt, "room", "a row of a removed history has an unknown form")
	}
	t.room = Num(binary.BigEndian.Uint32(key[1:]))
	flags := d.byte()
	t.done, t.keepLocal, t.sweep, t.sweeping = flags&trimDone != 0, flags&trimKeepLocal != 0, flags&trimSweep != 0, flags&trimSweeping != 0
	t.seq, t.floor = d.uint(), Key{stream.Pos(d.uint()), uint16(d.uint())}
	t.depth, t.time = int64(d.uint()), int64(d.uint())
	t.next = Key{stream.Pos(d.uint()), uint16(d.uint())}
	t.events, t.bytes, t.left, t.need = d.uint(), d.uint(), d.uint(), d.uint()
	for len(d.src) > 0 {
		t.anchors = append(t.anchors, EventNum(d.uint()))
	}
	return d.err("row of a removed history")
}

// trim is a room's removed history in memory.
type trim struct {
	trimCut               // never changes
	end     chan struct{} // closed when nothing is left to do

	filled atomic.Bool // events were put in a hole since

	working sync.Mutex // held while something is removed; guards those below
	work    trimWork
	marks   *marks // what is needed, while it is looked for
}

// trims are the rooms that have lost some history.
type trims struct {
	mu sync.RWMutex
	m  map[Num]*trim
}

func newTrim(row trimRow) *trim {
	t := &trim{trimCut: row.trimCut, work: row.trimWork, end: make(chan struct{})}
	if row.done {
		close(t.end)
	}
	return t
}

func (t *trims) of(room Num) *trim {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[room]
}

// put sets what there is of a room; nil: nothing.
func (t *trims) put(room Num, one *trim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = map[Num]*trim{}
	}
	if t.m[room] = one; one == nil {
		delete(t.m, room)
	}
}

func (t *trims) drop(room Num) { t.put(room, nil) }

// under says whether a history is being removed.
func (t *trim) under() bool {
	select {
	case <-t.end:
		return false
	default:
		return true
	}
}

// readTrims finds what histories were removed, and are still being.
func (r *Rooms) readTrims() error {
	return r.st.ScanPrefix(store.Trimmed.Prefix(), func(key, val []byte) (bool, error) {
		var row trimRow
		if err := row.parse(key, bytes.Clone(val)); err != nil {
			return false, err
		}
		r.trims.put(row.room, newTrim(row))
		return true, nil
	})
}

// fate is what becomes of an event in a part of a history that is removed.
type fate uint8

const (
	stays    fate = iota // it is not in that part
	anchored             // it keeps its state
	aside                // it is an outlier
	gone
)

func (t *trim) anchor(num EventNum) bool {
	_, is := slices.BinarySearch(t.anchors, num)
	return is
}

// fate judges an event as it is on disk.
func (t *trim) fate(e *Event) fate {
	const placeless = flagOutlier | flagRejected | flagDenied | flagSoft
	switch {
	case e.At == (Key{}) && e.Flags&placeless != 0 || !e.At.Before(t.floor):
		return stays
	case t.anchor(e.Num):
		return anchored
	case e.IsState, e.Type == "m.room.redaction", t.keepLocal && e.Local():
		return aside
	}
	return gone
}

// present makes of an event on disk what it is to those who read it, since part of
// its room's history was removed.
func (r *Rooms) present(e *Event) error {
	t := r.trims.of(e.In)
	if t == nil {
		return nil
	}
	switch t.fate(e) {
	case anchored:
		e.At = Key{}
	case aside:
		e.At, e.Before, e.After, e.Replaces = Key{}, 0, 0, 0
		e.Flags |= flagOutlier
	case gone:
		return fault.E(fault.NotFound, "room.Event", "event %d is gone", e.Num)
	case stays:
		return r.presentRefused(e)
	}
	return nil
}

// presentRefused has what was refused, which no index finds, lose the states that
// nobody else needed.
func (r *Rooms) presentRefused(e *Event) error {
	if e.Flags&(flagRejected|flagDenied|flagSoft) == 0 || e.Before == 0 && e.After == 0 {
		return nil
	}
	for _, num := range [...]uint32{uint32(e.Before), uint32(e.After)} {
		if num == 0 {
			continue
		}
		ok, err := r.st.Has(store.U32(store.U32(store.Snapshot.Prefix(), uint32(e.In)), num))
		if err != nil {
			return err
		}
		if !ok {
			e.Before, e.After, e.Replaces = 0, 0, 0
			return nil
		}
	}
	return nil
}

// Trimmed says whether an event that comes from elsewhere looks as if it belonged
// to the history that was removed of a room: it is as old and lies as deep. Either
// alone may be the work of a wrong clock, or of a server that was away.
func (r *Rooms) Trimmed(room Num, e *event.Event) bool {
	t := r.trims.of(room)
	return t != nil && e != nil && e.Depth <= t.depth && e.Time <= t.time
}

// raw reads an event as it is on disk, and the bytes its row takes; nil where there
// is none.
func (r *Rooms) raw(num EventNum) (*Event, int, error) {
	for _, state := range [...]bool{false, true} {
		val, ok, err := r.st.Get(nil, bodyKey(nil, state, num))
		if err != nil {
			return nil, 0, err
		}
		if !ok {
			continue
		}
		e := &Event{Num: num, links: newLinks(linksUnknown)}
		d, err := e.parseHeader(val)
		if err == nil {
			err = r.unpack(e, d)
		}
		return e, len(val), err
	}
	return nil, 0, nil
}
