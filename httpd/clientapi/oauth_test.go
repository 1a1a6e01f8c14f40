package clientapi

import (
	"fmt"
	"html"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/httpd/wire"
)

// surfer is a browser at the hub's own pages: it keeps cookies, and fills in the
// forms of the page that it looks at.
type surfer struct {
	h       *hub
	cookies map[string]string
	body    string // of the last page
	policy  string // its Content-Security-Policy
	retry   string // and Retry-After
	header  [2]string
}

func (h *hub) surf() *surfer { return &surfer{h: h, cookies: map[string]string{}} }

// ask is one request; it gives where the browser is sent.
func (s *surfer) ask(status int, path string, form url.Values) (location string) {
	s.h.t.Helper()
	var req fasthttp.Request
	req.SetRequestURI(path)
	req.Header.SetHost("hub.test")
	for k, v := range s.cookies {
		req.Header.SetCookie(k, v)
	}
	if s.header[0] != "" {
		req.Header.Set(s.header[0], s.header[1])
	}
	if form != nil {
		req.Header.SetMethod("POST")
		req.Header.SetContentType("application/x-www-form-urlencoded")
		req.SetBodyString(form.Encode())
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	s.h.mux.Serve(&ctx)
	s.body = string(ctx.Response.Body())
	if ctx.Response.StatusCode() != status {
		s.h.t.Fatalf("%s %v: %d, not %d: %s", path, form, ctx.Response.StatusCode(), status, s.body)
	}
	for key, val := range ctx.Response.Header.Cookies() {
		var c fasthttp.Cookie
		if err := c.ParseBytes(val); err != nil || !c.HTTPOnly() || !c.Secure() || c.SameSite() != fasthttp.CookieSameSiteLaxMode {
			s.h.t.Fatal(string(val), err)
		}
		s.cookies[string(key)] = string(c.Value())
	}
	s.retry = string(ctx.Response.Header.Peek("Retry-After"))
	s.policy = string(ctx.Response.Header.Peek("Content-Security-Policy"))
	if strings.HasPrefix(s.body, "<!DOCTYPE") {
		open := "" // see sameOrigin
		if strings.HasPrefix(path, "/_matrix/") {
			open = "*"
		}
		for _, h := range [][2]string{{"X-Frame-Options", "DENY"}, {"Cache-Control", "no-store"}, {"Referrer-Policy", "no-referrer"}, {"X-Content-Type-Options", "nosniff"}, {"Access-Control-Allow-Origin", open}} {
			if got := string(ctx.Response.Header.Peek(h[0])); got != h[1] {
				s.h.t.Fatalf("%s: %s %q", path, h[0], got)
			}
		}
		if !strings.Contains(s.policy, "default-src 'none'") || !strings.Contains(s.policy, "frame-ancestors 'none'") {
			s.h.t.Fatal(s.policy)
		}
	}
	return string(ctx.Response.Header.Peek("Location"))
}

func (s *surfer) get(status int, path string) (location string) {
	s.h.t.Helper()
	return s.ask(status, path, nil)
}

var (
	aForm  = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)">(.*?)</form>`)
	anItem = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// form gives where the page's form of that purpose goes, and what it holds.
func (s *surfer) form(do string) (action string, held url.Values) {
	s.h.t.Helper()
	for _, f := range aForm.FindAllStringSubmatch(s.body, -1) {
		held = url.Values{}
		for _, i := range anItem.FindAllStringSubmatch(f[2], -1) {
			held.Set(html.UnescapeString(i[1]), html.UnescapeString(i[2]))
		}
		if held.Get("do") == do {
			return html.UnescapeString(f[1]), held
		}
	}
	s.h.t.Fatalf("the page has no form %q: %s", do, s.body)
	return "", nil
}

// send fills in a form with names and values.
func (s *surfer) send(status int, do string, fields ...string) (location string) {
	s.h.t.Helper()
	action, held := s.form(do)
	for i := 0; i < len(fields); i += 2 {
		held.Set(fields[i], fields[i+1])
	}
	return s.ask(status, action, held)
}

// signsIn goes through the form to sign in, and looks at the page behind it.
func (s *surfer) signsIn(name string) {
	s.h.t.Helper()
	s.get(200, s.send(303, "sign-in", "user", name, "password", pw))
}

// The example of RFC 7636.
const (
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	pkce     = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

const appMetadata = `{"client_uri":"https://app.example/","client_name":"App <b>","client_name#fr":"Appli","redirect_uris":["https://app.example/cb?x=1"],` +
	`"token_endpoint_auth_method":"none","response_types":["code"],"grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code","x"],"policy_uri":"https://app.example/policy"}`

// register registers a client.
func (h *hub) register(metadata string) (id string) {
	h.t.Helper()
	a := h.want(201, "", "POST", clientPath, "", metadata)
	if a.str("client_id") == "" {
		h.t.Fatal(a.body)
	}
	return a.str("client_id")
}

// asking is the address of an authorisation request, with some of it changed.
func asking(client string, changed ...string) string {
	q := url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {"https://app.example/cb?x=1"}, "state": {"st&ate"},
		"scope": {"urn:matrix:client:api:* urn:matrix:client:device:APP"}, "code_challenge": {pkce}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(changed); i += 2 {
		if changed[i+1] == "" {
			q.Del(changed[i])
		} else {
			q.Set(changed[i], changed[i+1])
		}
	}
	return authorizePath + "?" + q.Encode()
}

// told are the parameters with which the browser came back to the client.
func (h *hub) told(location string) url.Values {
	h.t.Helper()
	u, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(location, "https://app.example/cb?x=1") {
		h.t.Fatal(location, err)
	}
	q := u.Query()
	if u.Fragment != "" {
		if q, err = url.ParseQuery(u.EscapedFragment()); err != nil {
			h.t.Fatal(err)
		}
	}
	if q.Get("state") != "st&ate" || q.Get("iss") != "https://hub.test/" {
		h.t.Fatal(location)
	}
	return q
}

// trade asks the token endpoint.
func (h *hub) trade(status int, fields ...string) answer {
	h.t.Helper()
	q := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		q.Set(fields[i], fields[i+1])
	}
	a := h.do("POST", tokenPath, "", q.Encode())
	if a.status != status || (status == 200) != (a.str("access_token") != "") {
		h.t.Fatalf("%v: %d, not %d: %s", fields, a.status, status, a.body)
	}
	return a
}

// failsAs is trade for an error.
func (h *hub) failsAs(code string, fields ...string) {
	h.t.Helper()
	status := 400
	if code == "invalid_client" {
		status = 401
	}
	if a := h.trade(status, fields...); a.str("error") != code {
		h.t.Fatalf("%v: %s, not %s", fields, a.body, code)
	}
}

func (h *hub) byCode(code, client string) []string {
	return []string{"grant_type", "authorization_code", "code", code, "redirect_uri", "https://app.example/cb?x=1", "client_id", client, "code_verifier", verifier}
}

// signedIn is an OAuth session of a user.
func (h *hub) signedIn(s *surfer, client, name string) answer {
	h.t.Helper()
	s.get(200, asking(client))
	if strings.Contains(s.body, `value="sign-in"`) {
		s.signsIn(name)
	}
	return h.trade(200, h.byCode(h.told(s.send(303, "allow")).Get("code"), client)...)
}

func TestOAuthMetadata(t *testing.T) {
	h := start(t, Closed)
	a := h.want(200, "", "GET", v1+"/auth_metadata", "", "")
	for _, e := range []string{"issuer", "authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint", "device_authorization_endpoint", "account_management_uri"} {
		if !strings.HasPrefix(a.str(e), "https://hub.test/") {
			t.Error(e, a.body)
		}
	}
	if strings.Contains(a.body, "session_end") || !strings.Contains(a.body, "org.matrix.cross_signing_reset") {
		t.Error(a.body)
	}
	if a := h.want(200, "", "GET", unstable+"/org.matrix.msc2965/auth_metadata", "", ""); !strings.Contains(a.body, "session_end") {
		t.Error(a.body)
	}
	h.api.o.PublicURL = "" // and then the hub is where it was found
	if a := h.want(200, "", "GET", v1+"/auth_metadata", "", ""); a.str("token_endpoint") != "http://hub.test/_hearth/oauth/token" {
		t.Error(a.body)
	}
}

func TestOAuthRegistration(t *testing.T) {
	h := start(t, Closed)
	a := h.want(201, "", "POST", clientPath, "", appMetadata)
	if a.str("client_name#fr") != "Appli" || a.str("application_type") != "web" || strings.Contains(a.body, `"x"`) {
		t.Error(a.body)
	}
	if h.register(appMetadata) != a.str("client_id") {
		t.Error("the same client has two ids")
	}
	for body, code := range map[string]string{
		`{}`: "invalid_client_metadata", `x`: "invalid_client_metadata", `{"client_uri":"https://a.example/","redirect_uris":["https://b.example/"]}`: "invalid_redirect_uri",
		`{"client_uri":"https://a.example/","client_name":"` + strings.Repeat("x", 20_000) + `"}`: "invalid_client_metadata",
	} {
		if a := h.want(400, "", "POST", clientPath, "", body); a.str("error") != code {
			t.Error(body[:min(len(body), 80)], a.body)
		}
	}
}

func TestOAuthCode(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	app := h.register(appMetadata)
	s := h.surf()
	s.get(200, asking(app, "login_hint", "mxid:@bob:hub.test"))
	if !strings.Contains(s.body, `value="@bob:hub.test"`) || !strings.Contains(s.body, "App &lt;b&gt;") || strings.Contains(s.body, "App <b>") {
		t.Fatal(s.body)
	}
	before := s.cookies[browserCookie]
	s.send(403, "sign-in", "user", "bob", "password", "wrong")
	s.signsIn(" @BOB:hub.test ")
	if s.cookies[browserCookie] == before {
		t.Fatal("the browser keeps the cookie that it had before it was signed in")
	}
	if !strings.Contains(s.body, "app.example") || !strings.Contains(s.body, "@bob:hub.test") || !strings.Contains(s.body, `href="https://app.example/policy"`) || !strings.Contains(s.policy, "form-action 'self' https:;") {
		t.Fatal(s.body, s.policy)
	}
	if q := h.told(s.send(303, "deny")); q.Get("error") != "access_denied" || q.Get("code") != "" {
		t.Fatal(q)
	}
	s.get(200, asking(app, "response_mode", "fragment"))
	location := s.send(303, "allow")
	if !strings.HasPrefix(location, "https://app.example/cb?x=1#code=") {
		t.Fatal(location)
	}
	code := h.told(location).Get("code")
	other := h.register(`{"client_uri":"https://other.example/","redirect_uris":["https://other.example/"]}`)
	for i, wrong := range map[int]string{3: code + "x", 5: "https://app.example/cb", 7: other, 9: strings.Repeat("v", 43)} {
		fields := h.byCode(code, app)
		fields[i] = wrong
		h.failsAs("invalid_grant", fields...)
	}
	h.failsAs("invalid_request", h.byCode(code, app)[:8]...)
	a := h.trade(200, h.byCode(code, app)...)
	if a.str("token_type") != "Bearer" || a.get("expires_in") != 3600.0 || a.str("scope") != "urn:matrix:client:api:* urn:matrix:client:device:APP" {
		t.Fatal(a.body)
	}
	h.want(200, `{"device_id":"APP","is_guest":false,"user_id":"@bob:hub.test"}`, "GET", v3+"/account/whoami", a.str("access_token"), "")
	if d := h.want(200, "", "GET", v3+"/devices/APP", a.str("access_token"), ""); d.str("display_name") != "App <b>" {
		t.Error(d.body)
	}
	h.failsAs("invalid_grant", h.byCode(code, app)...) // a second time: what it gave is gone
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", a.str("access_token"), "")

	// The device is there already: the page says so.
	h.signedIn(s, app, "bob")
	s.get(200, asking(app))
	if !strings.Contains(s.body, "goes on as your device") || strings.Contains(s.body, "takes the place of") {
		t.Error(s.body)
	}
	h.again("bob", "OTHERS") // and warns where it is another client's
	s.get(200, asking(app, "scope", "urn:matrix:client:api:* urn:matrix:client:device:OTHERS"))
	if !strings.Contains(s.body, "takes the place of your device OTHERS") {
		t.Error(s.body)
	}
	late := h.told(s.send(303, "allow")).Get("code")
	h.clock.Pass(codeLife + time.Second)
	h.failsAs("invalid_grant", h.byCode(late, app)...)
	s.get(200, asking(app))
	gone := h.told(s.send(303, "allow")).Get("code")
	s.get(200, accountPath)
	s.send(303, "sign-out")
	h.failsAs("invalid_grant", h.byCode(gone, app)...)
}

// What is wrong with a request is told to the client, unless it is where to tell.
func TestOAuthAuthorizeRefuses(t *testing.T) {
	h := start(t, Anyone)
	app := h.register(appMetadata)
	device := h.register(`{"client_uri":"https://app.example/","redirect_uris":["https://app.example/cb?x=1"],"grant_types":["urn:ietf:params:oauth:grant-type:device_code"]}`)
	s := h.surf()
	for _, c := range [][3]string{
		{"response_type", "token", "unsupported_response_type"}, {"response_type", "", "invalid_request"}, {"response_mode", "form_post", "invalid_request"},
		{"code_challenge_method", "plain", "invalid_request"}, {"code_challenge_method", "", "invalid_request"}, {"code_challenge", "", "invalid_request"},
		{"code_challenge", "short", "invalid_request"}, {"scope", "openid", "invalid_scope"}, {"scope", "", "invalid_request"}, {"prompt", "none", "interaction_required"},
		{"client_id", device, "unauthorized_client"},
	} {
		if got := h.told(s.get(303, asking(app, c[0], c[1]))).Get("error"); got != c[2] {
			t.Error(c, got)
		}
	}
	if got := h.told(s.get(303, asking(app)+"&scope=x")).Get("error"); got != "invalid_request" {
		t.Error(got)
	}
	for _, c := range [][2]string{
		{"client_id", ""}, {"client_id", "unknown"}, {"redirect_uri", ""}, {"redirect_uri", "https://evil.example/"}, {"redirect_uri", "https://app.example/cb"},
		{"redirect_uri", "javascript:alert(1)"}, {"redirect_uri", "https://app.example/cb?x=1#"},
	} {
		if location := s.get(400, asking(app, c[0], c[1])); location != "" {
			t.Error(c, location)
		}
	}
	if location := s.get(400, asking(app)+"&redirect_uri=https://evil.example/"); location != "" {
		t.Error(location)
	}
	s.get(400, authorizePath)
}

// No form is taken that was not shown to this browser for this very request.
func TestOAuthForms(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	h.join("eve")
	app := h.register(appMetadata)
	s := h.surf()
	s.get(200, asking(app))
	action, held := s.form("sign-in")
	held.Set("user", "bob")
	held.Set("password", pw)
	h.surf().ask(403, action, held) // another browser
	s.signsIn("bob")
	action, held = s.form("allow")
	eve := h.surf()
	eve.get(200, asking(app))
	eve.signsIn("eve")
	_, hers := eve.form("allow")
	s.ask(403, action, hers) // of another person
	for _, mark := range []string{"", "x", strings.Repeat("A", 43)} {
		s.ask(403, action, url.Values{"do": {"allow"}, "mark": {mark}})
	}
	s.ask(403, asking(app, "scope", "urn:matrix:client:api:* urn:matrix:client:device:OTHER"), held) // for another device
	s.header = [2]string{"Sec-Fetch-Site", "cross-site"}
	s.ask(403, action, held)
	s.header = [2]string{"Sec-Fetch-Site", "same-origin"}
	s.ask(303, action, held)
}

func TestOAuthRefreshAndRevoke(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	app := h.register(appMetadata)
	s := h.surf()
	first := h.signedIn(s, app, "bob")
	by := func(refresh string) []string {
		return []string{"grant_type", "refresh_token", "refresh_token", refresh, "client_id", app}
	}
	h.want(401, "M_UNKNOWN_TOKEN", "POST", v3+"/refresh", "", fmt.Sprintf(`{"refresh_token":%q}`, first.str("refresh_token")))
	h.failsAs("invalid_grant", "grant_type", "refresh_token", "refresh_token", first.str("refresh_token"), "client_id", "other")
	h.failsAs("invalid_request", "grant_type", "refresh_token", "client_id", app)
	h.failsAs("invalid_request", "grant_type", "refresh_token")
	h.failsAs("unsupported_grant_type", "grant_type", "password", "client_id", app)
	if a := h.do("POST", tokenPath, "", "grant_type=x&grant_type=y&client_id="+app); a.status != 400 || a.str("error") != "invalid_request" {
		t.Error(a.body)
	}
	h.trade(200, by(first.str("refresh_token"))...) // an answer that was lost
	second := h.trade(200, by(first.str("refresh_token"))...)
	if second.str("scope") != first.str("scope") || second.str("refresh_token") == first.str("refresh_token") {
		t.Fatal(second.body)
	}
	h.want(200, "", "GET", v3+"/account/whoami", second.str("access_token"), "")
	h.clock.Pass(time.Hour)
	if a := h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", second.str("access_token"), ""); a.get("soft_logout") != true {
		t.Error(a.body)
	}
	third := h.trade(200, by(second.str("refresh_token"))...)
	h.want(200, "", "GET", v3+"/account/whoami", third.str("access_token"), "")
	h.failsAs("invalid_grant", by(first.str("refresh_token"))...) // stolen: the session ends
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", third.str("access_token"), "")
	h.failsAs("invalid_grant", by(third.str("refresh_token"))...)

	for _, kind := range []string{"access_token", "refresh_token"} {
		a := h.signedIn(s, app, "bob")
		h.want(200, `{}`, "POST", revokePath, "", url.Values{"token": {a.str(kind)}, "token_type_hint": {kind}}.Encode())
		h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", a.str("access_token"), "")
		h.failsAs("invalid_grant", by(a.str("refresh_token"))...)
		h.want(404, "M_NOT_FOUND", "GET", v3+"/devices/APP", bob, "")
		h.want(200, `{}`, "POST", revokePath, "", url.Values{"token": {a.str(kind)}, "client_id": {"other"}}.Encode())
	}
	for _, bad := range []string{"", "token=", "token=x&token=y", "token=x&token_type_hint=z"} {
		if a := h.want(400, "", "POST", revokePath, "", bad); a.str("error") == "" {
			t.Error(bad, a.body)
		}
	}
}

