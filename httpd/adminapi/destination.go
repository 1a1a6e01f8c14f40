package adminapi

import (
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Where other servers stand with what the hub has for them.

func (a *API) destinationRoutes() []wire.Route {
	const all = v1 + "/federation/destinations"
	return []wire.Route{
		{Method: "GET", Pattern: all, Handle: a.destinations},
		{Method: "GET", Pattern: all + "/{destination}", Handle: a.destination},
		{Method: "GET", Pattern: all + "/{destination}/rooms", Handle: a.destinationRooms},
		{Method: "POST", Pattern: all + "/{destination}/reset_connection", Handle: a.retryDestination},
	}
}

// appendDestination appends what tools know a destination by, and what they do not:
// how far it is behind, and the last error.
func appendDestination(dst []byte, d *federation.Destination) []byte {
	dst = cjson.AppendString(append(dst, `{"destination":`...), d.Server)
	dst = append(dst, `,"failure_ts":`...)
	if d.Since.IsZero() {
		dst = append(dst, `null`...)
	} else {
		dst = strconv.AppendInt(dst, d.Since.UnixMilli(), 10)
	}
	var last, interval int64
	if d.Failures > 0 {
		last = d.Since.UnixMilli()
		interval = max(time.Until(d.Next), 0).Milliseconds()
	}
	dst = strconv.AppendInt(append(dst, `,"retry_last_ts":`...), last, 10)
	dst = strconv.AppendInt(append(dst, `,"retry_interval":`...), interval, 10)
	dst = strconv.AppendUint(append(dst, `,"last_successful_stream_ordering":`...), d.From, 10)
	dst = strconv.AppendUint(append(dst, `,"behind":`...), d.Behind, 10)
	dst = strconv.AppendInt(append(dst, `,"failures":`...), int64(d.Failures), 10)
	if d.Failures > 0 {
		dst = strconv.AppendInt(append(dst, `,"next_try_ts":`...), d.Next.UnixMilli(), 10)
		dst = cjson.AppendString(append(dst, `,"error":`...), d.Error)
	}
	return append(dst, '}')
}

// span reads which part of a list is asked for.
func span(r *wire.Req) (from, limit int64, err error) {
	if from, err = r.QueryInt("from", 0, 0, 1<<30); err != nil {
		return 0, 0, err
	}
	limit, err = r.QueryInt("limit", 100, 1, 1000)
	return from, limit, err
}

func (a *API) destinations(r *wire.Req) error {
	from, limit, err := span(r)
	if err != nil {
		return err
	}
	list, err := a.engine.Federation.Destinations()
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"destinations":[`...)
	to := min(from+limit, int64(len(list)))
	for i := from; i < to; i++ {
		if i > from {
			dst = append(dst, ',')
		}
		dst = appendDestination(dst, &list[i])
	}
	dst = strconv.AppendInt(append(dst, `],"total":`...), int64(len(list)), 10)
	if to < int64(len(list)) {
		dst = append(strconv.AppendInt(append(dst, `,"next_token":"`...), to, 10), '"')
	}
	return r.OK(append(dst, '}'))
}

func asked(r *wire.Req) (mxid.Server, error) {
	server, err := mxid.ParseServer(r.Path("destination"))
	if err != nil {
		return "", fault.E(fault.Invalid, "adminapi.destination", "this is no server name: %w", err)
	}
	return server, nil
}

func (a *API) destination(r *wire.Req) error {
	server, err := asked(r)
	if err != nil {
		return err
	}
	d, err := a.engine.Federation.Destination(server)
	if err != nil {
		return err
	}
	return r.OK(appendDestination(r.Out(), &d))
}

func (a *API) destinationRooms(r *wire.Req) error {
	server, err := asked(r)
	if err != nil {
		return err
	}
	from, limit, err := span(r)
	if err != nil {
		return err
	}
	list, err := a.engine.Federation.RoomsOf(server)
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"rooms":[`...)
	to := min(from+limit, int64(len(list)))
	for i := from; i < to; i++ {
		if i > from {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(append(dst, `{"room_id":`...), list[i]), '}')
	}
	dst = strconv.AppendInt(append(dst, `],"total":`...), int64(len(list)), 10)
	if to < int64(len(list)) {
		dst = append(strconv.AppendInt(append(dst, `,"next_token":"`...), to, 10), '"')
	}
	return r.OK(append(dst, '}'))
}

// retryDestination has a server tried now that is waited for.
func (a *API) retryDestination(r *wire.Req) error {
	server, err := asked(r)
	if err != nil {
		return err
	}
	if _, err := a.engine.Federation.Destination(server); err != nil {
		return err
	}
	if err := a.engine.Federation.Retry(server); err != nil {
		return err
	}
	return r.Empty()
}
