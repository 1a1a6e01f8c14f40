package fedapi

import (
	"context"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

func (a *API) inviteRoutes() []wire.Route {
	return []wire.Route{
		{Method: "PUT", Pattern: v2 + "/invite/{roomId}/{eventId}", Handle: a.signed(a.invite), Class: wire.Create},
		{Method: "PUT", Pattern: v1 + "/invite/{roomId}/{eventId}", Handle: a.signed(a.inviteOld), Class: wire.Create},
		{Method: "PUT", Pattern: v1 + "/exchange_third_party_invite/{roomId}", Handle: a.signed(a.exchange), Class: wire.Create},
		{Method: "PUT", Pattern: v1 + "/3pid/onbind", Handle: a.bound, Class: wire.Create},
		{Method: "GET", Pattern: v1 + "/query/directory", Handle: a.signed(a.queryDirectory)},
	}
}

// invite signs an invite of a user of ours.
// Spec: server-server, PUT /_matrix/federation/v2/invite/{roomId}/{eventId}.
func (a *API) invite(r *wire.Req, origin mxid.Server) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	i := federation.Invited{}
	i.Version, _ = cjson.LookupString(body, "room_version")
	i.Body, _ = cjson.Lookup(body, "event")
	i.State, _ = cjson.Lookup(body, "invite_room_state")
	if cjson.KindOf(i.Body) != cjson.ObjectKind || i.Version == "" {
		return fault.E(fault.BadJSON, "fedapi.invite", "event and room_version are needed")
	}
	return a.takeInvite(r, origin, &i, false)
}

// inviteOld is invite for servers that know only rooms of versions 1 and 2.
// Spec: server-server, PUT /_matrix/federation/v1/invite/{roomId}/{eventId}.
func (a *API) inviteOld(r *wire.Req, origin mxid.Server) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	i := federation.Invited{Version: "1", Body: body}
	i.State, _ = cjson.LookupPath(body, "unsigned", "invite_room_state")
	return a.takeInvite(r, origin, &i, true)
}

func (a *API) takeInvite(r *wire.Req, origin mxid.Server, i *federation.Invited, old bool) error {
	const op = "fedapi.invite"
	var err error
	if i.Room, err = mxid.ParseRoom(r.Path("roomId")); err != nil {
		return fault.E(fault.Invalid, op, "not a room id: %w", err)
	}
	if i.Event, err = mxid.ParseEvent(r.Path("eventId")); err != nil {
		return fault.E(fault.Invalid, op, "not an event id: %w", err)
	}
	if cjson.KindOf(i.State) != cjson.ArrayKind {
		i.State = nil
	}
	ctx := r.Context()
	if key, ok := cjson.LookupString(i.Body, "state_key"); ok {
		// A bridge makes its users when they are spoken to. Where it does not answer
		// there is nobody to invite, which is said in a moment.
		if user, err := mxid.ParseUser(key); err == nil {
			_, _ = a.engine.FindUser(ctx, user)
		}
	}
	signed, err := a.fed.TakeInvite(ctx, origin, i)
	if err != nil {
		return incompatible(r, err)
	}
	if old {
		return r.OK(append(append(append(r.Out(), `[200,{"event":`...), signed...), `}]`...))
	}
	return r.OK(append(append(append(r.Out(), `{"event":`...), signed...), '}'))
}

// exchange makes an invite of a third-party invite that another server found the
// user of. Spec: server-server, PUT /exchange_third_party_invite/{roomId}.
func (a *API) exchange(r *wire.Req, origin mxid.Server) error {
	const op = "fedapi.exchange"
	body, err := r.Object()
	if err != nil {
		return err
	}
	field := func(name string) string {
		s, _ := cjson.LookupString(body, name)
		return s
	}
	id, err := mxid.ParseRoom(r.Path("roomId"))
	if err != nil || field("room_id") != string(id) || field("type") != "m.room.member" {
		return fault.E(fault.Invalid, op, "this is no member event of the room")
	}
	sender, err := mxid.ParseUser(field("sender"))
	if err != nil {
		return fault.E(fault.Invalid, op, "sender: %w", err)
	}
	user, err := mxid.ParseUser(field("state_key"))
	if err != nil || user.Server() != origin {
		return fault.E(fault.Forbidden, op, "who is invited is no user of %s", origin)
	}
	content, _ := cjson.Lookup(body, "content")
	if err := a.engine.Exchange(r.Context(), id, sender, user, content); err != nil {
		return err
	}
	return r.Empty()
}

// Bounds of the invites that one address brings: how many they are, and how long the
// servers of those who have invited may take together.
const (
	maxBound  = 50
	boundTime = time.Minute
)

// bound hears from an identity server that an address has found its user: those
// who invited the address have invited the user. The invites prove themselves.
// Spec: server-server, PUT /3pid/onbind.
func (a *API) bound(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, _ := cjson.Lookup(body, "invites")
	if cjson.KindOf(list) != cjson.ArrayKind {
		return fault.E(fault.BadJSON, "fedapi.bound", "invites must be a list")
	}
	ctx, cancel := context.WithTimeout(r.Context(), boundTime)
	defer cancel()
	n := 0
	var away error
	err = cjson.Array(list, func(invite []byte) bool {
		n++
		if err := a.engine.Bound(ctx, invite); err != nil {
			away = err
		}
		return n < maxBound
	})
	if err != nil {
		return err
	}
	if away != nil { // the identity server is to come again
		return fault.E(fault.Busy, "fedapi.bound", "the server of somebody who has invited is away: %w", away)
	}
	return r.Empty()
}

// queryDirectory tells the room of an alias of ours.
// Spec: server-server, GET /query/directory.
func (a *API) queryDirectory(r *wire.Req, _ mxid.Server) error {
	const op = "fedapi.queryDirectory"
	alias, err := mxid.ParseAlias(r.QueryOr("room_alias", ""))
	if err != nil {
		return fault.E(fault.Invalid, op, "not a room alias: %w", err)
	}
	if alias.Server() != a.engine.Server {
		return fault.E(fault.NotFound, op, "the alias is of another server")
	}
	ctx := r.Context()
	id, servers, err := a.engine.FindAlias(ctx, string(alias))
	if err != nil {
		return err
	}
	return r.OK(appendAlias(r.Out(), id, servers))
}

func appendAlias(dst []byte, id mxid.RoomID, servers []mxid.Server) []byte {
	dst = cjson.AppendString(append(dst, `{"room_id":`...), id)
	dst = append(dst, `,"servers":[`...)
	for i, s := range servers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, s)
	}
	return append(dst, `]}`...)
}
