package engine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// Rooms that this hub is not in, as other servers describe them, and the hub's own
// as it describes them to other servers.

const (
	// treeTime is how long one page of a space may take where others are asked.
	treeTime = 20 * time.Second
	// maxTreeAsked is how many questions one page asks.
	maxTreeAsked = 60
	// maxTreeBytes is from how many bytes of answers on no more is asked: they are held
	// until the page is told.
	maxTreeBytes = 8 << 20
	maxVia       = 10
)

// away is a room as another server describes it.
type away struct {
	room     []byte // an object: its summary, with children_state
	children []child
}

// child is an entry of a space of another server.
type child struct {
	id    mxid.RoomID
	via   []mxid.Server
	order string // empty: none
	time  int64
}

// askAway asks other servers about a room. What it tells of the rooms in it is kept
// for the walk, so that those which hold nothing are not asked for again.
func (w *walk) askAway(id mxid.RoomID, via []mxid.Server) (*away, error) {
	if raw, known := w.leaves[id]; known {
		return &away{room: raw}, nil
	}
	if s := id.Server(); len(via) == 0 && s != "" {
		via = []mxid.Server{s}
	}
	if w.asked++; w.asked > maxTreeAsked || w.heard > maxTreeBytes || len(via) == 0 {
		return nil, fault.E(fault.NotFound, "engine.Tree", "room not found")
	}
	body, err := w.e.Federation.Hierarchy(w.ctx, id, via, w.q.Suggested)
	if err != nil {
		return nil, err
	}
	w.heard += len(body)
	a := &away{}
	a.room, _ = cjson.Lookup(body, "room")
	a.children = childrenAway(a.room, w.q.Suggested)
	list, _ := cjson.Lookup(body, "children")
	_ = cjson.Array(list, func(val []byte) bool { // the answer was checked
		leaf, _ := cjson.LookupString(val, "room_id")
		if typ, _ := cjson.LookupString(val, "room_type"); leaf != "" && typ != "m.space" && len(w.leaves) < maxTreeRooms {
			w.leaves[mxid.RoomID(leaf)] = val
		}
		return true
	})
	return a, nil
}

// childrenAway reads the entries of a space, in their order.
func childrenAway(raw []byte, suggested bool) (list []child) {
	state, _ := cjson.Lookup(raw, "children_state")
	_ = cjson.Array(state, func(val []byte) bool { // the answer was checked
		key, _ := cjson.LookupString(val, "state_key")
		content, _ := cjson.Lookup(val, "content")
		c := child{id: mxid.RoomID(key), via: viaOf(content)}
		if _, err := mxid.ParseRoom(key); err != nil || len(c.via) == 0 {
			return true
		}
		if on, _ := cjson.Bool(lookup(content, "suggested")); suggested && !on {
			return true
		}
		c.order, _ = cjson.LookupString(content, "order")
		if len(c.order) > 50 {
			c.order = ""
		}
		c.time, _ = cjson.Int(lookup(val, "origin_server_ts"))
		list = append(list, c)
		return len(list) < maxChildren
	})
	slices.SortFunc(list, func(a, b child) int {
		if (a.order == "") != (b.order == "") {
			return strings.Compare(b.order, a.order) // those without come last
		}
		return cmp.Or(strings.Compare(a.order, b.order), cmp.Compare(a.time, b.time), strings.Compare(string(a.id), string(b.id)))
	})
	return list
}

// viaOf reads the servers by which a child can be reached.
func viaOf(content []byte) (via []mxid.Server) {
	_ = cjson.Array(lookup(content, "via"), func(val []byte) bool { // no list names none
		name, _ := cjson.String(val)
		if s, err := mxid.ParseServer(name); err == nil {
			via = append(via, s)
		}
		return len(via) < maxVia
	})
	return via
}

// visitAway tells a room that others describe, and what is in it.
func (w *walk) visitAway(id mxid.RoomID, via []mxid.Server, depth int) (ok bool, err error) {
	if w.ctx == nil || w.e.Federation.Alone() {
		return false, nil
	}
	a, err := w.askAway(id, via)
	if err != nil {
		return false, nil // what cannot be described is left out
	}
	if ok, err := w.e.describableAway(a.room, w.q.Who); err != nil || !ok {
		return false, err
	}
	if w.told >= w.skip+w.q.Limit || w.told >= maxTreeRooms {
		w.more = w.told < maxTreeRooms
		return true, nil
	}
	w.seen[id] = true
	if w.told++; w.told > w.skip {
		if w.told > w.skip+1 {
			w.dst = append(w.dst, ',')
		}
		w.dst = appendAway(w.dst, a.room, true)
	}
	if depth >= w.q.Depth {
		return true, nil
	}
	for _, c := range a.children {
		if w.more {
			break
		}
		if _, err := w.visit(c.id, c.via, depth+1); err != nil {
			return false, err
		}
	}
	return true, nil
}

// appendAway appends what another server says of a room; with children or without.
func appendAway(dst, raw []byte, children bool) []byte {
	dst = append(dst, '{')
	first, had := true, false
	_ = cjson.Object(raw, func(key, val []byte) bool { // the answer was checked
		is := string(key) == "children_state"
		if is && (!children || had || cjson.KindOf(val) != cjson.ArrayKind) {
			return true
		}
		had = had || is
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(cjson.AppendString(dst, string(key)), ':'), val...)
		return true
	})
	if children && !had {
		if !first {
			dst = append(dst, ',')
		}
		dst = append(dst, `"children_state":[]`...)
	}
	return append(dst, '}')
}

