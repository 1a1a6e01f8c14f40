package clientapi

import (
	"context"

	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/sync"
	"hearth/httpd/wire"
)

// Pages of a room's past.
const (
	defaultPage = 10
	maxPage     = 100 // of events that may be 64 KiB each
)

// look opens the room of the path for the user, who need not be allowed to.
func (a *API) look(r *wire.Req) (*history.View, error) {
	return a.lookAt(r, mxid.RoomID(r.Path("roomId")))
}

func (a *API) lookAt(r *wire.Req, id mxid.RoomID) (*history.View, error) {
	v, err := history.Open(a.engine.Rooms, id, r.Session.UserID, r.Session.DeviceNum)
	if err != nil {
		return nil, err
	}
	ignored, err := a.accounts.Ignored(r.Session.User)
	v.Ignore(ignored)
	return v, err
}

// view opens the room of the path for a user who may look at it.
func (a *API) view(r *wire.Req) (*history.View, error) {
	v, err := a.look(r)
	if err != nil {
		return nil, err
	}
	return v, v.Allowed()
}

// Spec: client-server, GET /rooms/{roomId}/state.
func (a *API) state(r *wire.Req) error {
	v, err := a.view(r)
	if err != nil {
		return err
	}
	dst, err := v.AppendState(r.Out())
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /rooms/{roomId}/state/{eventType}/{stateKey}.
func (a *API) stateEvent(r *wire.Req) error {
	v, err := a.view(r)
	if err != nil {
		return err
	}
	e, err := v.StateEvent(r.Path("eventType"), r.Path("stateKey"))
	if err != nil {
		return err
	}
	switch r.QueryOr("format", "content") {
	case "content":
		return r.OK(append(r.Out(), e.Content...))
	case "event":
		dst, err := v.AppendClient(r.Out(), e)
		if err != nil {
			return err
		}
		return r.OK(dst)
	}
	return fault.E(fault.Invalid, "clientapi.state", "format must be content or event")
}

// Spec: client-server, GET /rooms/{roomId}/members.
func (a *API) members(r *wire.Req) error {
	v, err := a.view(r)
	if err != nil {
		return err
	}
	var m history.Members
	if m.At, err = place(r, "at"); err != nil {
		return err
	}
	for _, q := range [...]struct {
		name string
		to   *room.Membership
	}{{"membership", &m.Is}, {"not_membership", &m.Not}} {
		val, ok := r.Query(q.name)
		if *q.to = room.ParseMembership(val); ok && *q.to == room.None {
			return fault.E(fault.Invalid, "clientapi.members", "%s must be a membership", q.name)
		}
	}
	dst, err := v.AppendMembers(r.Out(), &m)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /rooms/{roomId}/joined_members.
func (a *API) joinedMembers(r *wire.Req) error {
	v, err := a.look(r)
	if err != nil {
		return err
	}
	if err := v.Joined(); err != nil {
		return err
	}
	dst, err := v.AppendJoined(r.Out())
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// place reads a token of a place in a room's past; nil where there is none.
func place(r *wire.Req, name string) (*room.Key, error) {
	val, ok := r.Query(name)
	if !ok || val == "" {
		return nil, nil
	}
	k, err := sync.Place(val)
	return &k, err
}

// eventFilter reads the filter that a query carries.
func eventFilter(r *wire.Req) (*filter.Part, error) {
	return filter.ParseRoomEvents([]byte(r.QueryOr("filter", "")))
}

// pageLimit is how many events are asked for, by the query or its filter.
func pageLimit(r *wire.Req, part *filter.Part) (int, error) {
	n, err := r.QueryInt("limit", int64(part.Limit(defaultPage, maxPage)), 0, maxPage)
	return int(n), err
}

// Spec: client-server, GET /rooms/{roomId}/messages.
func (a *API) messages(r *wire.Req) error {
	v, err := a.view(r)
	if err != nil {
		return err
	}
	var q history.Query
	switch dir, ok := r.Query("dir"); {
	case !ok:
		return fault.E(fault.Missing, "clientapi.messages", "dir says which way to go: b or f")
	case dir != "b" && dir != "f":
		return fault.E(fault.Invalid, "clientapi.messages", "dir must be b or f")
	default:
		q.Back = dir == "b"
	}
	if q.From, err = place(r, "from"); err != nil {
		return err
	}
	if q.To, err = place(r, "to"); err != nil {
		return err
	}
	if q.Part, err = eventFilter(r); err != nil {
		return err
	}
	if q.Limit, err = pageLimit(r, q.Part); err != nil {
		return err
	}
	q.Limit = max(q.Limit, 1) // a page of nothing would never come to an end
	if err := a.engine.FillPast(context.Background(), v, &q); err != nil {
		return err
	}
	dst, err := v.AppendPage(r.Out(), &q)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /rooms/{roomId}/context/{eventId}.
func (a *API) context(r *wire.Req) error {
	v, err := a.view(r)
	if err != nil {
		return err
	}
	part, err := eventFilter(r)
	if err != nil {
		return err
	}
	limit, err := pageLimit(r, part)
	if err != nil {
		return err
	}
	if err := a.engine.FetchEvent(context.Background(), v, mxid.EventID(r.Path("eventId"))); err != nil {
		return err
	}
	if e, err := v.Find(mxid.EventID(r.Path("eventId"))); err == nil && limit > 1 {
		q := history.Query{Back: true, From: &e.At, Limit: limit / 2, Part: part}
		if err := a.engine.FillPast(context.Background(), v, &q); err != nil {
			return err
		}
	}
	dst, err := v.AppendContext(r.Out(), mxid.EventID(r.Path("eventId")), limit, part)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /rooms/{roomId}/event/{eventId}. An event that may
// not be read and one that is not there are the same to who asks.
func (a *API) event(r *wire.Req) error {
	v, err := a.look(r)
	if fault.Is(err, fault.Forbidden) {
		return fault.E(fault.NotFound, "clientapi.event", "event not found")
	}
	if err != nil {
		return err
	}
	if err := a.engine.FetchEvent(context.Background(), v, mxid.EventID(r.Path("eventId"))); err != nil {
		return err
	}
	dst, err := v.AppendEvent(r.Out(), mxid.EventID(r.Path("eventId")))
	if err != nil {
		return err
	}
	return r.OK(dst)
}
