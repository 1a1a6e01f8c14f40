package clientapi

import (
	"strings"
	"testing"
	"time"
)

const msc4140 = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"

func TestDelayedEvents(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, `{"delayed_events":[]}`, "GET", msc4140, amy, "")
	send := inRoom(id, "/send/m.room.message/t1?org.matrix.msc4140.delay=60000")
	delay := h.want(200, "", "PUT", send, amy, `{"body":"later"}`).str("delay_id")
	if again := h.want(200, "", "PUT", send, amy, "").str("delay_id"); again != delay || delay == "" {
		t.Fatal(again, delay)
	}
	state := inRoom(id, "/state/m.x/k?org.matrix.msc4140.delay=")
	second := h.want(200, "", "PUT", state+"90000", amy, `{"n":1}`).str("delay_id")
	if a := h.want(200, "", "GET", msc4140, amy, ""); strings.Count(a.body, `"delay_id"`) != 2 || !strings.Contains(a.body, `"state_key":"k"`) {
		t.Fatal(a)
	}
	h.want(200, `{"delayed_events":[]}`, "GET", msc4140, bob, "")
	h.want(401, "M_MISSING_TOKEN", "GET", msc4140, "", "")
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/state/m.x/k"), amy, "")
	due := func() {
		t.Helper()
		if _, err := h.e.SendDue(); err != nil {
			t.Fatal(err)
		}
	}
	h.clock.Pass(50 * time.Second)
	h.want(200, "{}", "POST", msc4140+"/"+second+"/restart", "", "")
	h.clock.Pass(50 * time.Second)
	due()
	if a := h.want(200, "", "GET", inRoom(id, "/messages?dir=b"), bob2(h, bob, id), ""); !strings.Contains(a.body, "later") {
		t.Fatal(a)
	}
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/state/m.x/k"), amy, "")
	h.want(200, "{}", "POST", msc4140+"/"+second+"/send", "", "{}")
	h.want(200, `{"n":1}`, "GET", inRoom(id, "/state/m.x/k"), amy, "")
	h.want(200, `{"delayed_events":[]}`, "GET", msc4140, amy, "")

	// Each keeps its own content.
	h.want(200, "", "PUT", inRoom(id, "/send/m.room.message/t8?org.matrix.msc4140.delay=1"), amy, `{"body":"first of two"}`)
	h.want(200, "", "PUT", inRoom(id, "/send/m.room.message/t9?org.matrix.msc4140.delay=1"), amy, `{"body":"other of two"}`)
	if a := h.want(200, "", "GET", msc4140, amy, ""); !strings.Contains(a.body, "first of two") || !strings.Contains(a.body, "other of two") {
		t.Fatal(a)
	}

	third := h.want(200, "", "PUT", state+"1000", amy, `{"n":2}`).str("delay_id")
	h.want(200, "{}", "POST", msc4140+"/"+third, "", `{"action":"cancel"}`)
	h.clock.Pass(time.Hour)
	due()
	h.want(200, `{"n":1}`, "GET", inRoom(id, "/state/m.x/k"), amy, "")
	for path, code := range map[string]string{"/x/cancel": "M_NOT_FOUND", "/x/send": "M_NOT_FOUND", "/x/restart": "M_NOT_FOUND", "/x/oops": "M_UNRECOGNIZED"} {
		h.want(404, code, "POST", msc4140+path, "", "{}")
	}
	h.want(400, "M_MISSING_PARAM", "POST", msc4140+"/x", "", "{}")
	h.want(400, "M_INVALID_PARAM", "PUT", state+"x", amy, `{}`)
	h.want(400, "M_INVALID_PARAM", "PUT", state+"-1", amy, `{}`)
	h.want(400, "M_INVALID_PARAM", "PUT", state+"99999999999", amy, `{}`)
	eve := h.join("eve")
	h.want(403, "M_FORBIDDEN", "PUT", state+"1000", eve, `{}`)
}

func bob2(h *hub, token, id string) string {
	h.t.Helper()
	h.want(200, "", "POST", inRoom(id, "/join"), token, `{}`)
	return token
}

// What somebody else has set meanwhile is not undone.
func TestDelayedStateIsSuperseded(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat","power_level_content_override":{"state_default":0}}`)
	bob2(h, bob, id)
	h.want(200, "", "PUT", inRoom(id, "/state/m.x/k?org.matrix.msc4140.delay=1000"), amy, `{"n":1}`)
	h.want(200, "", "PUT", inRoom(id, "/state/m.x/k"), amy, `{"n":2}`)
	if a := h.want(200, "", "GET", msc4140, amy, ""); strings.Count(a.body, `"delay_id"`) != 1 {
		t.Fatal(a)
	}
	h.want(200, "", "PUT", inRoom(id, "/state/m.x/k"), bob, `{"n":3}`)
	h.want(200, `{"delayed_events":[]}`, "GET", msc4140, amy, "")
}

