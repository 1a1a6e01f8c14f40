package federation

import (
	"container/heap"
	"slices"
	"strconv"

	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// What other servers may read of a room: its events, its states and what
// authorises them. A server is answered about rooms it is in or was in, and what
// it may not see of them comes redacted.

// Bounds of one answer.
const (
	maxChain  = 50_000 // events of an auth chain
	maxServed = 100    // events of one page
	maxWalked = 2_000  // events that are looked at for one page
	maxNamed  = 100    // events that a question names
)

// asked is a room that another server asks about, for one request.
type asked struct {
	f    *Federation
	h    *room.Head
	view *room.ServerView
}

// ask opens a room for another server. Errors: NotFound, and Forbidden where the
// access list keeps the server out or it has no business in the room.
func (f *Federation) about(origin mxid.Server, id mxid.RoomID) (*asked, error) {
	num, err := f.Rooms.Find(id)
	if err != nil {
		return nil, err
	}
	return f.aboutRoom(origin, num)
}

func (f *Federation) aboutRoom(origin mxid.Server, num room.Num) (*asked, error) {
	h, err := f.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	f.Rooms.Settled(h)
	if err := f.Admits(h, origin); err != nil {
		return nil, err
	}
	a := &asked{f: f, h: h}
	if a.view, err = f.Rooms.ServerView(num, origin); err != nil {
		return nil, err
	}
	if !a.view.Ever() {
		return nil, fault.E(fault.Forbidden, "federation.serve", "your server is not in the room")
	}
	return a, nil
}

// event finds an event of the room; NotFound for another's, and for one that is
// kept only because it is bad.
func (a *asked) event(id mxid.EventID) (*room.Event, error) {
	e, err := a.f.Rooms.Lookup(id)
	if err != nil {
		return nil, err
	}
	if e.In != a.h.Room || e.Rejected() {
		return nil, fault.E(fault.NotFound, "federation.serve", "event not found")
	}
	return e, nil
}

// json is an event as the server may have it: whole or redacted.
func (a *asked) json(e *room.Event) ([]byte, error) {
	ok := e.Outlier() && e.IsState // what authorises others is no secret to who is in the room
	if !ok {
		var err error
		if ok, err = a.view.Sees(e); err != nil {
			return nil, err
		}
	}
	if ok {
		return e.JSON, nil
	}
	hollow, err := e.Event.Redacted()
	if err != nil {
		return nil, err
	}
	return hollow.JSON, nil
}

// AppendEvent appends a transaction of one event.
// Spec: server-server, GET /event/{eventId}.
func (f *Federation) AppendEvent(dst []byte, origin mxid.Server, id mxid.EventID) ([]byte, error) {
	e, err := f.Rooms.Lookup(id)
	if err != nil {
		return dst, err
	}
	a, err := f.aboutRoom(origin, e.In)
	if err != nil {
		return dst, err
	}
	if e, err = a.event(id); err != nil {
		return dst, err
	}
	return a.appendTransaction(dst, []*room.Event{e})
}

func (a *asked) appendTransaction(dst []byte, list []*room.Event) ([]byte, error) {
	dst = cjson.AppendString(append(dst, `{"origin":`...), a.f.server)
	dst = strconv.AppendInt(append(dst, `,"origin_server_ts":`...), millis(a.f.o.Now()), 10)
	dst, err := a.appendList(append(dst, `,"pdus":`...), list)
	return append(dst, '}'), err
}

func (a *asked) appendList(dst []byte, list []*room.Event) ([]byte, error) {
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		json, err := a.json(e)
		if err != nil {
			return dst, err
		}
		dst = append(dst, json...)
	}
	return append(dst, ']'), nil
}

// Told is a state or auth chain as another server is told it: numbers, since the
// events of a large room are more than memory holds at once.
type Told struct {
	State, Chain []room.EventNum
	f            *Federation
}

// ID gives the id of one of the events.
func (t *Told) ID(num room.EventNum) (mxid.EventID, error) {
	e, err := t.f.Rooms.Event(num)
	if err != nil {
		return "", err
	}
	return e.ID, nil
}

// Event gives the JSON of one of the events; nobody may write to it.
func (t *Told) Event(num room.EventNum) ([]byte, error) {
	e, err := t.f.Rooms.Event(num)
	if err != nil {
		return nil, err
	}
	return e.JSON, nil
}

// StateFor is the state before an event, with the auth chain of all that is in
// it. Errors: NotFound where the event or the state is not known, Forbidden for a
// server that was not in the room then.
// Spec: server-server, GET /state/{roomId}, GET /state_ids/{roomId}.
func (f *Federation) StateFor(origin mxid.Server, id mxid.RoomID, at mxid.EventID) (*Told, error) {
	a, err := f.about(origin, id)
	if err != nil {
		return nil, err
	}
	e, err := a.event(at)
	if err != nil {
		return nil, err
	}
	if !a.view.In() {
		was, err := f.Rooms.ServerAt(a.h.Room, origin, e.At.Pos)
		if err == nil && !was {
			err = fault.E(fault.Forbidden, "federation.StateFor", "your server is not in the room")
		}
		if err != nil {
			return nil, err
		}
	}
	set, err := f.Rooms.StateBefore(e)
	if err != nil {
		return nil, err
	}
	t := &Told{f: f, State: make([]room.EventNum, len(set))}
	for i, p := range set {
		t.State[i] = room.EventNum(p.Event)
	}
	t.Chain, err = f.chain(t.State)
	return t, err
}

