package clientapi

import (
	"fmt"
	"strings"
	"testing"
)

func TestUpgradeCarriesEverything(t *testing.T) {
	for _, versions := range [][2]string{{"9", "11"}, {"11", "12"}, {"12", "12"}, {"12", "10"}} {
		t.Run(versions[0]+" to "+versions[1], func(t *testing.T) { upgradeOnce(t, versions[0], versions[1]) })
	}
}

func upgradeOnce(t *testing.T, from, to string) {
	h := start(t, Anyone)
	amy, bob, eve := h.join("amy"), h.join("bob"), h.join("eve")
	old := h.create(amy, `{"room_version":"`+from+`","preset":"public_chat","visibility":"public","room_alias_name":"den","name":"Den",
		"creation_content":{"type":"m.space","m.federate":false}}`)
	h.want(200, "", "POST", inRoom(old, "/join"), bob, `{}`)
	h.want(200, "", "POST", inRoom(old, "/ban"), amy, `{"user_id":"@eve:hub.test","reason":"no"}`)
	h.want(200, "", "PUT", inRoom(old, "/state/m.space.child/!x:y"), amy, `{"via":["y"]}`)
	mine := v3 + "/user/@bob:hub.test"
	h.want(200, "", "PUT", mine+"/rooms/"+old+"/tags/u.fun", bob, `{"order":0.5}`)
	h.want(200, "", "PUT", mine+"/account_data/m.direct", bob, `{"@amy:hub.test":["`+old+`"]}`)
	h.want(200, "", "PUT", v3+"/pushrules/global/room/"+old, bob, `{"actions":[]}`)
	h.want(403, "M_FORBIDDEN", "POST", inRoom(old, "/upgrade"), bob, `{"new_version":"`+to+`"}`)
	h.want(400, "M_UNSUPPORTED_ROOM_VERSION", "POST", inRoom(old, "/upgrade"), amy, `{"new_version":"99"}`)
	h.want(400, "M_MISSING_PARAM", "POST", inRoom(old, "/upgrade"), amy, `{}`)
	id := h.want(200, "", "POST", inRoom(old, "/upgrade"), amy, `{"new_version":"`+to+`"}`).str("replacement_room")

	state := func(room, typ string) answer {
		t.Helper()
		return h.want(200, "", "GET", inRoom(room, "/state/"+typ), amy, "")
	}
	if state(old, "m.room.tombstone").str("replacement_room") != id {
		t.Fatal("no tombstone")
	}
	create := state(id, "m.room.create")
	if create.str("predecessor", "room_id") != old || create.str("type") != "m.space" || create.get("m.federate") != false || create.str("room_version") != to {
		t.Fatal(create)
	}
	if state(id, "m.room.name").str("name") != "Den" || state(id, "m.room.canonical_alias").str("alias") != "#den:hub.test" ||
		state(id, "m.space.child/!x:y").get("via") == nil || state(id, "m.room.member/@eve:hub.test").str("membership") != "ban" {
		t.Fatal("state")
	}
	if a := state(old, "m.room.power_levels"); a.get("events_default") != 50.0 || a.get("invite") != 50.0 {
		t.Fatal(a)
	}
	if a := state(old, "m.room.canonical_alias"); a.body != "{}" {
		t.Fatal(a)
	}
	if a := h.want(200, "", "GET", v3+"/directory/room/%23den:hub.test", "", ""); a.str("room_id") != id {
		t.Fatal(a)
	}
	for room, want := range map[string]string{old: "private", id: "public"} {
		h.want(200, `{"visibility":"`+want+`"}`, "GET", v3+"/directory/list/room/"+room, "", "")
	}
	h.want(403, "M_FORBIDDEN", "PUT", inRoom(old, "/send/m.room.message/late"), bob, `{}`)
	h.want(403, "M_FORBIDDEN", "POST", inRoom(id, "/join"), eve, `{}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	h.want(200, `{"tags":{"u.fun":{"order":0.5}}}`, "GET", mine+"/rooms/"+id+"/tags", bob, "")
	if a := h.want(200, "", "GET", mine+"/account_data/m.direct", bob, ""); !strings.Contains(a.body, id) || !strings.Contains(a.body, old) {
		t.Fatal(a)
	}
	h.want(200, "", "GET", v3+"/pushrules/global/room/"+id, bob, "")
	h.want(200, "", "POST", inRoom(id, "/upgrade"), amy, `{"new_version":"12"}`) // it is not the last of them
	if err := h.e.Verify(func(line string) { t.Error(line) }); err != nil {
		t.Fatal(err)
	}
}

// A room may call itself the next of any other: that alone gives it nothing.
func TestFalseSuccessorGetsNothing(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	old := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(old, "/join"), bob, `{}`)
	h.want(200, "", "PUT", v3+"/pushrules/global/room/"+old, bob, `{"actions":[]}`)
	eve := h.join("eve")
	id := h.create(eve, fmt.Sprintf(`{"preset":"public_chat","creation_content":{"predecessor":{"room_id":%q}}}`, old))
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	h.want(404, "M_NOT_FOUND", "GET", v3+"/pushrules/global/room/"+id, bob, "")
}

func TestKnock(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"knock"}}]}`)
	h.want(403, "M_FORBIDDEN", "POST", inRoom(id, "/join"), bob, `{}`)
	h.want(200, `{"room_id":"`+id+`"}`, "POST", v3+"/knock/"+id, bob, `{"reason":"please"}`)
	h.want(200, "", "POST", v3+"/knock/"+id, bob, "")
	if a := h.want(200, "", "GET", v3+"/sync", bob, ""); a.get("rooms", "knock", id, "knock_state", "events") == nil {
		t.Fatal(a)
	}
	h.want(200, "", "POST", inRoom(id, "/invite"), amy, `{"user_id":"@bob:hub.test"}`)
	h.want(403, "M_FORBIDDEN", "POST", v3+"/knock/"+id, bob, `{}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	h.want(404, "M_NOT_FOUND", "POST", v3+"/knock/!none:hub.test", bob, `{}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/knock/none", bob, `{}`)
	private := h.create(amy, `{}`)
	h.want(403, "M_FORBIDDEN", "POST", v3+"/knock/"+private, bob, `{}`)
	old := h.create(amy, `{"room_version":"6"}`)
	h.want(403, "M_FORBIDDEN", "POST", v3+"/knock/"+old, bob, `{}`)
}
