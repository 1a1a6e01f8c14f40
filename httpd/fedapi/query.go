package fedapi

import (
	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: server-server, querying for information; public room directory; spaces; OpenID.
func (a *API) queryRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: v1 + "/query/profile", Handle: a.signed(a.profile)},
		{Method: "GET", Pattern: v1 + "/openid/userinfo", Handle: a.openID},
		{Method: "GET", Pattern: v1 + "/publicRooms", Handle: a.signed(a.publicRooms)},
		{Method: "POST", Pattern: v1 + "/publicRooms", Handle: a.signed(a.searchPublicRooms)},
		{Method: "GET", Pattern: v1 + "/hierarchy/{roomId}", Handle: a.signed(a.hierarchy)},
	}
}

// Spec: server-server, GET /query/profile.
func (a *API) profile(r *wire.Req, _ mxid.Server) error {
	const op = "fedapi.profile"
	text, ok := r.Query("user_id")
	if !ok {
		return fault.E(fault.Missing, op, "whose profile? user_id is missing")
	}
	id, err := mxid.ParseUser(text)
	if err != nil || id.Server() != a.engine.Server {
		return fault.E(fault.Invalid, op, "user_id names no user of this server")
	}
	ctx := r.Context()
	user, err := a.engine.FindUser(ctx, id)
	if err != nil {
		return err
	}
	if user == 0 {
		return fault.E(fault.NotFound, op, "there is no such user")
	}
	field, ok := r.Query("field")
	if !ok || field == "" {
		dst, err := a.engine.Accounts.AppendProfile(r.Out(), user)
		if err != nil {
			return err
		}
		return r.OK(dst)
	}
	if _, err := account.CheckProfile(field, nil); err != nil {
		return err
	}
	dst := append(cjson.AppendString(append(r.Out(), '{'), field), ':')
	dst, ok, err = a.engine.Accounts.ProfileField(dst, user, field)
	if err != nil {
		return err
	}
	if !ok {
		return r.OK([]byte(`{}`))
	}
	return r.OK(append(dst, '}'))
}

// openID is asked by services that a user has given a token of, which sign nothing.
// Spec: server-server, GET /openid/userinfo.
func (a *API) openID(r *wire.Req) error {
	token, ok := r.Query("access_token")
	if !ok {
		return fault.E(fault.MissingToken, "fedapi.openID", "access_token is missing")
	}
	id, err := a.engine.Accounts.OpenIDUser(token)
	if err != nil {
		return err
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"sub":`...), id), '}'))
}

// defaultRooms is a page of public rooms where no limit is given.
const defaultRooms = 100

// Spec: server-server, GET /publicRooms.
func (a *API) publicRooms(r *wire.Req, _ mxid.Server) error {
	limit, err := r.QueryInt("limit", defaultRooms, 0, 1<<30)
	if err != nil {
		return err
	}
	_, named := r.Query("third_party_instance_id")
	return a.listPublic(r, &engine.PublicQuery{Limit: int(limit), Since: r.QueryOr("since", ""), Networked: named})
}

// Spec: server-server, POST /publicRooms.
func (a *API) searchPublicRooms(r *wire.Req, _ mxid.Server) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	q := engine.PublicQuery{Limit: defaultRooms}
	if val, ok := cjson.Lookup(body, "limit"); ok {
		n, good := cjson.Int(val)
		if !good || n < 0 {
			return fault.E(fault.BadJSON, "fedapi.publicRooms", "limit must be a whole number")
		}
		q.Limit = int(min(n, 1<<30))
	}
	q.Since, _ = cjson.LookupString(body, "since")
	network, _ := cjson.LookupString(body, "third_party_instance_id")
	q.Networked = network != ""
	filter, _ := cjson.Lookup(body, "filter")
	q.Term, _ = cjson.LookupString(filter, "generic_search_term")
	if types, ok := cjson.Lookup(filter, "room_types"); ok && cjson.KindOf(types) == cjson.ArrayKind {
		q.ByType = true
		_ = cjson.Array(types, func(val []byte) bool { // it was checked when it came
			if s, ok := cjson.String(val); ok {
				q.Types = append(q.Types, s)
			} else {
				q.Untyped = true
			}
			return len(q.Types) < defaultRooms
		})
	}
	return a.listPublic(r, &q)
}

func (a *API) listPublic(r *wire.Req, q *engine.PublicQuery) error {
	dst, err := a.engine.AppendPublicRooms(r.Out(), q)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: server-server, GET /hierarchy/{roomId}.
func (a *API) hierarchy(r *wire.Req, origin mxid.Server) error {
	suggested, err := r.QueryBool("suggested_only", false)
	if err != nil {
		return err
	}
	dst, err := a.engine.AppendHierarchy(r.Out(), mxid.RoomID(r.Path("roomId")), origin, suggested)
	if err != nil {
		return err
	}
	return r.OK(dst)
}
