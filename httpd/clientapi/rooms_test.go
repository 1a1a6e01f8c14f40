package clientapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// create makes a room and gives its id, escaped for paths.
func (h *hub) create(token, body string) string {
	h.t.Helper()
	return h.want(200, "", "POST", v3+"/createRoom", token, body).str("room_id")
}

func inRoom(id, rest string) string { return v3 + "/rooms/" + url.PathEscape(id) + rest }

// say sends a message and gives the event id.
func (h *hub) say(token, room, txn, body string) string {
	h.t.Helper()
	return h.want(200, "", "PUT", inRoom(room, "/send/m.room.message/"+txn), token, fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body)).str("event_id")
}

// list gives one member of each element of an array in the answer.
func (a answer) list(array string, keys ...string) (out []string) {
	items, _ := a.get(array).([]any)
	if array == "" {
		if err := json.Unmarshal([]byte(a.body), &items); err != nil {
			panic(err)
		}
	}
	for _, item := range items {
		for _, k := range keys {
			obj, _ := item.(map[string]any)
			item = obj[k]
		}
		s, _ := item.(string)
		out = append(out, s)
	}
	return out
}

func TestCreateRoom(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	for body, want := range map[string]string{
		`{"preset":"nonsense"}`:                                            "400 M_INVALID_PARAM",
		`{"visibility":"hidden"}`:                                          "400 M_INVALID_PARAM",
		`{"room_version":1}`:                                               "400 M_BAD_JSON",
		`{"room_version":"99"}`:                                            "400 M_UNSUPPORTED_ROOM_VERSION",
		`{"invite":"@alice:hub.test"}`:                                     "400 M_BAD_JSON",
		`{"invite":["alice"]}`:                                             "400 M_INVALID_PARAM",
		`{"invite_3pid":[{}]}`:                                             "403 M_THREEPID_DENIED",
		`{"name":[{}]}`:                                                    "400 M_BAD_JSON",
		`{"initial_state":[{}]}`:                                           "400 M_BAD_JSON",
		`{"initial_state":[{"type":"x","content":7}]}`:                     "400 M_BAD_JSON",
		`{"initial_state":[{"type":"x","content":{"a":1.5}}]}`:             "400 M_BAD_JSON",
		`{"initial_state":[{"type":"m.room.create","content":{}}]}`:        "400 M_INVALID_ROOM_STATE",
		`{"creation_content":[]}`:                                          "400 M_BAD_JSON",
		`{"creation_content":{"additional_creators":["x"]}}`:               "400 M_BAD_JSON",
		`{"power_level_content_override":7}`:                               "400 M_BAD_JSON",
		`{"power_level_content_override":{"users":{"@bob:hub.test":100}}}`: "400 M_BAD_JSON",
		`{"initial_state":[{"type":"","content":{}}]}`:                     "400 M_BAD_JSON",
		`{"power_level_content_override":{"events":{"m.room.name":200}},"name":"n","room_version":"11"}`: "400 M_INVALID_ROOM_STATE",
		`{"power_level_content_override":{"users":{"@bob:hub.test":10}},"room_version":"11"}`:            "400 M_INVALID_ROOM_STATE",
		`{"name":"` + strings.Repeat("x", 70000) + `"}`:                                                  "413 M_TOO_LARGE",
		`{"room_alias_name":"a:b"}`: "400 M_INVALID_PARAM",
	} {
		a := h.do("POST", v3+"/createRoom", token, body)
		if got := fmt.Sprintf("%d %s", a.status, a.str("errcode")); got != want {
			t.Errorf("%.80s: %s, want %s (%s)", body, got, want, a.str("error"))
		}
	}
	h.join("alice")
	for _, c := range []struct{ body, rule, guests, alice string }{
		{`{}`, "invite", "can_join", ""},
		{`{"visibility":"public"}`, "public", "", ""},
		{`{"preset":"public_chat","visibility":"private"}`, "public", "", ""},
		{`{"preset":"private_chat","invite":["@alice:hub.test"]}`, "invite", "can_join", "invite"},
		{`{"preset":"trusted_private_chat","room_version":"11","invite":["@alice:hub.test"]}`, "invite", "can_join", "invite"},
		{`{"initial_state":[{"type":"m.room.guest_access","content":{"guest_access":"forbidden"}}]}`, "invite", "forbidden", ""},
	} {
		id := h.create(token, c.body)
		get := func(typ, key, field string) string {
			return h.do("GET", inRoom(id, "/state/"+typ+"/"+key), token, "").str(field)
		}
		if get("m.room.join_rules", "", "join_rule") != c.rule || get("m.room.guest_access", "", "guest_access") != c.guests ||
			get("m.room.member", "@alice:hub.test", "membership") != c.alice {
			t.Error(c.body)
		}
		if strings.Contains(c.body, "trusted") {
			levels := h.do("GET", inRoom(id, "/state/m.room.power_levels"), token, "")
			if levels.get("users", "@alice:hub.test") != 100.0 {
				t.Error(levels.body)
			}
		}
	}
	for n := 1; n <= 12; n++ {
		h.create(token, fmt.Sprintf(`{"room_version":"%d","name":"n","topic":"t","invite":["@alice:hub.test"]}`, n))
	}
	id := h.create(token, `{"room_alias_name":"den","creation_content":{"room_version":"test","test":"a"},"topic":"Tea"}`)
	h.want(400, "M_ROOM_IN_USE", "POST", v3+"/createRoom", token, `{"room_alias_name":"den"}`)
	if a := h.want(200, "", "GET", inRoom(id, "/state/m.room.create"), token, ""); a.str("room_version") != "12" || a.str("test") != "a" {
		t.Error(a.body)
	}
	if a := h.want(200, "", "GET", inRoom(id, "/state/m.room.topic/"), token, ""); a.str("topic") != "Tea" || !strings.Contains(a.body, `"m.text":[{"body":"Tea"`) {
		t.Error(a.body)
	}
}

