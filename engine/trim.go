package engine

import (
	"fmt"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// trimPause is how long a removal rests after some hundred events: the card is to
// have time for what people wait for.
const trimPause = 100 * time.Millisecond

// undelivered is how long an event stays that a server in its room, or an
// application service, has not been brought yet.
const undelivered = 7 * 24 * time.Hour

// History says what is to be removed of a room.
type History struct {
	Event mxid.EventID // what came before it; empty: Time says it
	Time  int64        // what is older, in milliseconds
	Local bool         // what users of this hub have sent goes from the disk too; else it is only shown to nobody
}

// HistoryPurge is a removal of a room's history.
type HistoryPurge struct {
	Room   mxid.RoomID
	Done   bool
	Events uint64 // that are gone from the disk
	Bytes  uint64 // that they took there
}

// PurgeHistory removes a room's history before an event or a time. When it returns
// the room begins there for everybody, and what is left of it goes in the
// background, after a restart too. The room's present, what it follows from, and
// what others are still to be brought stay. The id names the removal to
// HistoryPurged.
//
// Errors: NotFound for an event that has no place in the room, Invalid for a time
// that is to come, Unknown while another part of the room's history is being removed.
func (e *Engine) PurgeHistory(num room.Num, q History) (id string, err error) {
	const op = "engine.PurgeHistory"
	if e.st.ReadOnly() {
		return "", fault.E(fault.Full, op, "the hub's disk can only be read")
	}
	t := room.Trim{KeepLocal: !q.Local, Sweep: true}
	switch {
	case q.Event != "":
		t.Before, err = e.Rooms.PlaceOf(num, q.Event)
	case q.Time <= 0 || q.Time > e.clock.now().UnixMilli():
		err = fault.E(fault.Invalid, op, "the time has to be a past one, in milliseconds since 1970")
	default:
		t.Time = q.Time
		t.Before, err = e.Rooms.Older(num, room.Key{}, q.Time)
	}
	if err != nil {
		return "", err
	}
	seq, err := e.trim(num, t)
	if err != nil {
		return "", err
	}
	e.goTrim()
	return fmt.Sprintf("%d-%d", num, seq), nil
}

// HistoryPurged says how a removal of history stands. NotFound for an id that names
// none.
func (e *Engine) HistoryPurged(id string) (p HistoryPurge, err error) {
	var num room.Num
	var seq uint64
	none := fault.E(fault.NotFound, "engine.HistoryPurged", "no such removal is known")
	if n, err := fmt.Sscanf(id, "%d-%d", &num, &seq); err != nil || n != 2 || fmt.Sprintf("%d-%d", num, seq) != id {
		return p, none
	}
	if ok, err := e.hasRoom(uint32(num)); err != nil || !ok {
		return p, none
	}
	if p.Room, err = e.Rooms.RoomID(num); err != nil {
		return p, err
	}
	s, _ := e.Rooms.TrimOf(num)
	switch {
	case seq > s.Seq:
		return p, none
	case seq < s.Seq || seq == 0:
		p.Done = true // another began since, which waits for the end of the one before; or there was nothing to do
	default:
		p.Done, p.Events, p.Bytes = s.Done, s.Events, s.Bytes
	}
	return p, nil
}

// trim begins to remove a room's history, as far as it may be.
func (e *Engine) trim(num room.Num, t room.Trim) (seq uint64, err error) {
	has, err := e.brought(num)
	if err != nil {
		return 0, err
	}
	if late := room.After(has); late.Before(t.Before) {
		old, err := e.Rooms.Older(num, late, e.clock.now().Add(-undelivered).UnixMilli())
		if err != nil {
			return 0, err
		}
		if old.Before(t.Before) {
			t.Before = old
		}
	}
	return e.Rooms.Trim(num, t)
}

// goTrim has what was begun go on.
func (e *Engine) goTrim() {
	select {
	case e.trims <- struct{}{}:
	default:
	}
}

// brought is the position up to which all others have what is for them of a room.
func (e *Engine) brought(num room.Num) (upto stream.Pos, err error) {
	if upto, err = e.Federation.Brought(num); err != nil {
		return 0, err
	}
	list, err := e.AppServices.Statuses()
	for _, s := range list {
		upto = min(upto, e.log.Tip()-stream.Pos(s.Behind))
	}
	return upto, err
}

// beginTrims has histories removed in the background, those that are asked for and
// what is too old.
func (e *Engine) beginTrims(complain func(what string) func(error)) {
	e.running.Go(func() { e.runTrims(complain("the history of a room is not removed")) })
	e.running.Go(func() { e.runRetention(complain("what is too old is not removed")) })
}

// runTrims removes what is left of histories, those included that the hub had not
// come to when it stopped, until the engine ends. When nothing is left the space is
// given back, once for all.
func (e *Engine) runTrims(fail func(error)) {
	for {
		freed := uint64(0)
		for _, num := range e.Rooms.Trimming() {
			if e.st.ReadOnly() || e.ending() {
				break
			}
			some, err := e.finishTrim(num)
			if err != nil {
				fail(err) // tried again with the next; a room that is damaged keeps no other from its own
			}
			freed += some
		}
		if e.ending() {
			return
		}
		if err := e.reclaim(freed); err != nil {
			fail(err)
		}
		select {
		case <-e.stop:
			return
		case <-e.trims:
		}
	}
}

// ending says whether the engine is being closed.
func (e *Engine) ending() bool {
	select {
	case <-e.stop:
		return true
	default:
		return false
	}
}

// finishTrim removes what is left of one history, unless the engine ends before.
func (e *Engine) finishTrim(num room.Num) (freed uint64, err error) {
	for !e.ending() {
		done, err := e.Rooms.TrimSome(num, e.Search.Forget)
		if err != nil {
			return 0, err
		}
		if done {
			s, _ := e.Rooms.TrimOf(num)
			return s.Bytes, nil
		}
		select {
		case <-e.stop: // taken up at the next start
		case <-time.After(trimPause):
		}
	}
	return 0, nil
}

// From how many bytes of bodies on their space is given back at once: it takes
// writing anew what lies between them. Ids and words of events lie in no order of
// time, so all that are left of them are written anew.
const (
	reclaimFrom = 1 << 20
	reclaimAll  = 16 << 20
)

// reclaim gives back the space of what was removed.
func (e *Engine) reclaim(freed uint64) error {
	if freed < reclaimFrom {
		return nil
	}
	tables := []store.Table{store.OtherBody, store.StateBody, store.Timeline, store.Snapshot, store.Relation}
	if freed >= reclaimAll {
		tables = append(tables, store.EventNumber, store.Word, store.EventWords)
	}
	for _, t := range tables {
		if err := e.st.Reclaim(t.Prefix(), store.After(t.Prefix())); err != nil {
			return err
		}
	}
	return nil
}
