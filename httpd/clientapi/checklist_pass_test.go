package clientapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// What the hub has only to carry: it must come out as it went in, for the others
// in the room, for the user's other devices, or for the device it is for.

// same says whether two texts are the same JSON.
func same(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err, a)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err, b)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// event finds an event by a member of it in a list of the answer.
func (a answer) event(member, value string, list ...string) map[string]any {
	items, _ := a.get(list...).([]any)
	for _, item := range items {
		if e, _ := item.(map[string]any); e != nil && e[member] == value {
			return e
		}
	}
	return nil
}

func asJSON(v any) string {
	b, _ := json.Marshal(v) // it was decoded from JSON
	return string(b)
}

func TestMessageKindsPass(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	room := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(room, "/join"), bob, "{}")
	const file = `"url":"mxc://hub.test/abc","info":{"mimetype":"image/png","size":70,"w":2,"h":3,"thumbnail_url":"mxc://hub.test/t"}`
	root := h.say(amy, room, "root", "first")
	for i, c := range []struct{ typ, content string }{
		{"m.room.message", `{"msgtype":"m.text","body":"a","format":"org.matrix.custom.html","formatted_body":"<b>a</b> <span data-mx-spoiler>b</span>"}`},
		{"m.room.message", `{"msgtype":"m.emote","body":"waves"}`},
		{"m.room.message", `{"msgtype":"m.notice","body":"beep"}`},
		{"m.room.message", `{"msgtype":"m.image","body":"caption","filename":"a.png",` + file + `}`},
		{"m.room.message", `{"msgtype":"m.file","body":"a.pdf","filename":"a.pdf",` + file + `}`},
		{"m.room.message", `{"msgtype":"m.audio","body":"a.ogg",` + file + `}`},
		{"m.room.message", `{"msgtype":"m.video","body":"a.mp4",` + file + `}`},
		{"m.room.message", `{"msgtype":"m.location","body":"here","geo_uri":"geo:51.5,0.1"}`},
		{"m.room.message", `{"msgtype":"m.text","body":"yes","m.relates_to":{"m.in_reply_to":{"event_id":"` + root + `"}}}`},
		{"m.room.message", `{"msgtype":"m.text","body":"@bob","m.mentions":{"user_ids":["@bob:hub.test"],"room":false}}`},
		{"m.room.encrypted", `{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"AAA","session_id":"s","sender_key":"k","device_id":"DEV"}`},
		{"m.sticker", `{"body":"Landing",` + file + `}`},
		{"m.call.invite", `{"call_id":"1","party_id":"p","version":"1","lifetime":60000,"offer":{"type":"offer","sdp":"v=0"}}`},
		{"m.call.candidates", `{"call_id":"1","party_id":"p","version":"1","candidates":[{"candidate":"c","sdpMid":"audio","sdpMLineIndex":0}]}`},
		{"m.call.answer", `{"call_id":"1","party_id":"q","version":"1","answer":{"type":"answer","sdp":"v=0"}}`},
		{"m.call.select_answer", `{"call_id":"1","party_id":"p","version":"1","selected_party_id":"q"}`},
		{"m.call.negotiate", `{"call_id":"1","party_id":"p","version":"1","lifetime":1000,"description":{"type":"offer","sdp":"v=0"}}`},
		{"m.call.hangup", `{"call_id":"1","party_id":"p","version":"1","reason":"user_hangup"}`},
		{"m.call.reject", `{"call_id":"1","party_id":"q","version":"1"}`},
		{"m.key.verification.ready", `{"from_device":"DEV","methods":["m.sas.v1"],"m.relates_to":{"rel_type":"m.reference","event_id":"` + root + `"}}`},
		{"org.example.own", `{"any":["thing",1,null,{"deep":true}]}`},
	} {
		id := h.want(200, "", "PUT", inRoom(room, "/send/"+c.typ+fmt.Sprintf("/%d", i)), amy, c.content).str("event_id")
		got := h.want(200, "", "GET", inRoom(room, "/event/"+url.PathEscape(id)), bob, "")
		if got.str("type") != c.typ || got.str("sender") != "@amy:hub.test" || !same(t, asJSON(got.get("content")), c.content) {
			t.Errorf("%s %s came out as %s", c.typ, c.content, got.body)
		}
		if told := h.want(200, "", "GET", v3+"/sync", bob, ""); told.event("event_id", id, "rooms", "join", room, "timeline", "events") == nil {
			t.Errorf("%s is not in /sync", c.typ)
		}
	}
}

