package clientapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"hearth/engine/account"
)

func stagePath(stage, session string) string {
	return v3 + "/auth/" + stage + "/fallback/web?session=" + session
}

const told = "window.onAuthDone"

func TestFallbackPages(t *testing.T) {
	h := start(t, WithToken)
	for _, stage := range []string{"m.login.recaptcha", stagePassword, "%3Cscript%3E"} {
		if p := h.page(400, stagePath(stage, "probe"), nil); strings.Contains(p, "<script>") {
			t.Fatal(p)
		}
		h.page(400, "/_matrix/client/r0/auth/"+stage+"/fallback/web?session=x", url.Values{"session": {"y"}})
	}
	m := h.mail()
	if _, err := h.e.Accounts.AddRegistration(account.RegistrationToken{Token: "once", Uses: 1}); err != nil {
		t.Fatal(err)
	}
	h.api.o.Terms = []Policy{{"privacy", "1", "en", `<Priv>"acy`, "https://x.org/p?a=1&b=2"}}
	h.api.terms, h.api.accepted = policies(h.api.o.Terms)
	body := `{"username":"bob","password":"correct horse"`
	session := h.want(401, "", "POST", v3+"/register", "", body+`}`).str("session")
	h.page(400, stagePath("m.login.sso", session), nil)
	h.page(400, stagePath(stageToken, session), url.Values{"token": {"guess"}})
	h.page(400, stagePath(stageToken, session), url.Values{})
	h.page(400, stagePath(stageToken, session), url.Values{"token": {"\xff"}})
	if p := h.page(200, stagePath(stageToken, session), nil); !strings.Contains(p, `name="token"`) || strings.Contains(p, told) {
		t.Fatal(p)
	}
	if p := h.page(200, stagePath(stageToken, session), url.Values{"token": {"once"}}); !strings.Contains(p, told) {
		t.Fatal(p)
	}
	if p := h.page(200, stagePath(stageToken, session), nil); !strings.Contains(p, told) { // once more
		t.Fatal(p)
	}
	if p := h.page(200, stagePath(stageTerms, session), nil); !strings.Contains(p, `href="https://x.org/p?a=1&amp;b=2">&lt;Priv&gt;&#34;acy</a>`) {
		t.Fatal(p)
	}
	h.page(400, stagePath(stageTerms, session), url.Values{})
	h.page(200, stagePath(stageTerms, session), url.Values{"accept": {"yes"}})
	h.page(400, stagePath(stageEmail, session), url.Values{"email": {"nonsense"}})
	p := h.page(200, stagePath(stageEmail, session), url.Values{"email": {"b@x.org"}})
	sid := p[strings.Index(p, `name="sid" value="`)+len(`name="sid" value="`):]
	sid = sid[:strings.IndexByte(sid, '"')]
	proof := url.Values{"sid": {sid}, "client_secret": {session}}
	if p := h.page(200, stagePath(stageEmail, session), proof); strings.Contains(p, told) || !strings.Contains(p, "not been confirmed") {
		t.Fatal(p)
	}
	h.follow(m)
	if p := h.page(200, stagePath(stageEmail, session), proof); !strings.Contains(p, told) {
		t.Fatal(p)
	}
	a := h.want(200, "", "POST", v3+"/register", "", fmt.Sprintf(`{"auth":{"session":%q}}`, session))
	if a.str("user_id") != "@bob:hub.test" {
		t.Fatal(a.body)
	}

	token := a.str("access_token")
	session = h.want(401, "", "DELETE", v3+"/devices/X", token, `{}`).str("session")
	if p := h.page(200, stagePath(stagePassword, session), nil); !strings.Contains(p, "log out the device X") || !strings.Contains(p, "@bob:hub.test") {
		t.Fatal(p)
	}
	h.page(400, stagePath(stagePassword, session), url.Values{"password": {"wrong"}})
	h.page(200, stagePath(stagePassword, session), url.Values{"password": {"correct horse"}})
	h.want(200, "{}", "DELETE", v3+"/devices/X", token, fmt.Sprintf(`{"auth":{"session":%q}}`, session))
	if p := h.page(200, "/_matrix/static/client/login/?device_id=X", nil); !strings.Contains(p, "matrixLogin.onLogin") {
		t.Fatal(p)
	}
}

// Who is not logged in ends an account by its password.
func TestDeactivateWithoutToken(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	h.join("eve")
	path := v3 + "/account/deactivate"
	a := h.want(401, "", "POST", path, "", ``)
	if a.str("session") == "" {
		t.Fatal(a.body)
	}
	h.want(401, "M_FORBIDDEN", "POST", path, "", `{`+auth("bob", "wrong")+`}`)
	h.want(403, "M_FORBIDDEN", "POST", path, token, `{`+auth("eve", pw)+`}`)
	h.want(200, "", "POST", path, "", `{`+auth("bob", pw)+`}`)
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", token, "")
	h.loginAs("eve", "X")
}