// What needs to know who the user is by interactive authentication is not for a
// session that signed in by OAuth.
func TestOAuthSessionsMayNot(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	app := h.register(appMetadata)
	s := h.surf()
	token := h.signedIn(s, app, "bob").str("access_token")
	for _, c := range [][3]string{
		{"DELETE", v3 + "/devices/DEV", `{}`}, {"POST", v3 + "/delete_devices", `{"devices":["DEV"]}`}, {"POST", v3 + "/account/deactivate", `{}`},
		{"POST", v3 + "/account/password", `{"new_password":"something long"}`}, {"POST", v3 + "/account/3pid/add", `{"client_secret":"x","sid":"y"}`}, {"POST", v1 + "/login/get_token", `{}`},
	} {
		if a := h.want(403, "M_FORBIDDEN", c[0], c[1], token, c[2]); !strings.Contains(a.str("error"), "https://hub.test"+accountPath) {
			t.Error(a.body)
		}
	}
	if a := h.want(200, "", "GET", v3+"/capabilities", token, ""); !strings.Contains(a.body, `"m.change_password":{"enabled":false}`) || !strings.Contains(a.body, `"m.get_login_token":{"enabled":false}`) {
		t.Error(a.body)
	}
	if a := h.want(200, "", "GET", v3+"/capabilities", bob, ""); !strings.Contains(a.body, `"m.change_password":{"enabled":true}`) {
		t.Error(a.body)
	}
	h.want(200, `{}`, "POST", v3+"/logout", token, `{}`)
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", token, "")
	h.want(200, "", "GET", v3+"/account/whoami", bob, "")
	token = h.signedIn(s, app, "bob").str("access_token")
	h.want(200, `{}`, "POST", v3+"/logout/all", token, `{}`)
	s.get(200, asking(app)) // the browser too
	s.form("sign-in")
}

