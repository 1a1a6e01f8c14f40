package clientapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

const slides = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

// TestSlide is what clients that know nothing but sliding sync do with the hub; what
// it answers in which case is tested in package sync.
func TestSlide(t *testing.T) {
	h := start(t, Anyone)
	if a := h.want(200, "", "GET", "/_matrix/client/versions", "", ""); !strings.Contains(a.body, `"org.matrix.simplified_msc3575":true`) {
		t.Fatal(a.body)
	}
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"private_chat","name":"kitchen","invite":["@bob:hub.test"]}`)
	const ask = `{"conn_id":"room-list","lists":{"all":{"ranges":[[0,19]],"timeline_limit":3,"required_state":[["m.room.create",""],["m.room.member","$ME"]]}},` +
		`"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true},"typing":{"enabled":true},"e2ee":{"enabled":true},"to_device":{"enabled":true}}}`
	first := h.want(200, "", "POST", slides+"?timeout=30000", bob, ask) // a first request does not wait
	if first.get("rooms", id, "invite_state") == nil || first.get("rooms", id, "timeline") != nil {
		t.Fatal(first.body)
	}
	for _, key := range []string{"account_data", "e2ee", "to_device"} {
		if first.get("extensions", key) == nil {
			t.Error(key, first.body)
		}
	}
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	next := h.want(200, "", "POST", slides+"?timeout=30000&pos="+first.str("pos"), bob, ask)
	if next.str("rooms", id, "name") != "kitchen" || next.get("rooms", id, "initial") != true || next.get("lists", "all", "count") != 1.0 {
		t.Fatal(next.body)
	}
	h.say(amy, id, "k1", "kettle")
	// The position may stand in the body too, and the answer that was lost is told again.
	body := strings.Replace(ask, "{", `{"timeout":30000,"pos":"`+next.str("pos")+`",`, 1)
	lost := h.want(200, "", "POST", slides, bob, body)
	again := h.want(200, "", "POST", slides, bob, body)
	for _, a := range []answer{lost, again} {
		if !strings.Contains(a.body, "kettle") || a.get("rooms", id, "num_live") != 1.0 || a.get("rooms", id, "notification_count") != 1.0 {
			t.Fatal(a.body)
		}
	}
	h.want(400, "M_UNKNOWN_POS", "POST", slides+"?pos="+lost.str("pos"), bob, ask)
	h.want(400, "M_UNKNOWN_POS", "POST", slides+"?pos="+again.str("pos"), amy, ask)
	h.want(400, "M_UNKNOWN_POS", "POST", slides+"?pos="+again.str("pos"), bob, `{"conn_id":"other"}`)
	// A position is a token for /messages too; what was said before it comes by it.
	page := h.want(200, "", "GET", inRoom(id, "/messages?dir=b&from="+url.QueryEscape(next.str("pos"))), bob, "")
	if strings.Contains(page.body, "kettle") || !strings.Contains(page.body, "m.room.create") {
		t.Fatal(page.body)
	}
	page = h.want(200, "", "GET", inRoom(id, "/messages?dir=b&limit=1&from="+url.QueryEscape(again.str("rooms", id, "prev_batch"))), bob, "")
	if strings.Contains(page.body, "kettle") || !strings.Contains(page.body, "m.room.member") {
		t.Fatal(page.body)
	}
	// The words of the accepted text.
	final := h.want(200, "", "POST", "/_matrix/client/v4/sync", bob,
		`{"lists":{"all":{"range":[0,0],"timeline_limit":1,"required_state":{"include":[{}],"lazy_members":true}}}}`)
	if final.str("rooms", id, "membership") != "join" || final.get("rooms", id, "notification_count") != nil {
		t.Fatal(final.body)
	}
}

