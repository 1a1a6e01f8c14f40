package hubapi

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/bridge"
	"hearth/httpd/hubtest"
	"hearth/httpd/wire"
)

type hub struct {
	t   *testing.T
	e   *engine.Engine
	mux *wire.Mux
}

func start(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t}
	m, err := bridge.ParseMapping([]byte(`{"topic":"lamp/state","room":"#house:hub.test","mode":"shadow"}`), "here")
	h.ok(err)
	h.e = hubtest.Open(t, engine.Options{Things: engine.ThingOptions{Mappings: []*bridge.Mapping{m}}})
	h.mux = wire.New(wire.Options{
		Authenticate: func(r *wire.Req) (account.Session, error) { return h.e.Accounts.Authenticate(r.Token()) },
		Log:          slog.New(slog.DiscardHandler),
	})
	h.ok(h.mux.Add(New(h.e).Routes()))
	return h
}

func (h *hub) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) user(name string, admin bool) string {
	h.t.Helper()
	num, err := h.e.Accounts.Create(account.NewUser{Localpart: name, Admin: admin})
	h.ok(err)
	tokens, _, err := h.e.Accounts.Login(num, account.NewSession{Device: "DEV"})
	h.ok(err)
	return tokens.Access
}

func (h *hub) ask(token, method, path, body string) string {
	var c fasthttp.RequestCtx
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI("http://hub" + base + path)
	c.Request.Header.Set("Authorization", "Bearer "+token)
	c.Request.SetBodyString(body)
	h.mux.Serve(&c)
	return fmt.Sprint(c.Response.StatusCode(), " ", string(c.Response.Body()))
}

// A member of the room may do what the room lets them, an admin all, others nothing.
func TestShadowAPI(t *testing.T) {
	h := start(t)
	alice, bob, root := h.user("alice", false), h.user("bob", false), h.user("root", true)
	_, err := h.e.CreateRoom(&engine.NewRoom{Creator: "@alice:hub.test", Alias: "house"})
	h.ok(err)
	_, err = h.e.AddThing("lamp", nil)
	h.ok(err)
	_, _, err = h.e.Shadows.Report("lamp", "lamp/state", []byte(`{"on":false}`), false)
	h.ok(err)
	const one = "/things/lamp/shadow/lamp%2Fstate"
	for _, c := range []struct{ token, method, path, body, want string }{
		{bob, "GET", one, "", "403 "},
		{alice, "GET", one, "", `200 {"thing":"lamp","topic":"lamp/state","version":1,"at":1700000000000,"reported":{"on":false}}`},
		{bob, "PUT", one + "/desired", `{"on":true}`, "403 "},
		{alice, "PUT", one + "/desired", `{"on":`, "400 "},
		{alice, "PUT", one + "/desired", `{"on":true}`, `200 {"thing":"lamp","topic":"lamp/state","version":2,"at":1700000000000,"reported":{"on":false},"desired":{"on":true},"delta":{"on":true}}`},
		{alice, "PUT", one + "/desired?version=1", `{"on":false}`, "4"},
		{root, "GET", "/things/lamp/shadow", "", `200 {"shadows":[{"thing":"lamp"`},
		{bob, "GET", "/things/lamp/shadow", "", `200 {"shadows":[]}`},
		{root, "PUT", "/things/nobody/shadow/x/desired", "1", "404 "},
		{alice, "DELETE", one, "", "200 {}"},
		{alice, "GET", one, "", "404 "},
		{"", "GET", one, "", "401 "},
	} {
		if got := h.ask(c.token, c.method, c.path, c.body); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s %s: %s", c.method, c.path, c.body, got)
		}
	}
}

// Who is suspended reads, and sets nothing.
func TestShadowsOfTheSuspended(t *testing.T) {
	h := start(t)
	alice := h.user("alice", false)
	_, err := h.e.CreateRoom(&engine.NewRoom{Creator: "@alice:hub.test", Alias: "house"})
	h.ok(err)
	_, err = h.e.AddThing("lamp", nil)
	h.ok(err)
	_, _, err = h.e.Shadows.Report("lamp", "lamp/state", []byte(`{"on":false}`), false)
	h.ok(err)
	num, err := h.e.Accounts.Find("@alice:hub.test")
	h.ok(err)
	h.ok(h.e.Accounts.SetSuspended(num, true))
	const one = "/things/lamp/shadow/lamp%2Fstate"
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", one, "", "200 "}, {"PUT", one + "/desired", `{"on":true}`, "403 "}, {"DELETE", one, "", "403 "},
	} {
		if got := h.ask(alice, c.method, c.path, c.body); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s: %s", c.method, c.path, got)
		}
	}
}

func TestTelemetryAPI(t *testing.T) {
	h := start(t)
	bob, root := h.user("bob", false), h.user("root", true)
	for i := range 4 {
		h.ok(h.e.Telemetry.Add("porch/t", fmt.Appendf(nil, "%d.5", i), nil))
	}
	const span = "from=1699999999000&until=1700000001000"
	for _, c := range []struct{ token, path, want string }{
		{root, "/telemetry", `200 {"topics":["porch/t"]}`},
		{bob, "/telemetry", `200 {"topics":[]}`},
		{bob, "/telemetry/porch%2Ft?" + span, "403 "},
		{root, "/telemetry/porch%2Ft?step=1000&" + span, `200 {"topic":"porch/t","step":1000,"fields":{"":[{"at":1700000000000,"min":0.5,"max":3.5,"mean":2,"last":3.5,"count":4}]}}`},
		{root, "/telemetry/porch%2Ft?step=0&" + span, "400 "},
		{root, "/telemetry/porch%2Ft?from=5&until=5", "400 "},
		{root, "/telemetry/a%2F%23", "400 "},
		{root, "/export?format=line&" + span, "200 mqtt,topic=porch/t value=0.5 1700000000000000000\n"},
		{root, "/export?format=xml&" + span, "400 "},
		{bob, "/export?" + span, "403 "},
	} {
		if got := h.ask(c.token, "GET", c.path, ""); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", c.path, got)
		}
	}
}