func TestOAuthDeviceGrant(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	app := h.register(appMetadata)
	const scope = "urn:matrix:client:api:* urn:matrix:client:device:LAMP"
	begin := func() (poll []string, at, code string) {
		t.Helper()
		a := h.want(200, "", "POST", startPath, "", url.Values{"client_id": {app}, "scope": {scope}}.Encode())
		if a.get("interval") != 5.0 || a.get("expires_in") != 900.0 || a.str("verification_uri") != "https://hub.test"+linkPath {
			t.Fatal(a.body)
		}
		return []string{"grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", a.str("device_code"), "client_id", app},
			strings.TrimPrefix(a.str("verification_uri_complete"), "https://hub.test"), a.str("user_code")
	}
	poll, at, code := begin()
	h.failsAs("authorization_pending", poll...)
	h.failsAs("slow_down", poll...)
	h.clock.Pass(6 * time.Second)
	h.failsAs("slow_down", poll...) // the wait has grown
	h.clock.Pass(16 * time.Second)
	h.failsAs("authorization_pending", poll...)
	s := h.surf()
	s.get(200, at)
	s.signsIn("bob")
	if !strings.Contains(s.body, code) || !strings.Contains(s.body, "App &lt;b&gt;") {
		t.Fatal(s.body)
	}
	s.send(200, "allow")
	h.failsAs("invalid_grant", append(poll[:5:5], "other")...)
	a := h.trade(200, poll...)
	if a.str("scope") != scope {
		t.Error(a.body)
	}
	h.want(200, `{"device_id":"LAMP","is_guest":false,"user_id":"@bob:hub.test"}`, "GET", v3+"/account/whoami", a.str("access_token"), "")
	h.failsAs("invalid_grant", poll...)

	poll, _, code = begin() // typed by hand, and refused
	s.get(200, linkPath)
	s.get(200, s.send(303, "find", "user_code", strings.ToLower(strings.ReplaceAll(code, "-", " "))))
	s.send(200, "deny")
	h.failsAs("access_denied", poll...)
	s.get(404, linkPath+"?user_code="+code)

	poll, at, _ = begin()
	h.clock.Pass(deviceLife + time.Second)
	h.failsAs("expired_token", poll...)
	s.get(404, at)
	_, at, _ = begin()
	h.clock.Pass(triesTime + time.Second)
	for range maxTries {
		s.get(404, linkPath+"?user_code=BBBB-BBBB")
	}
	s.get(429, at)
	h.clock.Pass(triesTime + time.Second)
	s.get(200, at)

	for fields, code := range map[string]string{"client_id=" + app: "invalid_request", "client_id=x&scope=y": "invalid_client", "client_id=" + app + "&scope=y": "invalid_scope"} {
		if a := h.do("POST", startPath, "", fields); a.str("error") != code {
			t.Error(fields, a.body)
		}
	}
	if a := h.do("POST", startPath, "", "scope=y&client_id="+h.register(`{"client_uri":"https://o.example/","redirect_uris":["https://o.example/"]}`)); a.str("error") != "unauthorized_client" {
		t.Error(a.body)
	}
}

