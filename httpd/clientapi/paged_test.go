package clientapi

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/oauth"
	"hearth/httpd/wire"
)

// reader is a surfer whose browser says that somebody reads what comes.
func (h *hub) reader() *surfer {
	s := h.surf()
	s.header = [2]string{"Accept", "text/html,application/xhtml+xml"}
	return s
}

// limited gives the hub the limits that it has outside of tests.
func (h *hub) limited() {
	h.t.Helper()
	h.mux = wire.New(wire.Options{Authenticate: h.api.Authenticate, Limits: wire.NewLimits(h.clock.Now)})
	if err := h.mux.Add(h.api.Routes()); err != nil {
		h.t.Fatal(err)
	}
}

// Who reads gets a page that says what to do, and a program its error.
func TestPagesTellOfErrors(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	h.limited()
	s := h.reader()
	says := func(what string) {
		t.Helper()
		if !strings.HasPrefix(s.body, "<!DOCTYPE html>") || !strings.Contains(s.body, what) {
			t.Fatalf("not %q: %s", what, s.body)
		}
	}
	s.get(400, signOnPath+"?redirectUrl=javascript:x")
	says("no address to go to")
	s.get(404, providerPath+"?id=x&back="+accountPath)
	says("no such identity provider")
	s.get(400, v3+"/login/sso/redirect")
	says("which redirectUrl")
	s.get(200, accountPath)
	action, held := s.form("sign-in")
	held.Set("password", strings.Repeat("x", maxForm))
	s.ask(413, action, held)
	says("make it shorter")
	held.Set("password", "wrong")
	held.Set("user", "bob")
	for range 7 {
		s.ask(403, action, held)
	}
	s.ask(429, action, held)
	says("Wait 3 seconds")
	s.header[0] = "" // and where nobody reads
	s.ask(429, action, held)
	if !strings.HasPrefix(s.body, `{"errcode":"M_LIMIT_EXCEEDED"`) {
		t.Error(s.body)
	}
	// The page is no way around the limits of the API: they are the same.
	password := `{"type":"m.login.password","user":"bob","password":"wrong"}`
	if status, body := askFrom(h, "192.0.2.1", "POST", v3+"/login", password); status != 429 {
		t.Error(status, body)
	}
	if status, body := askFrom(h, "192.0.2.2", "POST", v3+"/login", password); status != 403 {
		t.Error(status, body)
	}
}

// askFrom is a request of an address.
func askFrom(h *hub, from, method, path, body string) (status int, answer string) {
	var req fasthttp.Request
	req.SetRequestURI(path)
	req.Header.SetHost("hub.test")
	req.Header.SetMethod(method)
	req.SetBodyString(body)
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(from), Port: 1}, nil)
	h.mux.Serve(&ctx)
	return ctx.Response.StatusCode(), string(ctx.Response.Body())
}

// New accounts on the page count as those of POST /register do.
func TestSignUpIsLimited(t *testing.T) {
	h := start(t, Anyone)
	h.limited()
	for range 10 {
		askFrom(h, "192.0.2.1", "GET", v3+"/register/available?username=bob", "")
	}
	s := h.reader()
	s.get(200, accountPath+"?hearth="+signUp)
	s.send(429, "sign-up", "user", "bob", "password", pw, "again", pw)
	if num, err := h.api.accounts.Find("@bob:hub.test"); num != 0 || err != nil {
		t.Error(num, err)
	}
}

