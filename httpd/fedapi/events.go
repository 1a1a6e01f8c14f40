package fedapi

import (
	"bufio"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

func (a *API) eventRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: v1 + "/state/{roomId}", Handle: a.signed(a.heavy(a.state))},
		{Method: "GET", Pattern: v1 + "/state_ids/{roomId}", Handle: a.signed(a.heavy(a.stateIDs))},
		{Method: "GET", Pattern: v1 + "/event/{eventId}", Handle: a.signed(a.event)},
		{Method: "GET", Pattern: v1 + "/event_auth/{roomId}/{eventId}", Handle: a.signed(a.heavy(a.eventAuth))},
		{Method: "POST", Pattern: v1 + "/query_auth/{roomId}/{eventId}", Handle: a.signed(a.heavy(a.queryAuth))},
		{Method: "GET", Pattern: v1 + "/backfill/{roomId}", Handle: a.signed(a.backfill)},
		{Method: "POST", Pattern: v1 + "/get_missing_events/{roomId}", Handle: a.signed(a.missing)},
		{Method: "GET", Pattern: v1 + "/timestamp_to_event/{roomId}", Handle: a.signed(a.nearest)},
	}
}

// at is the event that a question about state is asked at.
func at(r *wire.Req) (mxid.EventID, error) {
	id, ok := r.Query("event_id")
	if !ok || id == "" {
		return "", fault.E(fault.Missing, "fedapi.state", "event_id is needed")
	}
	return mxid.EventID(id), nil
}

// Spec: server-server, GET /state/{roomId}.
func (a *API) state(r *wire.Req, origin mxid.Server) error {
	id, err := at(r)
	if err != nil {
		return err
	}
	t, err := a.fed.StateFor(origin, mxid.RoomID(r.Path("roomId")), id)
	if err != nil {
		return err
	}
	return a.stream(r, t, list{"auth_chain", t.Chain}, list{"pdus", t.State})
}

// Spec: server-server, GET /event_auth/{roomId}/{eventId}.
func (a *API) eventAuth(r *wire.Req, origin mxid.Server) error {
	t, err := a.fed.ChainFor(origin, mxid.RoomID(r.Path("roomId")), mxid.EventID(r.Path("eventId")))
	if err != nil {
		return err
	}
	return a.stream(r, t, list{"auth_chain", t.Chain})
}

// queryAuth is what was once asked to settle which events authorise one. Nothing in
// the question is needed for the answer, and nothing of it is believed.
// Spec: server-server, POST /query_auth/{roomId}/{eventId}, removed since.
func (a *API) queryAuth(r *wire.Req, origin mxid.Server) error {
	if _, err := r.Object(); err != nil {
		return err
	}
	t, err := a.fed.ChainFor(origin, mxid.RoomID(r.Path("roomId")), mxid.EventID(r.Path("eventId")))
	if err != nil {
		return err
	}
	return a.stream(r, t, list{"auth_chain", t.Chain}, list{"missing", nil})
}

// list is one member of an answer that is written event by event.
type list struct {
	name   string
	events []room.EventNum
}

// stream answers with lists of events, of which one at a time is in memory. An
// event that cannot be read cuts the answer off: what came of it is no JSON.
func (a *API) stream(r *wire.Req, t *federation.Told, lists ...list) error {
	r.Ctx.SetContentType("application/json")
	r.Ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		_ = w.WriteByte('{') // an error comes again with the next write
		for i, l := range lists {
			if i > 0 {
				_ = w.WriteByte(',')
			}
			_, _ = w.Write(append(cjson.AppendString(nil, l.name), ':', '['))
			for j, num := range l.events {
				if j > 0 {
					_ = w.WriteByte(',')
				}
				json, err := t.Event(num)
				if err != nil {
					return
				}
				if _, err := w.Write(json); err != nil {
					return
				}
			}
			_ = w.WriteByte(']')
		}
		_ = w.WriteByte('}')
	})
	return nil
}

// Spec: server-server, GET /state_ids/{roomId}.
func (a *API) stateIDs(r *wire.Req, origin mxid.Server) error {
	id, err := at(r)
	if err != nil {
		return err
	}
	t, err := a.fed.StateFor(origin, mxid.RoomID(r.Path("roomId")), id)
	if err != nil {
		return err
	}
	dst := append(r.Out(), '{')
	for i, l := range [...]list{{"auth_chain_ids", t.Chain}, {"pdu_ids", t.State}} {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, l.name), ':', '[')
		for j, num := range l.events {
			if j > 0 {
				dst = append(dst, ',')
			}
			id, err := t.ID(num)
			if err != nil {
				return err
			}
			dst = cjson.AppendString(dst, id)
		}
		dst = append(dst, ']')
	}
	return r.OK(append(dst, '}'))
}

// Spec: server-server, GET /event/{eventId}.
func (a *API) event(r *wire.Req, origin mxid.Server) error {
	dst, err := a.fed.AppendEvent(r.Out(), origin, mxid.EventID(r.Path("eventId")))
	if err != nil {
		return err
	}
	return r.OK(dst)
}

const (
	maxEvents = 100 // of one page
	maxNamed  = 100 // event ids that a question names
)

// Spec: server-server, GET /backfill/{roomId}.
func (a *API) backfill(r *wire.Req, origin mxid.Server) error {
	limit, err := r.QueryInt("limit", maxEvents, 1, maxEvents)
	if err != nil {
		return err
	}
	var from []mxid.EventID
	r.QueryEach("v", func(v string) bool {
		from = append(from, mxid.EventID(v))
		return len(from) < maxNamed
	})
	if len(from) == 0 {
		return fault.E(fault.Missing, "fedapi.backfill", "v is needed")
	}
	dst, err := a.fed.AppendBackfill(r.Out(), origin, mxid.RoomID(r.Path("roomId")), from, int(limit))
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: server-server, POST /get_missing_events/{roomId}.
func (a *API) missing(r *wire.Req, origin mxid.Server) error {
	var body struct {
		Earliest []mxid.EventID `json:"earliest_events"`
		Latest   []mxid.EventID `json:"latest_events"`
		Limit    *int64         `json:"limit"`
		MinDepth int64          `json:"min_depth"`
	}
	if err := r.Decode(&body); err != nil {
		return err
	}
	q := federation.MissingQuery{Latest: body.Latest, Earliest: body.Earliest, Limit: 10, MinDepth: body.MinDepth}
	if body.Limit != nil {
		q.Limit = int(max(min(*body.Limit, maxEvents), 0))
	}
	dst, err := a.fed.AppendMissing(r.Out(), origin, mxid.RoomID(r.Path("roomId")), &q)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: server-server, GET /timestamp_to_event/{roomId}.
func (a *API) nearest(r *wire.Req, origin mxid.Server) error {
	ts, err := r.QueryInt("ts", -1, 0, 1<<53)
	if err != nil {
		return err
	}
	dir, _ := r.Query("dir")
	if ts < 0 || dir != "f" && dir != "b" {
		return fault.E(fault.Invalid, "fedapi.nearest", "ts and a dir of f or b are needed")
	}
	dst, err := a.fed.AppendNearest(r.Out(), origin, mxid.RoomID(r.Path("roomId")), ts, dir == "b")
	if err != nil {
		return err
	}
	return r.OK(dst)
}