// Whatever is wrong with a request is a standard error.
func TestSlideRefuses(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	h.want(401, "M_MISSING_TOKEN", "POST", slides, "", `{}`)
	h.want(404, "M_UNRECOGNIZED", "POST", "/_matrix/client/unstable/org.matrix.msc3575/sync", amy, `{}`)
	h.want(405, "M_UNRECOGNIZED", "GET", slides, amy, "")
	h.want(200, "", "POST", slides, amy, `{}`)
	for body, code := range map[string]string{
		``: "M_NOT_JSON", `{`: "M_NOT_JSON", `[]`: "M_BAD_JSON", `1`: "M_BAD_JSON",
		`{"lists":{"a":{"ranges":[[9,1]]}}}`:                    "M_INVALID_PARAM",
		`{"lists":{"a":{"ranges":[[0,99999999999999999999]]}}}`: "M_BAD_JSON",
		`{"lists":{"a":{"required_state":[["x"]]}}}`:            "M_INVALID_PARAM",
		`{"lists":{"a":{"filters":{"spaces":[[]]}}}}`:           "M_BAD_JSON",
		`{"room_subscriptions":[]}`:                             "M_BAD_JSON",
		`{"extensions":{"receipts":{"enabled":"yes"}}}`:         "M_BAD_JSON",
		`{"set_presence":"away"}`:                               "M_INVALID_PARAM",
		`{"conn_id":"` + strings.Repeat("x", 300) + `"}`:        "M_INVALID_PARAM",
		`{"pos":"x"}`: "M_UNKNOWN_POS",
		`{"lists":{"a":{"required_state":[` + elements("a") + `]},"b":{"required_state":[` + elements("b") + `]},"c":{"required_state":[` + elements("c") + `]}}}`: "M_INVALID_PARAM",
		`{"room_subscriptions":{` + subscriptions(1001) + `}}`: "M_INVALID_PARAM",
	} {
		h.want(400, code, "POST", slides, amy, body)
	}
	// What a client that never forgets a room it has shown comes to ask.
	rule := `{"timeline_limit":20,"required_state":[["m.room.name",""],["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],` +
		`["m.room.avatar",""],["m.room.canonical_alias",""],["m.room.power_levels",""],["org.matrix.msc3401.call.member","*"],["m.room.join_rules",""],` +
		`["m.room.tombstone",""],["m.room.create",""],["m.room.history_visibility",""],["io.element.functional_members",""],["m.space.parent","*"],` +
		`["m.space.child","*"],["org.matrix.msc3672.beacon_info","*"],["m.room.pinned_events",""]]}`
	h.want(200, "", "POST", slides, amy, `{"room_subscriptions":{`+strings.ReplaceAll(subscriptions(1000), "{}", rule)+`}}`)
	h.want(413, "M_TOO_LARGE", "POST", slides, amy, `{"x":"`+strings.Repeat("x", 1<<20)+`"}`)
	for _, query := range []string{"timeout=-1", "timeout=soon", "set_presence=away"} {
		h.want(400, "M_INVALID_PARAM", "POST", slides+"?"+query, amy, `{}`)
	}
	// A room id may be anything, and a range reach anywhere.
	h.want(200, "", "POST", slides, amy, `{"lists":{"a":{"ranges":[[0,2147483647],[5,5]],"timeline_limit":999999999}},`+
		`"room_subscriptions":{"":{},"!":{},"!x:hub.test":{},"@amy:hub.test":{}}}`)
	h.want(400, "M_INVALID_PARAM", "GET", msc4308+"?dir=f", amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", msc4308+"?from=x", amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", msc4308+"?to=x", amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", msc4308+"?limit=0", amy, "")
	h.want(200, noThreads, "GET", msc4308+"?dir=b&limit=5", amy, "")
}

const (
	msc4308   = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"
	noThreads = `{"subscribed":{},"unsubscribed":{}}`
)

func elements(typ string) string {
	s := make([]string, 170)
	for i := range s {
		s[i] = fmt.Sprintf(`["%s","%d"]`, typ, i)
	}
	return strings.Join(s, ",")
}

func subscriptions(n int) string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf(`"!%d:hub.test":{}`, i)
	}
	return strings.Join(s, ",")
}

func TestThreadSubscriptionList(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	id := h.create(amy, `{}`)
	first := h.want(200, "", "POST", slides, amy, `{}`).str("pos")
	for i := range 3 {
		root := h.say(amy, id, fmt.Sprint("x", i), "root")
		h.want(200, "{}", "PUT", "/_matrix/client/unstable/io.element.msc4306/rooms/"+id+"/thread/"+root+"/subscription", amy, "{}")
	}
	seen := 0
	query := "?dir=b&limit=2&to=" + first
	for from := ""; ; {
		page := h.want(200, "", "GET", msc4308+query+from, amy, "")
		list, _ := page.get("subscribed", id).(map[string]any)
		seen += len(list)
		if page.str("end") == "" {
			break
		}
		from = "&from=" + page.str("end")
	}
	if seen != 3 {
		t.Error(seen)
	}
	now := h.want(200, "", "POST", slides, amy, `{}`).str("pos")
	h.want(200, noThreads, "GET", msc4308+"?to="+now, amy, "")
}
