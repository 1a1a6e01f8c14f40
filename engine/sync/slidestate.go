package sync

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/room"
	"hearth/engine/slide"
)

// required is what is told of a room's state.
type required struct {
	end    room.State // as the client is to have it; nil where that was not needed
	events []*room.Event
	gone   []slide.Key // what is there no more

	all     bool // the client has nothing yet
	name    bool // something about the name changed
	avatar  bool
	members bool // somebody came or went
}

func (c *required) any() bool {
	return len(c.events) > 0 || len(c.gone) > 0 || c.name || c.avatar || c.members
}

// picker collects the state events that a client is to be told.
type picker struct {
	x    *slider
	sh   *shift
	ask  *ask
	nums []room.EventNum
	*required
}

// requiredOf works out what is told of the state of a room that the user is in:
// all that is asked for, or what has changed of it since; with the members that
// the timeline needs. Spec: MSC4186, required_state.
func (x *slider) requiredOf(sh *shift, h *room.Head, w *window) (*required, error) {
	k := x.c.asked[sh.rule]
	p := picker{x: x, sh: sh, ask: k, required: &required{all: sh.initial}}
	widens := !sh.initial && !x.covered(sh.was.ask, sh.rule)
	lazy := k.lazy() && len(w.events) > 0
	changed := w.stateful || w.limited && sh.last > sh.from // what was before it is no change
	if !sh.initial && !changed && !widens && !lazy {
		return p.required, nil
	}
	if p.end = h.State; h.Last > x.next.pos {
		var err error
		if p.end, err = x.s.rooms.StateUpTo(h, w.to); err != nil {
			return nil, err
		}
	}
	return p.required, p.pick(w, changed, widens)
}

// requiredLeft is requiredOf for a room that the user is in no more, as of the
// leaving.
func (x *slider) requiredLeft(sh *shift, left *room.Event, w *window) (*required, error) {
	p := picker{x: x, sh: sh, ask: x.c.asked[sh.rule], required: &required{all: sh.initial}}
	var err error
	if p.end, err = x.s.rooms.StateAfter(left); err != nil {
		return nil, err
	}
	return p.required, p.pick(w, true, false)
}

func (p *picker) pick(w *window, changed, widens bool) (err error) {
	if p.ask.lazy() {
		p.sh.now.mark |= hasMembers
	}
	switch {
	case p.all:
		p.sh.now.ask = p.sh.rule
		p.name, p.avatar, p.members = true, true, true
		err = p.whole(nil)
	case changed:
		err = p.difference(w)
	}
	if err == nil && widens {
		err = p.widen()
	}
	if err == nil && p.ask.lazy() {
		err = p.lazily(w)
	}
	if err != nil {
		return err
	}
	slices.Sort(p.nums)
	for _, num := range slices.Compact(p.nums) {
		e, err := p.x.s.rooms.Event(num)
		if err != nil {
			return err
		}
		p.events = append(p.events, e)
		if e.Type == "m.room.member" && p.ask.lazy() {
			p.x.step.members = append(p.x.step.members, num)
		}
	}
	return nil
}

// whole takes all that is asked for, but for what the client was told for having
// asked for something else before.
func (p *picker) whole(before *ask) error {
	var keys []slide.Key
	for _, q := range p.ask.rules {
		var ok bool
		if keys, ok = q.Named(keys, p.x.req.UserID); !ok {
			return p.walk(before)
		}
	}
	for _, k := range keys {
		if before != nil && before.wants(k.Type, k.Key, p.x.req.UserID) {
			continue
		}
		if err := p.add(k.Type, k.Key); err != nil {
			return err
		}
	}
	return nil
}

// add takes the state event of a key, where there is one.
func (p *picker) add(typ, key string) error {
	num, err := p.x.s.rooms.KeyOf(typ, key)
	if err != nil || num == 0 {
		return err
	}
	if e := p.end.Get(num); e != 0 {
		p.nums = append(p.nums, room.EventNum(e))
	}
	return nil
}

func (p *picker) walk(before *ask) error {
	me := p.x.req.UserID
	for _, pair := range p.end {
		typ, key, err := p.x.s.rooms.KeyName(pair.Key)
		if err != nil {
			return err
		}
		if p.ask.wants(typ, key, me) && (before == nil || !before.wants(typ, key, me)) {
			p.nums = append(p.nums, room.EventNum(pair.Event))
		}
	}
	return nil
}

// widen takes what is asked for now and was not before. Where less is asked for
// the client keeps what it has, and that is remembered as long as it is right: a
// room that goes to and fro between two lists is not told anew each time.
func (p *picker) widen() error {
	p.sh.now.ask = p.sh.rule
	return p.whole(p.x.c.asked[p.sh.was.ask])
}

// covered says whether what was asked for before holds all that is asked for now.
func (x *slider) covered(before, now uint16) bool { return x.c.covered(before, now, x.req.UserID) }

// difference takes what has changed of what is asked for.
func (p *picker) difference(w *window) error {
	old, err := p.x.s.rooms.StateAt(p.sh.room, room.After(p.sh.from))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	i := 0
	for _, pair := range p.end {
		for ; i < len(old) && old[i].Key < pair.Key; i++ {
			if err := p.change(w, old[i].Key, 0); err != nil {
				return err
			}
		}
		if i < len(old) && old[i].Key == pair.Key {
			i++
			if old[i-1].Event == pair.Event {
				continue
			}
		}
		if err := p.change(w, pair.Key, room.EventNum(pair.Event)); err != nil {
			return err
		}
	}
	for ; i < len(old); i++ {
		if err := p.change(w, old[i].Key, 0); err != nil {
			return err
		}
	}
	return nil
}

