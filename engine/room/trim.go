package room

import (
	"encoding/binary"
	"slices"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Trim says what is to be removed of a room's history.
type Trim struct {
	Before    Key   // what stands before this place goes
	Time      int64 // what is older is taken for a part of it that comes back, in milliseconds; 0: as the newest that goes
	KeepLocal bool  // what was made here stays on the disk, though nobody is shown it
	Sweep     bool  // what is left over is looked through, however little it is
}

// Trimming is how far the removal of a history is.
type Trimming struct {
	Seq    uint64 // counts the room's removals
	Floor  Key    // where the room begins now
	Done   bool
	Events uint64 // that are gone
	Bytes  uint64 // that their bodies took on the disk
}

// trimFormat is the format of the store from which on history may be missing. A
// program that does not know of it would find rooms that lack half of their events.
const trimFormat = 2

// tailLook is how many of the events before a floor are looked at for their depth
// and time.
const tailLook = 20

// Trim removes a room's history before a place: when it returns the room begins
// there for everybody, and TrimSome removes what is left of it. Of the part that is
// removed those events stay, as outliers, that the room's present, what remains and
// their auth chains need. seq is 0 where there is nothing to remove.
//
// Errors: NotFound for an unknown room, Unknown while another part of it is being
// removed, and while the store is kept so that the version before can read it.
func (r *Rooms) Trim(room Num, o Trim) (seq uint64, err error) {
	const op = "room.Trim"
	if r.st.Format() < trimFormat {
		return 0, fault.E(fault.Unknown, op, "history is removed when this version of Hearth has started once more: until then the one before may have to go on")
	}
	w, err := r.Write(room)
	if err != nil {
		return 0, err
	}
	defer w.End()
	old := r.trims.of(room)
	if old != nil && old.under() {
		return 0, fault.E(fault.Unknown, op, "history of this room is being removed")
	}
	row := trimRow{trimCut: trimCut{room: room, seq: 1, keepLocal: o.KeepLocal, sweep: o.Sweep}}
	if old != nil {
		row.seq, row.left, row.need = old.seq+1, old.work.left, old.work.need
		row.sweep = row.sweep || old.keepLocal != o.KeepLocal
	}
	if some, err := r.placeTrim(w.head, &o, &row); err != nil || !some {
		return 0, err
	}
	if row.anchors, err = r.anchors(w.head, row.floor); err != nil {
		return 0, err
	}
	if old != nil {
		// One that is none any more and no state event is nothing but left over.
		for _, num := range old.anchors {
			row.sweep = row.sweep || !slices.Contains(row.anchors, num)
		}
	}
	r.trims.put(room, newTrim(row))
	pending, err := r.log.Begin(func(tx *stream.Tx) error {
		tx.Frees()
		tx.Set(trimKey(room), row.appendTo(nil))
		tx.DeleteRange(holeKey(nil, room, Key{}), holeKey(nil, room, row.floor))
		tx.DeleteRange(threadKeyAt(room, Key{}), threadKeyAt(room, row.floor))
		tx.Set(holeKey(nil, room, row.floor), nil)
		if w.head.Hole.Before(row.floor) {
			w.head.Hole = row.floor
		}
		tx.Then(func() { w.l.head.Store(w.head) })
		return nil
	})
	if err != nil {
		r.trims.put(room, old)
		r.cache.clear()
		return 0, err
	}
	r.cache.clear()
	r.tallies.clear()
	w.End()
	return row.seq, pending.Wait()
}

// threadKeyAt begins the rows of threads whose last reply is at a place.
func threadKeyAt(room Num, k Key) []byte {
	return binary.BigEndian.AppendUint16(store.U64(store.U32(store.Thread.Prefix(), uint32(room)), uint64(k.Pos)), k.Fill)
}

// placeTrim finds where a room will begin: at the first event that remains, or
// behind the last. some says whether anything is before it.
func (r *Rooms) placeTrim(h *Head, o *Trim, row *trimRow) (some bool, err error) {
	end := After(h.Last)
	row.floor = end
	if err := r.Timeline(h.Room, o.Before, end, false, func(k Key, _ EventNum) (bool, error) {
		row.floor = k
		return false, nil
	}); err != nil {
		return false, err
	}
	looked := 0
	err = r.Timeline(h.Room, Key{}, row.floor, true, func(_ Key, num EventNum) (bool, error) {
		some = true
		looked++
		e, err := r.Event(num)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
			return looked < tailLook, nil
		}
		if err != nil {
			return false, err
		}
		row.depth, row.time = max(row.depth, e.Depth), max(row.time, e.Time)
		return looked < tailLook, nil
	})
	if row.time = min(row.time, r.opts.Now().UnixMilli()); o.Time != 0 {
		row.time = o.Time
	}
	return some, err
}

