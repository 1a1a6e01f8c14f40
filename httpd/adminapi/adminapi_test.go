package adminapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/hubtest"
	"hearth/httpd/wire"
)

// hub is the API over an engine in memory, with the admin @root and the user @bob.
type hub struct {
	t         *testing.T
	e         *engine.Engine
	mux       *wire.Mux
	clock     hubtest.Clock
	root, bob string
	nums      map[string]uint32
}

func start(t *testing.T) *hub {
	t.Helper()
	return startWith(t, engine.IdentityWays{})
}

func startWith(t *testing.T, lookups engine.IdentityWays) *hub {
	t.Helper()
	h := &hub{t: t, nums: map[string]uint32{}}
	h.e = hubtest.Open(t, engine.Options{Now: h.clock.Now, Identity: lookups})
	h.mux = wire.New(wire.Options{
		Authenticate: func(r *wire.Req) (account.Session, error) { return h.e.Accounts.Authenticate(r.Token()) },
		Log:          slog.New(slog.DiscardHandler),
	})
	h.ok(h.mux.Add(New(Options{Engine: h.e, Version: "1.2", Now: h.clock.Now}).Routes()))
	h.root, h.bob = h.user("root", true), h.user("bob", false)
	return h
}

func (h *hub) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// user makes a user and gives a token.
func (h *hub) user(name string, admin bool) string {
	h.t.Helper()
	num, err := h.e.Accounts.Create(account.NewUser{Localpart: name, Password: "correct horse", Admin: admin})
	h.ok(err)
	h.nums[name] = num
	tokens, _, err := h.e.Accounts.Login(num, account.NewSession{Device: "DEV"})
	h.ok(err)
	return tokens.Access
}

type answer struct {
	status int
	body   string
}

func (a answer) get(keys ...string) any { return hubtest.Get(a.body, keys...) }

