package clientapi

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// The keys of who signed in by OAuth are replaced when they have allowed it on
// their account page, and once only. Spec: client-server, OAuth authentication.
func TestOAuthResetsKeys(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	app := h.register(appMetadata)
	s := h.surf()
	token := h.signedIn(s, app, "bob").str("access_token")
	const at = v3 + "/keys/device_signing/upload"
	n := byte('a')
	next := func() string {
		n++
		body, _ := crossBody("bob", n, 0)
		return body
	}
	h.want(200, `{}`, "POST", at, token, "{"+next()+"}") // the first need no proof
	second := next()
	a := h.want(401, "", "POST", at, token, "{"+second+"}")
	if !strings.Contains(a.body, `"flows":[{"stages":["m.oauth"]},{"stages":["org.matrix.cross_signing_reset"]}]`) ||
		a.str("params", "m.oauth", "url") != "https://hub.test/_hearth/account?action=org.matrix.cross_signing_reset" {
		t.Fatal(a.body)
	}
	auth := fmt.Sprintf(`"auth":{"session":%q}`, a.str("session"))
	h.want(401, "", "POST", at, token, "{"+auth+","+second+"}")
	h.want(401, "M_FORBIDDEN", "POST", at, token, fmt.Sprintf(`{"auth":{"type":"m.oauth","session":%q},%s}`, a.str("session"), second))
	h.want(401, "", "POST", at, token, `{"auth":{"type":"m.login.password","password":"`+pw+`"},`+second+"}")
	reset := strings.TrimPrefix(a.str("params", "m.oauth", "url"), "https://hub.test")
	s.get(200, reset)
	s.send(200, "reset")
	h.want(200, `{}`, "POST", at, token, "{"+auth+"}") // the auth alone: the keys are those of the first request
	third := next()
	a = h.want(401, "", "POST", at, token, "{"+third+"}")

	h.clock.Pass(proofLife) // the sign-in is not of just now
	s.get(200, reset)
	action, held := s.form("sign-in")
	s.get(200, s.send(303, "sign-in", "user", "bob", "password", pw))
	s.send(200, "reset")
	h.clock.Pass(resetLife + time.Second)
	h.want(401, "", "POST", at, token, "{"+third+"}") // too late
	s.ask(403, action, held)                          // of the page from before
	s.get(200, reset)
	s.get(200, s.send(303, "sign-in", "user", "bob", "password", pw))
	s.send(200, "reset")
	bob := h.again("bob", "LEGACY")
	h.want(401, "", "POST", at, bob, "{"+third+"}") // others prove who they are as ever
	h.want(200, `{}`, "POST", at, token, "{"+third+"}")
	h.want(401, "", "POST", at, token, "{"+next()+"}")
}

func TestAccountPage(t *testing.T) {
	h := start(t, Anyone)
	h.join("eve")
	bob := h.join("bob")
	two := h.again("bob", "<TWO>")
	s := h.surf()
	page := func(action, device string) string {
		return accountPath + "?" + url.Values{"action": {action}, "device_id": {device}}.Encode()
	}
	s.get(200, accountPath)
	s.signsIn("bob")
	s.get(200, page(toProfile, ""))
	s.get(200, s.send(303, "name", "name", "<Bob>"))
	if !strings.Contains(s.body, `value="&lt;Bob&gt;"`) {
		t.Error(s.body)
	}
	h.want(200, `{"displayname":"<Bob>"}`, "GET", v3+"/profile/@bob:hub.test", "", "")
	s.get(200, page(toProfile, ""))
	s.send(400, "name", "name", strings.Repeat("x", 5000))
	for _, action := range []string{toDevices, toDevicesOld} {
		if s.get(200, page(action, "")); !strings.Contains(s.body, "&lt;TWO&gt;") || strings.Contains(s.body, "<TWO>") {
			t.Error(s.body)
		}
	}
	s.get(200, page(toDevice, "<TWO>"))
	s.get(200, s.send(303, "rename", "name", "Lamp"))
	if !strings.Contains(s.body, "<h1>Lamp</h1>") {
		t.Error(s.body)
	}
	s.get(404, page(toDevice, "none"))
	s.get(404, page(toDelete, ""))
	s.get(200, page(toDelete, "<TWO>"))
	s.send(200, "delete")
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", two, "")
	h.want(200, "", "GET", v3+"/account/whoami", bob, "")

	s.get(200, page(toProfile, ""))
	s.send(403, "password", "password", "wrong", "new", "a new password", "again", "a new password")
	s.get(200, page(toProfile, ""))
	s.send(400, "password", "password", pw, "new", "a new password", "again", "another password")
	s.get(200, page(toProfile, ""))
	other := h.surf()
	other.get(200, accountPath)
	other.signsIn("bob")
	s.send(200, "password", "password", pw, "new", "a new password", "again", "a new password", "logout", "yes")
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", bob, "")
	other.get(200, accountPath)
	other.form("sign-in")
	s.get(200, accountPath)
	s.form("sign-out")

	num, err := h.api.accounts.Find("@bob:hub.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.api.accounts.SetSuspended(num, true); err != nil {
		t.Fatal(err)
	}
	s.get(200, page(toProfile, ""))
	s.send(403, "name", "name", "Robert")
	s.get(200, page(toDeactivate, ""))
	s.send(403, "deactivate", "password", "wrong")
	s.get(200, page(toDeactivate, ""))
	s.send(200, "deactivate", "password", "a new password", "erase", "yes")
	s.get(200, accountPath)
	s.send(403, "sign-in", "user", "bob", "password", "a new password")
	if u, err := h.api.accounts.User(num); err != nil || !u.Deactivated || !u.Erased {
		t.Error(u, err)
	}
}

