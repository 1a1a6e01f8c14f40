package clientapi

import (
	"errors"

	"hearth/engine"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// Spec: client-server, POST /join/{roomIdOrAlias}. The servers a client names
// are of no use for a room that the hub is in.
func (a *API) join(r *wire.Req) error { return a.joinAt(r, r.Path("roomIdOrAlias")) }

// Spec: client-server, POST /rooms/{roomId}/join.
func (a *API) joinRoom(r *wire.Req) error { return a.joinAt(r, r.Path("roomId")) }

func (a *API) joinAt(r *wire.Req, where string) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if _, _, err := text(body, "reason"); err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	ctx := r.Context()
	id, err := a.engine.Enter(ctx, engine.Reach{Room: where, Via: via(r)}, r.Session.UserID, body)
	if err != nil {
		return incompatible(r, err)
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"room_id":`...), id), '}'))
}

// via lists the servers that a client names for a room to be reached by, in the
// newer parameter and the older one.
func via(r *wire.Req) (list []mxid.Server) {
	for _, name := range [...]string{"via", "server_name"} {
		r.QueryEach(name, func(val string) bool {
			if s, err := mxid.ParseServer(val); err == nil {
				list = append(list, s)
			}
			return len(list) < maxVia
		})
	}
	return list
}

const maxVia = 20

// incompatible answers with an error, and with the room's version where the hub
// or another server does not know it.
func incompatible(r *wire.Req, err error) error {
	var v *federation.Incompatible
	if !errors.As(err, &v) {
		return err
	}
	return r.Fail(err, string(cjson.AppendString([]byte(`"room_version":`), v.Version)))
}

// Spec: client-server, POST /rooms/{roomId}/leave.
func (a *API) leave(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	reason, _, err := text(body, "reason")
	if err != nil {
		return err
	}
	num, err := a.engine.Resolve(r.Path("roomId"))
	if err != nil {
		return err
	}
	if err := a.engine.Leave(num, r.Session.UserID, reason); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, POST /rooms/{roomId}/forget.
func (a *API) forget(r *wire.Req) error {
	if _, err := r.Object(); err != nil {
		return err
	}
	num, err := a.engine.Resolve(r.Path("roomId"))
	if err != nil {
		return err
	}
	if err := a.engine.Rooms.Forget(num, r.Session.User); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, POST /rooms/{roomId}/invite, in both forms.
func (a *API) invite(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if _, ok := cjson.Lookup(body, "user_id"); !ok {
		if _, ok := cjson.Lookup(body, "medium"); ok {
			return a.inviteByAddress(r, body)
		}
	}
	return a.change(r, func(num room.Num, sender, user mxid.UserID, reason string) error {
		a.provide(r, user)
		return a.engine.Invite(num, sender, user, reason)
	})
}

// inviteByAddress is invite for who knows an address only.
func (a *API) inviteByAddress(r *wire.Req, body []byte) error {
	var q struct {
		invited
		Reason string `json:"reason"`
	}
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	num, err := a.room(r)
	if err != nil {
		return err
	}
	if err := a.inviteAddress(num, &r.Session, &q.invited, q.Reason); err != nil {
		return passOn(r, err)
	}
	return r.Empty()
}

// Spec: client-server, POST /rooms/{roomId}/kick.
func (a *API) kick(r *wire.Req) error { return a.change(r, a.engine.Kick) }

// Spec: client-server, POST /rooms/{roomId}/ban.
func (a *API) ban(r *wire.Req) error { return a.change(r, a.engine.Ban) }

// Spec: client-server, POST /rooms/{roomId}/unban.
func (a *API) unban(r *wire.Req) error { return a.change(r, a.engine.Unban) }

// change does to another user's membership what do does.
func (a *API) change(r *wire.Req, do func(num room.Num, sender, user mxid.UserID, reason string) error) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	id, err := needText(body, "user_id")
	if err != nil {
		return err
	}
	reason, _, err := text(body, "reason")
	if err != nil {
		return err
	}
	whom, err := mxid.ParseUser(id)
	if err != nil {
		return fault.E(fault.Invalid, "clientapi.change", "user_id: %w", err)
	}
	if err := active(r); err != nil {
		return err
	}
	num, err := a.room(r)
	if err != nil {
		return err
	}
	if err := do(num, r.Session.UserID, whom, reason); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, GET /joined_rooms.
func (a *API) joinedRooms(r *wire.Req) error {
	dst := append(r.Out(), `{"joined_rooms":[`...)
	first := true
	newest := room.Member{}.Pos // of the last change among them
	var broken error
	err := a.engine.Rooms.Of(r.Session.User, func(m room.Member) bool {
		newest = max(newest, m.Pos)
		if m.Membership != room.Join {
			return true
		}
		var id mxid.RoomID
		if id, broken = a.engine.Rooms.RoomID(m.Room); broken != nil {
			return false
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = cjson.AppendString(dst, id)
		return true
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return err
	}
	a.engine.Rooms.SettledAt(newest)
	return r.OK(append(dst, `]}`...))
}
