package clientapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/engine/account"
)

func TestRegister(t *testing.T) {
	h := start(t, Anyone)
	first := h.want(401, "", "POST", v3+"/register", "", `{"username":"Bob","password":"correct horse"}`)
	session := first.str("session")
	if session == "" || !strings.Contains(first.body, `"flows":[{"stages":["m.login.dummy"]},{"stages":["m.login.registration_token"]}]`) || !strings.Contains(first.body, `"params":{}`) {
		t.Fatal(first.body)
	}
	// The auth alone: the rest is remembered.
	a := h.want(200, "", "POST", v3+"/register", "", fmt.Sprintf(`{"auth":{"type":"m.login.dummy","session":%q}}`, session))
	if a.str("user_id") != "@bob:hub.test" || a.str("access_token") == "" || a.str("device_id") == "" || a.str("home_server") != "hub.test" {
		t.Fatal(a.body)
	}
	h.want(200, "", "GET", v3+"/account/whoami", a.str("access_token"), "")
	// A session is good once.
	again := h.want(401, "M_UNKNOWN", "POST", v3+"/register", "", fmt.Sprintf(`{"username":"eve","password":"correct horse","auth":{"type":"m.login.dummy","session":%q}}`, session))
	if again.str("session") == session {
		t.Fatal(again.body)
	}
	dummy := `"auth":{"type":"m.login.dummy"},`
	for _, c := range []struct {
		status       int
		expect, body string
	}{
		{400, "M_USER_IN_USE", `{"username":"BOB","password":"correct horse"}`},
		{400, "M_USER_IN_USE", `{` + dummy + `"username":"bob","password":"correct horse"}`},
		{400, "M_INVALID_USERNAME", `{` + dummy + `"username":"Pro be!","password":"correct horse"}`},
		{400, "M_INVALID_USERNAME", `{"username":"user-é-x","password":"correct horse"}`},
		{400, "M_WEAK_PASSWORD", `{"username":"new","password":"short"}`},
		{400, "M_MISSING_PARAM", `{` + dummy + `"username":"new"}`},
		{401, "M_UNRECOGNIZED", `{"auth":{"type":"m.login.recaptcha"},"username":"new","password":"correct horse"}`},
		{401, "M_FORBIDDEN", `{"auth":{"type":"m.login.registration_token","token":"guess"},"username":"new","password":"correct horse"}`},
		{400, "M_MISSING_PARAM", `{"auth":{"type":"m.login.registration_token"},"username":"new","password":"correct horse"}`},
		{401, "", `{"auth":{},"username":"new","password":"correct horse"}`},
		{401, "", `{}`},
	} {
		h.want(c.status, c.expect, "POST", v3+"/register", "", c.body)
	}
	h.want(403, "M_GUEST_ACCESS_FORBIDDEN", "POST", v3+"/register?kind=guest", "", `{}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/register?kind=cat", "", `{}`)
	a = h.want(200, `{"home_server":"hub.test","user_id":"@quiet:hub.test"}`, "POST", v3+"/register", "", `{`+dummy+`"username":"quiet","password":"correct horse","inhibit_login":true}`)
	if a.str("access_token") != "" {
		t.Fatal(a.body)
	}
	a = h.want(200, "", "POST", v3+"/register", "", `{`+dummy+`"password":"correct horse"}`)
	if len(a.str("user_id")) != len("@aaaaaaaaaaaa:hub.test") {
		t.Fatal(a.body)
	}
	h.want(200, `{"available":true}`, "GET", v3+"/register/available?username=free", "", "")
	h.want(400, "M_USER_IN_USE", "GET", v3+"/register/available?username=Bob", "", "")
	h.want(400, "M_INVALID_USERNAME", "GET", v3+"/register/available?username=a,b", "", "")
	h.want(400, "M_MISSING_PARAM", "GET", v3+"/register/available", "", "")
}

func TestRegisterByToken(t *testing.T) {
	h := start(t, WithToken)
	if _, err := h.e.Accounts.AddRegistration(account.RegistrationToken{Token: "once", Uses: 1}); err != nil {
		t.Fatal(err)
	}
	validity := v1 + "/register/m.login.registration_token/validity?token="
	h.want(200, `{"valid":true}`, "GET", validity+"once", "", "")
	h.want(200, `{"valid":false}`, "GET", validity+"none", "", "")
	h.want(401, "M_UNRECOGNIZED", "POST", v3+"/register", "", `{"auth":{"type":"m.login.dummy"},"username":"bob","password":"correct horse"}`)
	body := `{"username":"bob","password":"correct horse","auth":{"type":"m.login.registration_token","token":"once"}}`
	a := h.want(200, "", "POST", v3+"/register", "", body)
	h.want(200, `{"valid":false}`, "GET", validity+"once", "", "")
	h.want(401, "M_FORBIDDEN", "POST", v3+"/register", "", strings.Replace(body, "bob", "eve", 1))
	if u, err := h.e.Accounts.Find("@bob:hub.test"); u == 0 || err != nil || a.str("user_id") != "@bob:hub.test" {
		t.Fatal(u, err)
	}
}

// A reserved token is free again when the exchange is pushed out or ends.
func TestTokenIsFreeAfterTheExchange(t *testing.T) {
	h := start(t, WithToken)
	if _, err := h.e.Accounts.AddRegistration(account.RegistrationToken{Token: "once", Uses: 1}); err != nil {
		t.Fatal(err)
	}
	// The stage is passed, the registration then fails for want of a password.
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/register", "", `{"username":"bob","auth":{"type":"m.login.registration_token","token":"once"}}`)
	if ok, err := h.e.Accounts.RegistrationValid("once"); ok || err != nil {
		t.Fatal("not reserved", err)
	}
	for range maxExchanges {
		h.clock.Pass(time.Millisecond)
		h.want(401, "", "POST", v3+"/register", "", `{}`)
	}
	if ok, err := h.e.Accounts.RegistrationValid("once"); !ok || err != nil {
		t.Fatal("still reserved", err)
	}
	if n := len(h.api.uia.open); n > maxExchanges {
		t.Fatalf("%d exchanges", n)
	}
}

func TestClosedHubTakesItsClaimCodeOnly(t *testing.T) {
	h := start(t, Closed)
	code, err := h.e.Accounts.ClaimCode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.Accounts.AddRegistration(account.RegistrationToken{Token: "other"}); err != nil {
		t.Fatal(err)
	}
	validity := v1 + "/register/m.login.registration_token/validity?token="
	h.want(200, `{"valid":false}`, "GET", validity+"other", "", "")
	h.want(200, `{"valid":true}`, "GET", validity+code, "", "")
	body := `{"username":"owner","password":"correct horse","auth":{"type":"m.login.registration_token","token":"%s"}}`
	h.want(401, "M_FORBIDDEN", "POST", v3+"/register", "", fmt.Sprintf(body, "other"))
	h.want(200, "", "POST", v3+"/register", "", fmt.Sprintf(body, code))
	num, err := h.e.Accounts.Find("@owner:hub.test")
	if err != nil {
		t.Fatal(err)
	}
	if u, err := h.e.Accounts.User(num); !u.Admin || err != nil {
		t.Fatalf("%+v %v", u, err)
	}
	h.want(403, "M_FORBIDDEN", "GET", validity+"other", "", "") // no token helps now
	h.want(403, "M_FORBIDDEN", "POST", v3+"/register", "", fmt.Sprintf(body, code))
	h.want(403, "M_FORBIDDEN", "POST", v3+"/register", "", `{}`)
}

func TestLogin(t *testing.T) {
	h := start(t, Anyone)
	first := h.join("bob")
	h.want(200, `{"flows":[{"type":"m.login.password"},{"get_login_token":true,"type":"m.login.token"},{"oauth_aware_preferred":true,"org.matrix.msc3824.delegated_oidc_compatibility":true,"type":"m.login.sso"}]}`, "GET", v3+"/login", "", "")
	for _, who := range []string{
		`"identifier":{"type":"m.id.user","user":"bob"}`, `"identifier":{"type":"m.id.user","user":"@bob:hub.test"}`,
		`"identifier":{"type":"m.id.user","user":"BOB"}`, `"user":"bob"`, `"user":"@BOB:hub.test"`,
	} {
		a := h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","password":"correct horse",`+who+`}`)
		if a.str("user_id") != "@bob:hub.test" || a.str("well_known", "m.homeserver", "base_url") != "https://hub.test" {
			t.Fatal(a.body)
		}
	}
	bob := `"identifier":{"type":"m.id.user","user":"bob"}`
	for _, c := range []struct {
		status       int
		expect, body string
	}{
		{403, "M_FORBIDDEN", `{"type":"m.login.password","password":"wrong",` + bob + `}`},
		{403, "M_FORBIDDEN", `{"type":"m.login.password","password":"correct horse","user":"nobody"}`},
		{403, "M_FORBIDDEN", `{"type":"m.login.password","password":"correct horse","user":"@bob:other.test"}`},
		{403, "M_FORBIDDEN", `{"type":"m.login.password","password":"correct horse","user":"@"}`},
		{403, "M_FORBIDDEN", `{"type":"m.login.password","password":"correct horse","user":""}`},
		{400, "M_UNKNOWN", `{"type":"org.example.none"}`},
		{400, "M_MISSING_PARAM", `{"type":"m.login.password","password":"x","identifier":{"type":"m.id.phone"}}`},
		{400, "M_UNKNOWN", `{"type":"m.login.password","password":"x","identifier":{"type":"org.example"}}`},
		{400, "M_MISSING_PARAM", `{}`},
		{400, "M_MISSING_PARAM", `{"type":"m.login.password",` + bob + `}`},
		{400, "M_MISSING_PARAM", `{"type":"m.login.password","password":"x"}`},
		{400, "M_MISSING_PARAM", `{"type":"m.login.password","password":"x","identifier":{"type":"m.id.user"}}`},
		{400, "M_INVALID_PARAM", `{"type":"m.login.password","password":"correct horse","device_id":"` + strings.Repeat("D", 300) + `",` + bob + `}`},
	} {
		h.want(c.status, c.expect, "POST", v3+"/login", "", c.body)
	}
	a := h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","password":"correct horse","device_id":"DEV",`+bob+`}`)
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", first, "")
	h.want(200, `{"device_id":"DEV","is_guest":false,"user_id":"@bob:hub.test"}`, "GET", v3+"/account/whoami", a.str("access_token"), "")
	h.want(200, "{}", "POST", v3+"/logout", a.str("access_token"), "")
	h.want(401, "M_UNKNOWN_TOKEN", "POST", v3+"/logout", a.str("access_token"), "")
	h.want(401, "M_MISSING_TOKEN", "POST", v3+"/logout", "", "")
	a = h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","password":"correct horse",`+bob+`}`)
	h.want(200, "{}", "POST", v3+"/logout/all", a.str("access_token"), "{}")
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/devices", a.str("access_token"), "")
}

