package clientapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"hearth/engine/appservice"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

const (
	irc   = "token-of-the-irc-bridge"
	shop  = "token-of-the-shop-bridge"
	quiet = "token-of-one-without-url"
)

var registrations = []string{`
id: irc
url: http://irc.test
as_token: ` + irc + `
hs_token: hub-to-irc
sender_localpart: ircbot
rate_limited: false
protocols: [irc]
namespaces:
  users: [{exclusive: true, regex: "@_irc_.*"}]
  aliases: [{exclusive: true, regex: "#_irc_.*"}]
`, `
id: shop
url: http://shop.test/
as_token: ` + shop + `
hs_token: hub-to-shop
sender_localpart: shopbot
org.matrix.msc3202: true
protocols: [irc, till]
namespaces: {users: [{exclusive: true, regex: "@_shop_.*"}, {exclusive: false, regex: "@shared_.*"}]}
`, `
id: quiet
url: null
as_token: ` + quiet + `
hs_token: hub-to-quiet
sender_localpart: quiet
namespaces: {}
`}

// bridges answers for the services of registrations.
type bridges struct {
	mu     sync.Mutex
	asked  []string // method and URL of all but transactions
	answer func(r *appservice.Request) (int, string, error)
	all    func(r *appservice.Request) (int, string, error) // nil, or what answers everything
}

func (b *bridges) ask(_ context.Context, r *appservice.Request) (int, []byte, error) {
	b.mu.Lock()
	if !strings.Contains(r.URL, "/transactions/") {
		b.asked = append(b.asked, r.Method+" "+r.URL)
	}
	answer, all := b.answer, b.all
	b.mu.Unlock()
	if all != nil {
		status, body, err := all(r)
		return status, []byte(body), err
	}
	if answer == nil || strings.Contains(r.URL, "/transactions/") {
		return 200, []byte(`{}`), nil
	}
	status, body, err := answer(r)
	return status, []byte(body), err
}

