package engine

import (
	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/oauth"
)

// RefreshOAuth gives new tokens for the refresh token of a client's session. A
// token that was used up before is in the hands of two, one of whom has stolen
// it: the session ends. Errors: UnknownToken.
// Spec: client-server, refresh token grant.
func (e *Engine) RefreshOAuth(token, client string) (t account.Tokens, scope oauth.Scope, err error) {
	t, scope, err = e.Accounts.RefreshOAuth(token, client)
	if !fault.Is(err, fault.UnknownToken) {
		return t, scope, err
	}
	held, ok, err2 := e.Accounts.Holder(token)
	if err2 == nil && ok && held.Spent {
		e.say("a refresh token of %s was used twice: its session has ended", held.UserID)
		err2 = e.endDevice(&held)
	}
	if err2 != nil {
		return t, scope, err2
	}
	return t, scope, err
}

// Revoke ends the session that a token belongs to, and its device. A token that
// is not known has no session to end. Spec: client-server, token revocation.
func (e *Engine) Revoke(token string) error {
	held, ok, err := e.Accounts.Holder(token)
	if err != nil || !ok {
		return err
	}
	return e.endDevice(&held)
}

func (e *Engine) endDevice(h *account.Held) error {
	return e.DeleteDevices(h.User, func(d *account.Device) bool { return d.Num == h.Device })
}