// What waits is bounded, and one who asks for much pushes out their own.
func TestOAuthGrantsAreBounded(t *testing.T) {
	h := start(t, Anyone)
	var g grants
	for user := range uint32(100) {
		for range 50 {
			if _, err := g.newCode(&codeGrant{agreed: agreed{user: user}}, h.clock.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(g.codes) != maxCodes {
		t.Error(len(g.codes))
	}
	h.clock.Pass(time.Hour)
	_, _ = g.newCode(&codeGrant{}, h.clock.Now())
	if len(g.codes) != 1 {
		t.Error(len(g.codes))
	}
	app := h.register(appMetadata)
	for range 3 * deviceGrantsEach {
		h.want(200, "", "POST", startPath, "", url.Values{"client_id": {app}, "scope": {"urn:matrix:client:api:* urn:matrix:client:device:X"}}.Encode())
	}
	if n := len(h.api.grants.devices); n != deviceGrantsEach {
		t.Error(n)
	}
	for user := range uint32(3 * maxRenewals) {
		h.api.renewals.allow(user, 0, 10)
	}
	if n := len(h.api.renewals.until); n > maxRenewals {
		t.Error(n)
	}
}

// A client takes the hub's own errors for the end of its session: what will pass
// is told in OAuth's words, and not as a refusal.
func TestOAuthLimit(t *testing.T) {
	h := start(t, Anyone)
	h.mux = wire.New(wire.Options{Authenticate: h.api.Authenticate, Limits: wire.NewLimits(h.clock.Now)})
	if err := h.mux.Add(h.api.Routes()); err != nil {
		t.Fatal(err)
	}
	s, ask := h.surf(), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}, "client_id": {"y"}}
	for range 120 {
		s.ask(400, tokenPath, ask)
	}
	const later = `{"error":"temporarily_unavailable","error_description":"try again later"}`
	if s.ask(503, tokenPath, ask); s.body != later {
		t.Error(s.body)
	}
	for range 5 {
		s.ask(400, clientPath, url.Values{})
		s.ask(503, startPath, url.Values{})
	}
	for _, path := range []string{clientPath, startPath} {
		if s.ask(503, path, url.Values{}); s.body != later || s.retry != "10" {
			t.Error(path, s.body, s.retry)
		}
	}
}