// anchors are the events whose states a room needs wherever they stand: its
// extremities, and how those of this hub left who have not forgotten it. What stands
// behind the floor is none.
func (r *Rooms) anchors(h *Head, floor Key) (list []EventNum, err error) {
	for _, x := range h.ext {
		list = append(list, x.num)
	}
	var left []EventNum
	if err := r.Members(h.Room, func(m Member) bool {
		if m.Local && (m.Membership == Leave || m.Membership == Ban) && !m.Forgotten && !m.Outside {
			left = append(left, m.Event)
		}
		return true
	}); err != nil {
		return nil, err
	}
	for _, num := range left {
		for range maxPartings {
			e, err := r.Event(num)
			if fault.Is(err, fault.NotFound) {
				break
			}
			if err != nil {
				return nil, err
			}
			if e.Outlier() {
				break // set aside by a removal before: the states it names may be gone
			}
			list = append(list, num)
			if num = e.Replaces; num == 0 {
				break
			}
		}
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(num EventNum) bool {
		e, failed := r.Event(num)
		if failed != nil && err == nil {
			err = failed
		}
		return failed == nil && !e.At.Before(floor)
	}), err
}

// Trimming lists the rooms of which history is being removed.
func (r *Rooms) Trimming() (list []Num) {
	r.trims.mu.RLock()
	defer r.trims.mu.RUnlock()
	for num, t := range r.trims.m {
		if t.under() {
			list = append(list, num)
		}
	}
	slices.Sort(list)
	return list
}

// TrimOf says what was removed of a room's history, the last time; ok is false
// where nothing ever was.
func (r *Rooms) TrimOf(room Num) (s Trimming, ok bool) {
	t := r.trims.of(room)
	if t == nil {
		return s, false
	}
	t.working.Lock()
	defer t.working.Unlock()
	return Trimming{Seq: t.seq, Floor: t.floor, Done: t.work.done, Events: t.work.events, Bytes: t.work.bytes}, true
}

// Floor is where a room begins since history of it was removed; zero where none was.
func (r *Rooms) Floor(room Num) Key {
	if t := r.trims.of(room); t != nil {
		return t.floor
	}
	return Key{}
}

// TrimEnd gives a channel that is closed when nothing of a history is left that is
// being removed; nil where none ever was.
func (r *Rooms) TrimEnd(room Num) <-chan struct{} {
	if t := r.trims.of(room); t != nil {
		return t.end
	}
	return nil
}

const (
	trimStep  = 500     // events that one TrimSome removes
	trimBytes = 2 << 20 // and at most about so many bytes of them are in memory
)

// TrimSome removes some more of what is left of a history. extra adds to the batch
// what others keep of the events that go. done says that nothing is left.
func (r *Rooms) TrimSome(room Num, extra func(b *store.Batch, gone []*Event) error) (done bool, err error) {
	t := r.trims.of(room)
	if t == nil || !t.under() {
		return true, nil
	}
	t.working.Lock()
	defer t.working.Unlock()
	if t.work.done || r.trims.of(room) != t { // the room was purged meanwhile
		return true, nil
	}
	next := trimRow{t.trimCut, t.work}
	if next.sweeping {
		return r.sweepSome(t, &next, extra)
	}
	l := trimLook{r: r, t: t, b: r.st.NewBatch(), row: &next, today: r.day()}
	l.b.Frees()
	more, err := l.timeline()
	if err != nil {
		l.b.Drop()
		return false, err
	}
	if !more {
		next.sweeping = true
		if !next.sweep && next.left <= 2*next.need+fewLeft {
			next.done = true
		}
	}
	return next.done, l.commit(extra)
}

