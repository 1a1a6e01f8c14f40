package clientapi

import (
	"net/url"
	"strconv"

	"hearth/engine"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: client-server, GET /directory/room/{roomAlias}.
func (a *API) alias(r *wire.Req) error {
	alias, err := mxid.ParseAlias(r.Path("roomAlias"))
	if err != nil {
		return fault.E(fault.Invalid, "clientapi.alias", "not a room alias: %w", err)
	}
	ctx := r.Context()
	id, servers, err := a.engine.FindAlias(ctx, string(alias))
	if err != nil {
		return err
	}
	dst := cjson.AppendString(append(r.Out(), `{"room_id":`...), id)
	dst = append(dst, `,"servers":[`...)
	for i, s := range servers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, s)
	}
	return r.OK(append(dst, `]}`...))
}

// Spec: client-server, PUT /directory/room/{roomAlias}.
func (a *API) setAlias(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	id, err := needText(body, "room_id")
	if err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	if err := a.engine.AddAlias(r.Session.User, r.Path("roomAlias"), mxid.RoomID(id)); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, DELETE /directory/room/{roomAlias}.
func (a *API) deleteAlias(r *wire.Req) error {
	if err := active(r); err != nil {
		return err
	}
	if err := a.engine.DropAlias(r.Session.User, r.Session.UserID, r.Path("roomAlias")); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, GET /rooms/{roomId}/aliases. For members, and for all
// where the room is world readable now.
func (a *API) roomAliases(r *wire.Req) error {
	v, err := a.look(r)
	if err != nil {
		return err
	}
	if v.Joined() != nil {
		open, err := a.engine.Rooms.Peekable(v.Head)
		if err != nil {
			return err
		}
		if !open {
			return v.Joined()
		}
	}
	list, err := a.engine.Directory.Aliases(uint32(v.Room))
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"aliases":[`...)
	for i, alias := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, alias)
	}
	return r.OK(append(dst, `]}`...))
}

// Spec: client-server, GET /directory/list/room/{roomId}.
func (a *API) visibility(r *wire.Req) error {
	num, err := a.engine.Rooms.Find(mxid.RoomID(r.Path("roomId")))
	if err != nil {
		return err
	}
	listed, err := a.engine.Directory.IsPublished(uint32(num))
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"visibility":"`...)
	if listed {
		return r.OK(append(dst, `public"}`...))
	}
	return r.OK(append(dst, `private"}`...))
}

// Spec: client-server, PUT /directory/list/room/{roomId}.
func (a *API) setVisibility(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	val, ok, err := text(body, "visibility")
	if err != nil {
		return err
	}
	if ok && val != "public" && val != "private" {
		return fault.E(fault.Invalid, "clientapi.setVisibility", "visibility must be public or private")
	}
	if err := active(r); err != nil {
		return err
	}
	num, err := a.engine.Rooms.Find(mxid.RoomID(r.Path("roomId")))
	if err != nil {
		return err
	}
	if err := a.engine.SetPublished(num, r.Session.User, r.Session.UserID, val != "private"); err != nil {
		return err
	}
	return r.Empty()
}

// defaultRooms is a page of public rooms where no limit is given.
const defaultRooms = 100

// Spec: client-server, GET /publicRooms.
func (a *API) publicRooms(r *wire.Req) error {
	limit, err := r.QueryInt("limit", defaultRooms, 0, 1<<30)
	if err != nil {
		return err
	}
	if server := r.QueryOr("server", ""); server != "" && server != string(a.engine.Server) {
		query := "limit=" + strconv.FormatInt(limit, 10)
		if since := r.QueryOr("since", ""); since != "" {
			query += "&since=" + url.QueryEscape(since)
		}
		return a.listElsewhere(r, server, query, nil)
	}
	return a.listPublic(r, &engine.PublicQuery{Limit: int(limit), Since: r.QueryOr("since", "")})
}

// publicSearch is the body of a search for public rooms.
type publicSearch struct {
	Limit  *int64 `json:"limit"`
	Since  string `json:"since"`
	Filter struct {
		Term  string     `json:"generic_search_term"`
		Types *[]*string `json:"room_types"`
	} `json:"filter"`
	All     bool    `json:"include_all_networks"`
	Network *string `json:"third_party_instance_id"`
}

// Spec: client-server, POST /publicRooms.
func (a *API) searchPublicRooms(r *wire.Req) error {
	var s publicSearch
	if err := r.Decode(&s); err != nil {
		return err
	}
	const op = "clientapi.publicRooms"
	if s.Limit != nil && *s.Limit < 0 {
		return fault.E(fault.Invalid, op, "limit must not be negative")
	}
	named := s.Network != nil && *s.Network != ""
	if named && s.All {
		return fault.E(fault.Invalid, op, "all networks or one network, not both")
	}
	q := engine.PublicQuery{Limit: defaultRooms, Since: s.Since, Term: s.Filter.Term, Networked: named}
	if s.Limit != nil {
		q.Limit = int(min(*s.Limit, 1<<30))
	}
	if s.Filter.Types != nil {
		q.ByType = true
		for _, t := range *s.Filter.Types {
			if t == nil {
				q.Untyped = true
			} else {
				q.Types = append(q.Types, *t)
			}
		}
	}
	if server := r.QueryOr("server", ""); server != "" && server != string(a.engine.Server) {
		body, err := r.Object()
		if err != nil {
			return err
		}
		return a.listElsewhere(r, server, "", body)
	}
	return a.listPublic(r, &q)
}

// listElsewhere asks another server for its public rooms.
func (a *API) listElsewhere(r *wire.Req, server, query string, search []byte) error {
	name, err := mxid.ParseServer(server)
	if err != nil {
		return fault.E(fault.Invalid, "clientapi.publicRooms", "server: %w", err)
	}
	if !a.engine.Federation.Reaches(name) {
		return fault.E(fault.Remote, "clientapi.publicRooms", "the server %q cannot be asked", server)
	}
	ctx := r.Context()
	body, err := a.engine.Federation.PublicRooms(ctx, name, query, search)
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), body...))
}

func (a *API) listPublic(r *wire.Req, q *engine.PublicQuery) error {
	dst, err := a.engine.AppendPublicRooms(r.Out(), q)
	if err != nil {
		return err
	}
	return r.OK(dst)
}
