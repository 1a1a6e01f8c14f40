package room

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"

	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// A purge takes everything out of the store that a room has brought in. What
// is keyed by the room's number goes at once, with the room's own row, so that
// from one moment on there is no such room. Its transactions, what its events
// wait for, their bodies and ids lie among those of other rooms: they are
// looked through from the first to the last, a piece at a time, and the row of
// the Purged table keeps how far that has come. When all is gone the row stays,
// since the log goes on naming the room.
//
// Only bodies say which room they are of. An index of all events by room would
// be a row for each message; a walk is paid for by those who purge.

// purgeRow is what is on disk about a purge.
type purgeRow struct {
	room Num
	done bool
	pos  stream.Pos // entries of the log up to here may name what is gone
	last EventNum   // the newest event number that may be the room's

	stage uint8  // index into purgeTables
	next  []byte // the first key of that table, without its prefix, that has not been looked at
}

func purgeKey(room Num) []byte { return store.U32(store.Purged.Prefix(), uint32(room)) }

func (p *purgeRow) appendTo(dst []byte) []byte {
	done := byte(0)
	if p.done {
		done = 1
	}
	dst = binary.AppendUvarint(append(dst, 1, done), uint64(p.pos))
	dst = append(binary.AppendUvarint(dst, uint64(p.last)), p.stage)
	return append(dst, p.next...)
}

func (p *purgeRow) parse(key, val []byte) error {
	d := decoder{src: val}
	if len(key) != 5 || d.byte() != 1 {
		return fault.E(fault.Corrupt, "room", "a row of a purge has an unknown form")
	}
	p.room, p.done = Num(binary.BigEndian.Uint32(key[1:])), d.byte() == 1
	p.pos, p.last, p.stage, p.next = stream.Pos(d.uint()), EventNum(d.uint()), d.byte(), bytes.Clone(d.src)
	return d.err("row of a purge")
}

// purges are the purges under way.
type purges struct {
	mu  sync.Mutex
	now map[Num]*purge
}

// purge is one of them.
type purge struct {
	purgeRow
	working sync.Mutex
	end     chan struct{} // closed when nothing of the room is left
}

func (p *purges) add(row purgeRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = map[Num]*purge{}
	}
	p.now[row.room] = &purge{purgeRow: row, end: make(chan struct{})}
}

func (p *purges) of(room Num) *purge {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[room]
}

func (p *purges) drop(room Num) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.now, room)
}

// readPurges finds the purges that were under way when the hub stopped.
func (r *Rooms) readPurges() error {
	return r.st.ScanPrefix(store.Purged.Prefix(), func(key, val []byte) (bool, error) {
		var row purgeRow
		if err := row.parse(key, val); err != nil {
			return false, err
		}
		if !row.done {
			r.purges.add(row)
		}
		return true, nil
	})
}

// Purging lists the rooms whose rows are being removed.
func (r *Rooms) Purging() []Num {
	r.purges.mu.Lock()
	defer r.purges.mu.Unlock()
	list := make([]Num, 0, len(r.purges.now))
	for num := range r.purges.now {
		list = append(list, num)
	}
	slices.Sort(list)
	return list
}

// Purged gives a channel that is closed when nothing is left of a room whose
// purge is under way; nil where none is.
func (r *Rooms) Purged(room Num) <-chan struct{} {
	if p := r.purges.of(room); p != nil {
		return p.end
	}
	return nil
}

