package unread

import (
	"math"
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/pushrule"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// fold looks through a room for one reader.
type fold struct {
	u  *Unread
	rd *Reader
	h  *room.Head
	r  *row

	name   string // the reader's display name in the room, once named is true
	named  bool
	target pushrule.Target
}

// run looks through the events behind the row's position, up to the position
// upto.
func (f *fold) run(upto stream.Pos, news *News) error {
	r := f.r
	if r.pos == 0 {
		// What was before the user joined is not for them to be notified of.
		m, err := f.u.rooms.MemberOf(f.h.Room, f.rd.User)
		if err != nil {
			return err
		}
		r.pos, r.out, r.behind = m.Pos, m.Membership != room.Join, saveEvery
	}
	if upto <= r.pos {
		return nil
	}
	if f.h.Last <= r.pos {
		r.pos = upto
		return nil
	}
	var buf [16]room.EventNum
	nums, err := f.behind(buf[:0], upto, news)
	if err != nil {
		return err
	}
	for _, num := range nums {
		e, err := f.u.rooms.Event(num)
		if fault.Is(err, fault.NotFound) {
			continue // aged since
		}
		if err != nil {
			return err
		}
		if e.At.Pos <= r.pos {
			continue
		}
		if err := f.take(e); err != nil {
			return err
		}
	}
	r.pos = upto
	r.behind += len(nums)
	return nil
}

// behind lists the events behind the row's position, oldest first: what the
// caller knows, where that is enough.
func (f *fold) behind(nums []room.EventNum, upto stream.Pos, news *News) ([]room.EventNum, error) {
	if news != nil && news.After <= f.r.pos {
		return news.Events, nil
	}
	err := f.u.rooms.Timeline(f.h.Room, room.After(f.r.pos), room.After(upto), true, func(k room.Key, num room.EventNum) (bool, error) {
		if k.Fill == math.MaxUint16 { // what was back-filled is no news
			nums = append(nums, num)
		}
		return len(nums) < maxFold, nil
	})
	slices.Reverse(nums)
	return nums, err
}

// take looks at one event.
func (f *fold) take(e *room.Event) error {
	r := f.r
	if e.Is("m.room.member", string(f.rd.ID)) {
		if r.out = room.MembershipOf(e.Content) != room.Join; r.out {
			r.notes = nil
			return nil
		}
	}
	switch {
	case r.out, e.Redacted():
		return nil
	case e.Type == "m.room.redaction" && e.Redacts != "":
		if err := f.forget(e.Redacts); err != nil {
			return err
		}
	case e.Sender == f.rd.ID && e.IsState:
		return nil // a change of profile reaches every room, and reads none
	}
	if f.rd.Ignores != nil && f.rd.Ignores(e.Sender) {
		return nil
	}
	if e.Sender == f.rd.ID {
		// Who sends has read. Spec: client-server, marking notifications as read.
		root, err := f.threadOf(e)
		if err == nil && len(r.notes) > 0 {
			r.clear(root, e.At.Pos)
		}
		return err
	}
	a, err := f.actions(e)
	if err != nil || !a.Notify {
		return err
	}
	root, err := f.threadOf(e)
	if err != nil {
		return err
	}
	thread, _ := r.thread(root, true)
	r.add(note{e.At.Pos, thread, a.Highlight, e.Type == "m.call.invite" && !e.IsState})
	return nil
}

// forget takes a redacted event off the list.
func (f *fold) forget(id mxid.EventID) error {
	if len(f.r.notes) == 0 {
		return nil
	}
	e, err := f.u.rooms.Lookup(id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || e.In != f.h.Room {
		return err
	}
	f.r.notes = slices.DeleteFunc(f.r.notes, func(n note) bool { return n.pos == e.At.Pos })
	return nil
}

// actions asks the reader's push rules.
func (f *fold) actions(e *room.Event) (pushrule.Actions, error) {
	if f.rd.rules == nil {
		rules, err := f.u.accounts.Rules(f.rd.User)
		if err != nil {
			return pushrule.Actions{}, err
		}
		f.rd.rules = rules
	}
	if !f.named {
		me, err := f.u.rooms.StateEvent(f.h.State, "m.room.member", string(f.rd.ID))
		if err != nil {
			return pushrule.Actions{}, err
		}
		if me != nil {
			f.name, _ = cjson.LookupString(me.Content, "displayname")
		}
		f.named = true
		f.target = pushrule.Target{DisplayName: f.name, Members: f.h.Joined, SenderMay: f.senderMay}
	}
	f.target.Event = e.Event
	return f.rd.rules.Evaluate(&f.target), nil
}

func (f *fold) senderMay(sender mxid.UserID, key string) bool {
	return f.h.Levels.UserLevel(sender) >= f.h.Levels.Notification(key)
}

// maxHops is how far an event may be from one that names its thread.
const maxHops = 3

// threadOf gives the root of the thread an event is in; empty where it is in
// none. Spec: client-server, receiving notifications; threading.
func (f *fold) threadOf(e *room.Event) (mxid.EventID, error) {
	for hop := 0; ; hop++ {
		rel, ok := cjson.Lookup(e.Content, "m.relates_to")
		if !ok || cjson.KindOf(rel) != cjson.ObjectKind {
			return "", nil
		}
		id, ok := cjson.LookupString(rel, "event_id")
		if !ok || hop == maxHops {
			return "", nil
		}
		if typ, _ := cjson.LookupString(rel, "rel_type"); typ == "m.thread" {
			return mxid.EventID(id), nil
		}
		next, err := f.u.rooms.Lookup(mxid.EventID(id))
		if fault.Is(err, fault.NotFound) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if next.In != f.h.Room {
			return "", nil
		}
		e = next
	}
}
