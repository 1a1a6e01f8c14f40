package clientapi

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestTimestampToEvent(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	before := h.clock.Now().UnixMilli() - 1
	id := h.create(amy, `{}`)
	var ids []string
	var times []int64
	for i := range 40 {
		h.clock.Pass(20 * time.Minute)
		ids = append(ids, h.say(amy, id, fmt.Sprint("m", i), "x"))
		times = append(times, h.clock.Now().UnixMilli())
	}
	near := func(ts int64, dir string) string {
		t.Helper()
		return h.do("GET", v1In(id, fmt.Sprintf("/timestamp_to_event?ts=%d&dir=%s", ts, dir)), amy, "").str("event_id")
	}
	for i := range ids {
		if near(times[i], "f") != ids[i] || near(times[i], "b") != ids[i] || near(times[i]-1, "f") != ids[i] || near(times[i]+1, "b") != ids[i] {
			t.Fatal(i)
		}
	}
	if near(before, "b") != "" || near(times[39]+1, "f") != "" || near(0, "f") == "" {
		t.Fatal("ends")
	}
	h.clock.Pass(time.Minute)
	same := []string{h.say(amy, id, "s1", "x"), h.say(amy, id, "s2", "x")}
	if near(h.clock.Now().UnixMilli(), "f") != same[0] || near(h.clock.Now().UnixMilli(), "b") != same[1] {
		t.Fatal("of one time")
	}
	path := v1In(id, "/timestamp_to_event")
	h.want(403, "M_FORBIDDEN", "GET", path+"?ts=1&dir=f", bob, "")
	h.want(400, "M_MISSING_PARAM", "GET", path+"?dir=f", amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", path+"?ts=x&dir=f", amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", path+"?ts=1&dir=x", amy, "")
	h.want(404, "M_NOT_FOUND", "GET", path+"?ts=1&dir=b", amy, "")
}

func TestHierarchy(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	const space = `"creation_content":{"type":"m.space"}`
	root := h.create(amy, `{"preset":"public_chat",`+space+`}`)
	sub := h.create(amy, `{"preset":"public_chat",`+space+`}`)
	open, closed := h.create(amy, `{"preset":"public_chat"}`), h.create(amy, `{}`)
	limited := h.create(amy, fmt.Sprintf(`{"initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"restricted",
		"allow":[{"type":"m.room_membership","room_id":%q}]}}]}`, root))
	deep := h.create(amy, `{"preset":"public_chat"}`)
	child := func(in, room, more string) {
		t.Helper()
		h.want(200, "", "PUT", inRoom(in, "/state/m.space.child/"+room), amy, `{"via":["hub.test"]`+more+`}`)
	}
	child(root, open, `,"order":"b"`)
	child(root, sub, `,"order":"a","suggested":true`)
	child(root, closed, ``)
	child(root, limited, ``)
	child(sub, deep, ``)
	child(sub, root, ``)
	h.want(200, "", "PUT", inRoom(root, "/state/m.space.child/!gone:x"), amy, `{}`)
	list := func(token, query string) []string {
		t.Helper()
		return h.want(200, "", "GET", v1In(root, "/hierarchy"+query), token, "").list("rooms", "room_id")
	}
	is := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Fatal(got, want)
		}
	}
	is(list(bob, ""), root, sub, deep, open)
	h.want(200, "", "POST", inRoom(root, "/join"), bob, `{}`)
	is(list(bob, ""), root, sub, deep, open, limited)
	is(list(bob, "?max_depth=1"), root, sub, open, limited)
	is(list(bob, "?suggested_only=true"), root, sub)
	var paged []string
	for from := ""; ; {
		a := h.want(200, "", "GET", v1In(root, "/hierarchy?limit=2"+from), bob, "")
		paged = append(paged, a.list("rooms", "room_id")...)
		if a.str("next_batch") == "" {
			break
		}
		from = "&from=" + a.str("next_batch")
		h.want(400, "M_INVALID_PARAM", "GET", v1In(root, "/hierarchy?max_depth=3"+from), bob, "")
	}
	is(paged, root, sub, deep, open, limited)
	h.want(403, "M_FORBIDDEN", "GET", v1In(closed, "/hierarchy"), bob, "")
	h.want(400, "M_INVALID_PARAM", "GET", v1In(root, "/hierarchy?limit=0"), bob, "")

	a := h.want(200, "", "GET", v1+"/room_summary/"+limited, bob, "")
	if a.str("membership") != "leave" || a.str("join_rule") != "restricted" || a.str("room_version") == "" || a.get("allowed_room_ids") == nil {
		t.Fatal(a)
	}
	h.want(200, "", "GET", v1+"/room_summary/"+open, "", "")
	h.want(404, "M_NOT_FOUND", "GET", v1+"/room_summary/"+closed, bob, "")
	h.want(404, "M_NOT_FOUND", "GET", v1+"/room_summary/"+limited, "", "")
	h.want(200, "", "GET", "/_matrix/client/unstable/im.nheko.summary/summary/"+open, bob, "")

	mutual := v1 + "/mutual_rooms?user_id="
	h.want(200, `{"joined":["`+root+`"],"count":1}`, "GET", mutual+"@amy:hub.test", bob, "")
	h.want(200, `{"joined":[],"count":0}`, "GET", mutual+"@none:hub.test", bob, "")
	h.want(400, "M_INVALID_PARAM", "GET", mutual+"@bob:hub.test", bob, "")
	h.want(400, "M_INVALID_PARAM", "GET", mutual+"@amy:hub.test&from=x", bob, "")
	h.want(400, "M_MISSING_PARAM", "GET", v1+"/mutual_rooms", bob, "")
}
