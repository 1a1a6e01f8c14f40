package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// Guest is who looks at a room from outside, or perhaps from inside.
type Guest struct {
	User uint32 // 0: nobody who is logged in
	ID   mxid.UserID
}

// standingOf is a user's membership in a room.
func (e *Engine) standingOf(num room.Num, user uint32) (room.Membership, error) {
	if user == 0 {
		return room.None, nil
	}
	m, err := e.Rooms.MemberOf(num, user)
	return m.Membership, err
}

// describable says whether somebody may know what a room is: who is or may be in
// it, and where anybody may look in or knock.
// Spec: client-server, GET /rooms/{roomId}/hierarchy; GET /room_summary.
func (e *Engine) describable(h *room.Head, who Guest) (bool, error) {
	m, err := e.standingOf(h.Room, who.User)
	if err != nil || m == room.Join || m == room.Invite {
		return err == nil, err
	}
	return e.openTo(h, e.joined(who.User))
}

// joined says of a room whether a user is joined to it.
func (e *Engine) joined(user uint32) func(room.Num) (bool, error) {
	return func(num room.Num) (bool, error) {
		m, err := e.standingOf(num, user)
		return m == room.Join, err
	}
}

// openTo says whether a room may be known to somebody outside of it, of whom in
// says which rooms they are in.
func (e *Engine) openTo(h *room.Head, in func(room.Num) (bool, error)) (bool, error) {
	rules, err := e.Rooms.StateEvent(h.State, "m.room.join_rules", "")
	if err != nil {
		return false, err
	}
	if rules != nil {
		switch rule := auth.JoinRule(rules.Event); rule {
		case "public":
			return true, nil
		case "knock", "knock_restricted":
			if h.Version.Knock {
				return true, nil
			}
		case "restricted":
			if ok, err := e.inAnyOf(auth.AllowedRooms(rules.Event), in); ok || err != nil {
				return ok, err
			}
		}
	}
	return e.Rooms.Peekable(h)
}