func (h *hub) loginAs(name, device string) string {
	h.t.Helper()
	return h.want(200, "", "POST", v3+"/login", "", fmt.Sprintf(`{"type":"m.login.password","password":%q,"device_id":%q,"user":%q,"initial_device_display_name":"lamp"}`, pw, device, name)).str("access_token")
}

func auth(name, password string) string {
	return fmt.Sprintf(`"auth":{"type":"m.login.password","identifier":{"type":"m.id.user","user":%q},"password":%q}`, name, password)
}

func TestPassword(t *testing.T) {
	h := start(t, Anyone)
	keep, gone := h.join("bob"), h.loginAs("bob", "GONE")
	h.join("eve")
	path := v3 + "/account/password"
	h.want(401, "M_MISSING_TOKEN", "POST", path, "", `{"new_password":"battery staple"}`)
	a := h.want(401, "", "POST", path, keep, `{"new_password":"battery staple"}`)
	if !strings.Contains(a.body, `"flows":[{"stages":["m.login.password"]}]`) || a.str("session") == "" || a.str("errcode") != "" {
		t.Fatal(a.body)
	}
	h.want(401, "M_FORBIDDEN", "POST", path, keep, `{"new_password":"battery staple",`+auth("bob", "wrong")+`}`)
	h.want(403, "M_FORBIDDEN", "POST", path, keep, `{"new_password":"battery staple",`+auth("eve", pw)+`}`)
	h.want(400, "M_WEAK_PASSWORD", "POST", path, keep, `{"new_password":"short"}`)
	h.want(400, "M_MISSING_PARAM", "POST", path, keep, `{`+auth("bob", pw)+`}`)
	h.want(200, "{}", "POST", path, keep, `{"new_password":"battery staple",`+auth("bob", pw)+`}`)
	h.want(200, "", "GET", v3+"/account/whoami", keep, "")
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", gone, "")
	h.want(403, "M_FORBIDDEN", "POST", v3+"/login", "", `{"type":"m.login.password","password":"correct horse","user":"bob"}`)
	h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","password":"battery staple","user":"bob"}`)
	// The exchange is bound to what it began with.
	session := h.want(401, "", "POST", path, keep, `{"new_password":"one thing ok"}`).str("session")
	changed := fmt.Sprintf(`{"new_password":"another thing","auth":{"type":"m.login.password","session":%q,"user":"bob","password":"battery staple"}}`, session)
	h.want(403, "M_FORBIDDEN", "POST", path, keep, changed)
	h.want(401, "M_UNKNOWN", "POST", v3+"/account/deactivate", keep, changed)
	same := fmt.Sprintf(`{"logout_devices":false,"auth":{"type":"m.login.password","session":%q,"password":"battery staple"},"new_password":"one thing ok"}`, session)
	h.want(403, "M_FORBIDDEN", "POST", path, keep, same) // logout_devices is a change too
	h.want(200, "{}", "POST", path, keep, strings.Replace(same, `"logout_devices":false,`, "", 1))
	// After a quarter of an hour it has ended.
	session = h.want(401, "", "POST", path, keep, `{"new_password":"one thing ok"}`).str("session")
	h.clock.Pass(16 * time.Minute)
	h.want(401, "M_UNKNOWN", "POST", path, keep, fmt.Sprintf(`{"new_password":"one thing ok","auth":{"type":"m.login.password","session":%q,"password":"one thing ok"}}`, session))
}

