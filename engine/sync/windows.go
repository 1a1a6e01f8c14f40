package sync

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/slide"
	"hearth/engine/stream"
)

// hit is a rule that names a room: a list or, from firstSub on, a subscription.
type hit struct {
	at   int // place in the roster
	rule int
}

const firstSub = 1000

// windows finds the rooms that the lists show and the subscriptions name, the
// latest first, and as of which position. Spec: MSC4186, lists and subscriptions.
func (x *slider) windows() error {
	r, err := x.s.roster(x.req.User, x.req.UserID)
	if err != nil {
		return err
	}
	defer r.mu.Unlock()
	x.next.pos = r.pos
	if err := r.own(x.s); err != nil {
		return err
	}
	body := x.ask.Body
	x.hits, x.wants = x.hits[:0], x.wants[:0]
	known := children{}
	for i := range body.Lists {
		n, err := x.list(r, i, known)
		if err != nil {
			return err
		}
		x.counts = append(x.counts, n)
	}
	for i := range body.Subscriptions {
		num, err := x.s.rooms.Find(mxid.RoomID(body.Subscriptions[i].Room))
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if at := r.find(num); at >= 0 && x.subscribed(&r.places[at]) {
			x.hits = append(x.hits, hit{at, firstSub + i})
		}
	}
	return x.group(r, x.hits)
}

// list cuts one list out of the roster, and counts its rooms.
func (x *slider) list(r *roster, i int, known children) (count int, err error) {
	l := &x.ask.Body.Lists[i]
	v, err := r.sieve(x.s, &l.Filter, known)
	if err != nil {
		return 0, err
	}
	for at := range r.places {
		p := &r.places[at]
		if !x.listed(p) {
			continue
		}
		if ok, err := r.passes(x.s, v, p); err != nil {
			return 0, err
		} else if !ok {
			continue
		}
		if l.Has(count) {
			x.hits = append(x.hits, hit{at, i})
		}
		count++
	}
	x.step.full = x.step.full || l.Filter.None() && l.All(count)
	return count, nil
}

// listed says whether a room is one for lists. Those that the user has left are
// where the client was told of them before, or may have been on a connection that
// the hub forgot; those that are forgotten until it knows that the user is out.
func (x *slider) listed(p *place) bool {
	if p.mark&departed != 0 && p.mark&(unlisted|silenced|forgotten) == 0 {
		return x.c.told(p.room) != nil || x.c.missed(p)
	}
	return x.subscribed(p)
}

// subscribed says whether a subscription to a room is to what the user may hear of.
func (x *slider) subscribed(p *place) bool {
	switch {
	case p.mark&(unlisted|silenced) != 0:
		return false
	case p.mark&forgotten != 0:
		t := x.c.told(p.room)
		return t != nil && t.mark&(isJoined|isAsked) != 0 || t == nil && x.c.missed(p)
	}
	return true
}

// group puts together what several rules want of the same room.
// Spec: MSC4186, combining room configs.
func (x *slider) group(r *roster, hits []hit) error {
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(a.at-b.at, a.rule-b.rule) })
	body := x.ask.Body
	ruled := make([]uint16, 0, len(body.Lists)+len(body.Subscriptions))
	for i := range body.Lists {
		ruled = append(ruled, x.c.rule(body.Lists[i].State))
	}
	for i := range body.Subscriptions {
		ruled = append(ruled, x.c.rule(body.Subscriptions[i].State))
	}
	var rules []uint16
	var before []hit
	asked := uint16(0)
	for len(hits) > 0 {
		n := 1
		for n < len(hits) && hits[n].at == hits[0].at {
			n++
		}
		p := &r.places[hits[0].at]
		w := wish{room: p.room, member: p.member, last: p.last, by: hits[:n]}
		_, w.direct = r.direct[p.room]
		rules = rules[:0]
		for _, h := range hits[:n] {
			var rule *slide.Rule
			if h.rule < firstSub {
				rules = append(rules, ruled[h.rule])
				rule = &body.Lists[h.rule].Rule
				w.scope |= x.scope(func(s *slide.Scope) bool { return s.List(body.Lists[h.rule].Key) })
			} else {
				rules = append(rules, ruled[len(body.Lists)+h.rule-firstSub])
				rule = &body.Subscriptions[h.rule-firstSub].Rule
				w.scope |= x.scope(func(s *slide.Scope) bool { return s.Room(body.Subscriptions[h.rule-firstSub].Room) })
			}
			w.limit = max(w.limit, rule.Timeline)
		}
		if !slices.EqualFunc(before, hits[:n], func(a, b hit) bool { return a.rule == b.rule }) {
			slices.Sort(rules)
			asked = x.c.ask(slices.Compact(rules))
			before = hits[:n]
		}
		w.rule = asked
		if err := x.byName(&w); err != nil {
			return err
		}
		x.wants = append(x.wants, w)
		hits = hits[n:]
	}
	return nil
}

