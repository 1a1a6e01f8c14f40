package clientapi

import (
	"context"

	"hearth/engine/fault"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: client-server, relationships; threading.
func (a *API) relationRoutes() []wire.Route {
	const (
		room      = v1 + "/rooms/{roomId}"
		relations = room + "/relations/{eventId}"
	)
	routes := []wire.Route{{Method: "GET", Pattern: room + "/threads", Handle: a.threads, Flags: late | wire.GuestOK, Class: wire.Read}}
	for _, tail := range [...]string{"", "/{relType}", "/{relType}/{eventType}"} {
		routes = append(routes, wire.Route{Method: "GET", Pattern: relations + tail, Handle: a.relations(tail), Flags: late | wire.GuestOK, Class: wire.Read})
	}
	return routes
}

// relations serves the three forms of the path, which say ever more.
// Spec: client-server, GET /rooms/{roomId}/relations/{eventId}.
func (a *API) relations(tail string) wire.Handler {
	return func(r *wire.Req) error {
		v, err := a.view(r)
		if err != nil {
			return err
		}
		q := history.RelationQuery{Target: mxid.EventID(r.Path("eventId"))}
		if tail != "" {
			q.RelType = r.Path("relType")
		}
		if tail == "/{relType}/{eventType}" {
			q.Type = r.Path("eventType")
		}
		switch dir := r.QueryOr("dir", "b"); dir {
		case "b", "f":
			q.Forth = dir == "f"
		default:
			return fault.E(fault.Invalid, "clientapi.relations", "dir must be b or f")
		}
		if q.From, err = place(r, "from"); err != nil {
			return err
		}
		if q.To, err = place(r, "to"); err != nil {
			return err
		}
		if q.Recurse, err = r.QueryBool("recurse", false); err != nil {
			return err
		}
		limit, err := r.QueryInt("limit", defaultPage, 1, maxPage)
		if err != nil {
			return err
		}
		q.Limit = int(limit)
		if err := a.engine.FetchEvent(context.Background(), v, q.Target); err != nil {
			return err
		}
		dst, err := v.AppendRelations(r.Out(), &q)
		if err != nil {
			return err
		}
		return r.OK(dst)
	}
}

// Spec: client-server, GET /rooms/{roomId}/threads.
func (a *API) threads(r *wire.Req) error {
	v, err := a.view(r)
	if err != nil {
		return err
	}
	var q history.ThreadQuery
	switch include := r.QueryOr("include", "all"); include {
	case "all", "participated":
		q.Mine = include == "participated"
	default:
		return fault.E(fault.Invalid, "clientapi.threads", "include must be all or participated")
	}
	if q.From, err = place(r, "from"); err != nil {
		return err
	}
	limit, err := r.QueryInt("limit", defaultPage, 1, maxPage)
	if err != nil {
		return err
	}
	q.Limit = int(limit)
	if err := a.engine.FillThreads(context.Background(), v, &q); err != nil {
		return err
	}
	dst, err := v.AppendThreads(r.Out(), &q)
	if err != nil {
		return err
	}
	return r.OK(dst)
}