func (h *hub) do(method, path, token, body string) answer {
	h.t.Helper()
	status, text := hubtest.Ask(h.t, h.mux, method, path, token, body)
	if status >= 500 {
		h.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return answer{status, text}
}

// want asks as the admin, and fails the test unless the status, and the errcode
// or the whole body where one is given, are as they should be.
func (h *hub) want(status int, expect, method, path, body string) answer {
	h.t.Helper()
	a := h.do(method, path, h.root, body)
	if a.status != status || !hubtest.Fits(a.body, expect) {
		h.t.Fatalf("%s %s %s: got %d %s, want %d %s", method, path, body, a.status, a.body, status, expect)
	}
	return a
}

// Nobody but admins learns anything, whatever they ask for, and nothing that an
// admin sends is a fault of the hub.
func TestEveryRoute(t *testing.T) {
	h := start(t)
	for _, rt := range New(Options{Engine: h.e}).Routes() {
		path := rt.Pattern
		for _, p := range []string{"userId", "roomId", "deviceId", "token", "deleteId", "txnId", "reportId", "serverName", "mediaId"} {
			path = strings.ReplaceAll(path, "{"+p+"}", "x")
		}
		if a := h.do(rt.Method, path, "", "{}"); a.get("errcode") != "M_MISSING_TOKEN" {
			t.Errorf("%s %s: %s", rt.Method, path, a.body)
		}
		if a := h.do(rt.Method, path, h.bob, "{}"); a.status != 403 || a.get("errcode") != "M_FORBIDDEN" {
			t.Errorf("%s %s: %s", rt.Method, path, a.body)
		}
		for _, body := range []string{"", "{", "[]", "7", `{"admin":7}`, "{\"a\":\"\xff\"}", "{}"} {
			for _, target := range []string{"x", "@bob:hub.test", "@none:hub.test", "@x:elsewhere", "!none:hub.test", "%23none:hub.test"} {
				if strings.Contains(path, "deactivate") && target == "@bob:hub.test" {
					continue
				}
				h.do(rt.Method, strings.Replace(path, "/x", "/"+target, 1), h.root, body)
			}
		}
	}
}

func TestUsers(t *testing.T) {
	h := start(t)
	if a := h.want(200, "", "GET", v1+"/server_version", ""); a.get("server_version") != "Hearth 1.2" {
		t.Fatal(a.body)
	}
	const eve = v2 + "/users/@eve:hub.test"
	h.want(200, `{"application_services":[]}`, "GET", v1+"/application_services", "")
	h.want(404, "M_NOT_FOUND", "GET", eve, "")
	h.want(400, "M_INVALID_PARAM", "GET", v2+"/users/@eve:elsewhere", "")
	h.want(400, "M_WEAK_PASSWORD", "PUT", eve, `{"password":"short"}`)
	a := h.want(201, "", "PUT", eve, `{"password":"correct horse","displayname":"Eve","admin":true}`)
	if a.get("name") != "@eve:hub.test" || a.get("admin") != true || a.get("displayname") != "Eve" || a.get("avatar_url") != nil {
		t.Fatal(a.body)
	}
	a = h.want(200, "", "PUT", eve, `{"admin":false,"displayname":"","avatar_url":"mxc://hub.test/x","locked":true}`)
	if a.get("admin") != false || a.get("displayname") != nil || a.get("avatar_url") != "mxc://hub.test/x" || a.get("locked") != true {
		t.Fatal(a.body)
	}
	h.want(200, "", "PUT", eve, `{"locked":false}`)
	h.want(400, "M_INVALID_PARAM", "PUT", v2+"/users/@root:hub.test", `{"admin":false}`)
	h.want(400, "M_INVALID_PARAM", "PUT", v2+"/users/@root:hub.test", `{"deactivated":true}`)
	h.want(400, "M_INVALID_USERNAME", "PUT", v2+"/users/@E!:hub.test", `{}`)

	list := func(query string, names ...string) answer {
		t.Helper()
		a := h.want(200, "", "GET", v2+"/users?"+query, "")
		users, _ := a.get("users").([]any)
		var got []string
		for _, u := range users {
			got = append(got, strings.TrimSuffix(u.(map[string]any)["name"].(string), ":hub.test"))
		}
		if strings.Join(got, " ") != strings.Join(names, " ") {
			t.Fatalf("%s: got %v, want %v", query, got, names)
		}
		return a
	}
	list("", "@bob", "@eve", "@root")
	list("dir=b", "@root", "@eve", "@bob")
	if a := list("limit=2", "@bob", "@eve"); a.get("next_token") != "2" || a.get("total") != 3.0 {
		t.Fatal(a.body)
	}
	if a := list("limit=2&from=2", "@root"); a.get("next_token") != nil {
		t.Fatal(a.body)
	}
	list("name=EV", "@eve")
	list("admins=true", "@root")
	list("user_id=@bob", "@bob")
	h.want(400, "M_INVALID_PARAM", "GET", v2+"/users?from=-1", "")
	h.want(400, "M_INVALID_PARAM", "GET", v2+"/users?dir=x", "")

	h.want(200, `{"admin":false}`, "GET", v1+"/users/@bob:hub.test/admin", "")
	h.want(200, `{}`, "PUT", v1+"/users/@bob:hub.test/admin", `{"admin":true}`)
	h.want(200, `{"admin":true}`, "GET", v1+"/users/@bob:hub.test/admin", "")
	h.want(400, "M_INVALID_PARAM", "PUT", v1+"/users/@root:hub.test/admin", `{"admin":false}`)
	h.want(200, `{}`, "PUT", v1+"/users/@bob:hub.test/admin", `{"admin":false}`)
	h.want(200, `{"user_@bob:hub.test_suspended":true}`, "PUT", v1+"/suspend/@bob:hub.test", `{"suspend":true}`)

	a = h.want(200, "", "POST", v1+"/users/@bob:hub.test/login", `{}`)
	if s, err := h.e.Accounts.Authenticate([]byte(a.get("access_token").(string))); err != nil || s.UserID != "@bob:hub.test" || !s.Suspended {
		t.Fatal(s, err)
	}
	h.want(400, "M_INVALID_PARAM", "POST", v1+"/users/@bob:hub.test/login", `{"valid_until_ms":1}`)
	h.want(200, `{}`, "POST", v1+"/reset_password/@bob:hub.test", `{"new_password":"battery staple"}`)
	if _, err := h.e.Accounts.CheckPassword("@bob:hub.test", "battery staple"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.Accounts.Authenticate([]byte(h.bob)); err == nil {
		t.Fatal("the old session is still good")
	}
	h.want(200, `{"id_server_unbind_result":"success"}`, "POST", v1+"/deactivate/@bob:hub.test", `{"erase":true}`)
	list("", "@eve", "@root")
	list("deactivated=true", "@bob", "@eve", "@root")
	h.want(400, "M_INVALID_PARAM", "PUT", v2+"/users/@bob:hub.test", `{"deactivated":false}`)
	h.want(400, "M_USER_IN_USE", "GET", v1+"/username_available?username=BOB", "")
	h.want(200, `{"available":true}`, "GET", v1+"/username_available?username=free", "")
}

// Who is deactivated by an admin is forgotten by the identity servers, as who goes
// by themselves; one that does not answer keeps what it has.
func TestDeactivateUnbinds(t *testing.T) {
	var asked []string
	h := startWith(t, engine.IdentityWays{Ask: func(_ context.Context, q *engine.IdentityQuestion) (int, []byte, error) {
		asked = append(asked, q.Method+" "+q.Server+q.Path+" "+q.Token+string(q.Body))
		if q.Server == "away.test" {
			return 0, nil, errors.New("away")
		}
		return 200, []byte(`{}`), nil
	}})
	bound := func(name string, servers ...string) {
		for i, s := range servers {
			h.ok(h.e.Accounts.AddBound(h.nums[name], account.Bound{Medium: "email", Address: fmt.Sprintf("%s%d@x.test", name, i), Server: s}))
		}
	}
	h.user("eve", false)
	h.user("dan", false)
	bound("bob", "id.test", "id2.test")
	bound("eve", "away.test", "id.test")
	bound("dan", "id.test")
	h.want(200, `{"id_server_unbind_result":"success"}`, "POST", v1+"/deactivate/@bob:hub.test", `{}`)
	h.want(200, `{"id_server_unbind_result":"no-support"}`, "POST", v1+"/deactivate/@eve:hub.test", `{}`)
	h.want(200, "", "PUT", v2+"/users/@dan:hub.test", `{"deactivated":true}`)
	unbind := func(server, who, address string) string {
		return "POST " + server + `/3pid/unbind {"mxid":"@` + who + `:hub.test","threepid":{"medium":"email","address":"` + address + `@x.test"}}`
	}
	want := []string{unbind("id.test", "bob", "bob0"), unbind("id2.test", "bob", "bob1"), unbind("away.test", "eve", "eve0"), unbind("id.test", "eve", "eve1"), unbind("id.test", "dan", "dan0")}
	if !slices.Equal(asked, want) {
		t.Errorf("asked\n%q, want\n%q", asked, want)
	}
	for name, left := range map[string]int{"bob": 0, "eve": 1, "dan": 0} {
		if list, err := h.e.Accounts.AllBound(h.nums[name]); err != nil || len(list) != left {
			t.Errorf("%s has %v left, %v", name, list, err)
		}
	}
}

func TestDevices(t *testing.T) {
	h := start(t)
	const devices = v2 + "/users/@bob:hub.test/devices"
	h.want(200, `{"devices":[{"device_id":"DEV","display_name":null,"last_seen_ip":null,"last_seen_ts":1700000000000,"user_id":"@bob:hub.test"}],"total":1}`, "GET", devices, "")
	h.want(200, `{}`, "PUT", devices+"/DEV", `{"display_name":"lamp"}`)
	if a := h.want(200, "", "GET", devices+"/DEV", ""); a.get("display_name") != "lamp" {
		t.Fatal(a.body)
	}
	h.want(404, "M_NOT_FOUND", "GET", devices+"/NONE", "")
	h.want(200, "", "GET", v1+"/whois/@bob:hub.test", "")
	h.want(200, `{}`, "DELETE", devices+"/DEV", "")
	h.want(200, `{"devices":[],"total":0}`, "GET", devices, "")
	cookie, err := h.e.Accounts.SignIn(h.nums["bob"])
	h.ok(err)
	h.want(200, `{}`, "POST", v2+"/users/@bob:hub.test/delete_devices", `{"devices":["X"]}`)
	if _, in, err := h.e.Accounts.Browser(cookie); in || err != nil { // it could let another device in
		t.Fatal("a browser stays signed in", err)
	}
	_, err = h.e.Accounts.SetData(h.nums["bob"], 0, "x.y", []byte(`{"a":1}`))
	h.ok(err)
	h.want(200, `{"account_data":{"global":{"x.y":{"a":1}},"rooms":{}}}`, "GET", v1+"/users/@bob:hub.test/accountdata", "")
}

func TestRegistrationTokens(t *testing.T) {
	h := start(t)
	const tokens = v1 + "/registration_tokens"
	h.want(200, `{"registration_tokens":[]}`, "GET", tokens, "")
	h.want(200, `{"token":"abc","uses_allowed":2,"pending":0,"completed":0,"expiry_time":1800000000000}`,
		"POST", tokens+"/new", `{"token":"abc","uses_allowed":2,"expiry_time":1800000000000}`)
	h.want(400, "M_INVALID_PARAM", "POST", tokens+"/new", `{"token":"abc"}`)
	h.want(400, "M_INVALID_PARAM", "POST", tokens+"/new", `{"token":"a b"}`)
	h.want(400, "M_INVALID_PARAM", "POST", tokens+"/new", `{"expiry_time":5}`)
	h.want(400, "M_INVALID_PARAM", "POST", tokens+"/new", `{"uses_allowed":0}`)
	h.want(200, "", "POST", tokens+"/new", ``)
	h.want(200, `{"token":"abc","uses_allowed":null,"pending":0,"completed":0,"expiry_time":1800000000000}`, "PUT", tokens+"/abc", `{"uses_allowed":null}`)
	h.want(404, "M_NOT_FOUND", "PUT", tokens+"/none", `{}`)
	if _, err := h.e.Accounts.Create(account.NewUser{Localpart: "eve", Token: "abc"}); err != nil {
		t.Fatal(err)
	}
	if a := h.want(200, "", "GET", tokens+"/abc", ``); a.get("completed") != 1.0 {
		t.Fatal(a.body)
	}
	h.clock.Pass(time.UnixMilli(1_800_000_000_000).Sub(h.clock.Now()))
	if a := h.want(200, "", "GET", tokens+"?valid=false", ``); !strings.Contains(a.body, "abc") {
		t.Fatal(a.body)
	}
	h.want(200, `{}`, "DELETE", tokens+"/abc", ``)
	h.want(404, "M_NOT_FOUND", "GET", tokens+"/abc", ``)
}

func (h *hub) create(n engine.NewRoom) mxid.RoomID {
	h.t.Helper()
	n.Creator = "@bob:hub.test"
	id, err := h.e.CreateRoom(&n)
	h.ok(err)
	return id
}

func TestRooms(t *testing.T) {
	h := start(t)
	main := h.create(engine.NewRoom{Preset: "public_chat", Public: true, Alias: "main", Name: "Main", Topic: "talk"})
	other := h.create(engine.NewRoom{Preset: "private_chat", Name: "other"})
	a := h.want(200, "", "GET", v1+"/rooms", "")
	if a.get("total_rooms") != 2.0 || strings.Index(a.body, string(main)) > strings.Index(a.body, string(other)) {
		t.Fatal(a.body)
	}
	if a := h.want(200, "", "GET", v1+"/rooms?search_term=MAI&limit=1", ""); a.get("total_rooms") != 1.0 || !strings.Contains(a.body, `"canonical_alias":"#main:hub.test"`) {
		t.Fatal(a.body)
	}
	if a := h.want(200, "", "GET", v1+"/rooms?limit=1&order_by=joined_members", ""); a.get("next_batch") != 1.0 {
		t.Fatal(a.body)
	}
	if a := h.want(200, "", "GET", v1+"/rooms?limit=1&from=1&dir=b", ""); a.get("prev_batch") != 0.0 || a.get("offset") != 1.0 {
		t.Fatal(a.body)
	}
	path := v1 + "/rooms/" + string(main)
	if a := h.want(200, "", "GET", path, ""); a.get("topic") != "talk" || a.get("forgotten") != false || a.get("joined_local_members") != 1.0 {
		t.Fatal(a.body)
	}
	h.want(200, "", "GET", v1+"/rooms/%23main:hub.test", "")
	h.want(404, "M_NOT_FOUND", "GET", v1+"/rooms/!none:hub.test", "")
	h.want(200, `{"members":["@bob:hub.test"],"total":1}`, "GET", path+"/members", "")
	if a := h.want(200, "", "GET", path+"/state", ""); len(a.get("state").([]any)) < 8 {
		t.Fatal(a.body)
	}
	if a := h.want(200, "", "GET", v1+"/users/@bob:hub.test/joined_rooms", ""); a.get("total") != 2.0 {
		t.Fatal(a.body)
	}
	join := func(id mxid.RoomID, status int, code string) {
		t.Helper()
		h.want(status, code, "POST", v1+"/join/"+string(id), `{"user_id":"@root:hub.test"}`)
	}
	join(main, 200, fmt.Sprintf(`{"room_id":%q}`, main))
	join(other, 403, "M_FORBIDDEN")
	h.want(200, `{}`, "POST", v1+"/rooms/"+string(other)+"/make_room_admin", `{}`)
	join(other, 200, "")
	h.want(200, `{"block":false}`, "GET", path+"/block", "")
	h.want(200, `{"block":true}`, "PUT", v1+"/rooms/!far:elsewhere/block", `{"block":true}`)
	h.want(200, `{"block":true,"user_id":"@root:hub.test"}`, "GET", v1+"/rooms/!far:elsewhere/block", "")
	h.want(400, "M_INVALID_PARAM", "PUT", v1+"/rooms/nonsense/block", `{"block":true}`)

	a = h.want(200, "", "DELETE", path, `{"block":true,"new_room_user_id":"@root:hub.test","message":"gone"}`)
	if users, _ := a.get("kicked_users").([]any); len(users) != 2 || !strings.Contains(a.body, `"local_aliases":["#main:hub.test"]`) {
		t.Fatal(a.body)
	}
	created, _ := a.get("new_room_id").(string)
	num, err := h.e.Rooms.Find(mxid.RoomID(created))
	h.ok(err)
	if m, err := h.e.Rooms.MemberOf(num, h.nums["bob"]); m.Membership != room.Invite || err != nil {
		t.Fatal(m, err)
	}
	join(main, 404, "M_NOT_FOUND") // it was purged
	h.want(404, "M_NOT_FOUND", "GET", v2+"/rooms/"+string(other)+"/delete_status", "")
	id := h.want(200, "", "DELETE", v2+"/rooms/"+string(other), `{"purge":true}`).get("delete_id").(string)
	if num, err := h.e.Rooms.Find(other); !fault.Is(err, fault.NotFound) {
		t.Fatal(num, err)
	}
	for _, num := range h.e.Rooms.Purging() {
		if end := h.e.Rooms.Purged(num); end != nil {
			<-end
		}
	}
	for _, p := range []string{v2 + "/rooms/" + string(other) + "/delete_status", v2 + "/rooms/delete_status/" + id} {
		if a := h.want(200, "", "GET", p, ""); !strings.Contains(a.body, `"status":"complete"`) {
			t.Fatal(a.body)
		}
	}
	h.want(404, "M_NOT_FOUND", "GET", v2+"/rooms/delete_status/none", "")
}

func TestPurgeHistory(t *testing.T) {
	h := start(t)
	id := h.create(engine.NewRoom{Creator: "@bob:hub.test", Alias: "here"})
	num, err := h.e.Rooms.Find(id)
	h.ok(err)
	var last mxid.EventID
	send := func(n int) {
		for i := range n {
			last, err = h.e.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: "@bob:hub.test", Content: fmt.Appendf(nil, `{"body":"%d"}`, i)})
			h.ok(err)
		}
	}
	done := func(purge string, events float64) {
		t.Helper()
		<-h.e.Rooms.TrimEnd(num)
		r := h.want(200, "", "GET", v1+"/purge_history_status/"+purge, "")
		if r.get("status") != "complete" || r.get("room_id") != string(id) || r.get("purged_events") != events {
			t.Error(r.body)
		}
	}
	send(5)
	path := v1 + "/purge_history/" + string(id)
	h.want(400, "M_MISSING_PARAM", "POST", path, `{}`)
	h.want(400, "M_INVALID_PARAM", "POST", path, `{"purge_up_to_ts":-1}`)
	h.want(400, "M_INVALID_PARAM", "POST", path, `{"purge_up_to_ts":99999999999999}`)
	h.want(400, "M_BAD_JSON", "POST", path, `{"purge_up_to_ts":"yesterday"}`)
	h.want(400, "M_INVALID_PARAM", "POST", path+"/none", `{}`)
	h.want(404, "M_NOT_FOUND", "POST", path+"/$none", `{}`)
	h.want(404, "M_NOT_FOUND", "POST", v1+"/purge_history/!none:hub.test/"+string(last), `{}`)
	h.want(404, "M_NOT_FOUND", "GET", v1+"/purge_history_status/none", "")
	purge, _ := h.want(200, "", "POST", path+"/"+string(last), `{}`).get("purge_id").(string)
	done(purge, 0) // what users of this hub sent stays on the disk
	send(5)
	purge, _ = h.want(200, "", "POST", path, fmt.Sprintf(`{"purge_up_to_event_id":%q,"delete_local_events":true}`, last)).get("purge_id").(string)
	done(purge, 9)
	h.clock.Pass(time.Hour)
	send(1)
	purge, _ = h.want(200, "", "POST", v1+"/purge_history/%23here:hub.test", fmt.Sprintf(`{"purge_up_to_ts":%d,"delete_local_events":true}`, h.clock.Now().UnixMilli())).get("purge_id").(string)
	done(purge, 1)
}

