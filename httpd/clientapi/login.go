package clientapi

import (
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: client-server, GET /login.
func (a *API) loginFlows(r *wire.Req) error {
	return r.OK(append(r.Out(), `{"flows":[{"type":"m.login.password"}]}`...))
}

// newDevice are the members that login and register share.
type newDevice struct {
	DeviceID string `json:"device_id"`
	Name     string `json:"initial_device_display_name"`
}

// Spec: client-server, POST /login.
func (a *API) login(r *wire.Req) error {
	const op = "clientapi.login"
	body, err := r.Object()
	if err != nil {
		return err
	}
	var req struct {
		newDevice
		Type     *string `json:"type"`
		Password *string `json:"password"`
	}
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	switch {
	case req.Type == nil:
		return fault.E(fault.Missing, op, "a login needs a type")
	case *req.Type != stagePassword:
		return fault.E(fault.Unknown, op, "the hub knows no login of the type %q", *req.Type)
	case req.Password == nil:
		return fault.E(fault.Missing, op, "a login by password needs a password")
	}
	id, err := loginName(body, a.engine.Server)
	if err != nil {
		return err
	}
	if id == "" {
		return fault.E(fault.Missing, op, "a login needs an identifier")
	}
	num, err := a.accounts.CheckPassword(a.known(id), *req.Password)
	if err != nil {
		return err
	}
	return a.enter(r, num, req.newDevice)
}

// known gives the id in small letters where only that is a user: people type
// their name as their keyboard likes.
func (a *API) known(id mxid.UserID) mxid.UserID {
	lower := mxid.UserID("@" + mxid.LowerLocalpart(id.Localpart()) + ":" + string(id.Server()))
	if lower == id {
		return id
	}
	if num, err := a.accounts.Find(id); err != nil || num != 0 {
		return id
	}
	return lower
}

// enter makes the session of a user who has shown who they are, and answers.
func (a *API) enter(r *wire.Req, num uint32, d newDevice) error {
	token, s, err := a.accounts.Login(num, account.NewSession{Device: d.DeviceID, Name: d.Name, From: r.Remote()})
	if err != nil {
		return err
	}
	dst := cjson.AppendString(append(r.Out(), `{"access_token":`...), token)
	dst = cjson.AppendString(append(dst, `,"device_id":`...), s.Device)
	dst = cjson.AppendString(append(dst, `,"home_server":`...), a.engine.Server)
	dst = cjson.AppendString(append(dst, `,"user_id":`...), s.UserID)
	if a.o.PublicURL != "" {
		dst = a.appendWellKnown(append(dst, `,"well_known":`...))
	}
	return r.OK(append(dst, '}'))
}

// Spec: client-server, POST /logout.
func (a *API) logout(r *wire.Req) error {
	if err := a.engine.Logout(&r.Session); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, POST /logout/all.
func (a *API) logoutAll(r *wire.Req) error {
	if err := a.engine.LogoutAll(r.Session.User); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, GET /account/whoami.
func (a *API) whoami(r *wire.Req) error {
	dst := cjson.AppendString(append(r.Out(), `{"device_id":`...), r.Session.Device)
	dst = append(dst, `,"is_guest":`...)
	if r.Session.Guest {
		dst = append(dst, "true"...)
	} else {
		dst = append(dst, "false"...)
	}
	dst = cjson.AppendString(append(dst, `,"user_id":`...), r.Session.UserID)
	return r.OK(append(dst, '}'))
}
