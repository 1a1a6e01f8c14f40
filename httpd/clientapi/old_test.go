package clientapi

import (
	"slices"
	"strings"
	"testing"
)

func TestOldClients(t *testing.T) {
	h := start(t, Anyone)
	amy, bob, eve := h.join("amy"), h.join("bob"), h.join("eve")
	id := h.create(amy, `{"preset":"public_chat","visibility":"public"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	asked := h.create(amy, `{"invite":["@bob:hub.test"]}`)
	last := h.say(amy, id, "1", "one")

	all := h.want(200, "", "GET", v3+"/initialSync?limit=2", bob, "")
	rooms := all.get("rooms").([]any)
	if len(rooms) != 2 || all.str("end") == "" || all.get("presence") == nil {
		t.Fatal(all)
	}
	first := rooms[0].(map[string]any)
	chunk := first["messages"].(map[string]any)["chunk"].([]any)
	if first["room_id"] != id || first["membership"] != "join" || first["visibility"] != "public" || len(chunk) != 2 || len(first["state"].([]any)) < 5 {
		t.Fatal(all)
	}
	if second := rooms[1].(map[string]any); second["room_id"] != asked || second["membership"] != "invite" || second["invite"] == nil {
		t.Fatal(all)
	}
	for _, e := range append(chunk, first["state"].([]any)...) {
		if e.(map[string]any)["room_id"] != id {
			t.Errorf("an event of /initialSync does not say its room: %v", e)
		}
	}
	from := all.str("end")
	h.want(200, "", "GET", v3+"/events?timeout=0&from="+from, bob, "")
	next := h.say(amy, id, "2", "two")
	a := h.want(200, "", "GET", v3+"/events?timeout=0&from="+from, bob, "")
	if got := a.list("chunk", "event_id"); !slices.Contains(got, next) || slices.Contains(got, last) || !slices.Contains(a.list("chunk", "room_id"), id) {
		t.Fatal(a)
	}
	h.want(200, "", "GET", v3+"/events?timeout=0&from="+a.str("end"), bob, "")
	h.want(400, "M_INVALID_PARAM", "GET", v3+"/events?from=x", bob, "")
	h.want(200, "", "GET", "/_matrix/client/r0/events?timeout=0", bob, "")

	h.want(200, "", "GET", v3+"/events/"+next, bob, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/events/"+next, eve, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/events/$none", bob, "")

	// Peeking: only where the world may look.
	h.want(403, "M_FORBIDDEN", "GET", inRoom(id, "/initialSync"), eve, "")
	h.want(403, "M_FORBIDDEN", "GET", v3+"/events?room_id="+id, eve, "")
	h.want(200, "", "PUT", inRoom(id, "/state/m.room.history_visibility"), amy, `{"history_visibility":"world_readable"}`)
	peek := h.want(200, "", "GET", inRoom(id, "/initialSync?limit=3"), eve, "")
	if strings.Contains(peek.body, `"membership":"join","messages"`) || peek.get("messages", "end") == nil || peek.get("state") == nil {
		t.Fatal(peek)
	}
	three := h.say(amy, id, "3", "three")
	a = h.want(200, "", "GET", v3+"/events?timeout=0&room_id="+id+"&from="+peek.str("messages", "end"), eve, "")
	if got := a.list("chunk", "event_id"); !slices.Equal(got, []string{three}) {
		t.Fatal(a)
	}
	if a := h.want(200, "", "GET", inRoom(id, "/initialSync"), bob, ""); a.str("membership") != "join" {
		t.Fatal(a)
	}
	h.want(200, "", "GET", inRoom(id, "/messages?dir=b"), eve, "")
}

// What r0.5.0 and r0.6.0 brought is served under r0 as well: /versions says that
// they are spoken here.
func TestPathsOfLaterR0(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	id := h.create(amy, `{"room_alias_name":"den"}`)
	for _, q := range [...]struct{ method, path, body string }{
		{"POST", "/account/3pid/add", `{}`},
		{"POST", "/account/3pid/bind", `{}`},
		{"POST", "/account/3pid/unbind", `{}`},
		{"GET", "/rooms/" + id + "/aliases", ""},
	} {
		if a := h.do(q.method, "/_matrix/client/r0"+q.path, amy, q.body); a.status == 404 || a.status == 405 {
			t.Errorf("%s %s: %d %s", q.method, q.path, a.status, a.body)
		}
	}
}

func TestPresenceList(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	const mine = "/_matrix/client/r0/presence/list/@amy:hub.test"
	h.want(200, "[]", "GET", mine, amy, "")
	h.want(200, "{}", "POST", mine, amy, `{"invite":["@bob:hub.test"]}`)
	h.want(200, "[]", "GET", mine, amy, "") // they share no room
	id := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	if a := h.want(200, "", "GET", mine, amy, ""); !strings.Contains(a.body, `@bob:hub.test`) {
		t.Fatal(a)
	}
	h.want(200, "{}", "POST", mine, amy, `{"drop":["@bob:hub.test"]}`)
	h.want(200, "[]", "GET", mine, amy, "")
	h.want(403, "M_FORBIDDEN", "GET", mine, bob, "")
	h.want(400, "M_INVALID_PARAM", "POST", mine, amy, `{"invite":["x"]}`)
	h.want(400, "M_BAD_JSON", "POST", mine, amy, `{"invite":"x"}`)
}
