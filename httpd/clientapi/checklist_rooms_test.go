package clientapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// A transaction is the device's, not the token's.
// Spec: client-server, transaction identifiers.
func TestTransactionOutlivesItsToken(t *testing.T) {
	h := start(t, Anyone)
	h.join("bob")
	a := h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","user":"bob","password":"correct horse","refresh_token":true}`)
	room := h.create(a.str("access_token"), `{}`)
	first := h.say(a.str("access_token"), room, "t1", "once")
	b := h.want(200, "", "POST", v3+"/refresh", "", fmt.Sprintf(`{"refresh_token":%q}`, a.str("refresh_token")))
	if again := h.say(b.str("access_token"), room, "t1", "once"); again != first {
		t.Error("one transaction made two events")
	}
	if other := h.say(h.loginAs("bob", "OTHER"), room, "t1", "once"); other == first {
		t.Error("the transactions of two devices made one event")
	}
}

func TestUnstableFeatures(t *testing.T) {
	h := start(t, Anyone)
	a := h.want(200, "", "GET", "/_matrix/client/versions", "", "")
	for _, name := range []string{"org.matrix.msc4140", "org.matrix.msc3391", "org.matrix.msc3757", "org.matrix.msc4306"} {
		if a.get("unstable_features", name) != true {
			t.Errorf("%s is not told: %s", name, a.body)
		}
	}
	versions, _ := a.get("versions").([]any)
	for _, v := range []string{"r0.0.1", "r0.4.0", "r0.6.1", "v1.1", "v1.11", "v1.19"} {
		if !slices.Contains(versions, any(v)) {
			t.Errorf("%s is not told", v)
		}
	}
}