func TestSendAndState(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	id := h.create(bob, `{}`)
	first := h.say(bob, id, "t1", "once")
	if again := h.say(bob, id, "t1", "twice"); again != first {
		t.Error("one transaction made two events")
	}
	if other := h.say(bob, id, "t2", "twice"); other == first {
		t.Error("two transactions made one event")
	}
	a := h.want(200, "", "GET", inRoom(id, "/event/"+first), bob, "")
	if a.str("unsigned", "transaction_id") != "t1" || a.str("content", "body") != "once" || a.str("room_id") != id ||
		a.str("unsigned", "membership") != "join" {
		t.Error(a.body)
	}
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/event/"+first), eve, "")
	h.want(404, "M_NOT_FOUND", "GET", inRoom("!none:hub.test", "/event/"+first), bob, "")
	send := func(status int, code, body string) {
		t.Helper()
		h.want(status, code, "PUT", inRoom(id, "/send/m.room.message/x"), bob, body)
	}
	send(400, "M_NOT_JSON", `{"broken": `)
	send(400, "M_NOT_JSON", `{"f":NaN}`)
	send(400, "M_BAD_JSON", `["x"]`)
	send(400, "M_BAD_JSON", `{"f":1.5}`)
	send(400, "M_BAD_JSON", `{"f":9007199254740993}`)
	send(400, "M_BAD_JSON", `{"f":1e400}`)
	send(413, "M_TOO_LARGE", `{"body":"`+strings.Repeat("x", 70000)+`"}`)
	h.want(413, "M_TOO_LARGE", "PUT", inRoom(id, "/send/m."+strings.Repeat("x", 300)+"/x"), bob, `{}`)
	h.want(413, "M_TOO_LARGE", "PUT", inRoom(id, "/state/m.x/"+strings.Repeat("k", 300)), bob, `{}`)
	h.want(400, "M_INVALID_PARAM", "PUT", inRoom(id, "/send/m.x/"+strings.Repeat("k", 300)), bob, `{}`)
	h.want(403, "M_FORBIDDEN", "PUT", inRoom(id, "/send/m.x/1"), eve, `{}`)
	h.want(403, "M_FORBIDDEN", "PUT", inRoom("!none:hub.test", "/send/m.x/1"), eve, `{}`)

	set := h.want(200, "", "PUT", inRoom(id, "/state/m.room.name"), bob, `{"name":"a"}`).str("event_id")
	same := h.want(200, "", "PUT", inRoom(id, "/state/m.room.name/"), bob, `{ "name":"a" }`).str("event_id")
	if set != same {
		t.Error("the same state made two events")
	}
	a = h.want(200, "", "GET", inRoom(id, "/state/m.room.name?format=event"), bob, "")
	if a.str("event_id") != set || a.str("content", "name") != "a" {
		t.Error(a.body)
	}
	h.want(200, `{"name":"a"}`, "GET", "/_matrix/client/r0/rooms/"+url.PathEscape(id)+"/state/m.room.name", bob, "")
	h.want(400, "M_INVALID_PARAM", "GET", inRoom(id, "/state/m.room.name?format=xml"), bob, "")
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/state/m.room.name/x"), bob, "")
	h.want(400, "M_INVALID_PARAM", "PUT", inRoom(id, "/state/m.room.create/"), bob, `{}`)
	h.want(400, "M_BAD_ALIAS", "PUT", inRoom(id, "/state/m.room.canonical_alias/"), bob, `{"alias":"#none:hub.test"}`)
	a = h.want(200, "", "GET", inRoom(id, "/state"), bob, "")
	if types := a.list("", "type"); !slices.Contains(types, "m.room.create") || !slices.Contains(types, "m.room.name") {
		t.Error(a.body)
	}
	for _, rest := range []string{"/state", "/state/m.room.name", "/members", "/joined_members", "/messages?dir=b", "/context/" + first, "/aliases"} {
		h.want(403, "M_FORBIDDEN", "GET", inRoom(id, rest), eve, "")
		h.want(403, "M_FORBIDDEN", "GET", inRoom("!none:hub.test", rest), eve, "")
		h.want(200, "", "GET", inRoom(id, rest), bob, "")
	}
	for path, want := range map[string]int{"%ff%fe": 400, "%00": 400} {
		h.want(want, "", "GET", v3+"/rooms/"+path+"/state", bob, "")
	}
}