// An account made on the page is one that /register would have made.
func TestSignUpPage(t *testing.T) {
	h := start(t, Closed)
	s := h.surf()
	app := h.register(appMetadata)
	s.get(200, asking(app))
	claim, err := h.api.accounts.ClaimCode()
	if err != nil {
		t.Fatal(err)
	}
	create := asking(app, "prompt", "create")
	s.get(200, create)
	s.send(400, "sign-up", "user", "owner", "password", pw, "again", "other", "token", claim)
	s.send(400, "sign-up", "user", "owner", "password", pw, "again", pw, "token", "guess")
	s.send(400, "sign-up", "user", "owner", "password", pw, "again", pw)
	s.send(400, "sign-up", "user", "<b>", "password", pw, "again", pw, "token", claim)
	if strings.Contains(s.body, "<b>\"") || !strings.Contains(s.body, `value="&lt;b&gt;"`) {
		t.Error(s.body)
	}
	s.send(400, "sign-up", "user", "owner", "password", "short", "again", "short", "token", claim)
	s.get(200, s.send(303, "sign-up", "user", "Owner", "password", pw, "again", pw, "token", claim))
	if !strings.Contains(s.body, "manage this hub") {
		t.Error("an admin is not told what they give away")
	}
	a := h.trade(200, h.byCode(h.told(s.send(303, "allow")).Get("code"), app)...)
	if s, err := h.api.accounts.Authenticate([]byte(a.str("access_token"))); err != nil || !s.Admin {
		t.Error("the claim code made no admin", err)
	}

	s.get(403, create) // nobody else may have one
	if !strings.Contains(s.body, "Go on as @owner:hub.test") {
		t.Error(s.body)
	}
	h.surf().get(403, create)
	h.api.o.Registration = Anyone
	s.get(200, create) // who is signed in already may make another
	s.get(200, s.send(303, "sign-up", "user", "second", "password", pw, "again", pw))
	if !strings.Contains(s.body, "@second:hub.test") {
		t.Error(s.body)
	}
	s.get(200, create)
	s.send(400, "sign-up", "user", "second", "password", pw, "again", pw)
	h.api.uia.mu.Lock()
	defer h.api.uia.mu.Unlock()
	if n := len(h.api.uia.open); n != 0 {
		t.Errorf("%d exchanges are left open", n)
	}
}

func TestSignUpByMail(t *testing.T) {
	h := startWith(t, Options{Registration: Anyone, Terms: []Policy{{Name: "Rules <b>", URL: "https://hub.test/rules", Version: "1"}}})
	m := h.mail()
	h.api.o.NeedEmail = true
	s := h.surf()
	s.get(200, signOnPath+"?redirectUrl=https://x.org&action=register")
	if !strings.Contains(s.body, "Rules &lt;b&gt;") {
		t.Fatal(s.body)
	}
	fields := []string{"user", "bob", "password", pw, "again", pw, "email", "bob@x.org"}
	s.send(400, "sign-up", fields...)
	s.send(200, "sign-up", append(fields, "accept", "yes")...)
	s.send(200, "mailed") // not opened yet
	if !strings.Contains(s.body, "not been confirmed") {
		t.Fatal(s.body)
	}
	h.follow(m)
	s.get(200, s.send(303, "mailed"))
	if !strings.Contains(s.body, "loginToken=") || !strings.Contains(s.body, "@bob:hub.test") {
		t.Fatal(s.body)
	}
	other := h.surf()
	other.get(200, accountPath+"?action="+toProfile)
	other.signsIn("bob@x.org")
	if !strings.Contains(other.body, "bob@x.org") {
		t.Fatal(other.body)
	}
	other.send(303, "no-address")
	other.get(200, accountPath+"?action="+toProfile)
	if strings.Contains(other.body, "bob@x.org") {
		t.Error(other.body)
	}
}

