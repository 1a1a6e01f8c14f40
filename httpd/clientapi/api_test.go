package clientapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/appservice"
	"hearth/httpd/hubtest"
	"hearth/httpd/wire"
)

// hub is the API over an engine in memory, asked without a socket.
type hub struct {
	t   *testing.T
	api *API
	e   *engine.Engine
	mux *wire.Mux

	clock hubtest.Clock
}

func start(t *testing.T, mode Mode) *hub {
	t.Helper()
	return startWith(t, Options{Registration: mode})
}

func startWith(t *testing.T, o Options) *hub {
	t.Helper()
	return startServed(t, o, appservice.Options{})
}

// startServed is startWith with application services.
func startServed(t *testing.T, o Options, services appservice.Options) *hub {
	t.Helper()
	h := &hub{t: t}
	h.e = hubtest.Open(t, engine.Options{Now: h.clock.Now, AppServices: services})
	o.Engine, o.PublicURL, o.Now = h.e, "https://hub.test/", h.clock.Now
	h.api = New(o)
	h.mux = wire.New(wire.Options{Authenticate: h.api.Authenticate, Log: slog.New(slog.DiscardHandler)})
	if err := h.mux.Add(h.api.Routes()); err != nil {
		t.Fatal(err)
	}
	return h
}

// answer is one response.
type answer struct {
	status int
	body   string
}

// str looks up a string in the answer by a path of keys.
func (a answer) str(keys ...string) string {
	s, _ := a.get(keys...).(string)
	return s
}

func (a answer) get(keys ...string) any { return hubtest.Get(a.body, keys...) }

func (h *hub) do(method, path, token, body string) answer {
	h.t.Helper()
	status, text := hubtest.Ask(h.t, h.mux, method, path, token, body)
	return answer{status, text}
}

// want asks and fails the test unless the status, and the errcode or the whole
// body where one is given, are as they should be.
func (h *hub) want(status int, expect, method, path, token, body string) answer {
	h.t.Helper()
	a := h.do(method, path, token, body)
	if a.status != status || !hubtest.Fits(a.body, expect) {
		h.t.Fatalf("%s %s %s: got %d %s, want %d %s", method, path, body, a.status, a.body, status, expect)
	}
	return a
}

const pw = "correct horse"

// join registers a user and gives the token.
func (h *hub) join(name string) string {
	h.t.Helper()
	a := h.want(200, "", "POST", v3+"/register", "", fmt.Sprintf(`{"auth":{"type":"m.login.dummy"},"username":%q,"password":%q,"device_id":"DEV"}`, name, pw))
	if a.str("user_id") != "@"+name+":hub.test" || a.str("device_id") != "DEV" {
		h.t.Fatal(a.body)
	}
	return a.str("access_token")
}

func TestServer(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	a := h.want(200, "", "GET", "/_matrix/client/versions", "", "")
	if !strings.Contains(a.body, `"r0.0.1"`) || !strings.Contains(a.body, `"v1.19"`) {
		t.Fatal(a.body)
	}
	h.want(200, `{"m.homeserver":{"base_url":"https://hub.test"}}`, "GET", "/.well-known/matrix/client", "", "")
	h.want(404, "M_NOT_FOUND", "GET", "/.well-known/matrix/server", "", "")
	h.want(404, "M_NOT_FOUND", "GET", "/.well-known/matrix/support", "", "")
	h.api.o.ServerAt = "hub.test:443"
	h.want(200, `{"m.server":"hub.test:443"}`, "GET", "/.well-known/matrix/server", "", "")
	h.api.o.Support = json.RawMessage(`{"contacts":[]}`)
	h.want(200, `{"contacts":[]}`, "GET", "/.well-known/matrix/support", "", "")
	a = h.want(200, "", "GET", v3+"/capabilities", token, "")
	if a.get("capabilities", "m.room_versions", "available", "12") != "stable" {
		t.Fatal(a.body)
	}
	h.want(401, "M_MISSING_TOKEN", "GET", v3+"/capabilities", "", "")
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/capabilities", "nonsense", "")
	h.want(404, "M_UNRECOGNIZED", "GET", v3+"/none", token, "")
	h.want(405, "M_UNRECOGNIZED", "PATCH", v3+"/capabilities", token, "")
	h.want(200, "", "GET", v3+"/account/whoami?access_token="+token, "", "")
}

