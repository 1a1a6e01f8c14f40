package clientapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"hearth/engine/appservice"
)

// browser asks as one does: it keeps a cookie and tells where it is sent.
type browser struct {
	h      *hub
	cookie string
}

func (b *browser) get(status int, path string) (body, location string) {
	b.h.t.Helper()
	var req fasthttp.Request
	req.SetRequestURI(path)
	req.Header.SetHost("hub.test")
	if b.cookie != "" {
		req.Header.SetCookie(cookieName, b.cookie)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	b.h.mux.Serve(&ctx)
	if ctx.Response.StatusCode() != status {
		b.h.t.Fatalf("%s: %d %s", path, ctx.Response.StatusCode(), ctx.Response.Body())
	}
	var c fasthttp.Cookie
	c.SetKey(cookieName)
	if ctx.Response.Header.Cookie(&c) {
		if !c.HTTPOnly() || !c.Secure() || c.SameSite() != fasthttp.CookieSameSiteLaxMode {
			b.h.t.Fatal(c.String())
		}
		b.cookie = string(c.Value())
	}
	return string(ctx.Response.Body()), string(ctx.Response.Header.Peek("Location"))
}

// provide makes the hub use providers whose logins come back as the identity.
func (h *hub) provide(who *Identity, ids ...string) {
	for _, id := range ids {
		h.api.o.Providers = append(h.api.o.Providers, Provider{
			ID: id, Name: "The <" + id + ">", CAS: id == "cas",
			Begin: func(_ context.Context, l SignOn) (string, error) {
				return "https://" + id + ".example/?" + url.Values{"state": {l.State}, "back": {l.Callback}}.Encode(), nil
			},
			Finish: func(_ context.Context, l SignOn, query func(string) string) (Identity, error) {
				if query("code") != "good" || len(l.Secret) < 43 {
					return Identity{}, errors.New("no")
				}
				return *who, nil
			},
		})
	}
}

// comesBack is the address to which a provider sends the browser back.
func (h *hub) comesBack(location, code string) string {
	h.t.Helper()
	u, err := url.Parse(location)
	if err != nil || u.Query().Get("back") != "https://hub.test"+callbackPath {
		h.t.Fatal(location, err)
	}
	return callbackPath + "?" + url.Values{"state": {u.Query().Get("state")}, "code": {code}}.Encode()
}

var onward = regexp.MustCompile(`href="([^"]*loginToken=[^"]*)"`)

// signOn logs in through the provider and gives the client's answer.
func (b *browser) signOn(next string) answer {
	b.h.t.Helper()
	_, location := b.get(302, v3+"/login/sso/redirect/oidc?"+url.Values{"redirectUrl": {next}}.Encode())
	page, _ := b.get(200, b.h.comesBack(location, "good"))
	found := onward.FindStringSubmatch(page)
	if found == nil {
		b.h.t.Fatal(page)
	}
	u, err := url.Parse(strings.ReplaceAll(found[1], "&amp;", "&"))
	if err != nil || u.Query().Get("a") != "1" {
		b.h.t.Fatal(found[1], err)
	}
	return b.h.want(200, "", "POST", v3+"/login", "", fmt.Sprintf(`{"type":"m.login.token","token":%q}`, u.Query().Get("loginToken")))
}

func TestSingleSignOn(t *testing.T) {
	h := start(t, Closed)
	redirect := v3 + "/login/sso/redirect"
	h.want(404, "M_NOT_FOUND", "GET", redirect+"/oidc?redirectUrl=https://x.org", "", "")
	h.want(404, "M_NOT_FOUND", "GET", "/_matrix/client/r0/login/cas/redirect?redirectUrl=https://x.org", "", "")
	h.want(404, "M_NOT_FOUND", "GET", "/_matrix/client/r0/login/cas/ticket?redirectUrl=x&ticket=y", "", "")
	who := Identity{Subject: "42", Username: "Bob Bär", Name: "Bob", Email: "b@x.org"}
	h.provide(&who, "oidc")
	if a := h.want(200, "", "GET", v3+"/login", "", ""); !strings.Contains(a.body, `{"identity_providers":[{"id":"oidc","name":"The <oidc>"}],"oauth_aware_preferred":true,`) || strings.Contains(a.body, "m.login.cas") {
		t.Fatal(a.body)
	}
	h.want(400, "M_MISSING_PARAM", "GET", redirect, "", "")
	for _, bad := range []string{"javascript:alert(1)", "data:x", "nonsense", "%25zz", "JavaScript:x"} {
		h.want(400, "M_INVALID_PARAM", "GET", redirect+"?redirectUrl="+bad, "", "")
	}
	h.want(404, "M_NOT_FOUND", "GET", redirect+"/none?redirectUrl=https://x.org", "", "")
	b := &browser{h: h}
	a := b.signOn("https://client.example/?a=1&loginToken=old")
	if a.str("user_id") != "@bob=20b=c3=a4r:hub.test" {
		t.Fatal(a.body)
	}
	token := a.str("access_token")
	h.want(200, `{"displayname":"Bob"}`, "GET", v3+"/profile/@bob=20b=c3=a4r:hub.test", "", "")
	if a := h.want(200, "", "GET", v3+"/account/3pid", token, ""); !strings.Contains(a.body, "b@x.org") || strings.Contains(a.body, "42") {
		t.Fatal(a.body)
	}
	who.Username = "renamed"
	if a := (&browser{h: h}).signOn("app.example:/cb?a=1"); a.str("user_id") != "@bob=20b=c3=a4r:hub.test" {
		t.Fatal(a.body)
	}
	// Another person of the same name is another user.
	who = Identity{Subject: "43", Username: "Bob Bär"}
	if a := b.signOn("https://client.example/?a=1"); a.str("user_id") != "@bob=20b=c3=a4r2:hub.test" {
		t.Fatal(a.body)
	}

	// Nobody else's browser comes back, nobody twice, and not with nonsense. Another tab of it does.
	_, tab := b.get(302, redirect+"/oidc?redirectUrl=https://x.org")
	_, location := b.get(302, redirect+"/oidc?redirectUrl=https://x.org")
	b.get(200, h.comesBack(tab, "good"))
	back := h.comesBack(location, "good")
	(&browser{h: h}).get(400, back)
	(&browser{h, "guess"}).get(400, back)
	b.get(200, back)
	b.get(400, back)
	b.get(400, callbackPath)
	_, location = b.get(302, redirect+"/oidc?redirectUrl=https://x.org")
	b.get(400, h.comesBack(location, "bad"))

	_, location = b.get(302, redirect+"/oidc?redirectUrl=https://hub.test/_matrix/static/client/login/")
	// The hub's own page logs in by itself, and its address may name a device: it is asked first.
	if p, to := b.get(200, h.comesBack(location, "good")); to != "" || !strings.Contains(p, `href="https://hub.test/_matrix/static/client/login/?loginToken=`) {
		t.Fatal(to, p)
	}
	if p := h.page(200, "/_matrix/static/client/login/", nil); !strings.Contains(p, "another account") {
		t.Fatal(p)
	}

	// With several, people choose; the oldest clients know CAS only.
	h.provide(&who, "cas")
	if _, location = b.get(302, redirect+"?redirectUrl=https://x.org"); location != signOnPath+"?redirectUrl=https%3A%2F%2Fx.org" {
		t.Fatal(location)
	}
	if p := h.page(200, location, nil); !strings.Contains(p, "The &lt;cas&gt;") {
		t.Fatal(p)
	}
	if a := h.want(200, "", "GET", v3+"/login", "", ""); !strings.Contains(a.body, `{"type":"m.login.cas"}`) {
		t.Fatal(a.body)
	}
	if _, location = b.get(302, "/_matrix/client/r0/login/cas/redirect?redirectUrl=https://x.org"); !strings.HasPrefix(location, "https://cas.example/") {
		t.Fatal(location)
	}
}

// Who has no password proves who they are at their provider.
func TestSingleSignOnStage(t *testing.T) {
	h := start(t, Anyone)
	who := Identity{Subject: "42", Username: "bob"}
	h.provide(&who, "oidc")
	b := &browser{h: h}
	token := b.signOn("https://client.example/?a=1").str("access_token")
	a := h.want(401, "", "DELETE", v3+"/devices/X", token, `{}`)
	if !strings.Contains(a.body, `"flows":[{"stages":["m.login.sso"]}]`) {
		t.Fatal(a.body)
	}
	auth := fmt.Sprintf(`{"auth":{"session":%q}}`, a.str("session"))
	h.want(401, "M_FORBIDDEN", "DELETE", v3+"/devices/X", token, strings.Replace(auth, `{"session"`, `{"type":"m.login.sso","session"`, 1))
	stage := stagePath(stageSSO, a.str("session"))
	who.Subject = "43" // another person
	_, location := b.get(302, stage)
	b.get(403, h.comesBack(location, "good"))
	h.want(401, "", "DELETE", v3+"/devices/X", token, auth)
	who.Subject = "42"
	_, location = b.get(302, stage)
	// A provider may log people in without a word, so they are asked what for.
	p, _ := b.get(200, h.comesBack(location, "good"))
	agree := regexp.MustCompile(`name="agree" value="([^"]+)"`).FindStringSubmatch(p)
	if agree == nil || !strings.Contains(p, "log out the device X") {
		t.Fatal(p)
	}
	h.want(401, "", "DELETE", v3+"/devices/X", token, auth)
	for _, guess := range []string{"", "guess"} {
		h.page(403, stagePath(stageSSO, a.str("session")), url.Values{"agree": {guess}})
	}
	if p := h.page(200, stagePath(stageSSO, a.str("session")), url.Values{"agree": {agree[1]}}); !strings.Contains(p, told) {
		t.Fatal(p)
	}
	h.want(200, "{}", "DELETE", v3+"/devices/X", token, auth)
	h.page(400, stagePath(stageSSO, "none"), nil)

	num, _ := h.e.Accounts.Find("@bob:hub.test")
	if err := h.e.Accounts.SetPassword(num, "correct horse", false, ""); err != nil {
		t.Fatal(err)
	}
	if a := h.want(401, "", "DELETE", v3+"/devices/X", token, `{}`); !strings.Contains(a.body, `"flows":[{"stages":["m.login.password"]},{"stages":["m.login.sso"]}]`) {
		t.Fatal(a.body)
	}
	// A deactivated account does not come back as another.
	if err := h.e.Accounts.End(num, false); err != nil {
		t.Fatal(err)
	}
	_, location = b.get(302, v3+"/login/sso/redirect/oidc?redirectUrl=https://x.org")
	page, _ := b.get(200, h.comesBack(location, "good"))
	u, _ := url.Parse(strings.ReplaceAll(onward.FindStringSubmatch(page)[1], "&amp;", "&"))
	h.want(403, "M_USER_DEACTIVATED", "POST", v3+"/login", "", fmt.Sprintf(`{"type":"m.login.token","token":%q}`, u.Query().Get("loginToken")))
}

func TestLocalpart(t *testing.T) {
	for in, want := range map[Identity]string{
		{Subject: "x", Username: "Bob.B-1"}:                 "bob.b-1",
		{Subject: "x", Username: "_bob"}:                    "=5fbob",
		{Subject: "x", Username: "bob@corp.example"}:        "bob",
		{Subject: "x", Email: "eve@x.org"}:                  "eve",
		{Subject: "Sub/1"}:                                  "sub=2f1",
		{Subject: "@"}:                                      "user",
		{Subject: "x", Username: strings.Repeat("x", 9999)}: strings.Repeat("x", 101),
	} {
		if got := localpart(in); got != want {
			t.Errorf("%+v: %q, want %q", in, got, want)
		}
	}
}

// Names that are a service's are not to be had by way of a provider either, and
// what a browser takes for another host than it says is nowhere to go.
func TestSingleSignOnTakesNoServiceName(t *testing.T) {
	h, _ := startBridged(t)
	who := Identity{Subject: "1", Username: "shopbot"}
	h.provide(&who, "oidc")
	b := &browser{h: h}
	if a := b.signOn("https://client.example/?a=1"); a.str("user_id") != "@shopbot2:hub.test" {
		t.Fatal(a.body)
	}
	service, err := appservice.Parse([]byte(strings.Replace(registrations[1], "@_shop_.*", "@tg.*", 1)), "hub.test")
	if err != nil {
		t.Fatal(err)
	}
	set, err := appservice.NewSet([]*appservice.Service{service})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.e.SetServices(set); err != nil {
		t.Fatal(err)
	}
	who = Identity{Subject: "2", Username: "tg1"}
	_, location := b.get(302, v3+"/login/sso/redirect/oidc?redirectUrl=https://x.org")
	if p, _ := b.get(403, h.comesBack(location, "good")); !strings.Contains(p, "reserved") {
		t.Fatal(p)
	}
	for _, next := range []string{"https:evil.example", "http:/evil.example", "https:", "javascript:x", "//evil.example"} {
		h.want(400, "M_INVALID_PARAM", "GET", v3+"/login/sso/redirect?"+url.Values{"redirectUrl": {next}}.Encode(), "", "")
	}
}

// A browser that found the hub by another name than its public_url begins there:
// it keeps its cookies by name, and the provider sends it there.
func TestSignOnByAnotherName(t *testing.T) {
	h := start(t, Closed)
	h.provide(&Identity{Subject: "42", Username: "bob"}, "oidc")
	for _, c := range [][3]string{
		{"hub.local:8008", "", "https://hub.test" + v3 + "/login/sso/redirect/oidc?redirectUrl=https://x.org&hearth=on"},
		{"hub.local:8008", "&hearth=on", "https://oidc.example/?"}, {"HUB.test:443", "", "https://oidc.example/?"},
	} {
		var req fasthttp.Request
		req.SetRequestURI(v3 + "/login/sso/redirect/oidc?redirectUrl=https://x.org" + c[1])
		req.Header.SetHost(c[0])
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
		h.mux.Serve(&ctx)
		if got := string(ctx.Response.Header.Peek("Location")); ctx.Response.StatusCode() != 302 || !strings.HasPrefix(got, c[2]) {
			t.Error(c, got)
		}
	}
}