// Purge ends a room: from its return on there is no such room, and PurgeSome
// removes what is left of it. Nobody of this hub may be in it. extra adds to
// the batch what others keep by room.
//
// Errors: Unknown where somebody of this hub is in the room, Busy where it is
// being purged.
func (r *Rooms) Purge(room Num, extra func(tx *stream.Tx, members []Member) error) error {
	const op = "room.Purge"
	if t := r.trims.of(room); t != nil {
		t.working.Lock() // its history may be on the way out; before the room's lock, as there
		defer t.working.Unlock()
	}
	w, err := r.Write(room)
	if err != nil {
		return err
	}
	defer w.End()
	if r.purges.of(room) != nil {
		return fault.E(fault.Busy, op, "the room is being purged")
	}
	var members []Member
	if err := r.Members(room, func(m Member) bool {
		members = append(members, m)
		return true
	}); err != nil {
		return err
	}
	for _, m := range members {
		if m.Local && (m.Membership == Join || m.Membership == Invite || m.Membership == Knock) {
			return fault.E(fault.Unknown, op, "somebody of this hub is in the room")
		}
	}
	servers, err := r.serversOf(members)
	if err != nil {
		return err
	}
	for _, m := range members {
		r.standings.begin(room, m.User)
		defer r.standings.end(room, m.User)
	}
	row := purgeRow{room: room, last: EventNum(r.lastEvent.Load())}
	r.purges.add(row) // from here on its events are not found
	pending, err := r.log.Begin(func(tx *stream.Tx) error {
		tx.Frees()
		row.pos = tx.Next() - 1
		r.purges.of(room).pos = row.pos
		tx.Set(purgeKey(room), row.appendTo(nil))
		tx.Delete(roomKey(nil, room))
		tx.Delete(trimKey(room))
		for _, t := range [...]store.Table{store.Timeline, store.Snapshot, store.Relation, store.Thread, store.Member, store.RoomServer,
			store.Hole, store.Invitation, store.Leftover} {
			prefix := store.U32(t.Prefix(), uint32(room))
			tx.DeleteRange(prefix, store.After(prefix))
		}
		for _, m := range members {
			tx.Delete(userRoomKey(nil, m.User, room))
		}
		for _, server := range servers {
			prefix := serverRoomKey(nil, server, room)
			tx.DeleteRange(prefix, store.After(prefix))
		}
		if extra != nil {
			return extra(tx, members)
		}
		return nil
	})
	if err != nil {
		r.purges.drop(room)
		return err
	}
	w.l.gone.Store(true)
	if t := r.trims.of(room); t != nil {
		if r.trims.drop(room); t.under() {
			close(t.end)
		}
	}
	r.forget([]Num{room})
	r.snaps.Forget(uint32(room))
	r.cache.clear()
	r.tallies.clear()
	w.End()
	return pending.Wait()
}

// serversOf lists the other servers that members are of.
func (r *Rooms) serversOf(members []Member) (list []uint32, err error) {
	for _, m := range members {
		if m.Local {
			continue
		}
		id, err := r.UserID(m.User)
		if err != nil {
			return nil, err
		}
		num, err := r.names.Find(store.Servers, string(id.Server()))
		if err != nil {
			return nil, err
		}
		if num != 0 && !slices.Contains(list, num) {
			list = append(list, num)
		}
	}
	return list, nil
}

// purgeStep is how many rows one PurgeSome looks at.
const purgeStep = 2000

// purgeRun is from how many events with numbers in a row on they are removed
// by one deletion. The numbers have to be in a row: one between them may be that
// of an event of another room that is on its way to the disk.
const purgeRun = 8

// purgeTables are looked through in this order: what only names an event is
// told from others by the event's body.
func purgeTables() [4]store.Table {
	return [...]store.Table{store.Transaction, store.Awaited, store.StateBody, store.OtherBody}
}

// PurgeSome looks at some more of what may be left of a room that is being
// purged, and removes what is. extra adds to the batch what others keep of the
// events that go. done says that nothing is left.
func (r *Rooms) PurgeSome(room Num, extra func(b *store.Batch, gone []EventNum)) (done bool, err error) {
	p := r.purges.of(room)
	if p == nil {
		return true, nil
	}
	p.working.Lock()
	defer p.working.Unlock()
	next := p.purgeRow
	look := purgeLook{r: r, b: r.st.NewBatch(), row: &next, left: purgeStep}
	look.b.Frees()
	tables := purgeTables()
	for int(next.stage) < len(tables) && look.left > 0 {
		if err := look.table(tables[next.stage]); err != nil {
			look.b.Drop()
			return false, err
		}
	}
	next.done = int(next.stage) == len(tables)
	if extra != nil {
		extra(look.b, look.gone)
	}
	look.b.Set(purgeKey(room), next.appendTo(nil))
	keep := r.st.Apply // how far it has come may be forgotten
	if len(look.gone) > 0 || next.done {
		keep = r.st.Commit
	}
	if err := keep(look.b); err != nil {
		return false, err
	}
	if p.purgeRow = next; next.done {
		r.purges.drop(room)
		close(p.end)
	}
	return next.done, nil
}

