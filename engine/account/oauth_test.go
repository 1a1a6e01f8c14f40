package account

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/oauth"
	"hearth/engine/store"
)

func (h *hub) client(t *testing.T, host string) string {
	t.Helper()
	m, err := oauth.Parse(fmt.Appendf(nil, `{"client_uri":"https://%s/","redirect_uris":["https://%s/"]}`, host, host))
	must(t, err)
	h.next++
	id, err := h.AddClient(m, [16]byte{byte(h.next), byte(h.next >> 8)})
	must(t, err)
	return id
}

func (h *hub) sound(t *testing.T) {
	t.Helper()
	must(t, h.Verify(func(format string, args ...any) { t.Errorf(format, args...) }))
}

// count counts the registered clients.
func (h *hub) count() (n int, err error) {
	err = h.st.ScanPrefix(store.OAuthClient.Prefix(), func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	return n, err
}

var scope = oauth.Scope{Device: "DEV", Forms: 3}

// An OAuth session is refreshed by its client alone, and a refresh token that was
// used up still says whose it was.
func TestOAuthSession(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	bob := h.user(t, "bob")
	app, other := h.client(t, "app.org"), h.client(t, "other.org")
	_, _, err := h.LoginOAuth(bob, "unknown", scope, NewSession{})
	wants(t, err, fault.NotFound)
	first, s, err := h.LoginOAuth(bob, app, scope, NewSession{Name: "App"})
	must(t, err)
	if s.Client != app || s.Device != "DEV" || first.Refresh == "" || first.Life != time.Hour {
		t.Fatalf("%+v %+v", s, first)
	}
	h.close(t)
	h = open(t, fs)
	defer func() { h.close(t) }()
	if s, err = h.Authenticate([]byte(first.Access)); err != nil || s.Client != app {
		t.Fatal(s, err)
	}
	_, _, err = h.Refresh(first.Refresh)
	wants(t, err, fault.UnknownToken)
	for _, client := range []string{other, ""} {
		_, _, err = h.RefreshOAuth(first.Refresh, client)
		wants(t, err, fault.UnknownToken)
	}
	_, _, err = h.RefreshOAuth(first.Refresh, app) // an answer that was lost
	must(t, err)
	second, got, err := h.RefreshOAuth(first.Refresh, app)
	must(t, err)
	if got.String() != "urn:matrix:client:api:* urn:matrix:client:device:DEV" {
		t.Fatal(got)
	}
	h.good(t, second.Access, true)
	_, _, err = h.RefreshOAuth(first.Refresh, app)
	wants(t, err, fault.UnknownToken)
	for _, c := range []struct {
		token     string
		ok, spent bool
	}{
		{first.Refresh, true, true}, {first.Access, false, false}, {second.Access, true, false}, {second.Refresh, true, false},
		{second.Refresh[:60] + strings.Repeat("A", len(second.Refresh)-60), true, true}, // the family is what counts
		{"", false, false}, {"hearth_x", false, false}, {strings.Repeat("x", 5000), false, false},
	} {
		held, ok, err := h.Holder(c.token)
		if err != nil || ok != c.ok || held.Spent != c.spent || ok && (held.User != bob || held.Device != s.DeviceNum || held.Client != app) {
			t.Errorf("%.20s: %+v %v %v", c.token, held, ok, err)
		}
	}

	must(t, h.SetLocked(bob, true)) // a lock is no end
	second, _, err = h.RefreshOAuth(second.Refresh, app)
	must(t, err)
	must(t, h.SetLocked(bob, false))
	h.sound(t)

	legacy, s, err := h.Login(bob, NewSession{Device: "DEV", Refresh: true})
	must(t, err)
	if s.Client != "" {
		t.Error("the device keeps the client that it no longer is of")
	}
	_, _, err = h.RefreshOAuth(legacy.Refresh, app)
	wants(t, err, fault.UnknownToken)
	if _, ok, err := h.Holder(second.Refresh); ok || err != nil {
		t.Error("a session that ended is found by its token", err)
	}
	_, s, err = h.LoginOAuth(bob, app, scope, NewSession{})
	must(t, err)
	must(t, h.Logout(&s))
	h.sound(t)
}

// Registrations are bounded, and those that have a session stay.
func TestClientsAreSwept(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	used := h.client(t, "used.org")
	_, s, err := h.LoginOAuth(bob, used, scope, NewSession{})
	must(t, err)
	old := h.client(t, "old.org")
	if h.client(t, "old.org") != old {
		t.Fatal("the same metadata are two clients")
	}
	has := func(id string) bool {
		t.Helper()
		m, err := h.Client(id)
		must(t, err)
		return m != nil && m.ID() == id
	}
	h.at = h.at.Add(clientIdle + clientSweep)
	touched := h.client(t, "touched.org")
	if !has(used) || has(old) || !has(touched) {
		t.Fatal(has(used), has(old), has(touched))
	}
	h.at = h.at.Add(2 * clientGrace)
	for i := range maxClients - 2 {
		h.client(t, fmt.Sprintf("n%d.org", i))
	}
	if n, err := h.count(); n != maxClients || err != nil || !has(touched) {
		t.Fatal(n, err)
	}
	h.client(t, "one-more.org")
	if n, err := h.count(); n != maxClients || err != nil || has(touched) || !has(used) {
		t.Fatal("the one that was used longest ago is to make room", n, err)
	}
	must(t, h.Logout(&s))
	h.at = h.at.Add(2 * clientGrace)
	h.client(t, "another.org")
	if n, err := h.count(); err != nil || n > maxClients*9/10+1 || has(used) {
		t.Fatal("there is no room for a while", n, err)
	}
	h.clients.made = newClients // more are not written in a day, and those that are known are
	m, err := oauth.Parse([]byte(`{"client_uri":"https://many.org","redirect_uris":["https://many.org/"]}`))
	must(t, err)
	_, err = h.AddClient(m, [16]byte{})
	wants(t, err, fault.Busy)
	h.client(t, "another.org")
	h.at = h.at.Add(24 * time.Hour)
	h.client(t, "many.org")
	for i := range newClientsEach + 1 { // and one network does not use up what all have
		m, err := oauth.Parse(fmt.Appendf(nil, `{"client_uri":"https://m%d.org","redirect_uris":["https://m%d.org/"]}`, i, i))
		must(t, err)
		if _, err = h.AddClient(m, [16]byte{1, 2, 3}); i == newClientsEach {
			wants(t, err, fault.Busy)
		} else {
			must(t, err)
		}
	}
	h.client(t, "fair.org")
	if m, err := h.Client(strings.Repeat("x", 70)); m != nil || err != nil {
		t.Fatal(m, err)
	}
	h.sound(t)
}

// Where all clients have a session there is no room, and none of them goes.
func TestClientsInUseStay(t *testing.T) {
	h := fresh(t)
	var one uint32
	for i := range maxClients {
		if i%clientsEach == 0 {
			one = h.user(t, fmt.Sprintf("u%d", i))
		}
		_, _, err := h.LoginOAuth(one, h.client(t, fmt.Sprintf("n%d.org", i)), oauth.Scope{Device: fmt.Sprint(i), Forms: 3}, NewSession{})
		must(t, err)
	}
	_, _, err := h.LoginOAuth(one, h.client(t, "n0.org"), oauth.Scope{Device: "MORE", Forms: 3}, NewSession{}) // one user cannot take all of it
	wants(t, err, fault.Forbidden)
	_, _, err = h.LoginOAuth(one, h.client(t, fmt.Sprintf("n%d.org", maxClients-1)), oauth.Scope{Device: "MORE", Forms: 3}, NewSession{})
	must(t, err)
	h.at = h.at.Add(365 * 24 * time.Hour)
	m, err := oauth.Parse([]byte(`{"client_uri":"https://x.org","redirect_uris":["https://x.org/"]}`))
	must(t, err)
	_, err = h.AddClient(m, [16]byte{})
	wants(t, err, fault.Busy)
	if n, err := h.count(); n != maxClients || err != nil {
		t.Fatal(n, err)
	}
}

// The cookie of the hub's pages ends by itself, with the password, and with the
// account; it opens nothing else.
func TestBrowser(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	in := func() string {
		t.Helper()
		cookie, err := h.SignIn(bob)
		must(t, err)
		b, ok, err := h.Browser(cookie)
		if err != nil || !ok || b.User.Num != bob || !b.Proved.Equal(h.at) {
			t.Fatal(b, ok, err)
		}
		return cookie
	}
	out := func(cookie, why string) {
		t.Helper()
		if _, ok, err := h.Browser(cookie); ok || err != nil {
			t.Fatal(why, err)
		}
	}
	c := in()
	_, err := h.Authenticate([]byte(c))
	wants(t, err, fault.UnknownToken)
	_, err = h.UseLoginToken(c)
	wants(t, err, fault.Forbidden)
	other := in()
	h.SignOut(c)
	out(c, "signed out")
	h.at = h.at.Add(BrowserLife)
	out(other, "expired")
	c = in()
	must(t, h.SetLocked(bob, true))
	out(c, "locked")
	_, err = h.SignIn(bob)
	wants(t, err, fault.Locked)
	must(t, h.SetLocked(bob, false))
	token, err := h.LoginToken(bob)
	must(t, err)
	must(t, h.SetPassword(bob, "another password", false, ""))
	out(c, "new password")
	_, err = h.UseLoginToken(token)
	wants(t, err, fault.Forbidden)
	c = in()
	must(t, h.End(bob, false))
	out(c, "deactivated")
	_, err = h.SignIn(bob)
	wants(t, err, fault.Deactivated)
	out("", "no cookie")
}
