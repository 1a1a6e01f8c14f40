package clientapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/sync"
	"hearth/httpd/wire"
)

// Spec: client-server, events, syncing.
func (a *API) syncRoutes() []wire.Route {
	const slides = 1 << 20 // the same long rule for each of a thousand rooms is a long request
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/sync", Handle: a.sync, Flags: guest},
		{Method: "POST", Pattern: "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", Handle: a.slide, Flags: late | wire.GuestOK, Body: slides},
		{Method: "POST", Pattern: "/_matrix/client/v4/sync", Handle: a.slideFinal, Flags: late | wire.GuestOK, Body: slides},
	}
}

// Spec: client-server, GET /sync. Where there is no news the request is given
// back to the server until there is.
func (a *API) sync(r *wire.Req) error {
	req, err := a.syncRequest(r)
	if err != nil {
		return err
	}
	s := a.engine.Sync
	body, rest, ready, err := s.Start(req)
	if err != nil {
		return err
	}
	if rest != nil {
		return r.Pieces(body, rest.Next)
	}
	if ready {
		err := r.OK(append(r.Out(), body...))
		s.Done(body)
		return err
	}
	return r.Wait(func(w *wire.Waiting) {
		s.Wait(req, func(body []byte, err error) {
			if err != nil {
				w.Fail(err)
				return
			}
			w.Reply(fasthttp.StatusOK, body)
		})
	})
}

func (a *API) syncRequest(r *wire.Req) (*sync.Request, error) {
	req := &sync.Request{User: r.Session.User, UserID: r.Session.UserID, Device: r.Session.DeviceNum, Since: r.QueryOr("since", "")}
	req.NoMessages = a.engine.AppServices.Services().Takes(req.UserID)
	var err error
	if req.Filter, err = a.syncFilter(r); err != nil {
		return nil, err
	}
	timeout, err := r.QueryInt("timeout", 0, 0, sync.MaxTimeout.Milliseconds())
	if err != nil {
		return nil, err
	}
	req.Timeout = time.Duration(timeout) * time.Millisecond
	if req.FullState, err = r.QueryBool("full_state", false); err != nil {
		return nil, err
	}
	if req.UseStateAfter, err = r.QueryBool("use_state_after", false); err != nil {
		return nil, err
	}
	var ok bool
	if req.Presence, ok = ephemeral.ParseState(r.QueryOr("set_presence", "online")); !ok {
		return nil, fault.E(fault.Invalid, "clientapi.sync", "set_presence must be online, unavailable or offline")
	}
	return req, nil
}

// syncFilter reads the filter of a query, which is one of the user's stored ones
// or stands there itself. Without any it is nil.
func (a *API) syncFilter(r *wire.Req) (*filter.Filter, error) {
	val := r.QueryOr("filter", "")
	if val == "" {
		return nil, nil
	}
	if strings.HasPrefix(val, "{") {
		return filter.Parse([]byte(val))
	}
	num, err := strconv.ParseUint(val, 10, 32)
	if err != nil {
		return nil, fault.E(fault.Invalid, "clientapi.sync", "there is no such filter")
	}
	stored, err := a.accounts.Filter(r.Session.User, uint32(num))
	if fault.Is(err, fault.NotFound) {
		return nil, fault.E(fault.Invalid, "clientapi.sync", "there is no such filter")
	}
	if err != nil {
		return nil, err
	}
	return filter.Parse(stored)
}