func TestNotices(t *testing.T) {
	h := start(t)
	const path = v1 + "/send_server_notice"
	body := `{"user_id":"@bob:hub.test","content":{"msgtype":"m.text","body":"hello"}}`
	h.want(200, "", "POST", path, body)
	var in room.Num
	find := func(want room.Membership) {
		t.Helper()
		n := 0
		h.ok(h.e.Rooms.Of(h.nums["bob"], func(m room.Member) bool {
			n, in = n+1, m.Room
			if m.Membership != want {
				t.Fatal(m.Membership)
			}
			return true
		}))
		if n != 1 {
			t.Fatalf("%d rooms", n)
		}
	}
	find(room.Invite)
	if err := h.e.Leave(in, "@bob:hub.test", ""); !fault.Is(err, fault.NoticeRoom) {
		t.Fatal(err)
	}
	h.ok(h.e.Join(in, "@bob:hub.test", nil))
	h.ok(h.e.Leave(in, "@bob:hub.test", ""))
	first := h.want(200, "", "PUT", path+"/1", body)
	if again := h.want(200, "", "PUT", path+"/1", body); again.body != first.body {
		t.Fatal(again.body, first.body)
	}
	if again := h.want(200, "", "PUT", path+"/2", body); again.body == first.body {
		t.Fatal(again.body)
	}
	find(room.Invite)
	h.want(404, "M_NOT_FOUND", "POST", path, strings.Replace(body, "@bob", "@none", 1))
	h.want(400, "M_MISSING_PARAM", "POST", path, "{}")
	h.want(400, "M_BAD_JSON", "POST", path, `{"user_id":"@bob:hub.test","content":7}`)
	tags, err := h.e.Accounts.AppendTags(nil, h.nums["bob"], uint32(in))
	if string(tags) != `{"tags":{"m.server_notice":{}}}` || err != nil {
		t.Fatal(string(tags), err)
	}
}

