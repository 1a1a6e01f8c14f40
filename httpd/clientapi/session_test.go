package clientapi

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestRefreshTokens(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	a := h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","user":"bob","password":"correct horse","refresh_token":true}`)
	if a.get("expires_in_ms") != 3600000.0 || a.str("refresh_token") == "" {
		t.Fatal(a.body)
	}
	old := a.str("access_token")
	refresh := func(token string) answer {
		return h.want(200, "", "POST", v3+"/refresh", "", fmt.Sprintf(`{"refresh_token":%q}`, token))
	}
	b := refresh(a.str("refresh_token"))
	h.want(200, "", "GET", v3+"/account/whoami", old, "")
	h.want(200, "", "GET", v3+"/account/whoami", b.str("access_token"), "")
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", old, "")
	h.want(401, "M_UNKNOWN_TOKEN", "POST", v3+"/refresh", "", fmt.Sprintf(`{"refresh_token":%q}`, a.str("refresh_token")))
	h.clock.Pass(time.Hour)
	soft := h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", b.str("access_token"), "")
	if soft.get("soft_logout") != true {
		t.Fatal(soft.body)
	}
	refresh(b.str("refresh_token"))
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/refresh", "", `{}`)
	h.want(400, "M_BAD_JSON", "POST", v3+"/refresh", "", `{"refresh_token":1}`)
	a = h.want(200, "", "POST", v3+"/register", "", `{"auth":{"type":"m.login.dummy"},"username":"eve","password":"correct horse","refresh_token":true}`)
	if a.str("refresh_token") == "" || a.get("expires_in_ms") == nil {
		t.Fatal(a.body)
	}
}

func TestLoginToken(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	path := v1 + "/login/get_token"
	h.want(401, "", "POST", path, token, "")
	h.want(401, "M_FORBIDDEN", "POST", path, token, `{`+auth("bob", "wrong")+`}`)
	a := h.want(200, "", "POST", path, token, `{`+auth("bob", pw)+`}`)
	if a.get("expires_in_ms") != 120000.0 {
		t.Fatal(a.body)
	}
	login := fmt.Sprintf(`{"type":"m.login.token","token":%q}`, a.str("login_token"))
	b := h.want(200, "", "POST", v3+"/login", "", login)
	if b.str("user_id") != "@bob:hub.test" || b.str("device_id") == "DEV" {
		t.Fatal(b.body)
	}
	h.want(403, "M_FORBIDDEN", "POST", v3+"/login", "", login)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/login", "", `{"type":"m.login.token"}`)
	h.want(404, "M_UNRECOGNIZED", "POST", "/_matrix/client/r0/login/get_token", token, "{}")
}

func TestOpenID(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	path := v3 + "/user/@bob:hub.test/openid/request_token"
	a := h.want(200, "", "POST", path, token, "{}")
	if a.get("expires_in") != 3600.0 || a.str("token_type") != "Bearer" || a.str("matrix_server_name") != "hub.test" {
		t.Fatal(a.body)
	}
	if who, err := h.e.Accounts.OpenIDUser(a.str("access_token")); who != "@bob:hub.test" || err != nil {
		t.Fatal(who, err)
	}
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", a.str("access_token"), "")
	h.want(403, "M_FORBIDDEN", "POST", v3+"/user/@eve:hub.test/openid/request_token", token, "{}")
	h.want(400, "M_NOT_JSON", "POST", path, token, "{")
	h.want(400, "M_BAD_JSON", "POST", path, token, "[]")
}

func TestLockedAndSuspended(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	num, err := h.e.Accounts.Find("@bob:hub.test")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.e.Accounts.SetSuspended(num, true))
	h.want(200, "", "GET", v3+"/account/whoami", token, "")
	h.want(403, "M_USER_SUSPENDED", "PUT", v3+"/profile/@bob:hub.test/displayname", token, `{"displayname":"B"}`)
	h.loginAs("bob", "OTHER")
	must(h.e.Accounts.SetSuspended(num, false))
	h.want(200, "", "PUT", v3+"/profile/@bob:hub.test/displayname", token, `{"displayname":"B"}`)
	must(h.e.Accounts.SetLocked(num, true))
	a := h.want(401, "M_USER_LOCKED", "GET", v3+"/account/whoami", token, "")
	if a.get("soft_logout") != true {
		t.Fatal(a.body)
	}
	h.want(401, "M_USER_LOCKED", "POST", v3+"/login", "", `{"type":"m.login.password","user":"bob","password":"correct horse"}`)
	h.want(200, "{}", "POST", v3+"/logout", token, "")
	must(h.e.Accounts.SetLocked(num, false))
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", token, "")
}

func TestGuests(t *testing.T) {
	h := start(t, Anyone)
	h.want(403, "M_GUEST_ACCESS_FORBIDDEN", "POST", v3+"/register?kind=guest", "", `{}`)
	h.api.o.Guests = true
	a := h.want(200, "", "POST", v3+"/register?kind=guest", "", `{"username":"bob","device_id":"X","initial_device_display_name":"lamp"}`)
	token, id := a.str("access_token"), a.str("user_id")
	if !strings.HasPrefix(id, "@guest-") || a.str("device_id") == "X" {
		t.Fatal(a.body)
	}
	if w := h.want(200, "", "GET", v3+"/account/whoami", token, ""); w.get("is_guest") != true {
		t.Fatal(w.body)
	}
	h.want(403, "M_GUEST_ACCESS_FORBIDDEN", "GET", v3+"/capabilities", token, "")
	h.want(200, "", "PUT", v3+"/profile/"+id+"/displayname", token, `{"displayname":"G"}`)
	h.want(403, "M_GUEST_ACCESS_FORBIDDEN", "PUT", v3+"/profile/"+id+"/avatar_url", token, `{"avatar_url":"mxc://hub.test/x"}`)
	h.want(200, "", "DELETE", v3+"/profile/"+id+"/displayname", token, ``)
	name := strings.TrimSuffix(strings.TrimPrefix(id, "@"), ":hub.test")
	body := func(username, guest string) string {
		return fmt.Sprintf(`{"auth":{"type":"m.login.dummy"},"username":%q,"password":"correct horse","guest_access_token":%q}`, username, guest)
	}
	h.want(403, "M_FORBIDDEN", "POST", v3+"/register", "", body("other", token))
	h.want(403, "M_FORBIDDEN", "POST", v3+"/register", "", body(name, "nonsense"))
	h.want(403, "M_FORBIDDEN", "POST", v3+"/register", "", body("bob", h.join("bob")))
	h.want(400, "M_USER_IN_USE", "POST", v3+"/register", "", fmt.Sprintf(`{"auth":{"type":"m.login.dummy"},"username":%q,"password":"correct horse"}`, name))
	a = h.want(200, "", "POST", v3+"/register", "", body(name, token))
	if a.str("user_id") != id {
		t.Fatal(a.body)
	}
	if w := h.want(200, "", "GET", v3+"/account/whoami", a.str("access_token"), ""); w.get("is_guest") != false {
		t.Fatal(w.body)
	}
	h.want(200, "", "GET", v3+"/capabilities", token, "") // the session of the guest goes on
	h.want(200, "", "POST", v3+"/login", "", fmt.Sprintf(`{"type":"m.login.password","user":%q,"password":"correct horse"}`, name))
}
