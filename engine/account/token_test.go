package account

import (
	"testing"
	"time"

	"hearth/engine/fault"
)

func (h *hub) good(t *testing.T, token string, want bool) {
	t.Helper()
	_, err := h.Authenticate([]byte(token))
	if want && err != nil || !want && !fault.Is(err, fault.UnknownToken) {
		t.Fatalf("want good %v, got %v", want, err)
	}
}

// The old tokens live until one of the new ones is used, whichever that is.
func TestRefresh(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	first, s, err := h.Login(bob, NewSession{Device: "DEV", Refresh: true})
	must(t, err)
	if first.Refresh == "" || first.Life != time.Hour {
		t.Fatalf("%+v", first)
	}
	lost, _, err := h.Refresh(first.Refresh) // an answer that the client never got
	must(t, err)
	h.good(t, first.Access, true)
	second, again, err := h.Refresh(first.Refresh)
	must(t, err)
	if again.DeviceNum != s.DeviceNum || again.UserID != s.UserID {
		t.Fatalf("%+v, was %+v", again, s)
	}
	h.good(t, lost.Access, false)
	h.good(t, first.Access, true)
	h.good(t, second.Access, true)
	h.good(t, first.Access, false)
	_, _, err = h.Refresh(first.Refresh)
	wants(t, err, fault.UnknownToken)
	_, _, err = h.Refresh(lost.Refresh)
	wants(t, err, fault.UnknownToken)

	third, _, err := h.Refresh(second.Refresh)
	must(t, err)
	fourth, _, err := h.Refresh(third.Refresh) // the refresh token is used, the access token never was
	must(t, err)
	h.good(t, second.Access, false)
	h.good(t, third.Access, true)
	h.good(t, fourth.Access, true)

	_, _, err = h.Refresh(fourth.Access)
	wants(t, err, fault.UnknownToken)
	h.good(t, fourth.Refresh, false)

	h.at = h.at.Add(time.Hour)
	_, err = h.Authenticate([]byte(fourth.Access))
	wants(t, err, fault.SoftLoggedOut)
	fifth, _, err := h.Refresh(fourth.Refresh)
	must(t, err)
	h.good(t, fifth.Access, true)

	must(t, h.SetLocked(bob, true))
	_, _, err = h.Refresh(fifth.Refresh)
	wants(t, err, fault.Locked)
	s, err = h.Authenticate([]byte(fifth.Access))
	wants(t, err, fault.Locked)
	if s.User != bob || s.Device != "DEV" {
		t.Fatal("a locked user cannot be logged out", s)
	}
	must(t, h.Logout(&s))
	must(t, h.SetLocked(bob, false))
	_, _, err = h.Refresh(fifth.Refresh)
	wants(t, err, fault.UnknownToken)
}

// A device that logs in anew keeps none of its older tokens, and a row of the
// token table is gone with each.
func TestTokensEndWithTheirDevice(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	var all []string
	login := func() {
		tokens, _, err := h.Login(bob, NewSession{Device: "DEV", Refresh: true})
		must(t, err)
		next, _, err := h.Refresh(tokens.Refresh)
		must(t, err)
		all = append(all, tokens.Access, next.Access)
	}
	login()
	login()
	h.good(t, all[0], false)
	h.good(t, all[1], false)
	h.good(t, all[2], true)
	must(t, h.LogoutAll(bob))
	h.good(t, all[2], false)
	h.good(t, all[3], false)
	n := 0
	must(t, h.st.ScanPrefix([]byte{tokenKey(&tokenHash{})[0]}, func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	}))
	if n != 0 {
		t.Fatalf("%d rows are left", n)
	}
}

func TestTickets(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	login, err := h.LoginToken(bob)
	must(t, err)
	id, err := h.OpenIDToken(bob)
	must(t, err)
	_, err = h.UseLoginToken(id)
	wants(t, err, fault.Forbidden)
	_, err = h.OpenIDUser(login)
	wants(t, err, fault.UnknownToken)
	if user, err := h.UseLoginToken(login); user != bob || err != nil {
		t.Fatal(user, err)
	}
	_, err = h.UseLoginToken(login)
	wants(t, err, fault.Forbidden)
	for range 2 {
		if who, err := h.OpenIDUser(id); who != "@bob:hub.test" || err != nil {
			t.Fatal(who, err)
		}
	}
	late, err := h.LoginToken(bob)
	must(t, err)
	h.at = h.at.Add(LoginTokenLife)
	_, err = h.UseLoginToken(late)
	wants(t, err, fault.Forbidden)
	h.at = h.at.Add(OpenIDLife)
	_, err = h.OpenIDUser(id)
	wants(t, err, fault.UnknownToken)
	for range maxTickets + 10 {
		_, err := h.OpenIDToken(bob)
		must(t, err)
	}
	if len(h.tickets.m) > maxTickets {
		t.Fatal(len(h.tickets.m))
	}
}

func TestUpgrade(t *testing.T) {
	h := fresh(t)
	guest, err := h.Create(NewUser{Localpart: "guest-x", Guest: true})
	must(t, err)
	token, s := h.login(t, guest, "DEV")
	if !s.Guest {
		t.Fatal(s)
	}
	wants(t, h.Upgrade(guest, NewUser{Password: "short"}), fault.WeakPassword)
	must(t, h.Upgrade(guest, NewUser{Password: "correct horse"}))
	wants(t, h.Upgrade(guest, NewUser{Password: "correct horse"}), fault.UserInUse)
	if s, err := h.Authenticate([]byte(token)); err != nil || s.Guest {
		t.Fatal(s, err)
	}
	if num, err := h.CheckPassword("@guest-x:hub.test", "correct horse"); num != guest || err != nil {
		t.Fatal(num, err)
	}
}

// What a session was given to log in with ends with sessions of the user, and nobody's
// tickets push out those of others.
func TestTicketsEnd(t *testing.T) {
	h := fresh(t)
	bob, eve := h.user(t, "bob"), h.user(t, "eve")
	for name, end := range map[string]func() error{
		"a new password": func() error { return h.SetPassword(bob, "correct horse 2", true, "") },
		"logging out":    func() error { return h.LogoutAll(bob) },
	} {
		_, _, err := h.Login(bob, NewSession{})
		must(t, err)
		login, err := h.LoginToken(bob)
		must(t, err)
		must(t, end())
		if _, err := h.UseLoginToken(login); !fault.Is(err, fault.Forbidden) {
			t.Errorf("after %s: %v", name, err)
		}
	}
	login, err := h.LoginToken(bob)
	must(t, err)
	for range maxTickets + 10 {
		_, err := h.OpenIDToken(eve)
		must(t, err)
	}
	if _, err := h.UseLoginToken(login); err != nil {
		t.Error("pushed out by another's tickets:", err)
	}
	id, err := h.OpenIDToken(bob)
	must(t, err)
	must(t, h.End(bob, false))
	if _, err := h.OpenIDUser(id); !fault.Is(err, fault.UnknownToken) {
		t.Error("a user who is no more:", err)
	}
}