// describableAway is describable for a room that another server describes.
func (e *Engine) describableAway(raw []byte, who Guest) (bool, error) {
	rule, _ := cjson.LookupString(raw, "join_rule")
	open, _ := cjson.Bool(lookup(raw, "world_readable"))
	if rule == "" || rule == "public" || rule == "knock" || rule == "knock_restricted" || open {
		return true, nil
	}
	var allowed []mxid.RoomID
	_ = cjson.Array(lookup(raw, "allowed_room_ids"), func(val []byte) bool { // no list names none
		id, _ := cjson.String(val)
		allowed = append(allowed, mxid.RoomID(id))
		return len(allowed) < maxChildren
	})
	if ok, err := e.inAnyOf(allowed, e.joined(who.User)); ok || err != nil {
		return ok, err
	}
	id, _ := cjson.LookupString(raw, "room_id")
	num, err := e.Rooms.Find(mxid.RoomID(id))
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m, err := e.standingOf(num, who.User)
	return m == room.Join || m == room.Invite, err
}

// summaryAway appends what other servers say of a room that this hub is not in.
func (e *Engine) summaryAway(dst []byte, id mxid.RoomID, via []mxid.Server, who Guest) ([]byte, error) {
	ctx, cancel := e.untilStop()
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, treeTime)
	defer cancel()
	w := walk{e: e, q: &Tree{Who: who}, ctx: ctx}
	a, err := w.askAway(id, via)
	if err != nil {
		return dst, fault.E(fault.NotFound, "engine.Summary", "room not found")
	}
	if ok, err := e.describableAway(a.room, who); err != nil || !ok {
		if err == nil {
			err = fault.E(fault.NotFound, "engine.Summary", "room not found")
		}
		return dst, err
	}
	dst = appendAway(dst, a.room, false)
	if who.User == 0 {
		return dst, nil
	}
	m := room.None
	if num, err := e.Rooms.Find(id); err == nil {
		if m, err = e.standingOf(num, who.User); err != nil {
			return dst, err
		}
	}
	if m == room.None {
		m = room.Leave
	}
	dst = cjson.AppendString(append(dst[:len(dst)-1], `,"membership":`...), m.String())
	return append(dst, '}'), nil
}

// summaryByName is summaryAway for an id or an alias.
func (e *Engine) summaryByName(dst []byte, idOrAlias string, via []mxid.Server, who Guest) ([]byte, error) {
	if !strings.HasPrefix(idOrAlias, "#") {
		return e.summaryAway(dst, mxid.RoomID(idOrAlias), via, who)
	}
	alias, err := mxid.ParseAlias(idOrAlias)
	if err != nil || !e.Federation.Reaches(alias.Server()) {
		return dst, fault.E(fault.NotFound, "engine.Summary", "room not found")
	}
	ctx, cancel := e.untilStop()
	defer cancel()
	id, servers, err := e.Federation.FindAlias(ctx, alias)
	if err != nil {
		return dst, err
	}
	if num, err := e.Rooms.Find(id); err == nil {
		if h, err := e.Rooms.Head(num); err == nil && len(h.Local) > 0 {
			return e.AppendSummary(dst, string(id), nil, who)
		}
	}
	return e.summaryAway(dst, id, append(via, servers...), who)
}

// describableTo is describable for another server's users together.
func (e *Engine) describableTo(h *room.Head, server mxid.Server) (bool, error) {
	in := func(num room.Num) (bool, error) { return e.serverIn(num, server) }
	if ok, err := in(h.Room); ok || err != nil {
		return ok, err
	}
	return e.openTo(h, in)
}

// serverIn says whether a server is in a room now.
func (e *Engine) serverIn(num room.Num, server mxid.Server) (in bool, err error) {
	err = e.Rooms.Servers(num, func(s mxid.Server, _ stream.Pos) bool {
		in = s == server
		return !in
	})
	return in, err
}

// AppendHierarchy appends what another server may know of a room here and of the
// rooms in it. NotFound also where it may not. Spec: server-server, GET
// /hierarchy/{roomId}.
func (e *Engine) AppendHierarchy(dst []byte, id mxid.RoomID, server mxid.Server, suggested bool) ([]byte, error) {
	notFound := fault.E(fault.NotFound, "engine.Hierarchy", "room not found")
	num, err := e.Rooms.Find(id)
	if err != nil {
		return dst, err
	}
	h, err := e.Rooms.Head(num)
	if err != nil {
		return dst, err
	}
	e.Rooms.Settled(h)
	if ok, err := e.describableTo(h, server); err != nil || !ok || len(h.Local) == 0 {
		return dst, cmp.Or(err, notFound)
	}
	list, err := e.children(h, suggested)
	if err != nil {
		return dst, err
	}
	w := walk{e: e, dst: append(dst, `{"room":`...), told: 1}
	if err := w.append(h, list); err != nil {
		return dst, err
	}
	w.dst = append(w.dst, `,"children":[`...)
	var hidden []string
	first := true
	for _, c := range list {
		num, err := e.Rooms.Find(mxid.RoomID(c.StateKey))
		if fault.Is(err, fault.NotFound) {
			continue // nothing is known of it: others may be asked
		}
		if err != nil {
			return dst, err
		}
		h, err := e.Rooms.Head(num)
		if err != nil {
			return dst, err
		}
		if len(h.Local) == 0 {
			continue
		}
		ok, err := e.describableTo(h, server)
		if err != nil {
			return dst, err
		}
		if !ok {
			hidden = append(hidden, c.StateKey)
			continue
		}
		if !first {
			w.dst = append(w.dst, ',')
		}
		first = false
		if w.dst, err = e.appendDescription(w.dst, h); err != nil {
			return dst, err
		}
		w.dst = append(w.dst, '}')
	}
	w.dst = append(w.dst, `],"inaccessible_children":[`...)
	for i, id := range hidden {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.dst = cjson.AppendString(w.dst, id)
	}
	return append(w.dst, `]}`...), nil
}