func (b *bridges) answers(f func(r *appservice.Request) (int, string, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked, b.answer = nil, f
}

// startBridged is a hub with the services of registrations.
func startBridged(t *testing.T) (*hub, *bridges) {
	t.Helper()
	b := &bridges{}
	h := startServed(t, Options{Registration: Anyone}, appservice.Options{
		Ask: b.ask, First: time.Millisecond, Most: time.Millisecond,
		Load: func(server mxid.Server) (*appservice.Set, error) {
			var list []*appservice.Service
			for _, text := range registrations {
				s, err := appservice.Parse([]byte(text), server)
				if err != nil {
					return nil, err
				}
				list = append(list, s)
			}
			return appservice.NewSet(list)
		},
	})
	return h, b
}

const byService = `"type":"m.login.application_service"`

// ghost registers a user of a service.
func (h *hub) ghost(token, name string) {
	h.t.Helper()
	h.want(200, "", "POST", v3+"/register", token, fmt.Sprintf(`{%s,"username":%q,"inhibit_login":true}`, byService, name))
}

func TestServicesRegisterTheirUsers(t *testing.T) {
	h, _ := startBridged(t)
	const register = v3 + "/register"
	h.want(401, "M_MISSING_TOKEN", "POST", register, "", `{`+byService+`,"username":"_irc_a"}`)
	h.want(401, "M_UNKNOWN_TOKEN", "POST", register, h.join("eve"), `{`+byService+`,"username":"_irc_a"}`)
	h.want(400, "M_MISSING_PARAM", "POST", register, irc, `{`+byService+`}`)
	h.want(400, "M_BAD_JSON", "POST", register, irc, `{`+byService+`,"username":[]}`)
	for _, name := range []string{"bob", "_shop_a", "_ircx", "shopbot"} {
		h.want(400, "M_EXCLUSIVE", "POST", register, irc, fmt.Sprintf(`{%s,"username":%q}`, byService, name))
	}
	h.want(400, "M_INVALID_USERNAME", "POST", register, irc, `{`+byService+`,"username":"_irc_ä"}`)
	a := h.want(200, "", "POST", register, irc, `{`+byService+`,"username":"_irc_a","inhibit_login":true}`)
	if a.str("user_id") != "@_irc_a:hub.test" || a.str("access_token") != "" {
		t.Error(a.body)
	}
	h.want(400, "M_USER_IN_USE", "POST", register, irc, `{`+byService+`,"username":"_irc_a"}`)
	a = h.want(200, "", "POST", register, irc, `{`+byService+`,"username":"_IRC_b","device_id":"D"}`)
	if a.str("user_id") != "@_irc_b:hub.test" || a.str("device_id") != "D" {
		t.Error(a.body)
	}
	h.want(200, `{"device_id":"D","is_guest":false,"user_id":"@_irc_b:hub.test"}`, "GET", v3+"/account/whoami", a.str("access_token"), "")
	// People do not get the names, nor do they learn that one is free.
	h.want(400, "M_EXCLUSIVE", "POST", register, "", `{"auth":{"type":"m.login.dummy"},"username":"_irc_c","password":"correct horse"}`)
	h.want(400, "M_EXCLUSIVE", "GET", register+"/available?username=_irc_c", "", "")
	h.want(200, `{"available":true}`, "GET", register+"/available?username=shared_a", "", "")
}

func TestServicesLogIn(t *testing.T) {
	h, _ := startBridged(t)
	const login = v3 + "/login"
	h.ghost(irc, "_irc_a")
	who := func(name string) string {
		return fmt.Sprintf(`{%s,"identifier":{"type":"m.id.user","user":%q}}`, byService, name)
	}
	if a := h.want(200, "", "GET", login, "", ""); !strings.Contains(a.body, `{"type":"m.login.application_service"}`) {
		t.Error(a.body)
	}
	a := h.want(200, "", "POST", login, irc, who("_irc_a"))
	if a.str("user_id") != "@_irc_a:hub.test" || a.str("device_id") == "" {
		t.Error(a.body)
	}
	h.want(200, "", "GET", v3+"/account/whoami", a.str("access_token"), "")
	h.want(200, "", "POST", login, irc, who("ircbot"))
	h.want(403, "M_FORBIDDEN", "POST", login, irc, who("_irc_nobody"))
	h.want(400, "M_EXCLUSIVE", "POST", login, shop, who("_irc_a"))
	h.want(401, "M_MISSING_TOKEN", "POST", login, "", who("_irc_a"))
	h.want(401, "M_UNKNOWN_TOKEN", "POST", login, a.str("access_token"), who("_irc_a"))
	h.want(400, "M_MISSING_PARAM", "POST", login, irc, `{`+byService+`}`)
	// A user who has gone does not come back.
	h.want(200, "", "POST", v3+"/account/deactivate?user_id=@_irc_a:hub.test", irc, `{}`)
	h.want(403, "", "POST", login, irc, who("_irc_a"))
	h.want(403, "M_FORBIDDEN", "GET", v3+"/account/whoami?user_id=@_irc_a:hub.test", irc, "")
	h.want(400, "M_USER_IN_USE", "POST", v3+"/register", irc, `{`+byService+`,"username":"_irc_a"}`)
}

func TestServicesActAsTheirUsers(t *testing.T) {
	h, _ := startBridged(t)
	h.ghost(irc, "_irc_a")
	const whoami = v3 + "/account/whoami"
	h.want(200, `{"is_guest":false,"user_id":"@ircbot:hub.test"}`, "GET", whoami, irc, "")
	h.want(200, `{"is_guest":false,"user_id":"@ircbot:hub.test"}`, "GET", whoami+"?access_token="+irc, "", "")
	h.want(200, `{"is_guest":false,"user_id":"@_irc_a:hub.test"}`, "GET", whoami+"?user_id=%40_irc_a%3Ahub.test", irc, "")
	for _, name := range []string{"@_irc_nobody:hub.test", "@_shop_a:hub.test", "@_irc_a:elsewhere", "nonsense", "@"} {
		h.want(403, "M_FORBIDDEN", "GET", whoami+"?user_id="+url.QueryEscape(name), irc, "")
	}
	const as = "?user_id=@_irc_a:hub.test"
	for _, name := range []string{"device_id", "org.matrix.msc3202.device_id"} {
		h.want(400, "M_UNKNOWN_DEVICE", "GET", whoami+as+"&"+name+"=NONE", irc, "")
	}
	h.want(201, "{}", "PUT", v3+"/devices/BRIDGE"+as, irc, `{"display_name":"Bridge"}`)
	h.want(200, "{}", "PUT", v3+"/devices/BRIDGE"+as, irc, `{"display_name":"Bridge 2"}`)
	h.want(200, `{"device_id":"BRIDGE","is_guest":false,"user_id":"@_irc_a:hub.test"}`, "GET", whoami+as+"&device_id=BRIDGE", irc, "")
	if a := h.want(200, "", "GET", v3+"/devices/BRIDGE"+as, irc, ""); a.str("display_name") != "Bridge 2" {
		t.Error(a.body)
	}
	eve := h.join("eve")
	h.want(404, "M_NOT_FOUND", "PUT", v3+"/devices/BRIDGE", eve, `{"display_name":"no"}`)
	// Keys are a device's: without one there is nothing to upload them for.
	if a := h.do("POST", v3+"/keys/upload"+as, irc, `{}`); a.status/100 != 4 {
		t.Error("keys without a device:", a)
	}
	h.want(200, "", "POST", v3+"/keys/upload"+as+"&device_id=BRIDGE", irc, `{}`)
	// Nobody is asked for a password that there is not.
	for _, seed := range []byte{'a', 'b'} {
		body, _ := crossBody("_irc_a", seed, 0)
		h.want(200, "{}", "POST", v3+"/keys/device_signing/upload"+as, irc, "{"+body+"}")
	}
	h.want(200, "{}", "DELETE", v3+"/devices/BRIDGE"+as, irc, `{}`)
	h.want(201, "{}", "PUT", v3+"/devices/TWO"+as, irc, `{}`)
	h.want(200, "{}", "POST", v3+"/delete_devices"+as, irc, `{"devices":["TWO"]}`)
	h.want(200, `{"devices":[]}`, "GET", v3+"/devices"+as, irc, "")
}

func TestServicesSetTheTime(t *testing.T) {
	h, _ := startBridged(t)
	h.ghost(irc, "_irc_a")
	const as = "?user_id=@_irc_a:hub.test"
	room := h.want(200, "", "POST", v3+"/createRoom"+as, irc, `{"preset":"public_chat"}`).str("room_id")
	at := func(id, token, query string) string {
		return fmt.Sprintf("%.0f", h.want(200, "", "GET", v3+"/rooms/"+room+"/event/"+id+query, token, "").get("origin_server_ts"))
	}
	send := func(token, query string) string {
		return h.want(200, "", "PUT", v3+"/rooms/"+room+"/send/m.room.message/"+strings.Trim(query, "?=&")+query, token, `{"body":"x","msgtype":"m.text"}`).str("event_id")
	}
	if got := at(send(irc, as+"&ts=1234567890123"), irc, as); got != "1234567890123" {
		t.Error(got)
	}
	id := h.want(200, "", "PUT", v3+"/rooms/"+room+"/state/m.room.topic"+as+"&ts=42", irc, `{"topic":"x"}`).str("event_id")
	if got := at(id, irc, as); got != "42" {
		t.Error(got)
	}
	for _, bad := range []string{"-1", "x", "99999999999999999999"} {
		a := h.do("PUT", v3+"/rooms/"+room+"/send/m.room.message/bad"+as+"&ts="+bad, irc, `{"body":"x","msgtype":"m.text"}`)
		if a.status != 400 {
			t.Error(bad, a)
		}
	}
	eve := h.join("eve")
	h.want(200, "", "POST", v3+"/join/"+room, eve, `{}`)
	// What it says of where a message is from goes with it.
	id = h.want(200, "", "PUT", v3+"/rooms/"+room+"/send/m.room.message/from"+as, irc, `{"body":"x","msgtype":"m.text","external_url":"https://irc.test/1"}`).str("event_id")
	if a := h.want(200, "", "GET", v3+"/rooms/"+room+"/event/"+id, eve, ""); a.str("content", "external_url") != "https://irc.test/1" {
		t.Error(a.body)
	}
	if got := at(send(eve, "?ts=42"), eve, ""); got != fmt.Sprint(h.clock.Now().UnixMilli()) {
		t.Error("anybody sets the time:", got)
	}
}

// A service makes users and rooms when somebody asks for them.
func TestServicesAreAsked(t *testing.T) {
	h, b := startBridged(t)
	bob := h.join("bob")
	b.answers(func(r *appservice.Request) (int, string, error) {
		u, err := url.Parse(r.URL)
		if err != nil {
			return 0, "", err
		}
		name, ok := strings.CutPrefix(u.Path, "/_matrix/app/v1/users/@")
		if local, _, _ := strings.Cut(name, ":"); ok && strings.HasPrefix(name, "_irc_there") {
			h.ghost(irc, local)
			return 200, `{}`, nil
		}
		if name, ok := strings.CutPrefix(u.Path, "/_matrix/app/v1/rooms/#"); ok && strings.HasPrefix(name, "_irc_there") {
			local, _, _ := strings.Cut(name, ":")
			h.want(200, "", "POST", v3+"/createRoom", irc, fmt.Sprintf(`{"preset":"public_chat","room_alias_name":%q}`, local))
			return 200, `{}`, nil
		}
		return 404, `{"errcode":"M_NOT_FOUND"}`, nil
	})
	h.want(200, "{}", "GET", v3+"/profile/@_irc_there1:hub.test", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/profile/@_irc_none:hub.test", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/profile/@unknown:hub.test", bob, "")
	room := h.want(200, "", "POST", v3+"/createRoom", bob, `{"invite":["@_irc_there2:hub.test"],"is_direct":true}`).str("room_id")
	h.want(200, "{}", "POST", v3+"/rooms/"+room+"/invite", bob, `{"user_id":"@_irc_there3:hub.test"}`)
	for _, name := range []string{"2", "3"} {
		h.want(200, "", "POST", v3+"/join/"+room+"?user_id=@_irc_there"+name+":hub.test", irc, `{}`)
	}
	h.want(200, "", "POST", v3+"/join/%23_irc_there1:hub.test", bob, `{}`)
	h.want(200, "", "GET", v3+"/directory/room/%23_irc_there2:hub.test", bob, "")
	h.want(200, "", "GET", "/_matrix/client/v1/room_summary/%23_irc_there3:hub.test", bob, "")
	h.want(403, "M_FORBIDDEN", "POST", v3+"/knock/%23_irc_there4:hub.test", bob, `{}`) // it is there, but not for knocking
	for _, where := range []string{"join", "knock"} {
		h.want(404, "M_NOT_FOUND", "POST", v3+"/"+where+"/%23_irc_none:hub.test", bob, `{}`)
		h.want(404, "M_NOT_FOUND", "POST", v3+"/"+where+"/%23unknown:hub.test", bob, `{}`)
	}
	// Who is there is not asked for, and a service not for what it makes itself.
	b.answers(nil)
	h.want(200, "", "GET", v3+"/profile/@_irc_there1:hub.test", bob, "")
	h.want(200, "", "POST", v3+"/join/%23_irc_there1:hub.test", bob, `{}`)
	h.want(200, "", "POST", v3+"/createRoom", irc, `{"invite":["@_irc_new:hub.test"]}`)
	b.mu.Lock()
	asked := b.asked
	b.mu.Unlock()
	if len(asked) > 0 {
		t.Error(asked)
	}
	// One that does not answer is asked again, and then it is over.
	b.answers(func(*appservice.Request) (int, string, error) { return 0, "", context.DeadlineExceeded })
	h.want(408, "M_UNKNOWN", "POST", v3+"/join/%23_irc_more:hub.test", bob, `{}`)
	b.mu.Lock()
	asked = b.asked
	b.mu.Unlock()
	if len(asked) != 3 {
		t.Error(asked)
	}
	h.want(408, "M_UNKNOWN", "GET", v3+"/profile/@_irc_more:hub.test", bob, "")
}

func TestServicesPing(t *testing.T) {
	h, b := startBridged(t)
	const ping = v1 + "/appservice/"
	status, body, failed := 200, `{}`, error(nil)
	b.answers(func(r *appservice.Request) (int, string, error) {
		if r.Method+" "+r.URL+" "+r.Token != "POST http://irc.test/_matrix/app/v1/ping hub-to-irc" || string(r.Body) != `{"transaction_id":"t"}` {
			return 500, r.Method + r.URL + string(r.Body), nil
		}
		return status, body, failed
	})
	a := h.want(200, "", "POST", ping+"irc/ping", irc, `{"transaction_id":"t"}`)
	if _, ok := a.get("duration_ms").(float64); !ok {
		t.Error(a.body)
	}
	h.want(403, "M_FORBIDDEN", "POST", ping+"irc/ping", shop, `{}`)
	h.want(403, "M_FORBIDDEN", "POST", ping+"irc/ping", h.join("bob"), `{}`)
	h.want(401, "M_MISSING_TOKEN", "POST", ping+"irc/ping", "", `{}`)
	h.want(400, "M_URL_NOT_SET", "POST", ping+"quiet/ping", quiet, `{}`)
	h.want(400, "M_BAD_JSON", "POST", ping+"irc/ping", irc, `{"transaction_id":7}`)
	for _, c := range []struct {
		status  int
		body    string
		failed  error
		want    int
		errcode string
	}{
		{403, `{"errcode":"M_FORBIDDEN"}`, nil, 502, "M_BAD_STATUS"}, {500, "<html>", nil, 502, "M_BAD_STATUS"}, {302, "", nil, 502, "M_BAD_STATUS"},
		{0, "", errors.New("refused"), 502, "M_CONNECTION_FAILED"}, {0, "", context.DeadlineExceeded, 504, "M_CONNECTION_TIMEOUT"},
	} {
		status, body, failed = c.status, c.body, c.failed
		a := h.want(c.want, c.errcode, "POST", ping+"irc/ping", irc, `{"transaction_id":"t"}`)
		if c.errcode == "M_BAD_STATUS" && (fmt.Sprint(a.get("status")) != fmt.Sprint(c.status) || a.str("body") != c.body) {
			t.Error(a.body)
		}
	}
}

func TestServicesOwnAliases(t *testing.T) {
	h, _ := startBridged(t)
	bob := h.join("bob")
	room := h.want(200, "", "POST", v3+"/createRoom", bob, `{"preset":"public_chat"}`).str("room_id")
	const alias = v3 + "/directory/room/%23_irc_x:hub.test"
	h.want(400, "M_EXCLUSIVE", "PUT", alias, bob, fmt.Sprintf(`{"room_id":%q}`, room))
	h.want(400, "M_EXCLUSIVE", "POST", v3+"/createRoom", bob, `{"room_alias_name":"_irc_x"}`)
	h.want(400, "M_EXCLUSIVE", "POST", v3+"/createRoom", shop, `{"room_alias_name":"_irc_x"}`)
	own := h.want(200, "", "POST", v3+"/createRoom", irc, `{"preset":"public_chat","room_alias_name":"_irc_x"}`).str("room_id")
	h.want(403, "M_FORBIDDEN", "DELETE", alias, bob, "")
	const list = v3 + "/directory/list/appservice/net/"
	h.want(200, "{}", "PUT", list+own, irc, `{"visibility":"public"}`)
	h.want(200, `{"visibility":"public"}`, "GET", v3+"/directory/list/room/"+own, bob, "")
	h.want(200, "{}", "PUT", list+own, irc, `{"visibility":"private"}`)
	h.want(200, "{}", "DELETE", alias, irc, "")
}

// The owner may let a service do as much as it likes; its own user always may.
func TestServicesAreLimitedAsTheyAsk(t *testing.T) {
	h, _ := startBridged(t)
	h.ghost(irc, "_irc_a")
	h.ghost(shop, "_shop_a")
	h.mux = wire.New(wire.Options{Authenticate: h.api.Authenticate, Limits: wire.NewLimits(h.clock.Now)})
	if err := h.mux.Add(h.api.Routes()); err != nil {
		t.Fatal(err)
	}
	limited := func(token, as string) bool {
		for i := range 300 {
			a := h.do("POST", v3+"/join/!none:hub.test?user_id="+as+fmt.Sprintf("&n=%d", i), token, `{}`)
			if a.status == 429 {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		token, as string
		want      bool
	}{
		{irc, "@_irc_a:hub.test", false}, {irc, "", false}, {shop, "", false}, {shop, "@shopbot:hub.test", false}, {shop, "@_shop_a:hub.test", true},
	} {
		if got := limited(c.token, c.as); got != c.want {
			t.Errorf("%s as %q: limited %t, want %t", c.token, c.as, got, c.want)
		}
	}
}

func TestServicesTellOfOtherNetworks(t *testing.T) {
	h, b := startBridged(t)
	bob := h.join("bob")
	const third = v3 + "/thirdparty"
	b.answers(func(r *appservice.Request) (int, string, error) {
		if path, shops := strings.CutPrefix(r.URL, "http://shop.test/_matrix/app/v1/thirdparty/"); shops {
			switch path {
			case "protocol/irc":
				return 200, `{"user_fields":["till"],"location_fields":[],"icon":"mxc://c/d","field_types":{},"instances":[{"desc":"two","network_id":"2","fields":{}}]}`, nil
			case "user/irc?nick=both":
				return 200, `[{"userid":"@_shop_a:hub.test","protocol":"irc","fields":{}}]`, nil
			}
			return 404, `{"errcode":"M_NOT_FOUND"}`, nil
		}
		switch strings.TrimPrefix(r.URL, "http://irc.test/_matrix/app/v1/thirdparty/") {
		case "protocol/irc":
			return 200, `{"user_fields":["nick"],"location_fields":["channel"],"icon":"mxc://a/b","field_types":{},"instances":[{"desc":"one","network_id":"1","fields":{}}]}`, nil
		case "user/irc?nick=a":
			return 200, `[{"userid":"@_irc_a:hub.test","protocol":"irc","fields":{"nick":"a"}}]`, nil
		case "location?alias=%23_irc_x%3Ahub.test":
			return 200, `[{"alias":"#_irc_x:hub.test","protocol":"irc","fields":{}}]`, nil
		case "user/irc?nick=both":
			return 200, `[{"userid":"@_irc_b:hub.test","protocol":"irc","fields":{}},7]`, nil
		case "user/irc?nick=long":
			return 200, `not json`, nil
		}
		return 404, `{"errcode":"M_NOT_FOUND"}`, nil
	})
	a := h.want(200, "", "GET", third+"/protocols", bob, "")
	if p, _ := a.get("irc", "instances").([]any); len(p) != 2 || a.str("irc", "icon") != "mxc://a/b" || a.get("till") != nil {
		t.Error(a.body)
	}
	h.want(200, `[{"userid":"@_irc_b:hub.test","protocol":"irc","fields":{}},{"userid":"@_shop_a:hub.test","protocol":"irc","fields":{}}]`, "GET", third+"/user/irc?nick=both", bob, "")
	h.want(200, "", "GET", third+"/protocol/irc", bob, "")
	h.want(200, `[{"userid":"@_irc_a:hub.test","protocol":"irc","fields":{"nick":"a"}}]`, "GET", third+"/user/irc?nick=a", bob, "")
	h.want(200, "", "GET", third+"/location?alias=%23_irc_x%3Ahub.test", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", third+"/user/irc?nick=none", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", third+"/user/irc?nick=long", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", third+"/user/icq?nick=a", bob, "")
}
