package room

import (
	"encoding/binary"
	"errors"
	"math"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/snapshot"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// verifier compares the tables of package room with each other. It reads rows,
// never what is in memory, so that it judges what a restart would find.
type verifier struct {
	r     *Rooms
	bad   func(format string, args ...any)
	heads map[Num]*Head      // State and Local are not filled in
	ended map[Num]stream.Pos // of purged rooms: up to where the log may name what is gone
}

// Verify reads every row of the rooms and tells bad what does not agree:
// bodies, ids, timelines, states, members, transactions, relations, and the log
// with all of them. Nobody may be writing meanwhile. The error is one of
// reading; contradictions are told and gone on from.
func (r *Rooms) Verify(bad func(format string, args ...any)) error {
	v := verifier{r: r, bad: bad, heads: map[Num]*Head{}, ended: map[Num]stream.Pos{}}
	for _, step := range [...]func() error{v.readPurges, v.readHeads, v.bodies, v.ids, v.timelines, v.snapshots, v.log, v.memberRows, v.serverRows, v.transactions, v.relations} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// tell reports an error that says something about the rows; others end the walk.
func (v *verifier) tell(err error, format string, args ...any) error {
	if err == nil || !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.NotFound) {
		return err
	}
	v.bad(format+": %v", append(args, err)...)
	return nil
}

// scan walks one table.
func (v *verifier) scan(t store.Table, f func(key, val []byte) error) error {
	return v.r.st.ScanPrefix(t.Prefix(), func(key, val []byte) (bool, error) { return true, f(key[1:], val) })
}

// event reads an event's row; nil where there is none or it cannot be read,
// which is told.
func (v *verifier) event(num EventNum, of string, at ...any) (*Event, error) {
	e, err := v.r.Event(num)
	if fault.Is(err, fault.NotFound) {
		in, err := v.r.roomOf(num)
		if t := v.r.trims.of(in); err != nil || v.r.purges.of(in) != nil || t != nil && t.under() {
			return nil, err // on its way out
		}
	}
	if err != nil {
		return nil, v.tell(err, of, at...)
	}
	return e, nil
}

func (v *verifier) readPurges() error {
	return v.r.st.ScanPrefix(store.Purged.Prefix(), func(key, val []byte) (bool, error) {
		var p purgeRow
		if err := p.parse(key, val); err != nil {
			v.bad("%v", err)
		}
		v.ended[p.room] = p.pos
		return true, nil
	})
}

func (v *verifier) readHeads() error {
	return v.scan(store.RoomRow, func(key, val []byte) error {
		if len(key) != 4 {
			v.bad("room row: a key of %d bytes", len(key))
			return nil
		}
		h := &Head{Room: Num(binary.BigEndian.Uint32(key))}
		if err := h.parse(val); err != nil {
			v.bad("room %d: %v", h.Room, err)
			return nil
		}
		v.heads[h.Room] = h
		id, err := v.r.RoomID(h.Room)
		if err != nil {
			v.bad("room %d: %v", h.Room, err)
			return nil
		}
		h.ID = id
		if h.Last > v.r.log.Tip() {
			v.bad("room %d: its last event is at %d, past the tip %d", h.Room, h.Last, v.r.log.Tip())
		}
		return v.headState(h)
	})
}

// headState holds a room's row to its state and its extremities.
func (v *verifier) headState(h *Head) error {
	if h.snap.Num != 0 || len(h.ext) > 0 {
		set, err := v.r.snaps.Load(uint32(h.Room), h.snap.Num)
		if err != nil {
			return v.tell(err, "room %d: current state", h.Room)
		}
		h.State = set
	}
	if h.snap.Num > h.lastSnap {
		v.bad("room %d: its snapshot %d is past its last, %d", h.Room, h.snap.Num, h.lastSnap)
	}
	if len(h.ext) == 0 && h.Last != 0 {
		v.bad("room %d: it has no extremities", h.Room)
	}
	for _, x := range h.ext {
		e, err := v.event(x.num, "room %d: extremity", h.Room)
		if err != nil {
			return err
		}
		if e != nil && (e.ID != x.id || e.Depth != x.depth || e.In != h.Room) {
			v.bad("room %d: extremity %d is event %s of room %d at depth %d", h.Room, x.num, e.ID, e.In, e.Depth)
		}
	}
	return nil
}

// bodies holds each event to its id, its room, its place and its states.
func (v *verifier) bodies() error {
	for _, t := range [...]store.Table{store.StateBody, store.OtherBody} {
		if err := v.scan(t, func(key, val []byte) error {
			if len(key) != 8 {
				v.bad("event row: a key of %d bytes", len(key))
				return nil
			}
			num := EventNum(binary.BigEndian.Uint64(key))
			e, err := v.r.decode(num, val, math.MaxUint64) // an epoch that never is: not remembered
			if fault.Is(err, fault.NotFound) {
				return nil // on its way out
			}
			if err != nil {
				return v.tell(err, "event %d", num)
			}
			if e.IsState != (t == store.StateBody) || e.IsState != (e.Flags&flagState != 0) {
				v.bad("event %d: it lies in the wrong table", num)
			}
			return v.body(e)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) body(e *Event) error {
	h := v.heads[e.In]
	if h == nil {
		v.bad("event %d: its room %d has no row", e.Num, e.In)
		return nil
	}
	if e.Room != h.ID {
		v.bad("event %d: it lies in room %s and says %s", e.Num, h.ID, e.Room)
	}
	if id, err := event.ID(e.Version, e.JSON); err != nil || id != e.ID {
		v.bad("event %d: its hash makes the id %s, it is kept as %s (%v)", e.Num, id, e.ID, err)
	}
	if num, err := v.r.number(e.ID); err != nil {
		return err
	} else if num != e.Num {
		v.bad("event %d: its id %s leads to event %d", e.Num, e.ID, num)
	}
	if e.At != (Key{}) {
		if e.At.Pos > v.r.log.Tip() {
			v.bad("event %d: it stands at %v, past the tip %d", e.Num, e.At, v.r.log.Tip())
		}
		num, ok, err := v.number(timelineKey(nil, e.In, e.At))
		if err != nil {
			return err
		}
		if !ok || num != e.Num {
			v.bad("event %d: its place %v in room %d has event %d", e.Num, e.At, e.In, num)
		}
	}
	if e.RedactedBy != 0 != e.Redacted() {
		v.bad("event %d: redacted by event %d, and flagged %v", e.Num, e.RedactedBy, e.Redacted())
	}
	// What has no place nothing is kept for: its redaction may have gone with a history.
	if e.RedactedBy != 0 && (e.At != (Key{}) || v.r.trims.of(e.In) == nil) {
		if _, err := v.event(e.RedactedBy, "event %d: its redaction", e.Num); err != nil {
			return err
		}
	}
	if target := relatesTo(e.Content).to; target != "" && e.At != (Key{}) {
		if ok, err := v.r.st.Has(store.U64(relationPrefix(nil, e.In, target), uint64(e.Num))); err != nil {
			return err
		} else if !ok {
			v.bad("event %d: its relation to %s is not indexed", e.Num, target)
		}
	}
	return v.states(e)
}

// number reads a row that is one event number.
func (v *verifier) number(key []byte) (EventNum, bool, error) {
	var buf [10]byte
	val, ok, err := v.r.st.Get(buf[:0], key)
	num, n := binary.Uvarint(val)
	return EventNum(num), ok && n > 0, err
}

// states holds an event to the snapshots before and after it.
func (v *verifier) states(e *Event) error {
	if !e.IsState {
		if e.Before != e.After {
			v.bad("event %d: it is no state event, and the state changes from %d to %d", e.Num, e.Before, e.After)
		}
		return nil
	}
	if e.Flags&(flagRejected|flagDenied) != 0 {
		if e.Before != e.After {
			v.bad("event %d: it was refused, and the state changes from %d to %d", e.Num, e.Before, e.After)
		}
		return nil
	}
	key, err := v.r.KeyOf(e.Type, e.StateKey)
	if err != nil {
		return err
	}
	if key == 0 && e.Flags&flagOutlier == 0 {
		v.bad("event %d: its type and state key have no number", e.Num)
		return nil
	}
	for _, at := range [...]struct {
		snap snapshot.Num
		want EventNum
	}{{e.Before, e.Replaces}, {e.After, e.Num}} {
		if at.snap == 0 {
			continue
		}
		got, err := v.r.snaps.Get(uint32(e.In), at.snap, key)
		if err != nil {
			if err := v.tell(err, "event %d", e.Num); err != nil {
				return err
			}
		} else if EventNum(got) != at.want {
			v.bad("event %d: snapshot %d has event %d where %d belongs", e.Num, at.snap, got, at.want)
		}
	}
	return nil
}

func (v *verifier) ids() error {
	return v.scan(store.EventNumber, func(key, val []byte) error {
		num, n := binary.Uvarint(val)
		if n <= 0 {
			v.bad("event id %x: a cut row", key)
			return nil
		}
		e, err := v.event(EventNum(num), "event id %x", key)
		if e != nil && string(eventNumberKey(nil, e.ID)[1:]) != string(key) {
			v.bad("event id %x: it leads to event %d, which is %s", key, num, e.ID)
		}
		return err
	})
}

// timelines holds each place to the event in it. Since an event names its one
// place, none can stand in two.
func (v *verifier) timelines() error {
	last := map[Num]Key{}
	err := v.scan(store.Timeline, func(key, val []byte) error {
		num, n := binary.Uvarint(val)
		if len(key) != 14 || n <= 0 {
			v.bad("timeline: a row of unknown form")
			return nil
		}
		in := Num(binary.BigEndian.Uint32(key))
		at := Key{stream.Pos(binary.BigEndian.Uint64(key[4:])), binary.BigEndian.Uint16(key[12:])}
		if t := v.r.trims.of(in); t != nil && at.Before(t.floor) {
			if !t.under() {
				v.bad("room %d: at %v stands event %d, and the history before %v was removed", in, at, num, t.floor)
			}
			return nil
		}
		last[in] = at
		e, err := v.event(EventNum(num), "room %d: the event at %v", in, at)
		if e != nil && (e.In != in || e.At != at) {
			v.bad("room %d: at %v stands event %d, which belongs to room %d at %v", in, at, num, e.In, e.At)
		}
		return err
	})
	for in, at := range last {
		if h := v.heads[in]; h == nil || h.Last != at.Pos {
			v.bad("room %d: its timeline ends at %d, its row says otherwise", in, at.Pos)
		}
	}
	return err
}

// snapshots holds each to its parent.
func (v *verifier) snapshots() error {
	return v.scan(store.Snapshot, func(key, _ []byte) error {
		if len(key) != 8 {
			v.bad("snapshot: a key of %d bytes", len(key))
			return nil
		}
		in, num := binary.BigEndian.Uint32(key), snapshot.Num(binary.BigEndian.Uint32(key[4:]))
		if h := v.heads[Num(in)]; h == nil || num > h.lastSnap {
			v.bad("snapshot %d of room %d: the room's row does not know it", num, in)
		}
		return v.tell(v.r.snaps.Check(in, num), "snapshot %d of room %d", num, in)
	})
}

// log holds the room entries to their events, and adds up the differences they
// name: that must be the rooms' current state.
func (v *verifier) log() error {
	states := map[Num]map[uint32]EventNum{}
	var stop error
	err := v.r.log.Read(0, v.r.log.Tip(), func(pos stream.Pos, en *stream.Entry) bool {
		if en.Kind == stream.RoomEvent {
			stop = v.entry(pos, en, states)
		}
		return stop == nil
	})
	for in, state := range states {
		h := v.heads[in]
		if h == nil {
			continue // told above
		}
		for key, num := range state {
			if got := EventNum(h.State.Get(key)); got != num {
				v.bad("room %d: the log leaves event %d for state %d, the room has %d", in, num, key, got)
			}
		}
	}
	return errors.Join(err, stop)
}

func (v *verifier) entry(pos stream.Pos, en *stream.Entry, states map[Num]map[uint32]EventNum) error {
	in := Num(en.Room)
	if pos <= v.ended[in] {
		return nil
	}
	if v.heads[in] == nil {
		v.bad("log %d: room %d has no row", pos, in)
	}
	var e *Event
	if t := v.r.trims.of(in); t == nil || pos >= t.floor.Pos {
		var err error
		if e, err = v.event(EventNum(en.Event), "log %d", pos); err != nil {
			return err
		}
	}
	if e != nil && (e.In != in || e.At.Pos != pos || e.IsState != (en.Flags&stream.FlagState != 0)) {
		v.bad("log %d: event %d stands in room %d at %v", pos, e.Num, e.In, e.At)
	}
	state := states[in]
	if state == nil {
		state = map[uint32]EventNum{}
		states[in] = state
	}
	return v.tell(Changes(en.Diff, func(c Change) {
		if old, ok := state[c.Key]; ok && old != c.Old {
			v.bad("log %d: state %d of room %d goes from event %d, but was %d", pos, c.Key, in, c.Old, old)
		}
		state[c.Key] = c.New
	}), "log %d", pos)
}

// memberRows holds both indexes of members to each other, to the state and to
// the counts in the rooms' rows.
func (v *verifier) memberRows() error {
	type count struct {
		joined, invited, local int
		outside                bool // a standing from outside lies over one that the state has
	}
	counts := map[Num]count{}
	if err := v.scan(store.Member, func(key, val []byte) error {
		m := Member{}
		if len(key) != 8 || m.parse(val) != nil {
			v.bad("member %x: a row of unknown form", key)
			return nil
		}
		m.Room, m.User = Num(binary.BigEndian.Uint32(key)), binary.BigEndian.Uint32(key[4:])
		c := counts[m.Room]
		switch m.Membership {
		case Join:
			c.joined++
			if m.Local {
				c.local++
			}
		case Invite:
			c.invited++
		}
		c.outside = c.outside || m.Outside
		counts[m.Room] = c
		other, ok, err := v.r.st.Get(nil, userRoomKey(nil, m.User, m.Room))
		if err != nil {
			return err
		}
		if !ok || string(other) != string(val) {
			v.bad("member %d of room %d: its two rows differ", m.User, m.Room)
		}
		return v.member(&m)
	}); err != nil {
		return err
	}
	for in, h := range v.heads {
		if c := counts[in]; !c.outside && (c.joined != h.Joined || c.invited != h.Invited) {
			v.bad("room %d: its row counts %d joined and %d invited, there are %d and %d", in, h.Joined, h.Invited, c.joined, c.invited)
		}
	}
	return v.scan(store.UserRoom, func(key, _ []byte) error {
		if len(key) != 8 {
			v.bad("membership: a key of %d bytes", len(key))
			return nil
		}
		user, in := binary.BigEndian.Uint32(key), Num(binary.BigEndian.Uint32(key[4:]))
		ok, err := v.r.st.Has(memberKey(nil, in, user))
		if err == nil && !ok {
			v.bad("member %d of room %d: only one of its rows is there", user, in)
		}
		return err
	})
}

// member holds a standing to the state event it comes from.
func (v *verifier) member(m *Member) error {
	if m.Pos > v.r.log.Tip() {
		v.bad("member %d of room %d: changed at %d, past the tip %d", m.User, m.Room, m.Pos, v.r.log.Tip())
	}
	id, err := v.r.UserID(m.User)
	if err != nil {
		v.bad("member %d of room %d: %v", m.User, m.Room, err)
		return nil
	}
	if m.Event == 0 && m.Membership == None {
		return nil // where forks came together the user's standing was lost
	}
	// The row's position is that of what changed the state: where forks came
	// together another event than the member's own, which may even get its place
	// later, when it was an outlier before.
	e, err := v.event(m.Event, "member %d of room %d", m.User, m.Room)
	if err != nil || e == nil {
		return err
	}
	if !e.Is("m.room.member", string(id)) || e.In != m.Room || MembershipOf(e.Content) != m.Membership && !e.Redacted() ||
		m.Local != (id.Server() == v.r.Server()) {
		v.bad("member %d of room %d: its row does not follow from event %d", m.User, m.Room, e.Num)
	}
	if m.Outside {
		return nil // no state of the room has it
	}
	h := v.heads[m.Room]
	key, err := v.r.KeyOf("m.room.member", string(id))
	if err != nil {
		return err
	}
	if h == nil || EventNum(h.State.Get(key)) != m.Event {
		v.bad("member %d of room %d: the room's state has another event", m.User, m.Room)
	}
	return nil
}

func (v *verifier) transactions() error {
	return v.scan(store.Transaction, func(key, val []byte) error {
		num, n := binary.Uvarint(val)
		if len(key) != 28 || n <= 0 {
			v.bad("transaction: a row of unknown form")
			return nil
		}
		e, err := v.event(EventNum(num), "transaction %x", key)
		if e != nil && e.TxnDevice != binary.BigEndian.Uint64(key[4:]) {
			v.bad("transaction %x: event %d came from device %d", key, num, e.TxnDevice)
		}
		return err
	})
}

func (v *verifier) relations() error {
	return v.scan(store.Relation, func(key, val []byte) error {
		if len(key) < 4+1+8 {
			v.bad("relation: a key of %d bytes", len(key))
			return nil
		}
		in, num := Num(binary.BigEndian.Uint32(key)), EventNum(binary.BigEndian.Uint64(key[len(key)-8:]))
		var rel Relation
		if err := rel.parse(val); err != nil {
			v.bad("relation of event %d: %v", num, err)
		}
		e, err := v.event(num, "a relation in room %d", in)
		if e != nil && e.In != in {
			v.bad("event %d: its relation is indexed in room %d, it lies in %d", num, in, e.In)
		}
		return err
	})
}
