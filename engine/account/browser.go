package account

import (
	"time"

	"hearth/engine/fault"
)

// Browser is who is signed in to the hub's own pages in a browser.
type Browser struct {
	User   User
	Proved time.Time // when they showed who they are
}

// SignIn makes the cookie of a browser that shows the hub's pages to a user who
// has just shown who they are. It is good for BrowserLife, in memory only, and
// gives no access to the client-server API.
func (a *Accounts) SignIn(user uint32) (cookie string, err error) {
	if _, err := a.mayBrowse(user); err != nil {
		return "", err
	}
	return a.newTicket(browserTicket, user, BrowserLife)
}

// mayBrowse reads a user who may use the hub's pages.
func (a *Accounts) mayBrowse(user uint32) (User, error) {
	const op = "account.SignIn"
	u, err := a.User(user)
	switch {
	case err != nil:
		return u, err
	case u.Deactivated:
		return u, fault.E(fault.Deactivated, op, "this account has been deactivated")
	case u.Locked:
		return u, locked()
	case u.Guest:
		return u, fault.E(fault.GuestAccess, op, "a guest has no account")
	}
	return u, nil
}

// Browser finds who is signed in by a cookie; ok is false where nobody is, or
// nobody who still may be.
func (a *Accounts) Browser(cookie string) (b Browser, ok bool, err error) {
	t := a.tickets.find(cookie, browserTicket, a.millis(), false)
	if t.user == 0 {
		return b, false, nil
	}
	b.Proved = time.UnixMilli(t.since)
	b.User, err = a.mayBrowse(t.user)
	if err != nil && fault.KindOf(err) >= fault.NotFound {
		return Browser{}, false, nil
	}
	return b, err == nil, err
}

// SignOut ends the cookie.
func (a *Accounts) SignOut(cookie string) {
	a.tickets.find(cookie, browserTicket, a.millis(), true)
}

// SignOutAll ends a user's cookies in all browsers, and the login tokens that they
// were given there.
func (a *Accounts) SignOutAll(user uint32) {
	a.tickets.drop(user, browserTicket)
	a.tickets.drop(user, loginTicket)
}
