package clientapi

import (
	"fmt"
	"strings"
	"testing"
)

const gatewayData = `{"url":"https://push.example/_matrix/push/v1/notify","x":1}`

func pusherBody(app, key, more string) string {
	return fmt.Sprintf(`{"app_display_name":"A","app_id":%q,"device_display_name":"D","kind":"http","lang":"en","pushkey":%q,"data":%s%s}`, app, key, gatewayData, more)
}

func TestPushers(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	one := `{"app_display_name":"A","app_id":"app","device_display_name":"D","kind":"http","lang":"en","pushkey":"key","data":` + gatewayData + `}`
	for _, base := range []string{v3, "/_matrix/client/r0"} {
		h.want(200, `{"pushers":[]}`, "GET", base+"/pushers", bob, "")
		h.want(200, "{}", "POST", base+"/pushers/set", bob, pusherBody("app", "key", ""))
		h.want(200, `{"pushers":[`+one+`]}`, "GET", base+"/pushers", bob, "")
		h.want(200, "{}", "POST", base+"/pushers/set", bob, `{"app_id":"app","pushkey":"key","kind":null}`)
		h.want(200, "{}", "POST", base+"/pushers/set", bob, `{"app_id":"app","pushkey":"key","kind":null}`)
	}
	h.want(200, "{}", "POST", v3+"/pushers/set", bob, pusherBody("app", "key", ""))
	h.want(200, "{}", "POST", v3+"/pushers/set", eve, pusherBody("app", "key", `,"append":true`))
	h.want(200, `{"pushers":[`+one+`]}`, "GET", v3+"/pushers", bob, "")
	h.want(200, "{}", "POST", v3+"/pushers/set", eve, pusherBody("app", "key", `,"profile_tag":"t"`))
	h.want(200, `{"pushers":[]}`, "GET", v3+"/pushers", bob, "")
	if a := h.want(200, "", "GET", v3+"/pushers", eve, ""); strings.Count(a.body, `"profile_tag":"t"`) != 1 {
		t.Fatal(a.body)
	}
	h.want(200, "{}", "POST", v3+"/pushers/set", eve, pusherBody("app", "other", ""))
	h.want(200, "{}", "POST", v3+"/logout", eve, "{}")
	if list, err := h.e.Accounts.Pushers(2); err != nil || len(list) != 0 {
		t.Fatal("a pusher outlives its session:", list, err)
	}
	if err := h.e.Verify(func(line string) { t.Error(line) }); err != nil {
		t.Fatal(err)
	}
}

func TestPushersRefused(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	full := pusherBody("app", "key", "")
	swap := func(old, with string) string { return strings.Replace(full, old, with, 1) }
	for _, c := range []struct{ body, code string }{
		{`{`, "M_NOT_JSON"}, {`[]`, "M_BAD_JSON"}, {`{}`, "M_MISSING_PARAM"},
		{`{"app_id":"a","kind":null}`, "M_MISSING_PARAM"}, {`{"app_id":"a","pushkey":"k"}`, "M_MISSING_PARAM"},
		{`{"app_id":"a","pushkey":"k","kind":"http"}`, "M_MISSING_PARAM"},
		{swap(`"lang":"en",`, ""), "M_MISSING_PARAM"}, {swap(`,"data":`+gatewayData, ""), "M_MISSING_PARAM"},
		{swap(gatewayData, `[]`), "M_BAD_JSON"}, {swap(gatewayData, `{}`), "M_MISSING_PARAM"}, {swap(gatewayData, `{"url":1}`), "M_BAD_JSON"},
		{swap("/v1/notify", "/v1/other"), "M_INVALID_PARAM"}, {swap("https", "ftp"), "M_INVALID_PARAM"},
		{swap("https://", "https://u:p@"), "M_INVALID_PARAM"}, {swap("push.example", ""), "M_INVALID_PARAM"},
		{swap(`"kind":"http"`, `"kind":"smoke"`), "M_INVALID_PARAM"}, {swap(`"kind":"http"`, `"kind":7`), "M_BAD_JSON"},
		{swap(`"app"`, `"`+strings.Repeat("a", 65)+`"`), "M_INVALID_PARAM"}, {swap(`"key"`, `"`+strings.Repeat("a", 513)+`"`), "M_INVALID_PARAM"},
		{swap(`"x":1`, `"x":"`+strings.Repeat("x", 9000)+`"`), "M_INVALID_PARAM"}, {pusherBody("a", "b", `,"append":1`), "M_BAD_JSON"},
		{swap(`"kind":"http"`, `"kind":"email"`), "M_INVALID_PARAM"}, {swap(`"app"`, `""`), "M_INVALID_PARAM"},
	} {
		h.want(400, c.code, "POST", v3+"/pushers/set", bob, c.body)
	}
	h.want(401, "M_MISSING_TOKEN", "POST", v3+"/pushers/set", "", full)
	for n := range 100 {
		h.want(200, "{}", "POST", v3+"/pushers/set", bob, pusherBody("app", fmt.Sprint(n), ""))
	}
	h.want(403, "M_FORBIDDEN", "POST", v3+"/pushers/set", bob, pusherBody("app", "one more", ""))
	h.want(200, "{}", "POST", v3+"/pushers/set", bob, pusherBody("app", "7", ""))
}