// ChainFor is the auth chain of an event. Spec: server-server, GET
// /event_auth/{roomId}/{eventId}.
func (f *Federation) ChainFor(origin mxid.Server, id mxid.RoomID, at mxid.EventID) (*Told, error) {
	a, err := f.about(origin, id)
	if err != nil {
		return nil, err
	}
	e, err := a.event(at)
	if err != nil {
		return nil, err
	}
	t := &Told{f: f}
	if t.Chain, err = f.chain([]room.EventNum{e.Num}); err != nil || !a.h.Version.RoomIDIsCreate || e.Type == "m.room.create" {
		return t, err
	}
	// No event names it, and it authorises all: the room id does.
	create, err := f.Rooms.Lookup(auth.CreateID(a.h.ID))
	if err != nil {
		return nil, err
	}
	t.Chain = append(t.Chain, create.Num)
	return t, nil
}

// chain walks from events to what authorises them, and what authorises that.
func (f *Federation) chain(from []room.EventNum) ([]room.EventNum, error) {
	seen := map[mxid.EventID]bool{}
	var list []room.EventNum
	for todo := slices.Clone(from); len(todo) > 0; {
		e, err := f.Rooms.Event(todo[len(todo)-1])
		if err != nil {
			return nil, err
		}
		todo = todo[:len(todo)-1]
		for _, id := range e.Auth {
			if seen[id] {
				continue
			}
			seen[id] = true
			a, err := f.Rooms.Lookup(id)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if list = append(list, a.Num); len(list) > maxChain {
				return nil, fault.E(fault.TooLarge, "federation.chain", "the auth chain is too long")
			}
			todo = append(todo, a.Num)
		}
	}
	return list, nil
}

// AppendBackfill appends events and what came before them, newest first.
// Spec: server-server, GET /backfill/{roomId}.
func (f *Federation) AppendBackfill(dst []byte, origin mxid.Server, id mxid.RoomID, from []mxid.EventID, limit int) ([]byte, error) {
	a, err := f.about(origin, id)
	if err != nil {
		return dst, err
	}
	list, err := a.walk(from, nil, min(limit, maxServed), 0)
	if err != nil {
		return dst, err
	}
	return a.appendTransaction(dst, list)
}

// MissingQuery asks for what comes before some events.
// Spec: server-server, POST /get_missing_events/{roomId}.
type MissingQuery struct {
	Latest, Earliest []mxid.EventID
	Limit            int
	MinDepth         int64
}

// AppendMissing appends the events between others, oldest first.
func (f *Federation) AppendMissing(dst []byte, origin mxid.Server, id mxid.RoomID, q *MissingQuery) ([]byte, error) {
	a, err := f.about(origin, id)
	if err != nil {
		return dst, err
	}
	skip := map[mxid.EventID]bool{}
	for _, id := range q.Earliest[:min(len(q.Earliest), maxNamed)] {
		skip[id] = true
	}
	var from []mxid.EventID
	for _, id := range q.Latest[:min(len(q.Latest), maxNamed)] {
		e, err := a.event(id)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return dst, err
		}
		skip[id] = true
		from = append(from, e.Prev...)
	}
	list, err := a.walk(from, skip, min(q.Limit, maxServed), q.MinDepth)
	if err != nil {
		return dst, err
	}
	slices.Reverse(list)
	dst, err = a.appendList(append(dst, `{"events":`...), list)
	return append(dst, '}'), err
}

// walk goes back along the graph from events, the deepest next, and gives them in
// that order. What is left out is not gone through.
func (a *asked) walk(from []mxid.EventID, skip map[mxid.EventID]bool, limit int, minDepth int64) (list []*room.Event, err error) {
	seen := map[mxid.EventID]bool{}
	var next deepest
	push := func(ids []mxid.EventID) error {
		for _, id := range ids[:min(len(ids), maxNamed)] {
			if seen[id] || skip[id] || len(seen) >= maxWalked {
				continue
			}
			seen[id] = true
			e, err := a.event(id)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if e.Outlier() || e.Depth < minDepth {
				continue
			}
			heap.Push(&next, e)
		}
		return nil
	}
	if err := push(from); err != nil {
		return nil, err
	}
	for len(next) > 0 && len(list) < limit {
		e, ok := heap.Pop(&next).(*room.Event)
		if !ok {
			break
		}
		list = append(list, e)
		if err := push(e.Prev); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// deepest is a heap of events, the deepest first.
type deepest []*room.Event

func (d deepest) Len() int { return len(d) }
func (d deepest) Less(i, j int) bool {
	return d[i].Depth > d[j].Depth || d[i].Depth == d[j].Depth && d[i].Num > d[j].Num
}
func (d deepest) Swap(i, j int) { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *deepest) Push(x any) {
	if e, ok := x.(*room.Event); ok {
		*d = append(*d, e)
	}
}

// Pop implements heap.Interface.
func (d *deepest) Pop() any {
	e := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return e
}

// AppendNearest appends the event nearest to a time.
// Spec: server-server, GET /timestamp_to_event/{roomId}.
func (f *Federation) AppendNearest(dst []byte, origin mxid.Server, id mxid.RoomID, ts int64, back bool) ([]byte, error) {
	a, err := f.about(origin, id)
	if err != nil {
		return dst, err
	}
	e, err := history.Nearest(f.Rooms, a.h, ts, back, a.view.Sees)
	if err != nil {
		return dst, err
	}
	return history.AppendNear(dst, e), nil
}
