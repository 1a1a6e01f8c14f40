package clientapi

import (
	"context"
	"strconv"

	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// exploreRoutes are the ways to find rooms and events without reading through
// them. Spec: client-server, spaces; room summary; mutual rooms; timestamp_to_event.
func (a *API) exploreRoutes() []wire.Route {
	const (
		room     = v1 + "/rooms/{roomId}"
		unstable = "/_matrix/client/unstable"
		maybeIn  = wire.AuthMaybe | wire.GuestOK
	)
	return []wire.Route{
		{Method: "GET", Pattern: room + "/timestamp_to_event", Handle: a.timestamp, Flags: late | wire.GuestOK, Class: wire.Read},
		{Method: "GET", Pattern: room + "/hierarchy", Handle: a.hierarchy, Flags: late | wire.GuestOK, Class: wire.Read},
		{Method: "GET", Pattern: v1 + "/room_summary/{roomIdOrAlias}", Handle: a.summary, Flags: maybeIn, Class: wire.Read},
		{Method: "GET", Pattern: unstable + "/im.nheko.summary/rooms/{roomIdOrAlias}/summary", Handle: a.summary, Flags: maybeIn, Class: wire.Read},
		{Method: "GET", Pattern: unstable + "/im.nheko.summary/summary/{roomIdOrAlias}", Handle: a.summary, Flags: maybeIn, Class: wire.Read},
		{Method: "GET", Pattern: v1 + "/mutual_rooms", Handle: a.mutual, Flags: late, Class: wire.Read},
		{Method: "GET", Pattern: unstable + "/uk.half-shot.msc2666/user/mutual_rooms", Handle: a.mutual, Flags: late, Class: wire.Read},
	}
}

// Spec: client-server, GET /rooms/{roomId}/timestamp_to_event.
func (a *API) timestamp(r *wire.Req) error {
	const op = "clientapi.timestamp"
	v, err := a.view(r)
	if err != nil {
		return err
	}
	text, ok := r.Query("ts")
	if !ok {
		return fault.E(fault.Missing, op, "ts says for what time, in milliseconds")
	}
	ts, err := strconv.ParseInt(text, 10, 54)
	if err != nil {
		return fault.E(fault.Invalid, op, "ts must be a whole number of milliseconds")
	}
	dir, ok := r.Query("dir")
	if !ok {
		return fault.E(fault.Missing, op, "dir says which way to look: b or f")
	}
	if dir != "b" && dir != "f" {
		return fault.E(fault.Invalid, op, "dir must be b or f")
	}
	e, err := a.engine.NearTime(context.Background(), v, ts, dir == "b")
	if err != nil {
		return err
	}
	return r.OK(history.AppendNear(r.Out(), e))
}

// Pages of a space.
const (
	defaultTree = 50
	maxTree     = 100
)

// Spec: client-server, GET /rooms/{roomId}/hierarchy.
func (a *API) hierarchy(r *wire.Req) error {
	q := engine.Tree{Root: mxid.RoomID(r.Path("roomId")), Who: engine.Guest{User: r.Session.User, ID: r.Session.UserID}, From: r.QueryOr("from", "")}
	limit, err := r.QueryInt("limit", defaultTree, 1, maxTree)
	if err != nil {
		return err
	}
	depth, err := r.QueryInt("max_depth", engine.MaxTreeDepth, 0, engine.MaxTreeDepth)
	if err != nil {
		return err
	}
	if q.Suggested, err = r.QueryBool("suggested_only", false); err != nil {
		return err
	}
	q.Limit, q.Depth = int(limit), int(depth)
	dst, err := a.engine.AppendTree(r.Out(), &q)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /room_summary/{roomIdOrAlias}.
func (a *API) summary(r *wire.Req) error {
	who := engine.Guest{}
	if r.LoggedIn {
		who = engine.Guest{User: r.Session.User, ID: r.Session.UserID}
	}
	dst, err := a.engine.AppendSummary(r.Out(), r.Path("roomIdOrAlias"), via(r), who)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /mutual_rooms.
func (a *API) mutual(r *wire.Req) error {
	const op = "clientapi.mutual"
	text, ok := r.Query("user_id")
	if !ok {
		return fault.E(fault.Missing, op, "user_id says with whom")
	}
	id, err := mxid.ParseUser(text)
	if err != nil {
		return fault.E(fault.Invalid, op, "user_id: %w", err)
	}
	if id == r.Session.UserID {
		return fault.E(fault.Invalid, op, "user_id must be somebody else")
	}
	other, err := a.engine.Rooms.User(id)
	if err != nil {
		return err
	}
	dst, err := a.engine.AppendMutual(r.Out(), r.Session.User, other, r.QueryOr("from", ""))
	if err != nil {
		return err
	}
	return r.OK(dst)
}