func TestReports(t *testing.T) {
	h := start(t)
	id := h.create(engine.NewRoom{Name: "Main"})
	head, err := h.e.Rooms.Find(id)
	h.ok(err)
	sent, err := h.e.Send(head, &room.Draft{Type: "m.room.message", Sender: "@bob:hub.test", Content: []byte(`{"body":"x"}`)})
	h.ok(err)
	root := h.nums["root"]
	h.ok(h.e.Accounts.AddReport(account.Report{Kind: account.EventReport, By: root, Room: id, Event: sent, User: "@bob:hub.test", Reason: "bad", Score: -7}))
	h.ok(h.e.Accounts.AddReport(account.Report{Kind: account.UserReport, By: root, User: "@bob:hub.test"}))
	h.ok(h.e.Accounts.AddReport(account.Report{Kind: account.RoomReport, By: root, Room: "!gone:elsewhere"}))
	a := h.want(200, "", "GET", v1+"/event_reports", "")
	if a.get("total") != 1.0 || !strings.Contains(a.body, `"name":"Main"`) || !strings.Contains(a.body, `"score":-7`) || !strings.Contains(a.body, `"user_id":"@root:hub.test"`) {
		t.Fatal(a.body)
	}
	if a := h.want(200, "", "GET", v1+"/event_reports?room_id=!x:y", ""); a.get("total") != 0.0 {
		t.Fatal(a.body)
	}
	h.want(200, "", "GET", v1+"/user_reports", "")
	h.want(200, "", "GET", v1+"/room_reports", "")
	if a := h.want(200, "", "GET", v1+"/event_reports/1", ""); a.get("event_json", "event_id") != string(sent) {
		t.Fatal(a.body)
	}
	h.want(200, "{}", "DELETE", v1+"/event_reports/1", "")
	h.want(404, "M_NOT_FOUND", "GET", v1+"/event_reports/1", "")
	h.want(400, "M_INVALID_PARAM", "GET", v1+"/event_reports/x", "")
}

