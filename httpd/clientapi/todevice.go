package clientapi

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// Spec: client-server, PUT /sendToDevice/{eventType}/{txnId}.
func (a *API) sendToDevice(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	messages, ok := cjson.Lookup(body, "messages")
	if !ok {
		return fault.E(fault.Missing, "clientapi.sendToDevice", "which messages?")
	}
	if err := a.engine.SendToDevice(&r.Session, r.Path("eventType"), r.Path("txnId"), messages); err != nil {
		return err
	}
	return r.Empty()
}

// dehydratedRoutes are those of MSC3814, which matrix-js-sdk and others call
// under its unstable name.
func (a *API) dehydratedRoutes() []wire.Route {
	const at = unstable + "/org.matrix.msc3814.v1/dehydrated_device"
	return []wire.Route{
		{Method: "GET", Pattern: at, Handle: a.dehydrated, Flags: late},
		{Method: "PUT", Pattern: at, Handle: a.setDehydrated, Flags: late},
		{Method: "DELETE", Pattern: at, Handle: a.deleteDehydrated, Flags: late},
		{Method: "GET", Pattern: at + "/{deviceId}/events", Handle: a.dehydratedEvents, Flags: late},
		{Method: "POST", Pattern: at + "/{deviceId}/events", Handle: a.dehydratedEvents, Flags: maybe &^ wire.R0},
	}
}

// Spec: MSC3814, GET /dehydrated_device.
func (a *API) dehydrated(r *wire.Req) error {
	d, err := a.engine.E2EE.Dehydrated(r.Session.User)
	if err != nil {
		return err
	}
	dst := cjson.AppendString(append(r.Out(), `{"device_id":`...), d.ID)
	dst = append(append(dst, `,"device_data":`...), d.Data...)
	return r.OK(append(dst, '}'))
}

// Spec: MSC3814, PUT /dehydrated_device.
func (a *API) setDehydrated(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	name := ""
	if val, ok := cjson.Lookup(body, "initial_device_display_name"); ok && cjson.KindOf(val) != cjson.NullKind {
		if name, ok = cjson.String(val); !ok {
			return fault.E(fault.BadJSON, "clientapi.setDehydrated", "initial_device_display_name must be a string")
		}
	}
	id, err := a.engine.PutDehydrated(&r.Session, body, name)
	if err != nil {
		return err
	}
	return a.deviceID(r, id)
}

// Spec: MSC3814, DELETE /dehydrated_device.
func (a *API) deleteDehydrated(r *wire.Req) error {
	id, err := a.engine.DropDehydrated(r.Session.User)
	if err != nil {
		return err
	}
	return a.deviceID(r, id)
}

func (a *API) deviceID(r *wire.Req, id string) error {
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"device_id":`...), id), '}'))
}

// Spec: MSC3814, /dehydrated_device/{device_id}/events. The messages stay until the
// device goes: who reads them may fail before it has made use of them.
//
// Who asks with GET reads until next_batch is missing. Who asks with POST, as the
// proposal once was, reads until no events come, and begins anew without a next_batch.
func (a *API) dehydratedEvents(r *wire.Req) error {
	const op = "clientapi.dehydratedEvents"
	d, err := a.engine.E2EE.Dehydrated(r.Session.User)
	if err != nil {
		return err
	}
	if d.ID != r.Path("deviceId") {
		return fault.E(fault.Forbidden, op, "this is not your dehydrated device")
	}
	from, err := a.eventsFrom(r)
	if err != nil {
		return err
	}
	var since uint64
	if from != "" {
		if since, err = strconv.ParseUint(from, 10, 64); err != nil {
			return fault.E(fault.Invalid, op, "this next_batch is none of ours")
		}
	}
	dst, last, err := a.engine.AppendToDevice(append(r.Out(), `{"events":[`...), d.Num, since)
	if err != nil {
		return err
	}
	dst = append(dst, ']')
	if last != since || r.Route().Method == "POST" {
		dst = append(strconv.AppendUint(append(dst, `,"next_batch":"`...), last, 10), '"')
	}
	return r.OK(append(dst, '}'))
}

// eventsFrom reads where to go on: next_batch of the body in a POST, from of the query in a GET.
func (a *API) eventsFrom(r *wire.Req) (string, error) {
	if r.Route().Method == "GET" {
		return r.QueryOr("from", ""), nil
	}
	body, err := r.Object()
	if err != nil {
		return "", err
	}
	val, ok := cjson.Lookup(body, "next_batch")
	if !ok || cjson.KindOf(val) == cjson.NullKind {
		return "", nil
	}
	from, ok := cjson.String(val)
	if !ok {
		return "", fault.E(fault.BadJSON, "clientapi.dehydratedEvents", "next_batch must be a string")
	}
	return from, nil
}
