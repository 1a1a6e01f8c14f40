package fedapi

import (
	"bufio"
	"errors"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

func (a *API) membershipRoutes() []wire.Route {
	var list []wire.Route
	for _, what := range [...]string{"join", "leave", "knock"} {
		list = append(list,
			wire.Route{Method: "GET", Pattern: v1 + "/make_" + what + "/{roomId}/{userId}", Handle: a.signed(a.makeFor(what)), Class: wire.Create},
			wire.Route{Method: "PUT", Pattern: v1 + "/send_" + what + "/{roomId}/{eventId}", Handle: a.signed(a.sendFor(what, what != "knock")), Class: wire.Create})
		if what != "knock" {
			list = append(list, wire.Route{Method: "PUT", Pattern: v2 + "/send_" + what + "/{roomId}/{eventId}", Handle: a.signed(a.sendFor(what, false)), Class: wire.Create})
		}
	}
	return list
}

// makeFor is the handler of requests for a template.
// Spec: server-server, GET /make_join, /make_leave, /make_knock.
func (a *API) makeFor(what string) func(r *wire.Req, origin mxid.Server) error {
	return func(r *wire.Req, origin mxid.Server) error {
		const op = "fedapi.make"
		id, err := mxid.ParseRoom(r.Path("roomId"))
		if err != nil {
			return fault.E(fault.Invalid, op, "not a room id: %w", err)
		}
		user, err := mxid.ParseUser(r.Path("userId"))
		if err != nil {
			return fault.E(fault.Invalid, op, "not a user id: %w", err)
		}
		var versions []string
		r.QueryEach("ver", func(v string) bool {
			versions = append(versions, v)
			return len(versions) < 100
		})
		if len(versions) == 0 {
			versions = []string{"1"}
		}
		body, err := a.fed.Template(origin, what, &federation.Change{Room: id, User: user}, versions)
		if err != nil {
			return incompatible(r, err)
		}
		return r.OK(append(r.Out(), body...))
	}
}

// incompatible answers with an error, and with the room's version where that is
// what the other server lacks.
func incompatible(r *wire.Req, err error) error {
	var v *federation.Incompatible
	if !errors.As(err, &v) {
		return err
	}
	return r.Fail(err, string(cjson.AppendString([]byte(`"room_version":`), v.Version)))
}

// sendFor is the handler of completed templates; old is the form of v1, with a
// list around the answer.
// Spec: server-server, PUT /send_join, /send_leave, /send_knock.
func (a *API) sendFor(what string, old bool) func(r *wire.Req, origin mxid.Server) error {
	return func(r *wire.Req, origin mxid.Server) error {
		const op = "fedapi.send"
		id, err := mxid.ParseRoom(r.Path("roomId"))
		if err != nil {
			return fault.E(fault.Invalid, op, "not a room id: %w", err)
		}
		event, err := mxid.ParseEvent(r.Path("eventId"))
		if err != nil {
			return fault.E(fault.Invalid, op, "not an event id: %w", err)
		}
		body, err := r.Object()
		if err != nil {
			return err
		}
		omit, err := r.QueryBool("omit_members", false)
		if err != nil {
			return err
		}
		ctx := r.Context()
		e, err := a.fed.LetIn(ctx, origin, what, &federation.Arrival{Room: id, Event: event, Body: body})
		if err != nil {
			return err
		}
		switch what {
		case "join":
			r.Ctx.SetContentType("application/json")
			r.Ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
				// An answer that breaks off is seen to be one by the other side.
				_ = a.fed.WriteJoin(w, e, omit && !old, old)
			})
			return nil
		case "knock":
			out, err := a.fed.AppendKnockState(append(r.Out(), `{"knock_room_state":`...), e)
			if err != nil {
				return err
			}
			return r.OK(append(out, '}'))
		}
		if old {
			return r.OK(append(r.Out(), `[200,{}]`...))
		}
		return r.Empty()
	}
}