// inAnyOf says whether in says so of one of some rooms that are known here.
func (e *Engine) inAnyOf(rooms []mxid.RoomID, in func(room.Num) (bool, error)) (bool, error) {
	for _, id := range rooms {
		num, err := e.Rooms.Find(id)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if ok, err := in(num); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// appendDescription appends the members of a room's summary, the object left
// open.
func (e *Engine) appendDescription(dst []byte, h *room.Head) ([]byte, error) {
	dst, err := e.appendPublicRoom(dst, listed{num: h.Room, id: h.ID, joined: h.Joined})
	if err != nil {
		return dst, err
	}
	dst = dst[:len(dst)-1]
	rules, err := e.Rooms.StateEvent(h.State, "m.room.join_rules", "")
	if err != nil {
		return dst, err
	}
	if rules != nil {
		if list := auth.AllowedRooms(rules.Event); len(list) > 0 && strings.HasSuffix(auth.JoinRule(rules.Event), "restricted") {
			dst = append(dst, `,"allowed_room_ids":[`...)
			for i, id := range list {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = cjson.AppendString(dst, id)
			}
			dst = append(dst, ']')
		}
	}
	encryption, err := e.stateText(h, "m.room.encryption", "algorithm")
	if err != nil {
		return dst, err
	}
	if encryption != "" {
		dst = cjson.AppendString(append(dst, `,"encryption":`...), encryption)
		dst = cjson.AppendString(append(dst, `,"im.nheko.summary.encryption":`...), encryption)
	}
	dst = cjson.AppendString(append(dst, `,"room_version":`...), h.Version.ID)
	return dst, nil
}

// AppendSummary appends what a room is, for who may know. via are servers that may
// describe a room that this hub is not in.
//
// Errors: NotFound also for who may not know.
// Spec: client-server, GET /room_summary/{roomIdOrAlias}.
func (e *Engine) AppendSummary(dst []byte, idOrAlias string, via []mxid.Server, who Guest) ([]byte, error) {
	ctx, cancel := e.untilStop()
	num, err := e.ResolveAsking(ctx, idOrAlias)
	cancel()
	if fault.Is(err, fault.NotFound) && !e.Federation.Alone() {
		return e.summaryByName(dst, idOrAlias, via, who)
	}
	if err != nil {
		return dst, err
	}
	h, err := e.Rooms.Head(num)
	if err != nil {
		return dst, err
	}
	if len(h.Local) == 0 && !e.Federation.Alone() { // what is known here is old
		return e.summaryAway(dst, h.ID, via, who)
	}
	e.Rooms.Settled(h)
	if ok, err := e.describable(h, who); err != nil || !ok {
		if err == nil {
			err = fault.E(fault.NotFound, "engine.Summary", "room not found")
		}
		return dst, err
	}
	if dst, err = e.appendDescription(dst, h); err != nil {
		return dst, err
	}
	if who.User != 0 {
		m, err := e.standingOf(num, who.User)
		if err != nil {
			return dst, err
		}
		if m == room.None {
			m = room.Leave
		}
		dst = cjson.AppendString(append(dst, `,"membership":`...), m.String())
	}
	return append(dst, '}'), nil
}

// Tree asks for a page of what a space holds.
// Spec: client-server, GET /rooms/{roomId}/hierarchy.
type Tree struct {
	Root      mxid.RoomID
	Who       Guest
	Suggested bool
	Depth     int
	Limit     int
	From      string
}

// Bounds of a space tree.
const (
	MaxTreeDepth = 50
	maxTreeRooms = 2000 // of all pages together
	maxChildren  = 1000 // of one space
)

// walk is a walk through a space tree, a room before its children.
type walk struct {
	e    *Engine
	q    *Tree
	dst  []byte
	skip int // rooms that were told before
	told int
	seen map[mxid.RoomID]bool
	more bool

	ctx    context.Context // of what is asked of others; nil: nobody is
	asked  int
	heard  int                    // bytes of their answers
	leaves map[mxid.RoomID][]byte // rooms that others have described
}

// AppendTree appends a page of the rooms of a space.
//
// Errors: Forbidden for who may not see the space; Invalid for a token that does
// not fit.
func (e *Engine) AppendTree(dst []byte, q *Tree) ([]byte, error) {
	ctx, cancel := e.untilStop()
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, treeTime)
	defer cancel()
	w := walk{e: e, q: q, dst: append(dst, `{"rooms":[`...), seen: map[mxid.RoomID]bool{}, ctx: ctx, leaves: map[mxid.RoomID][]byte{}}
	if q.From != "" {
		var err error
		if w.skip, err = q.parseToken(); err != nil {
			return dst, err
		}
	}
	ok, err := w.visit(q.Root, nil, 0)
	if err == nil && !ok {
		err = fault.E(fault.Forbidden, "engine.Tree", "you may not see this room")
	}
	if err != nil {
		return dst, err
	}
	w.dst = append(w.dst, ']')
	if w.more {
		w.dst = cjson.AppendString(append(w.dst, `,"next_batch":`...), q.token(w.told))
	}
	return append(w.dst, '}'), nil
}

func (q *Tree) token(told int) string {
	return fmt.Sprintf("h%d_%d_%t", told, q.Depth, q.Suggested)
}

func (q *Tree) parseToken() (int, error) {
	n, _, _ := strings.Cut(strings.TrimPrefix(q.From, "h"), "_")
	told, err := strconv.ParseUint(n, 10, 16)
	if err != nil || q.token(int(told)) != q.From {
		return 0, fault.E(fault.Invalid, "engine.Tree", "from is not a token of this server, or max_depth and suggested_only are others than before")
	}
	return int(told), nil
}

// visit tells a room and what is in it. ok is false where the user may not know
// of it. via are servers that may describe a room that is not here.
func (w *walk) visit(id mxid.RoomID, via []mxid.Server, depth int) (ok bool, err error) {
	if w.seen[id] {
		return true, nil
	}
	num, err := w.e.Rooms.Find(id)
	if fault.Is(err, fault.NotFound) {
		return w.visitAway(id, via, depth)
	}
	if err != nil {
		return false, err
	}
	h, err := w.e.Rooms.Head(num)
	if err != nil {
		return false, err
	}
	if len(h.Local) == 0 && !w.e.Federation.Alone() { // what is known here is old
		return w.visitAway(id, via, depth)
	}
	w.e.Rooms.Settled(h)
	if ok, err := w.e.describable(h, w.q.Who); err != nil || !ok {
		return false, err
	}
	if w.told >= w.skip+w.q.Limit || w.told >= maxTreeRooms {
		w.more = w.told < maxTreeRooms
		return true, nil
	}
	w.seen[id] = true
	children, err := w.e.children(h, w.q.Suggested)
	if err != nil {
		return false, err
	}
	if w.told++; w.told > w.skip {
		if err := w.append(h, children); err != nil {
			return false, err
		}
	}
	if depth >= w.q.Depth {
		return true, nil
	}
	for _, c := range children {
		if w.more {
			break
		}
		if _, err := w.visit(mxid.RoomID(c.StateKey), viaOf(c.Content), depth+1); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *walk) append(h *room.Head, children []*room.Event) (err error) {
	if w.told > w.skip+1 {
		w.dst = append(w.dst, ',')
	}
	if w.dst, err = w.e.appendDescription(w.dst, h); err != nil {
		return err
	}
	w.dst = append(w.dst, `,"children_state":[`...)
	for i, c := range children {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.dst = w.e.Rooms.AppendStripped(w.dst, c)
		w.dst = append(w.dst[:len(w.dst)-1], `,"origin_server_ts":`...)
		w.dst = append(strconv.AppendInt(w.dst, c.Time, 10), '}')
	}
	w.dst = append(w.dst, `]}`...)
	return nil
}

// children gives the valid child events of a space in order; none of what is no
// space. Spec: client-server, spaces, ordering of children within a space.
func (e *Engine) children(h *room.Head, suggested bool) ([]*room.Event, error) {
	if typ, err := e.stateText(h, "m.room.create", "type"); err != nil || typ != "m.space" {
		return nil, err
	}
	var list []*room.Event
	err := e.Rooms.EachOfType(h.State, "m.space.child", func(c *room.Event) (bool, error) {
		if cjson.KindOf(lookup(c.Content, "via")) != cjson.ArrayKind {
			return true, nil // it was taken out
		}
		if on, _ := cjson.Bool(lookup(c.Content, "suggested")); on || !suggested {
			list = append(list, c)
		}
		return len(list) < maxChildren, nil
	})
	slices.SortFunc(list, func(a, b *room.Event) int {
		x, xok := childOrder(a)
		y, yok := childOrder(b)
		switch {
		case xok != yok && xok:
			return -1
		case xok != yok:
			return 1
		}
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.Time, b.Time), cmp.Compare(a.StateKey, b.StateKey))
	})
	return list, err
}