// byName adds the extensions that name the room itself.
func (x *slider) byName(w *wish) error {
	body := x.ask.Body
	if !body.AccountData.ByName() && !body.Receipts.ByName() && !body.Typing.ByName() {
		return nil
	}
	id, err := x.s.rooms.RoomID(w.room)
	w.scope |= x.scope(func(s *slide.Scope) bool { return s.Extra(string(id)) })
	return err
}

// scope collects in which extensions a room is.
func (x *slider) scope(in func(s *slide.Scope) bool) (m toldMark) {
	body := x.ask.Body
	if in(&body.AccountData) {
		m |= hasData
	}
	if in(&body.Receipts) {
		m |= hasReceipt
	}
	if in(&body.Typing) {
		m |= hasTypists
	}
	return m
}

// appendLists writes how many rooms each list has. Where that is not what the
// client was told last, it is news.
func (x *slider) appendLists() {
	hash := fnv.New64a()
	x.dst = append(x.dst, `"lists":{`...)
	for i := range x.ask.Body.Lists {
		x.comma()
		from := len(x.dst)
		x.dst = append(cjson.AppendString(x.dst, x.ask.Body.Lists[i].Key), `:{"count":`...)
		x.dst = append(strconv.AppendInt(x.dst, int64(x.counts[i]), 10), '}')
		_, _ = hash.Write(x.dst[from:])
	}
	x.dst = append(x.dst, '}')
	x.step.counts = hash.Sum64()
	x.news = x.news || x.step.counts != x.c.has.counts
}

// appendWanted writes the rooms, and notes for each what the client has then.
func (x *slider) appendWanted() error {
	x.comma()
	x.dst = append(x.dst, `"rooms":{`...)
	full := len(x.dst) + slideBytes
	for i := range x.wants {
		w := &x.wants[i]
		t := x.c.told(w.room)
		if x.idle(w, t) {
			continue
		}
		if len(x.dst)+len(x.outData)+len(x.outReceipts) > full {
			x.pass(w.room, t)
			x.step.full = false
			continue
		}
		if err := x.appendWant(w, t); err != nil || x.behind > 0 {
			return err
		}
	}
	x.dst = append(x.dst, '}')
	x.passOthers()
	slices.SortFunc(x.step.rooms, func(a, b roomTold) int { return cmp.Compare(a.room, b.room) })
	x.step.late = x.step.pos - x.oldest()
	return nil
}

// oldest is the position up to which the client will have everything of every room
// that it was told of, or may have been.
func (x *slider) oldest() stream.Pos {
	pos := x.step.pos
	if x.c.lost != 0 && !x.step.full {
		pos = min(pos, x.c.lost)
	}
	for i := range x.step.rooms {
		if at := x.step.rooms[i].pos; at != 0 {
			pos = min(pos, at)
		}
	}
	for i := range x.c.has.rooms {
		t := &x.c.has.rooms[i]
		if t.pos == 0 || t.pos >= pos {
			continue
		}
		if _, ok := slices.BinarySearchFunc(x.step.rooms, t.room, byRoom); !ok {
			pos = t.pos
		}
	}
	return pos
}

// idle says, of most rooms and without a look at the store, that nothing happened
// there, and that nothing else is asked for than before.
func (x *slider) idle(w *wish, t *roomTold) bool {
	return t != nil && t.pos == 0 && x.brief && w.last <= x.c.has.pos && (w.member != room.Join || t.mark&isJoined != 0) &&
		w.limit <= int(t.tail) && w.direct == (t.mark&isDirect != 0) && w.scope&^t.mark == 0 && x.covered(t.ask, w.rule) &&
		!slices.ContainsFunc(x.touched, func(o touch) bool { return o.room == w.room })
}

// pass notes that a room of which the client has everything up to now is not told
// any further, though something happened there.
func (x *slider) pass(num room.Num, t *roomTold) {
	if t == nil || t.pos != 0 {
		return
	}
	if x.brief {
		if i := slices.IndexFunc(x.touched, func(t touch) bool { return t.room == num }); i < 0 {
			return
		}
	}
	n := *t
	n.pos = x.c.has.pos
	x.step.rooms = append(x.step.rooms, n)
}

// passOthers passes the rooms that no rule names any more.
func (x *slider) passOthers() {
	if x.first {
		return
	}
	wanted := func(num room.Num) bool {
		return slices.ContainsFunc(x.wants, func(w wish) bool { return w.room == num })
	}
	if x.brief {
		for _, t := range x.touched {
			if !wanted(t.room) {
				x.pass(t.room, x.c.told(t.room))
			}
		}
		return
	}
	in := map[room.Num]struct{}{}
	for _, w := range x.wants {
		in[w.room] = struct{}{}
	}
	for i := range x.c.has.rooms {
		t := &x.c.has.rooms[i]
		if _, ok := in[t.room]; !ok {
			x.pass(t.room, t)
		}
	}
}

// upto is the position up to which the client has everything about a room.
func (x *slider) upto(t *roomTold) stream.Pos {
	switch {
	case t == nil:
		return 0
	case t.pos == 0:
		return x.c.has.pos
	}
	return t.pos
}