// Web clients read what the API says, and no other site reads a page.
func TestPagesAreSameOrigin(t *testing.T) {
	h := start(t, Anyone)
	for path, open := range map[string]bool{
		"/": false, setupPath: false, accountPath: false, linkPath: false, authorizePath: false, "/_matrix/static/client/login/": true,
		v1 + "/auth_metadata": true, tokenPath: true, revokePath: true, clientPath: true, startPath: true,
	} {
		var req fasthttp.Request
		req.SetRequestURI(path)
		req.Header.SetHost("hub.test")
		var ctx fasthttp.RequestCtx
		if strings.HasPrefix(path, oauthBase) && open {
			req.Header.SetMethod("POST")
		}
		ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
		h.mux.Serve(&ctx)
		if got := string(ctx.Response.Header.Peek("Access-Control-Allow-Origin")); (got == "*") != open {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// The link in a mail says what it gives away, before it does.
func TestConfirmPageSaysWhat(t *testing.T) {
	h := start(t, Anyone)
	m := h.mail()
	h.join("bob")
	num, err := h.api.accounts.Find("@bob:hub.test")
	if err == nil {
		err = h.api.accounts.AddThreepid(num, account.Email, "b@x.org", h.clock.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	h.want(200, "", "POST", v3+"/account/password/email/requestToken", "", ask("s", "b@x.org", 1))
	if p := h.page(200, m.link(t), nil); !strings.Contains(p, "Set a new password?") {
		t.Error(p)
	}
	h.want(200, "", "POST", v3+"/register/email/requestToken", "", ask("s", "new@x.org", 1))
	link := m.link(t)
	if p := h.page(200, link, nil); !strings.Contains(p, "<h1>Confirm your e-mail address") {
		t.Error(p)
	}
	h.clock.Pass(validationLife + 1)
	if p := h.page(400, link, nil); !strings.Contains(p, "Ask for another mail") {
		t.Error(p)
	}
}

// Clients that do not know the stage of OAuth open its page, as they do with
// others that they do not know. Spec: client-server, fallback.
func TestFallbackOfOAuth(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	s := h.surf()
	token := h.signedIn(s, h.register(appMetadata), "bob").str("access_token")
	first, _ := crossBody("bob", 'b', 0)
	h.want(200, `{}`, "POST", v3+"/keys/device_signing/upload", token, "{"+first+"}")
	second, _ := crossBody("bob", 'c', 0)
	session := h.want(401, "", "POST", v3+"/keys/device_signing/upload", token, "{"+second+"}").str("session")
	at := v3 + "/auth/m.oauth/fallback/web?session=" + session
	if p := h.page(200, at, nil); !strings.Contains(p, `href="`+accountPath+"?action="+toReset+`"`) {
		t.Fatal(p)
	}
	h.page(400, at, url.Values{"session": {session}})
	s.get(200, accountPath+"?action="+toReset)
	s.send(200, "reset")
	h.page(200, at, url.Values{"session": {session}})
	h.want(200, `{}`, "POST", v3+"/keys/device_signing/upload", token, fmt.Sprintf(`{"auth":{"session":%q},%s}`, session, second))
}

// A password that is changed takes back what its sessions were allowed.
func TestPasswordEndsAllowance(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	num, err := h.api.accounts.Find("@bob:hub.test")
	if err != nil {
		t.Fatal(err)
	}
	now := h.clock.Now().UnixMilli()
	h.api.renewals.allow(num, now, now+1000)
	h.want(200, `{}`, "POST", v3+"/account/password", bob, `{"new_password":"another password","auth":{"type":"m.login.password","password":"`+pw+`"},"logout_devices":false}`)
	if h.api.renewals.allowed(num, now) {
		t.Error("the keys may still be replaced")
	}
}

// What the hub could not do is asked for once more; a code that came twice is not.
func TestCodeIsGivenBack(t *testing.T) {
	h := start(t, Anyone)
	var g grants
	code, err := g.newCode(&codeGrant{client: "c"}, h.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	all := func(*codeGrant) bool { return true }
	c, _ := g.takeCode(code, all, h.clock.Now())
	g.giveBack(c)
	if c, _ = g.takeCode(code, all, h.clock.Now()); c == nil {
		t.Fatal("the code is lost")
	}
	if _, again := g.takeCode(code, all, h.clock.Now()); !again {
		t.Fatal("the code is good twice")
	}
	g.giveBack(c)
	if c, _ = g.takeCode(code, all, h.clock.Now()); c != nil {
		t.Error("a code that came twice is good again")
	}
	for err, want := range map[error]bool{oauth.E(oauth.InvalidGrant, "x"): false, oauth.E(oauth.Unavailable, "x"): true, fmt.Errorf("disk"): true} {
		if passing(err) != want {
			t.Error(err)
		}
	}
}

// An IPv6 network is one asker: it holds more addresses than can be counted.
func TestTriesCountNetworks(t *testing.T) {
	h := start(t, Anyone)
	var all tries
	for i := range maxTries {
		all.wrong(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1)), h.clock.Now())
	}
	if all.left(netip.MustParseAddr("2001:db8::ffff"), h.clock.Now()) || !all.left(netip.MustParseAddr("2001:db8:0:1::1"), h.clock.Now()) {
		t.Error("tries are not counted by network")
	}
}

// Behind a proxy that speaks TLS the hub says so of itself, also where nobody has
// told it its public_url.
func TestMetadataBehindProxy(t *testing.T) {
	h := start(t, Anyone)
	h.api.o.PublicURL = ""
	s := h.surf()
	s.header = [2]string{"X-Forwarded-Proto", "https"}
	if s.get(200, v1+"/auth_metadata"); !strings.Contains(s.body, `"issuer":"https://hub.test/"`) {
		t.Error(s.body)
	}
}

// A name that is long does not push what matters off the screen.
func TestLongNameInTitle(t *testing.T) {
	if got := short(strings.Repeat("ä", 41)); got != strings.Repeat("ä", 39)+"…" {
		t.Error(got)
	}
	if got := short("Element"); got != "Element" {
		t.Error(got)
	}
}
