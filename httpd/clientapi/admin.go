package clientapi

import (
	"strconv"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// whose finds the user of this hub whom a path of the administration names.
// Whether the asker may know has been settled before.
func (a *API) whose(r *wire.Req) (account.User, error) {
	const op = "clientapi.admin"
	id, err := mxid.ParseUser(r.Path("userId"))
	if err != nil {
		return account.User{}, fault.E(fault.Invalid, op, "this is no user id: %w", err)
	}
	if id.Server() != a.engine.Server {
		return account.User{}, fault.E(fault.Invalid, op, "the user is not of this hub")
	}
	num, err := a.accounts.Find(id)
	if err != nil {
		return account.User{}, err
	}
	if num == 0 {
		return account.User{}, fault.E(fault.NotFound, op, "the user is not known here")
	}
	return a.accounts.User(num)
}

// Spec: client-server, GET /admin/whois/{userId}. For admins, and for everybody
// about themselves.
func (a *API) whois(r *wire.Req) error {
	if !r.Session.Admin && r.Path("userId") != string(r.Session.UserID) {
		return fault.E(fault.Forbidden, "clientapi.whois", "this is for admins of the hub")
	}
	u, err := a.whose(r)
	if err != nil {
		return err
	}
	dst, err := a.accounts.AppendWhois(r.Out(), u.Num)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// judged finds the user whom an admin looks at or acts on: another who is no
// admin, and whose account has not ended.
func (a *API) judged(r *wire.Req) (account.User, error) {
	u, err := a.whose(r)
	switch {
	case err != nil:
		return u, err
	case u.Admin:
		return u, fault.E(fault.Forbidden, "clientapi.admin", "admins do not judge themselves or each other")
	case u.Deactivated:
		return u, fault.E(fault.NotFound, "clientapi.admin", "the account has been deactivated")
	}
	return u, nil
}

// Spec: client-server, GET /admin/lock/{userId}.
func (a *API) isLocked(r *wire.Req) error {
	u, err := a.judged(r)
	if err != nil {
		return err
	}
	return answerBool(r, "locked", u.Locked)
}

// Spec: client-server, GET /admin/suspend/{userId}.
func (a *API) isSuspended(r *wire.Req) error {
	u, err := a.judged(r)
	if err != nil {
		return err
	}
	return answerBool(r, "suspended", u.Suspended)
}

// Spec: client-server, PUT /admin/lock/{userId}.
func (a *API) lock(r *wire.Req) error { return a.judge(r, "locked", a.accounts.SetLocked) }

// Spec: client-server, PUT /admin/suspend/{userId}.
func (a *API) suspend(r *wire.Req) error { return a.judge(r, "suspended", a.accounts.SetSuspended) }

func (a *API) judge(r *wire.Req, key string, set func(user uint32, on bool) error) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	val, ok := cjson.Lookup(body, key)
	if !ok {
		return fault.E(fault.Missing, "clientapi.admin", "the body has no %s", key)
	}
	on, ok := cjson.Bool(val)
	if !ok {
		return fault.E(fault.BadJSON, "clientapi.admin", "%s must be true or false", key)
	}
	if !r.Session.Admin { // not by the route: a body that is none is told before, as everywhere
		return fault.E(fault.Forbidden, "clientapi.admin", "this is for admins of the hub")
	}
	u, err := a.judged(r)
	if err != nil {
		return err
	}
	if err := set(u.Num, on); err != nil {
		return err
	}
	return answerBool(r, key, on)
}

func answerBool(r *wire.Req, key string, on bool) error {
	dst := append(cjson.AppendString(append(r.Out(), '{'), key), ':')
	return r.OK(append(strconv.AppendBool(dst, on), '}'))
}