func TestStateKindsPass(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	room := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(room, "/join"), bob, "{}")
	for _, c := range []struct{ typ, key, content string }{
		{"m.room.avatar", "", `{"url":"mxc://hub.test/abc"}`},
		{"m.room.pinned_events", "", `{"pinned":["$a","$b"]}`},
		{"m.room.server_acl", "", `{"allow":["*"],"deny":["*.evil.example"],"allow_ip_literals":false}`},
		{"m.policy.rule.user", "rule:1", `{"entity":"@bad*:*","recommendation":"m.ban","reason":"spam"}`},
		{"m.policy.rule.room", "rule:2", `{"entity":"!bad:*","recommendation":"m.ban","reason":"spam"}`},
		{"m.policy.rule.server", "rule:3", `{"entity":"*.bad.example","recommendation":"m.ban","reason":"spam"}`},
		{"m.room.image_pack", "cats", `{"images":{"cat":{"url":"mxc://hub.test/cat"}},"pack":{"display_name":"Cats"}}`},
		{"m.space.child", room, `{"via":["hub.test"],"order":"a","suggested":true}`},
		{"org.example.own", "any key / at all", `{"any":["thing"]}`},
	} {
		path := "/state/" + c.typ + "/" + url.PathEscape(c.key)
		h.want(403, "M_FORBIDDEN", "PUT", inRoom(room, path), bob, c.content)
		h.want(200, "", "PUT", inRoom(room, path), amy, c.content)
		if got := h.want(200, "", "GET", inRoom(room, path), bob, ""); !same(t, got.body, c.content) {
			t.Errorf("%s came out as %s", c.typ, got.body)
		}
	}
}

func TestAccountDataKindsPass(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	room := h.create(amy, `{}`)
	since := h.want(200, "", "GET", v3+"/sync", amy, "").str("next_batch")
	me := v3 + "/user/@amy:hub.test"
	for typ, content := range map[string]string{
		"m.direct":                       `{"@bob:hub.test":["` + room + `"]}`,
		"m.recent_emoji":                 `{"recent_emoji":[{"emoji":"👍","total":3}]}`,
		"m.image_pack.rooms":             `{"rooms":{"` + room + `":{"cats":{}}}}`,
		"m.secret_storage.default_key":   `{"key":"abc"}`,
		"m.secret_storage.key.abc":       `{"algorithm":"m.secret_storage.v1.aes-hmac-sha2","iv":"x","mac":"y"}`,
		"m.cross_signing.master":         `{"encrypted":{"abc":{"iv":"x","ciphertext":"y","mac":"z"}}}`,
		"m.megolm_backup.v1":             `{"encrypted":{"abc":{"iv":"x","ciphertext":"y","mac":"z"}}}`,
		"m.invite_permission_config":     `{"default_action":"block"}`,
		"org.example.some.thing_of_mine": `{"any":["thing"]}`,
	} {
		h.want(200, "{}", "PUT", me+"/account_data/"+typ, amy, content)
		if got := h.want(200, "", "GET", me+"/account_data/"+typ, amy, ""); !same(t, got.body, content) {
			t.Errorf("%s came out as %s", typ, got.body)
		}
		h.want(403, "M_FORBIDDEN", "GET", me+"/account_data/"+typ, bob, "")
		told := h.want(200, "", "GET", v3+"/sync?since="+since, amy, "")
		if e := told.event("type", typ, "account_data", "events"); e == nil || !same(t, asJSON(e["content"]), content) {
			t.Errorf("%s is not in /sync: %s", typ, told.body)
		}
		since = told.str("next_batch")
	}
	const unread = `{"unread":true}`
	h.want(200, "{}", "PUT", me+"/rooms/"+url.PathEscape(room)+"/account_data/m.marked_unread", amy, unread)
	told := h.want(200, "", "GET", v3+"/sync?since="+since, amy, "")
	if e := told.event("type", "m.marked_unread", "rooms", "join", room, "account_data", "events"); e == nil || !same(t, asJSON(e["content"]), unread) {
		t.Error(told.body)
	}
}

func TestToDeviceKindsPass(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	since := h.want(200, "", "GET", v3+"/sync", bob, "").str("next_batch")
	kinds := []string{"m.key.verification.request", "m.key.verification.start", "m.key.verification.accept", "m.key.verification.key",
		"m.key.verification.mac", "m.key.verification.done", "m.key.verification.cancel", "m.secret.request", "m.secret.send",
		"m.room_key_request", "m.room.encrypted", "m.room_key_bundle", "m.dummy"}
	for i, typ := range kinds {
		h.want(200, "{}", "PUT", v3+"/sendToDevice/"+typ+fmt.Sprintf("/%d", i), amy,
			fmt.Sprintf(`{"messages":{"@bob:hub.test":{"DEV":{"transaction_id":"t","from_device":"DEV","n":%d}}}}`, i))
	}
	told := h.want(200, "", "GET", v3+"/sync?since="+since, bob, "")
	list, _ := told.get("to_device", "events").([]any)
	var got []string
	for i, item := range list {
		e := item.(map[string]any)
		got = append(got, e["type"].(string))
		if content, _ := e["content"].(map[string]any); e["sender"] != "@amy:hub.test" || content["n"] != float64(i) {
			t.Error(asJSON(e))
		}
	}
	if !slices.Equal(got, kinds) {
		t.Errorf("%v", got)
	}
	if again := h.want(200, "", "GET", v3+"/sync?since="+told.str("next_batch"), bob, ""); strings.Contains(again.body, "to_device") {
		t.Error(again.body)
	}
}