func TestRedact(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	for _, version := range []string{"1", "10", "12"} {
		id := h.create(bob, `{"preset":"public_chat","room_version":"`+version+`"}`)
		h.want(200, "", "POST", v3+"/join/"+url.PathEscape(id), eve, "")
		path := func(event, txn string) string { return inRoom(id, "/redact/"+url.PathEscape(event)+"/"+txn) }
		mine, hers := h.say(bob, id, "1", "x"), h.say(eve, id, "1", "x")
		h.want(403, "M_FORBIDDEN", "PUT", path(mine, "a"), eve, `{}`)
		h.want(404, "M_NOT_FOUND", "PUT", path("$none", "a"), eve, `{}`)
		h.want(400, "M_BAD_JSON", "PUT", path(mine, "a"), bob, `{"reason":7}`)
		r := h.want(200, "", "PUT", path(hers, "a"), bob, `{"reason":"because"}`).str("event_id")
		if again := h.want(200, "", "PUT", path(hers, "a"), bob, `{"reason":"because"}`).str("event_id"); again != r {
			t.Error("one transaction made two events")
		}
		// The target is part of the path, and so of the transaction's scope.
		if other := h.want(200, "", "PUT", path(mine, "a"), bob, ``).str("event_id"); other == r {
			t.Error("two redactions were taken for one")
		}
		a := h.want(200, "", "GET", inRoom(id, "/event/"+url.PathEscape(hers)), eve, "")
		if a.str("unsigned", "redacted_because", "event_id") != r || a.str("unsigned", "redacted_because", "content", "reason") != "because" ||
			strings.Contains(a.body, `"body"`) {
			t.Error(version, a.body)
		}
	}
}