func TestR0HasOnlyWhatItHad(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	const r0 = "/_matrix/client/r0"
	h.want(200, "", "GET", r0+"/login", "", "")
	h.want(200, "", "GET", r0+"/account/whoami", token, "")
	h.want(200, "", "GET", r0+"/pushrules/", token, "")
	h.want(200, "", "PUT", r0+"/profile/@bob:hub.test/displayname", token, `{"displayname":"Bob"}`)
	h.want(200, `{"displayname":"Bob"}`, "GET", r0+"/profile/@bob:hub.test/displayname", "", "")
	h.want(405, "M_UNRECOGNIZED", "DELETE", r0+"/profile/@bob:hub.test/displayname", token, "")
	h.want(404, "M_UNRECOGNIZED", "GET", r0+"/profile/@bob:hub.test/m.tz", token, "")
	h.want(404, "M_UNRECOGNIZED", "GET", r0+"/register/m.login.registration_token/validity?token=x", "", "")
}

// What the routes with a body say to bodies that are none of theirs.
func TestBadBodies(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	me := v3 + "/user/@bob:hub.test"
	for _, c := range []struct{ method, path, wrong string }{
		{"POST", v3 + "/login", `{"type":7}`},
		{"POST", v3 + "/login", `{"type":"m.login.password","password":"x","identifier":"bob"}`},
		{"POST", v3 + "/login", `{"type":"m.login.password","password":"x","identifier":{"type":"m.id.user","user":7}}`},
		{"POST", v3 + "/register", `{"username":[]}`},
		{"POST", v3 + "/register", `{"auth":"x"}`},
		{"POST", v3 + "/register", `{"inhibit_login":"yes"}`},
		{"POST", v3 + "/account/password", `{"new_password":{}}`},
		{"POST", v3 + "/account/deactivate", `{"erase":"x"}`},
		{"POST", v3 + "/delete_devices", `{"devices":"x"}`},
		{"POST", v3 + "/delete_devices", `{"devices":[7]}`},
		{"PUT", v3 + "/devices/DEV", `{"display_name":7}`},
		{"PUT", v3 + "/profile/@bob:hub.test/displayname", `{"displayname":7}`},
		{"PUT", me + "/account_data/x", ``},
		{"POST", me + "/filter", `{"room":7}`},
		{"PUT", v3 + "/pushrules/global/content/x", `{"actions":7,"pattern":"x"}`},
		{"PUT", v3 + "/pushrules/global/override/.m.rule.master/enabled", `{"enabled":"x"}`},
		{"PUT", v3 + "/pushrules/global/override/.m.rule.master/actions", `{"actions":"x"}`},
	} {
		h.want(400, "M_NOT_JSON", c.method, c.path, token, `{"broken": `)
		h.want(400, "M_NOT_JSON", c.method, c.path, token, `{"a":"`+"\xff\xfe"+`"}`)
		h.want(400, "M_BAD_JSON", c.method, c.path, token, `["no object"]`)
		if c.wrong != "" {
			h.want(400, "M_BAD_JSON", c.method, c.path, token, c.wrong)
		}
		h.want(413, "M_TOO_LARGE", c.method, c.path, token, `{"a":"`+strings.Repeat("x", 2<<20)+`"}`)
		h.want(400, "M_NOT_JSON", c.method, c.path, token, strings.Repeat(`{"a":`, 20000)+"1"+strings.Repeat("}", 20000))
	}
}
