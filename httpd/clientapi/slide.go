package clientapi

import (
	"github.com/valyala/fasthttp"

	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/slide"
	"hearth/engine/sync"
	"hearth/httpd/wire"
)

// Spec: MSC4186. Where there is no news the request is given back to the server
// until there is.
func (a *API) slide(r *wire.Req) error { return a.slideIn(r, false) }

// slideFinal answers in the words of the proposal as it was accepted, which differ
// from those that clients know it by. Spec: MSC4186.
func (a *API) slideFinal(r *wire.Req) error { return a.slideIn(r, true) }

func (a *API) slideIn(r *wire.Req, final bool) error {
	req, err := a.slideRequest(r)
	if err != nil {
		return err
	}
	req.Final = final
	s := a.engine.Sync
	body, ready, err := s.Slide(req)
	if err != nil {
		return err
	}
	if ready {
		err := r.OK(append(r.Out(), body...))
		s.Done(body)
		return err
	}
	return r.Wait(func(w *wire.Waiting) {
		s.WaitSlide(req, func(body []byte, err error) {
			if err != nil {
				w.Fail(err)
				return
			}
			w.Reply(fasthttp.StatusOK, body)
		})
	})
}

// slideRequest reads a request. Where the connection stands, and how long to wait,
// stands in the query or, in the proposal's last words, in the body.
func (a *API) slideRequest(r *wire.Req) (*sync.SlideRequest, error) {
	obj, err := r.Object()
	if err != nil {
		return nil, err
	}
	body, err := slide.Parse(obj)
	if err != nil {
		return nil, err
	}
	const op = "clientapi.slide"
	if body.Timeout, err = r.QueryInt("timeout", body.Timeout, 0, sync.MaxTimeout.Milliseconds()); err != nil {
		return nil, err
	}
	if pos, ok := r.Query("pos"); ok {
		body.Pos = pos
	}
	req := &sync.SlideRequest{User: r.Session.User, UserID: r.Session.UserID, Device: r.Session.DeviceNum, Body: body}
	req.NoMessages = a.engine.AppServices.Services().Takes(req.UserID)
	name := r.QueryOr("set_presence", body.Presence)
	if name == "" {
		name = ephemeral.Online.String()
	}
	var ok bool
	if req.Presence, ok = ephemeral.ParseState(name); !ok {
		return nil, fault.E(fault.Invalid, op, "set_presence must be online, unavailable or offline")
	}
	return req, nil
}
