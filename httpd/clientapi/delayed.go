package clientapi

import (
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

const delayParam = "org.matrix.msc4140.delay"

// Spec: MSC4140. Who has the id of a delayed event may hurry it, put it off or
// take it back: that is what a client hands to a program which watches over it.
func (a *API) delayedRoutes() []wire.Route {
	var routes []wire.Route
	for _, base := range [...]string{"/_matrix/client/unstable/org.matrix.msc4140", v1} {
		list := base + "/delayed_events"
		routes = append(routes,
			wire.Route{Method: "GET", Pattern: list, Handle: a.delayedEvents, Flags: late},
			wire.Route{Method: "POST", Pattern: list + "/{delayId}", Handle: a.changeDelayed, Class: wire.Send},
			wire.Route{Method: "POST", Pattern: list + "/{delayId}/{action}", Handle: a.changeDelayedNow, Flags: wire.EmptyBody, Class: wire.Send})
	}
	return routes
}

// delayOf reads how long an event is to wait; ok is false where it is to be sent
// at once.
func delayOf(r *wire.Req) (wait time.Duration, ok bool, err error) {
	val, ok := r.Query(delayParam)
	if !ok {
		return 0, false, nil
	}
	ms, err := strconv.ParseInt(val, 10, 41)
	if err != nil || ms < 0 {
		return 0, true, fault.E(fault.Invalid, "clientapi.delay", "the delay must be a whole number of milliseconds")
	}
	return time.Duration(ms) * time.Millisecond, true, nil
}

// later takes in an event that is to be sent after a delay.
func (a *API) later(r *wire.Req, d *room.Draft, wait time.Duration) error {
	in := mxid.RoomID(r.Path("roomId"))
	id := a.engine.Delayed().Again(in, d.Type, d.Txn.Device, d.Txn.ID)
	if id == "" {
		var err error
		if d.Content, err = r.Object(); err != nil {
			return err
		}
		if err := active(r); err != nil {
			return err
		}
		d.Sender = r.Session.UserID
		if id, err = a.engine.Later(r.Session.User, in, d, wait); err != nil {
			return err
		}
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"delay_id":`...), id), '}'))
}

func (a *API) delayedEvents(r *wire.Req) error {
	dst := append(r.Out(), `{"delayed_events":[`...)
	for i, e := range a.engine.Delayed().Of(r.Session.User) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, `{"content":`...), e.Content...)
		dst = strconv.AppendInt(append(dst, `,"delay":`...), e.Delay, 10)
		dst = cjson.AppendString(append(dst, `,"delay_id":`...), e.ID)
		dst = cjson.AppendString(append(dst, `,"room_id":`...), e.Room)
		dst = strconv.AppendInt(append(dst, `,"running_since":`...), e.Since, 10)
		if e.StateKey != nil {
			dst = cjson.AppendString(append(dst, `,"state_key":`...), *e.StateKey)
		}
		dst = append(cjson.AppendString(append(dst, `,"type":`...), e.Type), '}')
	}
	return r.OK(append(dst, `]}`...))
}

// changeDelayed has the action in the body.
func (a *API) changeDelayed(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	action, err := needText(body, "action")
	if err != nil {
		return err
	}
	err = a.actDelayed(r, action)
	if fault.Is(err, fault.Unrecognised) {
		return fault.E(fault.Invalid, "clientapi.delayed", "action must be cancel, restart or send")
	}
	return err
}

func (a *API) changeDelayedNow(r *wire.Req) error { return a.actDelayed(r, r.Path("action")) }

func (a *API) actDelayed(r *wire.Req, action string) error {
	id := r.Path("delayId")
	var err error
	switch action {
	case "cancel":
		err = a.engine.Delayed().Drop(id)
	case "restart":
		err = a.engine.RestartDelayed(id)
	case "send":
		err = a.engine.SendDelayed(id)
	default:
		return fault.E(fault.Unrecognised, "clientapi.delayed", "no such action")
	}
	if err != nil {
		return err
	}
	return r.Empty()
}