func TestMedia(t *testing.T) {
	h := start(t)
	m, err := h.e.Media.Upload(&media.Upload{Owner: h.nums["bob"], Type: "text/plain", Name: "a.txt", Length: 5}, strings.NewReader("hello"))
	h.ok(err)
	if a := h.want(200, "", "GET", v1+"/users/@bob:hub.test/media", ""); a.get("total") != 1.0 || !strings.Contains(a.body, `"upload_name":"a.txt"`) {
		t.Fatal(a.body)
	}
	h.want(200, `{"users":[{"user_id":"@bob:hub.test","displayname":null,"media_count":1,"media_length":5}],"total":1}`, "GET", v1+"/statistics/users/media", "")
	path := "/hub.test/" + m.ID
	h.want(200, `{}`, "POST", v1+"/media/quarantine"+path, "")
	if _, err := h.e.Media.Find("hub.test", m.ID); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	h.want(200, `{}`, "POST", v1+"/media/unquarantine"+path, "")
	_, err = h.e.Media.Find("hub.test", m.ID)
	h.ok(err)
	h.want(200, `{"deleted":0}`, "POST", v1+"/purge_media_cache?before_ts=9999999999999", "")
	h.want(400, "M_MISSING_PARAM", "POST", v1+"/purge_media_cache", "")
	h.want(200, fmt.Sprintf(`{"deleted_media":[%q],"total":1}`, m.ID), "DELETE", v1+"/media"+path, "")
	h.want(404, "M_NOT_FOUND", "DELETE", v1+"/media"+path, "")
	h.want(200, `{"pushers":[],"total":0}`, "GET", v1+"/users/@bob:hub.test/pushers", "")
}
