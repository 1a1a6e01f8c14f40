package adminapi

import (
	"slices"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// deviceJSON is a device as the tools read one.
type deviceJSON struct {
	ID   string      `json:"device_id"`
	Name *string     `json:"display_name"`
	IP   *string     `json:"last_seen_ip"`
	Seen *int64      `json:"last_seen_ts"`
	User mxid.UserID `json:"user_id"`
}

func describeDevice(d *account.Device, user mxid.UserID) deviceJSON {
	j := deviceJSON{ID: d.ID, Name: orNull(d.Name), User: user}
	if d.SeenFrom.IsValid() {
		j.IP = orNull(d.SeenFrom.String())
	}
	if !d.Seen.IsZero() {
		ms := d.Seen.UnixMilli()
		j.Seen = &ms
	}
	return j
}

func (a *API) devices(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	list, err := a.accounts.Devices(u.Num)
	if err != nil {
		return err
	}
	all := []deviceJSON{}
	for i := range list {
		all = append(all, describeDevice(&list[i], u.ID))
	}
	return r.Answer(struct {
		Devices []deviceJSON `json:"devices"`
		Total   int          `json:"total"`
	}{all, len(all)})
}

func (a *API) device(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	d, err := a.accounts.Device(u.Num, r.Path("deviceId"))
	if err != nil {
		return err
	}
	return r.Answer(describeDevice(&d, u.ID))
}

func (a *API) renameDevice(r *wire.Req) error {
	var q struct {
		Name *string `json:"display_name"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	u, err := a.own(r)
	if err == nil && q.Name != nil {
		err = a.engine.RenameDevice(u.Num, r.Path("deviceId"), *q.Name)
	}
	if err != nil {
		return err
	}
	return r.Empty()
}

func (a *API) deleteDevice(r *wire.Req) error {
	return a.dropDevices(r, []string{r.Path("deviceId")})
}

func (a *API) deleteDevices(r *wire.Req) error {
	var q struct {
		Devices []string `json:"devices"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Devices == nil {
		return fault.E(fault.Missing, "adminapi.deleteDevices", "which devices?")
	}
	return a.dropDevices(r, q.Devices)
}

// dropDevices signs the user out of the hub's own pages too: a browser there could
// let the next device in.
func (a *API) dropDevices(r *wire.Req, ids []string) error {
	u, err := a.own(r)
	if err == nil {
		a.accounts.SignOutAll(u.Num)
		err = a.engine.DeleteDevices(u.Num, func(d *account.Device) bool { return slices.Contains(ids, d.ID) })
	}
	if err != nil {
		return err
	}
	return r.Empty()
}

// whois is the specification's, in the tools' path.
func (a *API) whois(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	dst, err := a.accounts.AppendWhois(r.Out(), u.Num)
	if err != nil {
		return err
	}
	return r.OK(dst)
}
