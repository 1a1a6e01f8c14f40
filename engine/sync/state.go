package sync

import (
	"slices"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// changes works out which state events an answer tells about a room.
//
// Without state_after the client plays the timeline over what it is told, so it
// is told the difference between the token and the start of the timeline, and
// those changes inside the timeline that the filter hides. With it, the
// difference between the token and the end.
// Spec: client-server, GET /sync, state and state_after; lazy-loading room members.
type changes struct {
	a    *answer
	w    *window
	end  room.State // at the end of the timeline
	full bool       // all of the state, not the difference to the token
	last bool       // end is the last the user may know, though the timeline goes on
	lazy bool

	users []mxid.UserID // whose member events are wanted beside the senders'
	start room.State    // what is told is taken from here
	nums  []room.EventNum
}

// list gives the events to tell, in the order of their keys.
func (c *changes) list() ([]*room.Event, error) {
	a, part := c.a, c.a.f.Room.State
	if part.Nothing() || !part.PassesRoom(c.w.id) {
		return nil, nil
	}
	c.lazy = part.LazyMembers()
	if err := c.begin(); err != nil {
		return nil, err
	}
	if err := c.difference(); err != nil {
		return nil, err
	}
	if c.lazy {
		if err := c.wanted(); err != nil {
			return nil, err
		}
	}
	events := make([]*room.Event, 0, len(c.nums))
	for _, num := range c.nums {
		e, err := a.s.rooms.Event(num)
		if err != nil {
			return nil, err
		}
		if part.Passes(e.Type, e.Sender, e.Content) {
			events = append(events, e)
		}
	}
	return events, nil
}

// begin finds the state that is told: at the start of the timeline, or its end.
func (c *changes) begin() error {
	c.start = c.end
	if c.a.req.UseStateAfter || c.last || len(c.w.events) == 0 || !c.w.stateful {
		return nil // without a state event in the timeline the state is the same on both sides of it
	}
	start, err := c.a.s.rooms.StateBefore(c.w.events[0])
	if fault.Is(err, fault.NotFound) {
		return nil // not known: the end is the best there is
	}
	c.start = start
	return err
}

// add takes an event, unless the client gets it in the timeline, where without
// state_after it counts.
func (c *changes) add(num room.EventNum) {
	if slices.Contains(c.nums, num) {
		return
	}
	if !c.a.req.UseStateAfter && slices.ContainsFunc(c.w.events, func(e *room.Event) bool { return e.Num == num }) {
		return
	}
	c.nums = append(c.nums, num)
}

// difference takes what differs from what the client has.
func (c *changes) difference() error {
	if c.full {
		if err := c.all(); err != nil {
			return err
		}
	} else if c.w.limited || c.a.req.UseStateAfter && c.w.stateful {
		old, err := c.a.s.rooms.StateAt(c.w.room, room.After(c.a.since.pos))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		i := 0
		for _, p := range c.start {
			for i < len(old) && old[i].Key < p.Key {
				i++
			}
			if i == len(old) || old[i].Key != p.Key || old[i].Event != p.Event {
				c.add(room.EventNum(p.Event))
			}
		}
	}
	return c.hidden()
}

// hidden takes the changes inside the timeline that its filter left out.
func (c *changes) hidden() error {
	if c.a.req.UseStateAfter {
		return nil // they are in the difference
	}
	for _, e := range c.w.skipped {
		if len(c.w.events) > 0 && (c.full || c.w.limited) && e.At.Before(c.w.events[0].At) {
			continue // in the state at the start
		}
		key, err := c.a.s.rooms.KeyOf(e.Type, e.StateKey)
		if err != nil {
			return err
		}
		if c.end.Get(key) == uint64(e.Num) {
			c.add(e.Num)
		}
	}
	return nil
}

// all takes the whole state, under lazy loading without the members.
func (c *changes) all() error {
	for _, p := range c.start {
		if c.lazy {
			typ, _, err := c.a.s.rooms.KeyName(p.Key)
			if err != nil {
				return err
			}
			if typ == "m.room.member" {
				continue
			}
		}
		c.nums = append(c.nums, room.EventNum(p.Event))
	}
	return nil
}

// wanted takes the member events that lazy loading asks for: of those who sent
// what is in the timeline, and of c.users.
func (c *changes) wanted() error {
	users := c.users
	for _, e := range c.w.events {
		users = append(users, e.Sender)
	}
	slices.Sort(users)
	for _, user := range slices.Compact(users) {
		key, err := c.a.s.rooms.KeyOf("m.room.member", string(user))
		if err != nil {
			return err
		}
		num := room.EventNum(c.start.Get(key))
		if key == 0 || num == 0 {
			continue
		}
		if !c.full && !c.a.f.Room.State.RedundantMembers() && c.a.s.told.known(c.a.req.Device, num, c.a.since.pos) {
			continue
		}
		c.add(num)
	}
	return nil
}

// remember notes the members that the client is told of in a room.
func (a *answer) remember(state, timeline []*room.Event) {
	if !a.f.Room.State.LazyMembers() {
		return
	}
	for _, list := range [...][]*room.Event{state, timeline} {
		for _, e := range list {
			if e.IsState && e.Type == "m.room.member" {
				a.s.told.tell(a.req.Device, e.Num, a.next.pos)
			}
		}
	}
}

// appendState writes the state events of a room. state_after is written also
// where it is empty: that it is there tells the client how to read the timeline.
func (a *answer) appendState(events []*room.Event, _ mxid.RoomID) error {
	head := `"state":{"events":[`
	if a.req.UseStateAfter {
		head = `"state_after":{"events":[`
	} else if len(events) == 0 {
		return nil
	}
	a.comma()
	a.dst = append(a.dst, head...)
	for _, e := range events {
		a.comma()
		if err := a.appendEvent(e, room.None, nil); err != nil {
			return err
		}
	}
	a.dst = append(a.dst, `]}`...)
	a.news = a.news || len(events) > 0
	return nil
}