// purgeLook is one look at some rows.
type purgeLook struct {
	r    *Rooms
	b    *store.Batch
	row  *purgeRow
	left int // rows that may still be looked at
	gone []EventNum
	run  []EventNum // the newest of gone, of one table and with numbers in a row
}

// table goes on with a table, and on to the next where it ends.
func (l *purgeLook) table(t store.Table) error {
	body := t == store.StateBody || t == store.OtherBody
	upper := store.After(t.Prefix())
	if body {
		upper = store.U64(t.Prefix(), uint64(l.row.last)+1)
	}
	more := false
	err := l.r.st.Scan(append(t.Prefix(), l.row.next...), upper, func(key, val []byte) (bool, error) {
		if l.left <= 0 {
			l.row.next, more = bytes.Clone(key[1:]), true
			return false, nil
		}
		l.left--
		if body {
			return true, l.body(key, val)
		}
		return true, l.named(t, key, val)
	})
	l.flush(t)
	if err == nil && !more {
		l.row.stage++
		l.row.next = nil
	}
	return err
}

// named removes a row that names an event of the room.
func (l *purgeLook) named(t store.Table, key, val []byte) error {
	num, n := binary.Uvarint(val)
	if t == store.Awaited {
		n = max(len(key)-9, 0) // its key ends with the number
		num = binary.BigEndian.Uint64(key[n+1:])
	}
	if n <= 0 || EventNum(num) > l.row.last {
		return nil
	}
	in, err := l.r.roomOf(EventNum(num))
	if err == nil && in == l.row.room {
		l.b.Delete(key)
	}
	return err
}

// body removes an event of the room, with its id.
func (l *purgeLook) body(key, val []byte) error {
	var e Event
	d, err := e.parseHeader(val)
	if fault.Is(err, fault.Corrupt) || err == nil && e.In != l.row.room || len(key) != 9 {
		return nil // what cannot be read is left for a repair to judge
	}
	num := EventNum(binary.BigEndian.Uint64(key[1:]))
	id := append(store.EventNumber.Prefix(), d.bytes(int(d.byte()))...)
	at, ok, err := l.r.st.Get(nil, id)
	if err != nil {
		return err
	}
	if n, _ := binary.Uvarint(at); ok && EventNum(n) == num {
		l.b.Delete(id)
	}
	if n := len(l.run); n > 0 && l.run[n-1]+1 != num {
		l.flush(store.Table(key[0]))
	}
	l.run = append(l.run, num)
	return nil
}

// flush removes the bodies of a run.
func (l *purgeLook) flush(t store.Table) {
	n := len(l.run)
	if n >= purgeRun {
		l.b.DeleteRange(store.U64(t.Prefix(), uint64(l.run[0])), store.U64(t.Prefix(), uint64(l.run[n-1])+1))
	} else {
		for _, num := range l.run {
			l.b.Delete(store.U64(t.Prefix(), uint64(num)))
		}
	}
	l.gone, l.run = append(l.gone, l.run...), nil
}

// roomOf reads the room of an event that may be being purged; 0 where the event
// is gone.
func (r *Rooms) roomOf(num EventNum) (Num, error) {
	for _, state := range [...]bool{false, true} {
		val, ok, err := r.st.Get(nil, bodyKey(nil, state, num))
		if err != nil {
			return 0, err
		}
		if ok {
			var e Event
			if _, err := e.parseHeader(val); err != nil && !fault.Is(err, fault.Corrupt) {
				return 0, err
			}
			return e.In, nil
		}
	}
	return 0, nil
}