// Spec: client-server, GET /notifications.
func TestNotifications(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	h.want(200, `{"notifications":[]}`, "GET", v3+"/notifications", bob, "")
	room := h.want(200, "", "POST", v3+"/createRoom", eve, `{"preset":"public_chat"}`).str("room_id")
	n := 0
	say := func(body string) string {
		n++
		return h.want(200, "", "PUT", fmt.Sprintf("%s/rooms/%s/send/m.room.message/%d", v3, room, n), eve, `{"body":"`+body+`","msgtype":"m.text"}`).str("event_id")
	}
	say("before bob was there")
	h.want(200, "", "POST", v3+"/rooms/"+room+"/join", bob, "")
	first := say("one")
	say("hey bob")
	say("three")
	h.want(200, "{}", "POST", v3+"/rooms/"+room+"/receipt/m.read/"+first, bob, "{}")
	list := func(query string) (got []string, next string) {
		a := h.want(200, "", "GET", v3+"/notifications"+query, bob, "")
		all, _ := a.get("notifications").([]any)
		for _, v := range all {
			o := v.(map[string]any)
			if o["room_id"] != room || o["ts"] == nil || o["actions"] == nil {
				t.Fatal(a.body)
			}
			e := o["event"].(map[string]any)
			if e["room_id"] != nil {
				t.Fatal(a.body)
			}
			got = append(got, fmt.Sprint(e["content"].(map[string]any)["body"], " ", o["read"]))
		}
		return got, a.str("next_token")
	}
	want := func(query, want string) string {
		t.Helper()
		got, next := list(query)
		if fmt.Sprintf("%q", got) != want {
			t.Fatalf("%s: %q, want %s", query, got, want)
		}
		return next
	}
	if next := want("", `["three false" "hey bob false" "one true"]`); next != "" {
		t.Fatal("a token to nowhere:", next)
	}
	want("?only=highlight", `["hey bob false"]`)
	next := want("?limit=2", `["three false" "hey bob false"]`)
	want("?limit=2&from="+next, `["one true"]`)
	for _, q := range []string{"?from=x", "?from=n", "?from=n-1", "?limit=x", "?limit=-1"} {
		h.want(400, "M_INVALID_PARAM", "GET", v3+"/notifications"+q, bob, "")
	}
	h.want(200, "", "POST", v3+"/rooms/"+room+"/leave", bob, "{}")
	want("", `[]`)
	h.want(200, "", "GET", "/_matrix/client/r0/notifications", bob, "")
	h.want(401, "M_MISSING_TOKEN", "GET", v3+"/notifications", "", "")
}
