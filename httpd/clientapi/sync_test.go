package clientapi

import (
	"net/url"
	"strings"
	"testing"
)

func TestSync(t *testing.T) {
	h := start(t, Anyone)
	alice := h.join("alice")
	room := h.want(200, "", "POST", "/_matrix/client/v3/createRoom", alice, `{"preset":"public_chat","name":"kitchen"}`).str("room_id")
	first := h.want(200, "", "GET", "/_matrix/client/v3/sync", alice, "")
	if first.get("rooms", "join", room, "timeline", "events") == nil || first.get("account_data", "events") == nil ||
		first.get("rooms", "join", room, "account_data", "events") == nil {
		t.Fatal(first.body)
	}
	since := "/_matrix/client/v3/sync?since=" + first.str("next_batch")
	if next := h.want(200, "", "GET", since, alice, ""); next.get("rooms") != nil {
		t.Fatal(next.body)
	}
	h.want(200, "", "PUT", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/send/m.room.message/1", alice, `{"body":"kettle","msgtype":"m.text"}`)
	// With news there is no waiting.
	if next := h.want(200, "", "GET", since+"&timeout=600000", alice, ""); !strings.Contains(next.body, "kettle") {
		t.Fatal(next.body)
	}
	id := h.want(200, "", "POST", "/_matrix/client/v3/user/@alice:hub.test/filter", alice, `{"room":{"timeline":{"types":[]}}}`).str("filter_id")
	for _, f := range []string{id, url.QueryEscape(`{"room":{"timeline":{"types":[]}}}`)} {
		if next := h.want(200, "", "GET", since+"&filter="+f, alice, ""); strings.Contains(next.body, "kettle") {
			t.Fatal(next.body)
		}
	}
	// A token of /sync is one for /messages too.
	page := h.want(200, "", "GET", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/messages?dir=f&from="+first.str("next_batch"), alice, "")
	if !strings.Contains(page.body, "kettle") || strings.Contains(page.body, "m.room.create") {
		t.Fatal(page.body)
	}
	for query, errcode := range map[string]string{
		"filter=7": "M_INVALID_PARAM", "filter=x": "M_INVALID_PARAM", "filter={": "M_NOT_JSON", `filter={"room":1}`: "M_BAD_JSON",
		"timeout=-1": "M_INVALID_PARAM", "timeout=soon": "M_INVALID_PARAM", "full_state=maybe": "M_INVALID_PARAM", "set_presence=away": "M_INVALID_PARAM",
	} {
		name, val, _ := strings.Cut(query, "=")
		h.want(400, errcode, "GET", "/_matrix/client/v3/sync?"+name+"="+url.QueryEscape(val), alice, "")
	}
	h.want(401, "M_MISSING_TOKEN", "GET", "/_matrix/client/v3/sync", "", "")
}
