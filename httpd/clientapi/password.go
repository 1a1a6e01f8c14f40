package clientapi

import (
	"errors"

	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// challenged answers with what a user-interactive exchange still asks for;
// other errors go on.
func (a *API) challenged(r *wire.Req, err error) error {
	var c *challenge
	if !errors.As(err, &c) {
		return err
	}
	var code, text string
	if c.cause != nil {
		_, code = wire.Errcode(fault.KindOf(c.cause))
		var f *fault.Error
		if errors.As(c.cause, &f) {
			text = f.Text
		}
	}
	return r.Reply(401, c.append(r.Out(), code, text))
}

// proved asks a logged-in user for their password before op is done. It gives
// the exchange to end, and the body that holds the parameters; an answer of its
// own makes x nil without an error.
func (a *API) proved(r *wire.Req, op string, body []byte) (x *exchange, full []byte, err error) {
	q := question{op: op, user: r.Session.User, id: r.Session.UserID, flows: [][]string{{stagePassword}}, body: body}
	x, full, err = a.uia.prove(&q)
	if err != nil {
		return nil, nil, a.challenged(r, err)
	}
	return x, full, nil
}

// Spec: client-server, POST /account/password.
func (a *API) password(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	type change struct {
		New    *string `json:"new_password"`
		Logout *bool   `json:"logout_devices"`
	}
	var q change
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	if q.New != nil {
		if err := a.accounts.CheckNewPassword(*q.New); err != nil {
			return err
		}
	}
	x, full, err := a.proved(r, "password", body)
	if x == nil {
		return err
	}
	q = change{}
	if err := wire.Decode(full, &q); err != nil {
		return err
	}
	if q.New == nil {
		return fault.E(fault.Missing, "clientapi.password", "which new_password?")
	}
	logout := q.Logout == nil || *q.Logout
	if err := a.engine.SetPassword(r.Session.User, *q.New, logout, r.Session.Device); err != nil {
		return err
	}
	a.uia.end(x)
	return r.Empty()
}

// Spec: client-server, POST /account/deactivate.
func (a *API) deactivate(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	var q struct {
		Erase bool `json:"erase"`
	}
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	x, full, err := a.proved(r, "deactivate", body)
	if x == nil {
		return err
	}
	if err := wire.Decode(full, &q); err != nil {
		return err
	}
	if err := a.engine.Deactivate(r.Session.User, r.Session.UserID, q.Erase); err != nil {
		return err
	}
	a.uia.end(x)
	return r.OK(append(r.Out(), `{"id_server_unbind_result":"success"}`...))
}
