package engine

import (
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/room"
)

// Events are kept as long as the owner says (Options.Retention), or for ever. A room
// may have its own kept for less by the state event m.room.retention (MSC1763). Once
// a day, while people sleep, what is older is removed as PurgeHistory does it.
//
// Where the owner says nothing only the wishes of this hub's own users count: nobody
// elsewhere is to have this hub's past removed by an event in a room.

const (
	typeRetention = "m.room.retention"

	// keepLeast is the shortest that events are kept: who was away over night is still
	// to find what was said.
	keepLeast = 24 * time.Hour

	metaRetention  = "retention" // when the last run was, in milliseconds
	retentionLook  = 10 * time.Minute
	retentionHour  = 3 // of the night, by the hub's own time zone
	retentionEarly = 20 * time.Hour
	retentionLate  = 36 * time.Hour
)

// KeepsFor is how long a room's events are kept; 0: for ever.
// MSC1763: message retention.
func (e *Engine) KeepsFor(num room.Num) (time.Duration, error) {
	h, err := e.Rooms.Head(num)
	if err != nil {
		return 0, err
	}
	keep := e.keep
	ev, err := e.Rooms.StateEvent(h.State, typeRetention, "")
	if err != nil {
		return 0, err
	}
	if ev != nil && (e.keep > 0 || ev.Sender.Server() == e.Server) {
		keep = roomKeeps(ev.Content, keep)
	}
	if keep > 0 {
		keep = max(keep, keepLeast)
	}
	return keep, nil
}

// roomKeeps is how long a room wants its events kept, at most as long as the owner
// of the hub: 0 is for ever. What contradicts itself says nothing.
func roomKeeps(content []byte, owner time.Duration) time.Duration {
	most, some := lifetime(content, "max_lifetime")
	least, _ := lifetime(content, "min_lifetime")
	if !some || least > most || owner > 0 && owner < most {
		return owner
	}
	return most
}

// maxLifetime bounds what a room may say, so that it can be counted with: a
// hundred years.
const maxLifetime = 36_500 * 24 * time.Hour / time.Millisecond

func lifetime(content []byte, key string) (time.Duration, bool) {
	val, ok := cjson.Lookup(content, key)
	if !ok {
		return 0, false
	}
	n, ok := cjson.Int(val)
	if !ok || n <= 0 {
		return 0, false
	}
	return time.Duration(min(n, int64(maxLifetime))) * time.Millisecond, true
}

// Expire begins to remove what is too old, in all rooms, and says in how many there
// is something. What is left of it goes in the background.
func (e *Engine) Expire() (rooms int, err error) { return e.expireAt(e.sober()) }

func (e *Engine) expireAt(now time.Time) (rooms int, err error) {
	if e.st.ReadOnly() {
		return 0, nil
	}
	came, err := e.marks(now)
	if err != nil {
		return 0, err
	}
	defer e.goTrim()
	var nums []room.Num
	if err := e.Rooms.All(0, func(num room.Num) bool {
		nums = append(nums, num)
		return true
	}); err != nil {
		return 0, err
	}
	for _, num := range nums {
		if e.ending() {
			return rooms, nil
		}
		some, err := e.expire(num, now, came)
		switch {
		case fault.Is(err, fault.NotFound), fault.Is(err, fault.Unknown), fault.Is(err, fault.Corrupt):
			continue // gone meanwhile, at work already, or damaged: no other room is kept from its own
		case err != nil:
			return rooms, err
		case some:
			rooms++
		}
	}
	return rooms, nil
}

// expire begins to remove what is too old in one room. now is the time, and came
// where the log was at some times before.
func (e *Engine) expire(num room.Num, now time.Time, came marks) (some bool, err error) {
	keep, err := e.KeepsFor(num)
	if err != nil || keep == 0 {
		return false, err
	}
	since := now.Add(-keep).UnixMilli()
	if since <= 0 {
		return false, nil
	}
	t := room.Trim{Time: since}
	if t.Before, err = e.Rooms.Older(num, room.Key{}, since); err != nil {
		return false, err
	}
	if late, ok := came.after(since); ok && late.Before(t.Before) {
		t.Before = late
	}
	seq, err := e.trim(num, t)
	return seq > 0, err
}

// retentionDue says whether it is time for a run: in the quiet hour of the night, or
// when that went by more than once, as on a hub that is switched off at night.
func retentionDue(now, last time.Time) bool {
	since := now.Sub(last)
	return since >= retentionLate || since < 0 || since >= retentionEarly && now.Hour() == retentionHour
}

// runRetention removes what is too old once a day until the engine ends.
func (e *Engine) runRetention(fail func(error)) {
	look := time.NewTicker(retentionLook)
	defer look.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-look.C:
		}
		if err := e.retentionTurn(e.sober()); err != nil && !fault.Is(err, fault.Full) {
			fail(err)
		}
	}
}

// retentionTurn has a run where one is due, and where the clock can be believed. The
// first look of a new hub, or of one that had no such thing, only sets the day from
// which is counted.
func (e *Engine) retentionTurn(now time.Time) error {
	if e.st.ReadOnly() {
		return nil
	}
	val, ok, err := e.st.Meta(metaRetention)
	if err != nil {
		return err
	}
	ms, _ := strconv.ParseInt(string(val), 10, 64)
	last := time.UnixMilli(ms)
	if ok {
		sure, err := e.believes(now, last)
		if err != nil || !sure || !retentionDue(now, last) {
			return err
		}
		rooms, err := e.expireAt(now)
		if err != nil {
			return err
		}
		if rooms > 0 {
			e.say("what is too old is removed from %d rooms", rooms)
		}
	}
	came, err := e.marks(now)
	if err != nil {
		return err
	}
	b := e.st.NewBatch()
	b.Frees() // the full disk is what it is there for
	b.SetMeta(metaRetention, strconv.AppendInt(nil, now.UnixMilli(), 10))
	b.SetMeta(metaMarks, came.add(mark{now.UnixMilli(), e.log.Tip()}).appendTo(nil))
	b.DropMeta(metaDoubt)
	return e.st.Commit(b)
}
