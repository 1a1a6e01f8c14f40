package sync

import (
	"slices"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// shift is what an answer tells of one room: from what the client has to what it
// will have.
type shift struct {
	*wish
	was  *roomTold // nil: nothing
	now  roomTold
	from stream.Pos // the client has everything up to here
	id   mxid.RoomID
	seen touch // what is known to have happened since the last answer

	initial bool // the client forgets what it has of the room, and takes this
	grows   bool // it wants more of the past than it has
	back    bool // the room was not told with the last answer
	old     bool // the timeline begins with what was before the last answer
}

// appendWant writes one room, if there is anything to tell of it.
func (x *slider) appendWant(w *wish, was *roomTold) (err error) {
	sh := shift{wish: w, was: was, from: x.upto(was), now: roomTold{room: w.room, ask: w.rule}}
	if was != nil {
		sh.now = *was
		sh.now.pos = 0
		sh.seen = x.found(w.room)
		sh.back = was.pos != 0 || !x.brief
	}
	if sh.id, err = x.s.rooms.RoomID(w.room); err != nil {
		return err
	}
	body, news := len(x.dst), x.news
	x.comma()
	x.dst = append(cjson.AppendString(x.dst, sh.id), `:{`...)
	begin := len(x.dst)
	x.news = false
	switch w.member {
	case room.Join:
		err = x.joined(&sh)
	case room.Invite, room.Knock:
		err = x.asked(&sh)
	default:
		err = x.left(&sh)
	}
	told := x.news && len(x.dst) > begin
	x.news = x.news || news
	if fault.Is(err, fault.NotFound) { // it is being purged
		x.dst, x.news = x.dst[:body], news
		return nil
	}
	if err != nil || x.behind > 0 {
		return err
	}
	if told {
		x.dst = append(x.dst, '}')
	} else {
		x.dst = x.dst[:body]
	}
	if was == nil || *was != sh.now {
		x.step.rooms = append(x.step.rooms, sh.now)
	}
	return nil
}

// standing reads how the user stands to the room, which must be as the roster has
// it: what is newer is not on disk yet, and has to be waited for.
func (x *slider) standing(sh *shift) (m room.Member, ok bool, err error) {
	m, err = x.s.rooms.MemberOf(sh.room, x.req.User)
	if err == nil && m.Pos > x.next.pos {
		x.behind = m.Pos
	}
	return m, err == nil && x.behind == 0, err
}

// joined writes a room that the user is in. Spec: MSC4186, room results.
func (x *slider) joined(sh *shift) error {
	sh.initial = sh.was == nil || sh.was.mark&isJoined == 0
	if sh.initial {
		sh.now = roomTold{room: sh.room, tail: 0, mark: isJoined}
	}
	sh.now.mark |= isJoined
	sh.grows = !sh.initial && sh.limit > int(sh.was.tail)
	widens := !sh.initial && !x.covered(sh.was.ask, sh.rule)
	events := sh.initial || sh.last > sh.from
	mine := sh.seen.mine
	if sh.back && !sh.initial {
		var err error
		if sh.seen.receipt, mine, err = x.receiptsSince(sh.room, sh.from); err != nil {
			return err
		}
	}
	if err := x.scoped(sh); err != nil {
		return err
	}
	dm := sh.direct != (sh.now.mark&isDirect != 0)
	if !events && !sh.grows && !widens && !dm && !mine {
		return nil
	}
	m, ok, err := x.standing(sh)
	if !ok || err != nil {
		return err
	}
	h, err := x.s.rooms.Head(sh.room)
	if err != nil {
		return err
	}
	x.since.pos, x.short = sh.from, x.brief && sh.from == x.c.has.pos && !sh.initial
	w := window{a: &x.answer, room: sh.room, id: sh.id, part: x.timeline(sh.limit), to: room.After(x.next.pos),
		joined: m.Pos, full: sh.initial, newest: h.Hole}
	if !sh.initial && !sh.grows {
		w.from = room.After(sh.from)
		if m.Pos <= sh.from {
			w.joined = sh.from
		}
	}
	if events || sh.grows {
		if err := w.load(); err != nil {
			return err
		}
		x.counted(sh, &w)
	}
	c, err := x.requiredOf(sh, h, &w)
	if err != nil {
		return err
	}
	x.news = sh.initial || len(w.events) > 0 || w.limited && events || mine && !x.ask.Final || dm || c.any()
	if !x.news {
		return nil
	}
	x.head(sh)
	if err := x.appendNames(h, c); err != nil {
		return err
	}
	if err := x.appendRequired(c); err != nil {
		return err
	}
	if err := x.appendTimeline(sh, &w, h); err != nil {
		return err
	}
	return x.appendTally(h)
}

// counted notes of how much of the timeline's end the client is sure now. Where that
// grows by what was before, the timeline counts as limited whatever it holds: it does
// not go on from what the client has, and clients go by that.
func (x *slider) counted(sh *shift, w *window) {
	switch {
	case sh.initial || sh.grows:
		sh.now.tail = uint16(sh.limit)
		if !w.limited {
			sh.now.tail = whole
		}
	case w.limited:
		sh.now.tail = uint16(sh.limit)
	case sh.now.tail != whole:
		sh.now.tail = uint16(min(int(sh.now.tail)+len(w.events), whole-1))
	}
	if sh.grows && len(w.events) > 0 && w.events[0].At.Pos <= sh.from {
		sh.old, w.limited = true, true
	}
}

// timeline is a filter that lets so many events pass.
func (x *slider) timeline(limit int) *filter.Part {
	if x.part == nil || x.limit != limit {
		p, err := filter.ParseRoomEvents(append(strconv.AppendInt([]byte(`{"limit":`), int64(limit), 10), '}'))
		if err != nil {
			panic("sync: a filter of ours cannot be read")
		}
		x.part, x.limit = p, limit
	}
	return x.part
}

// head writes what is told of rooms of every standing.
func (x *slider) head(sh *shift) {
	if sh.initial {
		x.dst = append(x.dst, `"initial":true`...)
	}
	if x.ask.Final && (sh.initial || sh.was == nil || sh.last > sh.from) {
		x.dst = appendMember(x.dst, "membership", sh.member.String())
	}
	if x.ask.Final && sh.by[0].rule < firstSub {
		x.appendShown(sh.by)
	}
	if dm := sh.now.mark&isDirect != 0; sh.direct != dm {
		x.flag("is_dm", sh.direct)
		sh.now.mark ^= isDirect
	}
}

// appendShown writes the lists that show a room. Spec: MSC4186, room results.
func (x *slider) appendShown(by []hit) {
	x.key("lists")
	x.dst = append(x.dst, '[')
	for _, h := range by {
		if h.rule < firstSub {
			x.comma()
			x.dst = cjson.AppendString(x.dst, x.ask.Body.Lists[h.rule].Key)
		}
	}
	x.dst = append(x.dst, ']')
}

func (x *slider) flag(name string, is bool) {
	x.key(name)
	x.dst = strconv.AppendBool(x.dst, is)
}

func (x *slider) number(name string, n int64) {
	x.key(name)
	x.dst = strconv.AppendInt(x.dst, n, 10)
}

func (x *slider) key(name string) {
	x.comma()
	x.dst = append(append(append(x.dst, '"'), name...), `":`...)
}

// appendMember appends a member with a text, and a comma where one is due.
func appendMember(dst []byte, name, text string) []byte {
	if last := dst[len(dst)-1]; last != '{' {
		dst = append(dst, ',')
	}
	dst = append(append(append(dst, '"'), name...), `":`...)
	return cjson.AppendString(dst, text)
}

// appendTimeline writes the events. Spec: MSC4186, changes to timeline_limit.
func (x *slider) appendTimeline(sh *shift, w *window, h *room.Head) error {
	if len(w.events) == 0 && !w.limited && !sh.initial {
		return nil
	}
	x.key("timeline")
	x.dst = append(x.dst, '[')
	bundle := room.Bundle{User: x.req.UserID, Ignores: x.reader.Ignores, Viewer: w.viewer}
	live := 0
	for _, e := range w.events {
		x.comma()
		m, err := w.membership(e)
		if err != nil {
			return err
		}
		if err := x.appendEvent(e, m, &bundle); err != nil {
			return err
		}
		if !x.first && e.At.Pos > x.c.has.pos {
			live++
		}
	}
	x.dst = append(x.dst, ']')
	x.number("num_live", int64(live))
	x.flag("limited", w.limited)
	x.dst = appendMember(x.dst, "prev_batch", w.prev.String())
	if sh.old && x.ask.Final {
		x.flag("expanded_timeline", true)
	} else if sh.old {
		x.flag("unstable_expanded_timeline", true)
	}
	return x.appendBump(sh, w, h)
}

// bumps says whether an event makes clients move its room up. Spec: MSC4186,
// bump_stamp.
func bumps(e *room.Event) bool {
	switch e.Type {
	case "m.room.create", "m.room.message", "m.room.encrypted", "m.sticker", "m.call.invite", "m.poll.start", "m.beacon_info",
		"org.matrix.msc3381.poll.start", "org.matrix.msc3672.beacon_info":
		return true
	}
	return false
}

// maxBumpScan bounds the events that are looked at for one that moves its room up.
const maxBumpScan = 50

// appendBump writes where the room stands among the others for people: by the last
// event that is something said.
func (x *slider) appendBump(sh *shift, w *window, h *room.Head) error {
	for _, e := range slices.Backward(w.events) {
		if bumps(e) {
			x.number("bump_stamp", int64(e.At.Pos))
			return nil
		}
	}
	if !sh.initial && !w.limited {
		return nil
	}
	var at stream.Pos
	n := 0
	err := x.s.rooms.Timeline(h.Room, room.Key{}, w.to, true, func(k room.Key, num room.EventNum) (bool, error) {
		n++
		at = k.Pos
		e, err := x.s.rooms.Event(num)
		if fault.Is(err, fault.NotFound) {
			return n < maxBumpScan, nil
		}
		return err == nil && !bumps(e) && n < maxBumpScan, err
	})
	if at > 0 {
		x.number("bump_stamp", int64(at))
	}
	return err
}

// appendTally writes what the user has not read; the proposal's last text leaves
// that to clients.
func (x *slider) appendTally(h *room.Head) error {
	if x.ask.Final {
		return nil
	}
	tally, err := x.tally(h)
	if err != nil {
		return err
	}
	x.number("notification_count", int64(tally.All.Notify))
	x.number("highlight_count", int64(tally.All.Highlight))
	return nil
}

// asked writes a room that the user is invited to, or has knocked on: it is always
// told as if it were new, there is so little of it.
func (x *slider) asked(sh *shift) error {
	sh.initial = true
	dm := sh.direct != (sh.now.mark&isDirect != 0)
	if sh.was != nil && sh.was.mark&isAsked != 0 && sh.last <= sh.from && !dm {
		return nil
	}
	m, ok, err := x.standing(sh)
	if !ok || err != nil {
		return err
	}
	sh.now = roomTold{room: sh.room, mark: isAsked, tail: whole}
	t := touch{room: sh.room, member: m}
	x.head(sh)
	x.number("bump_stamp", int64(m.Pos))
	name := "invite_state"
	if x.ask.Final {
		name = "stripped_state"
	}
	x.comma()
	return x.appendStripped(&t, `"`+name+`":[`, `]`)
}