func TestDeletingAccountData(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	id := h.create(amy, `{}`)
	mine := v3 + "/user/@amy:hub.test"
	const unstable = "/_matrix/client/unstable/org.matrix.msc3391/user/@amy:hub.test"
	for _, place := range []string{"", "/rooms/" + id} {
		path := place + "/account_data/org.x"
		h.want(200, "", "PUT", mine+path, amy, `{"a":1}`)
		since := h.want(200, "", "GET", v3+"/sync", amy, "").str("next_batch")
		h.want(200, "{}", "DELETE", unstable+path, amy, "")
		h.want(404, "M_NOT_FOUND", "GET", mine+path, amy, "")
		if a := h.want(200, "", "GET", v3+"/sync?since="+since, amy, ""); !strings.Contains(a.body, `{"content":{},"type":"org.x"}`) {
			t.Fatal(a)
		}
		if a := h.want(200, "", "GET", v3+"/sync", amy, ""); strings.Contains(a.body, "org.x") {
			t.Fatal(a)
		}
		h.want(200, "", "PUT", mine+path, amy, `{"a":1}`)
		h.want(200, "", "PUT", mine+path, amy, `{}`)
		h.want(404, "M_NOT_FOUND", "GET", mine+path, amy, "")
	}
	h.want(405, "M_BAD_JSON", "DELETE", unstable+"/account_data/m.push_rules", amy, "")
}

func TestThreadSubscriptions(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{}`)
	root, other := h.say(amy, id, "root", "x"), h.say(amy, id, "other", "x")
	first := h.mustReply(amy, id, "1", root, "m.thread", "")
	path := "/_matrix/client/unstable/io.element.msc4306/rooms/" + id + "/thread/" + root + "/subscription"
	auto := func(event string) string { return `{"automatic":"` + event + `"}` }
	h.want(404, "M_NOT_FOUND", "GET", path, amy, "")
	h.want(404, "M_NOT_FOUND", "PUT", path, bob, `{}`)
	h.want(200, "{}", "DELETE", path, amy, "")
	h.want(400, `{"errcode":"IO.ELEMENT.MSC4306.M_NOT_IN_THREAD","error":"the event is not in the thread"}`, "PUT", path, amy, auto(root))
	h.want(400, "", "PUT", path, amy, auto(other))
	h.want(200, "{}", "PUT", path, amy, auto(first))
	h.want(200, `{"automatic":true}`, "GET", path, amy, "")
	h.want(200, "{}", "PUT", path, amy, `{}`)
	h.want(200, "{}", "PUT", path, amy, auto(first))
	h.want(200, `{"automatic":false}`, "GET", path, amy, "")
	second := h.mustReply(amy, id, "2", root, "m.thread", "")
	h.want(200, "{}", "DELETE", path, amy, "")
	h.want(404, "M_NOT_FOUND", "GET", path, amy, "")
	h.want(409, "", "PUT", path, amy, auto(first))
	h.want(409, "", "PUT", path, amy, auto(second))
	third := h.mustReply(amy, id, "3", root, "m.thread", "")
	h.want(200, "{}", "PUT", path, amy, auto(third))
	h.want(200, `{"automatic":true}`, "GET", path, amy, "")
}

func TestOwnedState(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"room_version":"org.matrix.msc3757.10","preset":"public_chat","power_level_content_override":{"events":{"m.x":0}}}`)
	bob2(h, bob, id)
	for _, c := range []struct {
		token, key string
		status     int
	}{
		{bob, "@bob:hub.test", 200}, {bob, "@bob:hub.test_more", 200}, {bob, "@bob:hub.testmore", 403}, {bob, "@amy:hub.test", 403},
		{bob, "@amy:hub.test_more", 403}, {amy, "@bob:hub.test", 200}, {amy, "@bob:hub.test_more", 200}, {amy, "@oops", 400}, {amy, "@amy:hub@x", 400},
	} {
		if a := h.do("PUT", inRoom(id, "/state/m.x/"+c.key), c.token, `{}`); a.status != c.status {
			t.Error(c.key, a)
		}
	}
}

// What is of one device goes with it. MSC3890.
func TestDeviceDataGoesWithTheDevice(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	other := h.want(200, "", "POST", v3+"/login", "",
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"amy"},"password":"`+pw+`","device_id":"TWO"}`).str("access_token")
	const path = v3 + "/user/@amy:hub.test/account_data/org.matrix.msc3890.local_notification_settings."
	for _, device := range []string{"DEV", "TWO"} {
		h.want(200, "", "PUT", path+device, amy, `{"is_silenced":true}`)
	}
	h.want(200, "{}", "POST", v3+"/logout", other, "")
	h.want(404, "M_NOT_FOUND", "GET", path+"TWO", amy, "")
	h.want(200, `{"is_silenced":true}`, "GET", path+"DEV", amy, "")
}
