package clientapi

import (
	"slices"
	"strconv"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

func appendDevice(dst []byte, d *account.Device) []byte {
	dst = cjson.AppendString(append(dst, `{"device_id":`...), d.ID)
	if d.Name != "" {
		dst = cjson.AppendString(append(dst, `,"display_name":`...), d.Name)
	}
	if d.SeenFrom.IsValid() {
		dst = cjson.AppendString(append(dst, `,"last_seen_ip":`...), d.SeenFrom.String())
	}
	if !d.Seen.IsZero() {
		dst = strconv.AppendInt(append(dst, `,"last_seen_ts":`...), d.Seen.UnixMilli(), 10)
	}
	return append(dst, '}')
}

// Spec: client-server, GET /devices.
func (a *API) devices(r *wire.Req) error {
	list, err := a.accounts.Devices(r.Session.User)
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"devices":[`...)
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendDevice(dst, &list[i])
	}
	return r.OK(append(dst, `]}`...))
}

// Spec: client-server, GET /devices/{deviceId}.
func (a *API) device(r *wire.Req) error {
	d, err := a.accounts.Device(r.Session.User, r.Path("deviceId"))
	if err != nil {
		return err
	}
	return r.OK(appendDevice(r.Out(), &d))
}

// Spec: client-server, PUT /devices/{deviceId}.
func (a *API) renameDevice(r *wire.Req) error {
	var q struct {
		Name *string `json:"display_name"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if r.Session.Service != "" {
		name := ""
		if q.Name != nil {
			name = *q.Name
		}
		if made, err := a.newDeviceFor(r, r.Path("deviceId"), name); err != nil {
			return err
		} else if made {
			return r.Reply(201, []byte(`{}`))
		}
	}
	if q.Name == nil { // nothing to change, but the device has to be there
		if _, err := a.accounts.Device(r.Session.User, r.Path("deviceId")); err != nil {
			return err
		}
		return r.Empty()
	}
	if err := a.engine.RenameDevice(r.Session.User, r.Path("deviceId"), *q.Name); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, DELETE /devices/{deviceId}.
func (a *API) deleteDevice(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	id := r.Path("deviceId")
	x, _, err := a.proved(r, "delete device "+id, body)
	if x == nil {
		return err
	}
	return a.dropDevices(r, x, []string{id})
}

// Spec: client-server, POST /delete_devices.
func (a *API) deleteDevices(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	type list struct {
		Devices []string `json:"devices"`
	}
	var q list
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	x, full, err := a.proved(r, "delete devices", body)
	if x == nil {
		return err
	}
	q = list{}
	if err := wire.Decode(full, &q); err != nil {
		return err
	}
	if q.Devices == nil {
		return fault.E(fault.Missing, "clientapi.deleteDevices", "which devices?")
	}
	return a.dropDevices(r, x, q.Devices)
}

func (a *API) dropDevices(r *wire.Req, x *exchange, ids []string) error {
	err := a.engine.DeleteDevices(r.Session.User, func(d *account.Device) bool { return slices.Contains(ids, d.ID) })
	if err != nil {
		return err
	}
	a.uia.end(x)
	return r.Empty()
}