// childOrder is a child's place in its space; ok is false where it has no valid
// one.
func childOrder(c *room.Event) (order string, ok bool) {
	order, ok = cjson.LookupString(c.Content, "order")
	if !ok || len(order) > 50 {
		return "", false
	}
	for i := range len(order) {
		if order[i] < 0x20 || order[i] > 0x7e {
			return "", false
		}
	}
	return order, true
}

// mutualPage is how many rooms are told at once.
const mutualPage = 100

// AppendMutual appends the rooms that two users share. from is the token of a
// page before, or empty.
//
// Errors: Invalid for a token that is none.
// Spec: client-server, GET /mutual_rooms.
func (e *Engine) AppendMutual(dst []byte, user, other uint32, from string) ([]byte, error) {
	after := uint64(0)
	if from != "" {
		var err error
		if after, err = strconv.ParseUint(from, 10, 32); err != nil {
			return dst, fault.E(fault.Invalid, "engine.Mutual", "from is not a token of this server")
		}
	}
	var all []room.Num
	var asked error
	if other != 0 {
		err := e.Rooms.Of(user, func(m room.Member) bool {
			if m.Membership != room.Join {
				return true
			}
			var o room.Membership
			if o, asked = e.standingOf(m.Room, other); o == room.Join {
				all = append(all, m.Room)
			}
			return asked == nil
		})
		if err == nil {
			err = asked
		}
		if err != nil {
			return dst, err
		}
	}
	dst = append(dst, `{"joined":[`...)
	told := 0
	for i, num := range all {
		if uint64(num) <= after {
			continue
		}
		if told > 0 {
			dst = append(dst, ',')
		}
		id, err := e.Rooms.RoomID(num)
		if err != nil {
			return dst, err
		}
		dst = cjson.AppendString(dst, id)
		if told++; told == mutualPage && i < len(all)-1 {
			dst = append(dst, `],"next_batch":"`...)
			dst = append(strconv.AppendUint(dst, uint64(num), 10), `","count":`...)
			return append(strconv.AppendInt(dst, int64(len(all)), 10), '}'), nil
		}
	}
	dst = append(dst, `],"count":`...)
	return append(strconv.AppendInt(dst, int64(len(all)), 10), '}'), nil
}