// fewLeft is how many events may be left over before it is looked whether they are
// needed, beyond twice those that were: to look means to read all that remains.
const fewLeft = 64

// trimLook is one look at some of what goes.
type trimLook struct {
	r     *Rooms
	t     *trim
	b     *store.Batch
	row   *trimRow
	gone  []*Event
	bytes int // their rows take
	held  int // they take in memory
	today uint32
}

// commit writes what was gathered, and how far it has come.
func (l *trimLook) commit(extra func(b *store.Batch, gone []*Event) error) error {
	l.row.events += uint64(len(l.gone))
	l.row.bytes += uint64(l.bytes)
	l.bodies()
	if extra != nil && len(l.gone) > 0 {
		if err := extra(l.b, l.gone); err != nil {
			l.b.Drop()
			return err
		}
	}
	l.b.Set(trimKey(l.row.room), l.row.appendTo(nil))
	if err := l.r.st.Commit(l.b); err != nil {
		return err
	}
	if l.t.work = l.row.trimWork; l.row.done {
		l.t.marks = nil
		close(l.t.end)
	}
	return nil
}

// timeline removes places from the oldest on, and what stood there. more says that
// there are others.
func (l *trimLook) timeline() (more bool, err error) {
	begin := timelineKey(nil, l.row.room, l.row.next)
	n := 0
	err = l.r.st.Scan(begin, timelineKey(nil, l.row.room, l.row.floor), func(key, val []byte) (bool, error) {
		num, ok := binary.Uvarint(val)
		if len(key) != 15 || ok <= 0 {
			return false, fault.E(fault.Corrupt, "room", "a timeline row of unknown form")
		}
		if n >= trimStep || l.held >= trimBytes {
			more = true
			return false, nil
		}
		n++
		l.row.next = Key{stream.Pos(binary.BigEndian.Uint64(key[5:])), binary.BigEndian.Uint16(key[13:])}.Next()
		return true, l.event(EventNum(num))
	})
	if n > 0 {
		l.b.DeleteRange(begin, timelineKey(nil, l.row.room, l.row.next))
	}
	return more, err
}

// event takes one event out of the indexes by place, and says what becomes of it.
func (l *trimLook) event(num EventNum) error {
	e, size, err := l.r.raw(num)
	if fault.Is(err, fault.Corrupt) || err == nil && e == nil {
		return nil // what cannot be read is left for a repair to judge
	}
	if err != nil {
		return err
	}
	if to := relatesTo(e.Content).to; to != "" {
		l.b.Delete(store.U64(relationPrefix(nil, e.In, to), uint64(num)))
	}
	switch l.t.fate(e) {
	case gone:
		return l.drop(e, size)
	case anchored, aside:
		var why []byte
		if e.Local() && !e.IsState && e.Type != "m.room.redaction" {
			why = []byte{1}
		}
		l.b.Set(leftoverKey(nil, e.In, num), why)
		l.row.left++
	case stays:
	}
	return nil
}

// drop removes an event, and what it is found by.
func (l *trimLook) drop(e *Event, size int) error {
	if num, err := l.r.number(e.ID); err != nil {
		return err
	} else if num == e.Num {
		l.b.Delete(eventNumberKey(nil, e.ID))
	}
	points := e.Prev
	if e.Redacts != "" {
		points = append(slices.Clone(points), e.Redacts)
	}
	for _, id := range points {
		if err := l.ifThere(store.U64(awaitedPrefix(nil, id), uint64(e.Num))); err != nil {
			return err
		}
	}
	if err := l.transaction(e); err != nil {
		return err
	}
	l.gone = append(l.gone, e)
	l.bytes += size
	l.held += len(e.JSON)
	return nil
}

// ifThere removes a row that seldom is there: to look writes nothing.
func (l *trimLook) ifThere(key []byte) error {
	ok, err := l.r.st.Has(key)
	if ok {
		l.b.Delete(key)
	}
	return err
}