// change takes in that the state of a key is another now, or none.
func (p *picker) change(w *window, num uint32, now room.EventNum) error {
	typ, key, err := p.x.s.rooms.KeyName(num)
	if err != nil {
		return err
	}
	p.name = p.name || typ == "m.room.name"
	p.avatar = p.avatar || typ == "m.room.avatar"
	p.members = p.members || typ == "m.room.member"
	me := p.x.req.UserID
	switch {
	case p.ask.wants(typ, key, me), typ == "m.room.member" && p.sh.now.mark&hasMembers != 0 && !w.limited:
		if now == 0 {
			p.gone = append(p.gone, slide.Key{Type: typ, Key: key})
		} else {
			p.nums = append(p.nums, now)
		}
	case p.sh.was != nil && p.x.c.asked[p.sh.was.ask].wants(typ, key, me):
		p.sh.now.ask = p.sh.rule // what it has of what it asked for before is not right any more
	}
	return nil
}

// lazily takes the members that the timeline needs: who sent an event, and whom
// one is about. Spec: MSC4186, lazy loaded memberships.
func (p *picker) lazily(w *window) error {
	var users []string
	for _, e := range w.events {
		users = append(users, string(e.Sender))
		if e.IsState && e.Type == "m.room.member" {
			users = append(users, e.StateKey)
		}
	}
	slices.Sort(users)
	for _, user := range slices.Compact(users) {
		from := len(p.nums)
		if err := p.add("m.room.member", user); err != nil {
			return err
		}
		if len(p.nums) > from && !p.all && !w.limited && p.x.s.told.known(p.x.c.device(), p.nums[from], 0) {
			p.nums = p.nums[:from]
		}
	}
	return nil
}

// appendRequired writes the state. What is there no more is told in the proposal's
// last words only: there was none for it before.
func (x *slider) appendRequired(c *required) error {
	if len(c.events) == 0 && (len(c.gone) == 0 || !x.ask.Final) {
		return nil
	}
	x.key("required_state")
	x.dst = append(x.dst, '[')
	for _, e := range c.events {
		x.comma()
		if err := x.appendEvent(e, room.None, nil); err != nil {
			return err
		}
	}
	for _, k := range c.gone {
		if !x.ask.Final {
			break
		}
		x.comma()
		x.dst = appendMember(append(x.dst, '{'), "type", k.Type)
		x.dst = append(appendMember(x.dst, "state_key", k.Key), '}')
	}
	x.dst = append(x.dst, ']')
	return nil
}

// appendNames writes what a room is called by, as far as that changed: its name
// and avatar, or the members that stand for a name; and how many there are.
func (x *slider) appendNames(h *room.Head, c *required) error {
	named := true
	if c.name || c.members {
		name, err := x.textOf(c, "m.room.name", "name")
		if err != nil {
			return err
		}
		named = name != ""
		if c.name {
			x.text("name", name, c.all)
		}
	}
	if c.avatar {
		avatar, err := x.textOf(c, "m.room.avatar", "url")
		if err != nil {
			return err
		}
		x.text("avatar", avatar, c.all)
	}
	if !c.members && (!c.name || named) {
		return nil
	}
	x.s.rooms.Settled(h)
	if c.members {
		x.number("joined_count", int64(h.Joined))
		x.number("invited_count", int64(h.Invited))
	}
	if named {
		return nil
	}
	return x.appendHeroes(h)
}

// text writes a text; none where it is empty, which is said to who may have another.
func (x *slider) text(name, text string, all bool) {
	switch {
	case text != "":
		x.dst = appendMember(x.dst, name, text)
	case !all:
		x.key(name)
		x.dst = append(x.dst, `null`...)
	}
}

func (x *slider) textOf(c *required, typ, field string) (string, error) {
	e, err := x.s.rooms.StateEvent(c.end, typ, "")
	if err != nil || e == nil {
		return "", err
	}
	text, _ := cjson.LookupString(e.Content, field)
	return text, nil
}

// appendHeroes writes the members that stand for the name of a room without one.
func (x *slider) appendHeroes(h *room.Head) error {
	heroes, err := x.s.rooms.Heroes(h, x.req.User)
	if err != nil {
		return err
	}
	x.key("heroes")
	x.dst = append(x.dst, '[')
	for _, id := range heroes {
		x.comma()
		x.dst = appendMember(append(x.dst, '{'), "user_id", string(id))
		e, err := x.s.rooms.StateEvent(h.State, "m.room.member", string(id))
		if err != nil {
			return err
		}
		if e != nil {
			if name, _ := cjson.LookupString(e.Content, "displayname"); name != "" {
				x.dst = appendMember(x.dst, "displayname", name)
			}
			if url, _ := cjson.LookupString(e.Content, "avatar_url"); url != "" {
				x.dst = appendMember(x.dst, "avatar_url", url)
			}
		}
		x.dst = append(x.dst, '}')
	}
	x.dst = append(x.dst, ']')
	return nil
}