// The login of clients without OAuth ends at the client with a token.
func TestSignOnPage(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	s := h.surf()
	at := s.get(302, v3+"/login/sso/redirect?redirectUrl=https://x.org/?a=1&action=login")
	if at != signOnPath+"?action=login&redirectUrl=https%3A%2F%2Fx.org%2F%3Fa%3D1" {
		t.Fatal(at)
	}
	s.get(200, at)
	s.signsIn("bob")
	found := onward.FindStringSubmatch(s.body)
	if found == nil || !strings.HasPrefix(found[1], "https://x.org/?a=1&amp;loginToken=") {
		t.Fatal(s.body)
	}
	_, token, _ := strings.Cut(found[1], "loginToken=")
	h.want(200, "", "POST", v3+"/login", "", fmt.Sprintf(`{"type":"m.login.token","token":%q}`, token))
	s.get(200, at)
	s.get(200, s.send(303, "sign-out"))
	s.form("sign-in")
	h.want(400, "M_INVALID_PARAM", "GET", signOnPath+"?redirectUrl=javascript:x", "", "")
}

// A provider's user signs in to the hub's pages there, and is led back to them only.
func TestProviderSignsIn(t *testing.T) {
	h := start(t, Closed)
	who := Identity{Subject: "42", Username: "bob"}
	h.provide(&who, "oidc")
	app := h.register(appMetadata)
	s := h.surf()
	s.get(200, asking(app))
	i := strings.Index(s.body, `href="`+providerPath)
	if i < 0 {
		t.Fatal(s.body)
	}
	link, _, _ := strings.Cut(s.body[i+len(`href="`):], `"`)
	location := s.get(302, strings.ReplaceAll(link, "&amp;", "&"))
	before := s.cookies[browserCookie]
	s.get(200, s.get(302, h.comesBack(location, "good")))
	if s.cookies[browserCookie] == before || !strings.Contains(s.body, "@bob:hub.test") {
		t.Fatal(s.body)
	}
	a := h.trade(200, h.byCode(h.told(s.send(303, "allow")).Get("code"), app)...)
	h.want(200, "", "GET", v3+"/account/whoami", a.str("access_token"), "")
	for _, back := range []string{"https://evil.example/", "//evil.example/", "/x", "/_hearth/..\\\\evil.example", ""} {
		h.want(400, "M_INVALID_PARAM", "GET", providerPath+"?"+url.Values{"id": {"oidc"}, "back": {back}}.Encode(), "", "")
	}
	h.want(404, "M_NOT_FOUND", "GET", providerPath+"?id=none&back="+accountPath, "", "")
	s.get(200, accountPath+"?action="+toDeactivate) // without a password they say that they are sure
	s.send(400, "deactivate")
	s.get(200, accountPath+"?action="+toDeactivate)
	s.send(200, "deactivate", "sure", "yes")
}

// A hub with an https public_url is on its own network in plain HTTP too, where a
// browser keeps no cookie that is Secure, and people are warned.
func TestCookieOnPlainHTTP(t *testing.T) {
	h := start(t, Anyone)
	for _, c := range []struct {
		host, proto    string
		secure, warned bool
	}{{"hub.test", "", true, false}, {"HUB.test:443", "", true, false}, {"hub.local:8008", "", false, true}, {"127.0.0.1:8008", "https", true, false}} {
		var req fasthttp.Request
		req.SetRequestURI(accountPath)
		req.Header.SetHost(c.host)
		if c.proto != "" {
			req.Header.Set("X-Forwarded-Proto", c.proto)
		}
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
		h.mux.Serve(&ctx)
		var cookie fasthttp.Cookie
		cookie.SetKey(browserCookie)
		if !ctx.Response.Header.Cookie(&cookie) || cookie.Secure() != c.secure || strings.Contains(string(ctx.Response.Body()), "crosses the network") != c.warned {
			t.Errorf("%+v: %s %s", c, cookie.String(), ctx.Response.Body())
		}
	}
}
