package clientapi

import (
	"strconv"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// loginToken is the login by a token, as single sign-on and other devices of
// the user hand it out.
const loginToken = "m.login.token"

// Spec: client-server, GET /login.
func (a *API) loginFlows(r *wire.Req) error {
	dst := append(r.Out(), `{"flows":[{"type":"m.login.password"},{"get_login_token":true,"type":"m.login.token"}`...)
	if len(a.engine.AppServices.Services().All()) > 0 {
		dst = append(dst, `,{"type":"m.login.application_service"}`...)
	}
	return r.OK(append(a.appendSSOFlows(dst), `]}`...))
}

// newDevice are the members that login and register share.
type newDevice struct {
	DeviceID string `json:"device_id"`
	Name     string `json:"initial_device_display_name"`
	Refresh  bool   `json:"refresh_token"`
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
		Token    *string `json:"token"`
	}
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	var num uint32
	switch {
	case req.Type == nil:
		return fault.E(fault.Missing, op, "a login needs a type")
	case *req.Type == stagePassword && req.Password == nil:
		return fault.E(fault.Missing, op, "a login by password needs a password")
	case *req.Type == stagePassword:
		num, err = a.byPassword(body, *req.Password)
	case *req.Type == loginToken && req.Token == nil:
		return fault.E(fault.Missing, op, "a login by token needs a token")
	case *req.Type == loginToken:
		num, err = a.accounts.UseLoginToken(*req.Token)
	case *req.Type == loginService:
		num, err = a.loginFor(r, body)
	default:
		return fault.E(fault.Unknown, op, "the hub knows no login of the type %q", *req.Type)
	}
	if err != nil {
		return err
	}
	return a.enter(r, num, req.newDevice)
}

// byPassword finds the user that the body of a login names.
func (a *API) byPassword(body []byte, password string) (uint32, error) {
	id, err := loginName(body, a.accounts)
	if err != nil {
		return 0, err
	}
	if id == "" {
		return 0, fault.E(fault.Missing, "clientapi.login", "a login needs an identifier")
	}
	return a.accounts.CheckPassword(a.small(id), password)
}

// small gives the id in small letters where only that is a user: people type
// their name as their keyboard likes.
func (a *API) small(id mxid.UserID) mxid.UserID {
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
	tokens, s, err := a.accounts.Login(num, account.NewSession{Device: d.DeviceID, Name: d.Name, From: r.Remote(), Refresh: d.Refresh})
	if err != nil {
		return err
	}
	dst := appendTokens(append(r.Out(), '{'), &tokens)
	dst = cjson.AppendString(append(dst, `,"device_id":`...), s.Device)
	dst = cjson.AppendString(append(dst, `,"home_server":`...), a.engine.Server)
	dst = cjson.AppendString(append(dst, `,"user_id":`...), s.UserID)
	if a.o.PublicURL != "" {
		dst = a.appendWellKnown(append(dst, `,"well_known":`...))
	}
	return r.OK(append(dst, '}'))
}

// appendTokens appends what login, register and refresh say of tokens.
func appendTokens(dst []byte, t *account.Tokens) []byte {
	dst = cjson.AppendString(append(dst, `"access_token":`...), t.Access)
	if t.Life > 0 {
		dst = strconv.AppendInt(append(dst, `,"expires_in_ms":`...), t.Life.Milliseconds(), 10)
	}
	if t.Refresh != "" {
		dst = cjson.AppendString(append(dst, `,"refresh_token":`...), t.Refresh)
	}
	return dst
}

// Spec: client-server, POST /refresh.
func (a *API) refresh(r *wire.Req) error {
	var q struct {
		Token *string `json:"refresh_token"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Token == nil {
		return fault.E(fault.Missing, "clientapi.refresh", "which refresh_token?")
	}
	tokens, _, err := a.accounts.Refresh(*q.Token)
	if err != nil {
		return err
	}
	return r.OK(append(appendTokens(append(r.Out(), '{'), &tokens), '}'))
}

// refreshOld is the refresh of the oldest clients, which the specification had
// dropped before anybody gave out tokens for it. Spec: r0.0.1, POST /tokenrefresh.
func (a *API) refreshOld(r *wire.Req) error {
	if _, err := r.Object(); err != nil {
		return err
	}
	return fault.E(fault.Forbidden, "clientapi.refreshOld", "there are no such tokens any more; use /v3/refresh")
}

// Spec: client-server, POST /login/get_token.
func (a *API) getLoginToken(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	x, _, err := a.proved(r, "login token", body)
	if x == nil {
		return err
	}
	token, err := a.accounts.LoginToken(r.Session.User)
	if err != nil {
		return err
	}
	a.uia.end(x)
	dst := strconv.AppendInt(append(r.Out(), `{"expires_in_ms":`...), account.LoginTokenLife.Milliseconds(), 10)
	dst = cjson.AppendString(append(dst, `,"login_token":`...), token)
	return r.OK(append(dst, '}'))
}

// Spec: client-server, POST /user/{userId}/openid/request_token.
func (a *API) openIDToken(r *wire.Req) error {
	if _, err := r.Object(); err != nil {
		return err
	}
	if err := me(r); err != nil {
		return err
	}
	token, err := a.accounts.OpenIDToken(r.Session.User)
	if err != nil {
		return err
	}
	dst := cjson.AppendString(append(r.Out(), `{"access_token":`...), token)
	dst = strconv.AppendInt(append(dst, `,"expires_in":`...), int64(account.OpenIDLife.Seconds()), 10)
	dst = cjson.AppendString(append(dst, `,"matrix_server_name":`...), a.engine.Server)
	return r.OK(append(dst, `,"token_type":"Bearer"}`...))
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
	a.renewals.used(r.Session.User)
	return r.Empty()
}

// Spec: client-server, GET /account/whoami.
func (a *API) whoami(r *wire.Req) error {
	dst := append(r.Out(), '{')
	if r.Session.Device != "" { // an application service has none where it names none
		dst = append(cjson.AppendString(append(dst, `"device_id":`...), r.Session.Device), ',')
	}
	dst = append(dst, `"is_guest":`...)
	if r.Session.Guest {
		dst = append(dst, "true"...)
	} else {
		dst = append(dst, "false"...)
	}
	dst = cjson.AppendString(append(dst, `,"user_id":`...), r.Session.UserID)
	return r.OK(append(dst, '}'))
}
