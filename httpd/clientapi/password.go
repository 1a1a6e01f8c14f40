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

// ways are how a logged-in user proves who they are: by their password, or where
// they log in at a provider, there.
func (a *API) ways(user uint32) ([][]string, error) {
	password := [][]string{{stagePassword}}
	if user == 0 || !a.signs() {
		return password, nil
	}
	external, err := a.accounts.Externals(user)
	if err != nil || len(external) == 0 {
		return password, err
	}
	u, err := a.accounts.User(user)
	if err != nil || !u.HasPassword {
		return [][]string{{stageSSO}}, err
	}
	return append(password, []string{stageSSO}), nil
}

// proved asks a logged-in user to prove who they are before op is done. It gives
// the exchange to end, and the body that holds the parameters; an answer of its
// own makes x nil without an error.
func (a *API) proved(r *wire.Req, op string, body []byte) (x *exchange, full []byte, err error) {
	if r.Session.Client != "" {
		return nil, nil, a.elsewhere(r)
	}
	if r.Session.Service != "" { // who speaks for the user has shown it with each request
		return &exchange{got: proof{who: r.Session.User}}, body, nil
	}
	flows, err := a.ways(r.Session.User)
	if err != nil {
		return nil, nil, err
	}
	q := question{op: op, user: r.Session.User, id: r.Session.UserID, flows: flows, body: body}
	x, full, err = a.uia.prove(&q)
	if err != nil {
		return nil, nil, a.challenged(r, err)
	}
	return x, full, nil
}

// elsewhere is the answer to a session that signed in by OAuth: its client never
// knew how the user proves who they are. Spec: client-server, OAuth 2.0 API.
func (a *API) elsewhere(r *wire.Req) error {
	return fault.E(fault.Forbidden, "clientapi.auth", "a client that signed in by OAuth cannot do this; the user can, at %s", a.base(r)+accountPath)
}

// Spec: client-server, POST /account/password. Who is logged in proves it by
// the old password; who has forgotten that, by an e-mail address.
func (a *API) password(r *wire.Req) error {
	const op = "clientapi.password"
	body, err := r.Object()
	if err != nil {
		return err
	}
	if !r.LoggedIn && len(a.resets()) == 0 {
		return fault.E(fault.MissingToken, op, "")
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
	ask := question{op: "password", user: r.Session.User, id: r.Session.UserID, flows: a.resets(), body: body, purpose: forPassword}
	if r.LoggedIn && r.Session.Client != "" {
		return a.elsewhere(r)
	}
	if r.LoggedIn {
		if ask.flows, err = a.ways(r.Session.User); err != nil {
			return err
		}
	}
	x, full, err := a.uia.prove(&ask)
	if err != nil {
		return a.challenged(r, err)
	}
	q = change{}
	if err := wire.Decode(full, &q); err != nil {
		return err
	}
	if q.New == nil {
		return fault.E(fault.Missing, op, "which new_password?")
	}
	num, got := r.Session.User, a.uia.proofOf(x)
	if !r.LoggedIn {
		if num, err = a.accounts.FindThreepid(got.medium, got.address); err != nil {
			return err
		}
		if num == 0 {
			return fault.E(fault.ThreepidNotFound, op, "nobody here has this address any more")
		}
	}
	logout := q.Logout == nil || *q.Logout
	if err := a.engine.SetPassword(num, *q.New, logout, r.Session.Device); err != nil {
		return err
	}
	a.uia.end(x)
	a.renewals.used(num)
	a.proofs.used(got.sid)
	return r.Empty()
}

// Spec: client-server, POST /account/deactivate. Whoever is not logged in says
// by the password who they are.
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
	u, err := a.accounts.User(a.uia.proofOf(x).who)
	if err != nil {
		return err
	}
	unbound, err := a.engine.Retire(u.Num, u.ID, q.Erase)
	if err != nil {
		return err
	}
	a.uia.end(x)
	if !unbound {
		return r.OK(append(r.Out(), unboundNone...))
	}
	return r.OK(append(r.Out(), unboundAll...))
}

// resets are the ways to prove who one is without the password.
func (a *API) resets() (flows [][]string) {
	if a.mails() {
		flows = append(flows, []string{stageEmail})
	}
	if a.texts() {
		flows = append(flows, []string{stagePhone})
	}
	return flows
}