func TestMembershipRequests(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	id := h.create(bob, `{"preset":"private_chat","room_alias_name":"den"}`)
	post := func(status int, code, rest, token, body string) {
		t.Helper()
		h.want(status, code, "POST", inRoom(id, rest), token, body)
	}
	const her = `{"user_id":"@eve:hub.test","reason":"why"}`
	h.want(404, "M_NOT_FOUND", "POST", v3+"/join/"+url.PathEscape("#none:hub.test"), eve, `{}`)
	h.want(404, "M_NOT_FOUND", "POST", v3+"/join/"+url.PathEscape("!none:hub.test"), eve, `{}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/join/none", eve, `{}`)
	post(403, "M_FORBIDDEN", "/join", eve, `{}`)
	post(200, "{}", "/invite", bob, her)
	post(403, "M_FORBIDDEN", "/invite", bob, `{"user_id":"@bob:hub.test"}`)
	h.want(200, `{"room_id":"`+id+`"}`, "POST", v3+"/join/"+url.PathEscape("#den:hub.test"), eve, `{"foo":"bar"}`)
	h.want(200, `{"room_id":"`+id+`"}`, "POST", v3+"/join/"+url.PathEscape(id)+"?via=x&server_name=y", eve, ``)
	h.want(200, `{"foo":"bar","membership":"join"}`, "GET", inRoom(id, "/state/m.room.member/@eve:hub.test"), bob, "")
	post(403, "M_FORBIDDEN", "/kick", eve, `{"user_id":"@bob:hub.test"}`)
	post(400, "M_UNKNOWN", "/forget", eve, ``)
	post(200, "{}", "/leave", eve, ``)
	post(200, "{}", "/leave", eve, `{"reason":"x"}`)
	post(403, "M_FORBIDDEN", "/kick", bob, her)
	post(403, "M_BAD_STATE", "/unban", bob, her)
	post(200, "{}", "/ban", bob, her)
	post(403, "M_FORBIDDEN", "/invite", bob, her)
	post(200, "{}", "/unban", bob, her)
	post(200, "{}", "/forget", eve, `{}`)
	post(403, "M_THREEPID_DENIED", "/invite", bob, `{"medium":"email","address":"a@b","id_server":"x","id_access_token":"y"}`)
	post(400, "M_MISSING_PARAM", "/invite", bob, `{"medium":"email"}`)
	for _, rest := range []string{"/invite", "/kick", "/ban", "/unban"} {
		post(400, "M_NOT_JSON", rest, bob, `{"broken`)
		post(400, "M_BAD_JSON", rest, bob, `[]`)
		post(400, "M_MISSING_PARAM", rest, bob, `{}`)
		post(400, "M_BAD_JSON", rest, bob, `{"user_id":[{}]}`)
		post(400, "M_BAD_JSON", rest, bob, `{"user_id":"@eve:hub.test","reason":7}`)
		post(400, "M_INVALID_PARAM", rest, bob, `{"user_id":"eve"}`)
		h.want(403, "M_FORBIDDEN", "POST", inRoom("!none:hub.test", rest), bob, her)
	}
	other := h.create(eve, `{}`)
	h.want(200, `{"joined_rooms":["`+other+`"]}`, "GET", v3+"/joined_rooms", eve, "")
}

func TestReadingMarks(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	id := h.create(bob, `{"preset":"public_chat"}`)
	event := h.say(bob, id, "1", "x")
	receipt := func(status int, code, typ, event, body string) {
		t.Helper()
		h.want(status, code, "POST", inRoom(id, "/receipt/"+typ+"/"+url.PathEscape(event)), bob, body)
	}
	receipt(200, "{}", "m.read", event, ``)
	receipt(200, "{}", "m.read.private", event, `{"thread_id":"main"}`)
	receipt(200, "{}", "m.read", event, `{"thread_id":"`+event+`"}`)
	receipt(200, "{}", "m.fully_read", event, `{}`)
	receipt(400, "M_INVALID_PARAM", "m.fully_read", event, `{"thread_id":"main"}`)
	receipt(400, "M_INVALID_PARAM", "m.read", event, `{"thread_id":""}`)
	receipt(400, "M_INVALID_PARAM", "m.read", event, `{"thread_id":"$none"}`)
	receipt(400, "M_INVALID_PARAM", "m.read", event, `{"thread_id":[{}]}`)
	receipt(400, "M_INVALID_PARAM", "m.unread", event, `{}`)
	receipt(400, "M_INVALID_PARAM", "m.read", "x", `{}`)
	receipt(404, "M_NOT_FOUND", "m.read", "$none", `{}`)
	markers := inRoom(id, "/read_markers")
	h.want(200, "{}", "POST", markers, bob, `{"m.fully_read":"`+event+`","m.read":"`+event+`"}`)
	h.want(200, `{"event_id":"`+event+`"}`, "GET", v3+"/user/@bob:hub.test/rooms/"+url.PathEscape(id)+"/account_data/m.fully_read", bob, "")
	h.want(400, "M_BAD_JSON", "POST", markers, bob, `{"m.read":[{}]}`)
	h.want(403, "M_FORBIDDEN", "POST", markers, eve, `{"m.read":"`+event+`"}`)

	typing := inRoom(id, "/typing/@bob:hub.test")
	h.want(200, "{}", "PUT", typing, bob, `{"typing":true,"timeout":1000}`)
	h.want(200, "{}", "PUT", typing, bob, `{"typing":false}`)
	h.want(403, "M_FORBIDDEN", "PUT", typing, eve, `{"typing":true}`)
	h.want(403, "M_FORBIDDEN", "PUT", inRoom(id, "/typing/@eve:hub.test"), eve, `{"typing":true}`)
	h.want(400, "M_MISSING_PARAM", "PUT", typing, bob, `{}`)
	h.want(400, "M_BAD_JSON", "PUT", typing, bob, `{"typing":[{}]}`)
	h.want(400, "M_BAD_JSON", "PUT", typing, bob, `{"typing":true,"timeout":"x"}`)

	status := v3 + "/presence/@bob:hub.test/status"
	h.want(200, "{}", "PUT", status, bob, `{"presence":"unavailable","status_msg":"tea"}`)
	if a := h.want(200, "", "GET", status, bob, ""); a.str("presence") != "unavailable" || a.str("status_msg") != "tea" {
		t.Error(a.body)
	}
	h.want(403, "M_FORBIDDEN", "GET", status, eve, "")
	h.want(200, "", "POST", inRoom(id, "/join"), eve, "")
	h.want(200, "", "GET", status, eve, "")
	h.want(403, "M_FORBIDDEN", "PUT", status, eve, `{"presence":"online"}`)
	h.want(400, "M_INVALID_PARAM", "PUT", status, bob, `{"presence":"x"}`)
	h.want(400, "M_BAD_JSON", "PUT", status, bob, `{"presence":[{}]}`)
	h.want(400, "M_MISSING_PARAM", "PUT", status, bob, `{}`)
}

func TestDirectory(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	id := h.create(bob, `{"name":"Den","topic":"Wombles","visibility":"public"}`)
	alias := v3 + "/directory/room/" + url.PathEscape("#den:hub.test")
	h.want(404, "M_NOT_FOUND", "GET", alias, "", "")
	h.want(403, "M_FORBIDDEN", "PUT", alias, eve, `{"room_id":"`+id+`"}`)
	h.want(200, "{}", "PUT", alias, bob, `{"room_id":"`+id+`"}`)
	h.want(409, "M_UNKNOWN", "PUT", alias, bob, `{"room_id":"`+id+`"}`)
	h.want(400, "M_MISSING_PARAM", "PUT", alias, bob, `{}`)
	h.want(400, "M_BAD_JSON", "PUT", alias, bob, `{"room_id":7}`)
	h.want(400, "M_INVALID_PARAM", "GET", v3+"/directory/room/den", "", "")
	h.want(200, `{"room_id":"`+id+`","servers":["hub.test"]}`, "GET", alias, "", "")
	h.want(200, `{"aliases":["#den:hub.test"]}`, "GET", inRoom(id, "/aliases"), bob, "")
	h.want(403, "M_FORBIDDEN", "DELETE", alias, eve, "")
	h.want(200, "{}", "DELETE", alias, bob, "")
	h.want(404, "M_NOT_FOUND", "DELETE", alias, bob, "")

	list := v3 + "/directory/list/room/" + url.PathEscape(id)
	h.want(200, `{"visibility":"public"}`, "GET", list, "", "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/directory/list/room/x", "", "")
	h.want(403, "M_FORBIDDEN", "PUT", list, eve, `{"visibility":"private"}`)
	h.want(400, "M_INVALID_PARAM", "PUT", list, bob, `{"visibility":"x"}`)
	h.want(400, "M_BAD_JSON", "PUT", list, bob, `{"visibility":[{}]}`)

	search := func(body string, want ...string) {
		t.Helper()
		a := h.want(200, "", "POST", v3+"/publicRooms", eve, body)
		if got := a.list("chunk", "room_id"); !slices.Equal(got, want) {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	space := h.create(eve, `{"creation_content":{"type":"m.space"},"visibility":"public","name":"Space"}`)
	search(`{"filter":{"generic_search_term":"wombles"}}`, id)
	search(`{"filter":{"generic_search_term":"none"}}`)
	search(`{"filter":{"room_types":["m.space"]}}`, space)
	search(`{"filter":{"room_types":[null]}}`, id)
	search(`{"filter":{"room_types":[]}}`)
	search(`{"third_party_instance_id":"irc"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), eve, "")
	search(`{}`, id, space)
	h.want(400, "M_BAD_JSON", "POST", v3+"/publicRooms", eve, `{"limit":[{}]}`)
	h.want(400, "M_INVALID_PARAM", "GET", v3+"/publicRooms?limit=-99x%7B", "", "")
	h.want(400, "M_INVALID_PARAM", "GET", v3+"/publicRooms?since=x", "", "")
	h.want(200, "{}", "PUT", list, bob, `{"visibility":"private"}`)
	search(`{}`, space)
	a := h.want(200, "", "GET", v3+"/publicRooms", "", "")
	if want := `{"chunk":[{"name":"Space","join_rule":"public","room_type":"m.space","guest_can_join":false,"num_joined_members":1,` +
		`"room_id":"` + space + `","world_readable":false}],"total_room_count_estimate":1}`; a.body != want {
		t.Error(a.body)
	}
}

func TestPublicRoomPages(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	all := map[string]bool{}
	for range 7 {
		all[h.create(bob, `{"visibility":"public"}`)] = true
	}
	var forth []string
	var last answer
	for since := ""; ; since = last.str("next_batch") {
		last = h.want(200, "", "GET", v3+"/publicRooms?limit=3&since="+url.QueryEscape(since), "", "")
		forth = append(forth, last.list("chunk", "room_id")...)
		if last.str("next_batch") == "" {
			break
		}
	}
	back := last.list("chunk", "room_id")
	for last.str("prev_batch") != "" {
		last = h.want(200, "", "GET", v3+"/publicRooms?limit=3&since="+url.QueryEscape(last.str("prev_batch")), "", "")
		back = append(last.list("chunk", "room_id"), back...)
	}
	if len(forth) != len(all) || !slices.Equal(forth, back) {
		t.Error(forth, back)
	}
}