// transaction removes the row by which a client's repetition would find an event.
// There are such rows of two days, and while the second begins of three.
func (l *trimLook) transaction(e *Event) error {
	if e.TxnDevice == 0 {
		return nil
	}
	id, err := l.r.RoomID(e.In)
	if err != nil {
		return err
	}
	for back := range uint32(3) {
		key := txnKey(nil, l.today-back, id, e.Type, e.Redacts, Txn{e.TxnDevice, e.Txn})
		if !l.r.txns.knows(key) {
			continue
		}
		if err := l.ifThere(key); err != nil {
			return err
		}
	}
	return nil
}

// bodies removes the rows of the events that go: by one deletion where numbers
// follow each other in one table.
func (l *trimLook) bodies() {
	for _, t := range [...]store.Table{store.StateBody, store.OtherBody} {
		var nums []EventNum
		for _, e := range l.gone {
			if e.Flags&flagState != 0 == (t == store.StateBody) {
				nums = append(nums, e.Num)
			}
		}
		slices.Sort(nums)
		for len(nums) > 0 {
			n := 1
			for n < len(nums) && nums[n] == nums[n-1]+1 {
				n++
			}
			if n >= purgeRun {
				l.b.DeleteRange(store.U64(t.Prefix(), uint64(nums[0])), store.U64(t.Prefix(), uint64(nums[n-1])+1))
			} else {
				for _, num := range nums[:n] {
					l.b.Delete(store.U64(t.Prefix(), uint64(num)))
				}
			}
			nums = nums[n:]
		}
	}
}

// olderLook is how many events in a row are asked how old the room is at a place:
// most of them decide.
const olderLook = 40

// Older finds the place from which on a room's events are not older than a time, in
// milliseconds, looking from a place on. Events stand in the order in which they
// came, and other servers say of theirs what time they like: a few that claim to be
// old make nothing old that came before them, so a stretch is gone through one by
// one, and most of those in sight decide. What claims to be of the future says
// nothing.
func (r *Rooms) Older(room Num, from Key, ts int64) (Key, error) {
	h, err := r.Head(room)
	if err != nil {
		return Key{}, err
	}
	o := older{at: from}
	future := r.opts.Now().UnixMilli() + 3_600_000
	err = r.Timeline(room, from, After(h.Last), false, func(k Key, num EventNum) (bool, error) {
		e, _, err := r.raw(num)
		switch {
		case fault.Is(err, fault.Corrupt) || err == nil && e == nil:
			return true, nil
		case err != nil:
			return false, err
		case e.Time >= future:
			return true, nil
		}
		o.take(k, e.Time >= ts)
		return !o.found(), nil
	})
	for err == nil && !o.found() && len(o.ahead) > 0 {
		o.step() // nothing more comes
	}
	return o.at, err
}

// older goes through a room with a few events in sight.
type older struct {
	at    Key    // what is before it is old
	ahead []aged // the events from there on, as far as they are in sight
	newer int    // of ahead
}

type aged struct {
	at    Key
	newer bool
}

// take brings one more event into sight.
func (o *older) take(k Key, newer bool) {
	if len(o.ahead) == olderLook {
		o.step()
	}
	if o.ahead = append(o.ahead, aged{k, newer}); newer {
		o.newer++
	}
}

// found says that the first in sight is not old, and most of those behind it are not.
func (o *older) found() bool {
	return len(o.ahead) == olderLook && o.here()
}

func (o *older) here() bool { return o.ahead[0].newer && 2*o.newer >= len(o.ahead) }

// step goes past the first event in sight; at the end of the room this stops where
// what is left is not old.
func (o *older) step() {
	if o.here() {
		o.ahead = nil
		return
	}
	if o.at = o.ahead[0].at.Next(); o.ahead[0].newer {
		o.newer--
	}
	o.ahead = o.ahead[1:]
}

// PlaceOf is the place of an event of a room; NotFound where it has none.
func (r *Rooms) PlaceOf(room Num, id mxid.EventID) (Key, error) {
	e, err := r.Lookup(id)
	if err != nil {
		return Key{}, err
	}
	if e.In != room || e.At == (Key{}) {
		return Key{}, fault.E(fault.NotFound, "room.PlaceOf", "the event has no place in this room")
	}
	return e.At, nil
}