func TestCapabilities(t *testing.T) {
	h := start(t, Anyone)
	a := h.want(200, "", "GET", v3+"/capabilities", h.join("bob"), "")
	for _, name := range []string{"m.change_password", "m.set_displayname", "m.set_avatar_url", "m.get_login_token", "m.profile_fields"} {
		if a.get("capabilities", name, "enabled") != true {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	for n := 1; n <= 12; n++ {
		if a.get("capabilities", "m.room_versions", "available", fmt.Sprint(n)) != "stable" {
			t.Errorf("room version %d: %s", n, a.body)
		}
	}
	if a.get("capabilities", "m.room_versions", "default") != "12" {
		t.Error(a.body)
	}
}

// Who is invited is shown what the room is, and no more of it.
// Spec: client-server, stripped state.
func TestInvitesShowStrippedState(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	room := h.create(amy, `{"name":"Den","topic":"Tea","is_direct":true,"invite":["@bob:hub.test"],"initial_state":[
		{"type":"m.room.encryption","content":{"algorithm":"m.megolm.v1.aes-sha2"}},{"type":"org.example.secret","content":{"a":"b"}}]}`)
	h.say(amy, room, "1", "before")
	a := h.want(200, "", "GET", v3+"/sync", bob, "")
	list, _ := a.get("rooms", "invite", room, "invite_state", "events").([]any)
	var types []string
	for _, item := range list {
		e := item.(map[string]any)
		types = append(types, e["type"].(string))
		for key := range e {
			if !slices.Contains([]string{"type", "state_key", "sender", "content"}, key) {
				t.Errorf("%s is told: %s", key, asJSON(e))
			}
		}
		if content, _ := e["content"].(map[string]any); e["type"] == "m.room.member" && e["state_key"] == "@bob:hub.test" && content["is_direct"] != true {
			t.Error(asJSON(e))
		}
	}
	for _, typ := range []string{"m.room.create", "m.room.name", "m.room.topic", "m.room.join_rules", "m.room.encryption", "m.room.member"} {
		if !slices.Contains(types, typ) {
			t.Errorf("%s is not told", typ)
		}
	}
	if strings.Contains(a.body, "secret") || strings.Contains(a.body, "before") {
		t.Error(a.body)
	}
	h.want(403, "", "GET", inRoom(room, "/state"), bob, "")
}

// With use_state_after the state is that at the end of the timeline.
// Spec: client-server, GET /sync.
func TestStateAfter(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	room := h.create(amy, `{"name":"old"}`)
	since := h.want(200, "", "GET", v3+"/sync", amy, "").str("next_batch")
	h.want(200, "", "PUT", inRoom(room, "/state/m.room.name"), amy, `{"name":"new"}`)
	for i := range 3 {
		h.say(amy, room, fmt.Sprint(i), "x")
	}
	filter := url.QueryEscape(`{"room":{"timeline":{"limit":2}}}`)
	before := h.want(200, "", "GET", v3+"/sync?since="+since+"&filter="+filter, amy, "")
	after := h.want(200, "", "GET", v3+"/sync?use_state_after=true&since="+since+"&filter="+filter, amy, "")
	if before.event("type", "m.room.name", "rooms", "join", room, "state", "events") == nil || before.get("rooms", "join", room, "state_after") != nil {
		t.Error(before.body)
	}
	if after.event("type", "m.room.name", "rooms", "join", room, "state_after", "events") == nil || after.get("rooms", "join", room, "state") != nil {
		t.Error(after.body)
	}
	// In the timeline itself, the state after has it too; the state before does not.
	since = after.str("next_batch")
	h.want(200, "", "PUT", inRoom(room, "/state/m.room.name"), amy, `{"name":"newer"}`)
	before = h.want(200, "", "GET", v3+"/sync?since="+since, amy, "")
	after = h.want(200, "", "GET", v3+"/sync?use_state_after=true&since="+since, amy, "")
	if before.event("type", "m.room.name", "rooms", "join", room, "state", "events") != nil ||
		after.event("type", "m.room.name", "rooms", "join", room, "state_after", "events") == nil {
		t.Error(before.body, after.body)
	}
}

// What takes power, and what an absent level stands for.
// Spec: client-server, permissions.
func TestPowerLevelsRule(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	room := h.create(amy, `{"preset":"public_chat","power_level_content_override":{"users":{"@bob:hub.test":50},"events":{"org.example.low":0,"org.example.high":99},"state_default":50,"ban":60}}`)
	h.want(200, "", "POST", inRoom(room, "/join"), bob, "{}")
	eve := h.join("eve")
	h.want(200, "", "POST", inRoom(room, "/join"), eve, "{}")
	for _, c := range []struct {
		token, typ string
		status     int
	}{
		{bob, "m.room.topic", 200}, {eve, "m.room.topic", 403}, {eve, "org.example.low", 200}, {bob, "org.example.high", 403}, {amy, "org.example.high", 200},
	} {
		h.want(c.status, "", "PUT", inRoom(room, "/state/"+c.typ), c.token, `{"topic":"x"}`)
	}
	const eveID = `{"user_id":"@eve:hub.test"}`
	h.want(403, "M_FORBIDDEN", "POST", inRoom(room, "/ban"), bob, eveID)
	h.want(200, "{}", "POST", inRoom(room, "/kick"), bob, eveID)
	h.want(200, "{}", "POST", inRoom(room, "/ban"), amy, eveID)
	h.want(403, "M_FORBIDDEN", "PUT", inRoom(room, "/state/m.room.power_levels"), bob, `{"users":{"@bob:hub.test":100}}`)
}

// Spec: client-server, restricted rooms.
func TestRestrictedRoom(t *testing.T) {
	h := start(t, Anyone)
	amy, bob, eve := h.join("amy"), h.join("bob"), h.join("eve")
	club := h.create(amy, `{"invite":["@bob:hub.test"]}`)
	h.want(200, "", "POST", inRoom(club, "/join"), bob, "{}")
	room := h.create(amy, fmt.Sprintf(`{"initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%q}]}}]}`, club))
	h.want(403, "M_FORBIDDEN", "POST", inRoom(room, "/join"), eve, "{}")
	h.want(200, "", "POST", inRoom(room, "/join"), bob, "{}")
	if a := h.want(200, "", "GET", inRoom(room, "/state/m.room.member/@bob:hub.test"), amy, ""); a.str("join_authorised_via_users_server") != "@amy:hub.test" {
		t.Error(a.body)
	}
	h.want(200, "", "POST", inRoom(room, "/invite"), amy, `{"user_id":"@eve:hub.test"}`)
	h.want(200, "", "POST", inRoom(room, "/join"), eve, "{}")
}

// An invitation by an address needs an identity server, which the hub does not
// ask: it says so. Spec: client-server, third-party invites.
func TestInviteByAddress(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	room := h.create(amy, `{}`)
	const who = `{"id_server":"id.example","id_access_token":"t","medium":"email","address":"bob@example.org"}`
	h.want(403, "M_THREEPID_DENIED", "POST", inRoom(room, "/invite"), amy, who)
	h.want(400, "", "POST", inRoom(room, "/invite"), amy, `{"id_server":"id.example"}`)
	h.want(403, "M_THREEPID_DENIED", "POST", v3+"/createRoom", amy, `{"invite_3pid":[`+who+`]}`)
	// The state that such an invitation leaves may be set by who may invite.
	h.want(200, "", "PUT", inRoom(room, "/state/m.room.third_party_invite/tok"), amy,
		`{"display_name":"b...","key_validity_url":"https://id.example/v","public_key":"abc","public_keys":[{"public_key":"abc"}]}`)
}

// Spec: client-server, mutual rooms.
func TestMutualRooms(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	path := v1 + "/mutual_rooms?user_id=@bob:hub.test"
	h.want(200, `{"joined":[],"count":0}`, "GET", path, amy, "")
	room := h.create(amy, `{"preset":"public_chat"}`)
	h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(room, "/join"), bob, "{}")
	h.want(200, `{"joined":["`+room+`"],"count":1}`, "GET", path, amy, "")
	h.want(200, "{}", "POST", inRoom(room, "/leave"), bob, "")
	h.want(200, `{"joined":[],"count":0}`, "GET", path, amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", v1+"/mutual_rooms?user_id=@amy:hub.test", amy, "")
}