func TestDeactivate(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	path := v3 + "/account/deactivate"
	h.want(401, "", "POST", path, token, ``)
	h.want(401, "M_FORBIDDEN", "POST", path, token, `{`+auth("@bob:hub.test", "wrong")+`}`)
	h.want(200, `{"id_server_unbind_result":"success"}`, "POST", path, token, `{"erase":true,`+auth("@bob:hub.test", pw)+`}`)
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", token, "")
	h.want(403, "M_USER_DEACTIVATED", "POST", v3+"/login", "", `{"type":"m.login.password","password":"correct horse","user":"bob"}`)
	h.want(400, "M_USER_IN_USE", "GET", v3+"/register/available?username=bob", "", "")
}

func TestDevices(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	for _, d := range []string{"A", "B", "C"} {
		h.loginAs("bob", d)
	}
	other := h.loginAs("bob", "a/b")
	h.join("eve")
	h.want(200, `{"device_id":"A","display_name":"lamp","last_seen_ip":"192.0.2.1","last_seen_ts":1700000000000}`, "GET", v3+"/devices/A", token, "")
	h.want(200, "", "GET", v3+"/devices/a%2Fb", token, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/devices/Z", token, "")
	h.want(200, "{}", "PUT", v3+"/devices/A", token, `{"display_name":"kitchen"}`)
	h.want(200, "{}", "PUT", v3+"/devices/A", token, `{}`)
	h.want(404, "M_NOT_FOUND", "PUT", v3+"/devices/Z", token, `{"display_name":"kitchen"}`)
	h.want(404, "M_NOT_FOUND", "PUT", v3+"/devices/Z", token, `{}`)
	if list, _ := h.want(200, "", "GET", v3+"/devices", token, "").get("devices").([]any); len(list) != 5 {
		t.Fatal(list)
	}
	a := h.want(401, "", "DELETE", v3+"/devices/a%2Fb", token, "")
	if a.str("session") == "" || a.get("params") == nil || a.get("flows") == nil {
		t.Fatal(a.body)
	}
	a = h.want(401, "M_FORBIDDEN", "DELETE", v3+"/devices/a%2Fb", token, `{`+auth("bob", "wrong")+`}`)
	if a.str("session") == "" || a.get("params") == nil || a.get("flows") == nil {
		t.Fatal(a.body)
	}
	h.want(403, "M_FORBIDDEN", "DELETE", v3+"/devices/a%2Fb", token, `{`+auth("eve", pw)+`}`)
	h.want(200, "", "GET", v3+"/devices", other, "")
	h.want(200, "{}", "DELETE", v3+"/devices/a%2Fb", token, `{`+auth("bob", pw)+`}`)
	h.want(404, "M_NOT_FOUND", "GET", v3+"/devices/a%2Fb", token, "")
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/devices", other, "")
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/delete_devices", token, `{`+auth("bob", pw)+`}`)
	h.want(200, "{}", "POST", v3+"/delete_devices", token, `{"devices":["A","B","NOSUCH"],`+auth("bob", pw)+`}`)
	if list, _ := h.want(200, "", "GET", v3+"/devices", token, "").get("devices").([]any); len(list) != 2 {
		t.Fatal(list)
	}
}
