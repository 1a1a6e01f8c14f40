package clientapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"hearth/engine/mxid"
)

// The answer as clients that are strict about it read it: what is of another type,
// or null where only two members may be, makes them throw the whole away.
type (
	strictAnswer struct {
		Pos        string                      `json:"pos"`
		Lists      map[string]strictList       `json:"lists"`
		Rooms      map[mxid.RoomID]*strictRoom `json:"rooms"`
		Extensions map[string]json.RawMessage  `json:"extensions"`
	}
	strictList struct {
		Count uint32 `json:"count"`
	}
	strictRoom struct {
		Name      *string           `json:"name"`
		Avatar    *string           `json:"avatar"`
		Initial   bool              `json:"initial"`
		DM        bool              `json:"is_dm"`
		Invite    []json.RawMessage `json:"invite_state"`
		Notify    uint32            `json:"notification_count"`
		Highlight uint32            `json:"highlight_count"`
		Timeline  []json.RawMessage `json:"timeline"`
		Required  []json.RawMessage `json:"required_state"`
		Prev      string            `json:"prev_batch"`
		Limited   bool              `json:"limited"`
		Joined    uint32            `json:"joined_count"`
		Invited   uint32            `json:"invited_count"`
		Live      uint32            `json:"num_live"`
		Bump      uint64            `json:"bump_stamp"`
		Heroes    []strictHero      `json:"heroes"`
		Expanded  bool              `json:"unstable_expanded_timeline"`
	}
	strictHero struct {
		User   string `json:"user_id"`
		Name   string `json:"displayname"`
		Avatar string `json:"avatar_url"`
	}
)

func strictly(t *testing.T, text []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("more than one value: %s", text)
	}
	bare := strings.NewReplacer(`"name":null`, "", `"avatar":null`, "").Replace(string(text))
	if strings.Contains(bare, `:null`) {
		t.Fatalf("null: %s", text)
	}
}

// listed is a client as the common library for phones is one: a room list that grows,
// subscriptions to what is on the screen, and in each room the membership that the
// state tells, joined where it tells none.
type listed struct {
	h          *hub
	token, me  string
	conn, pos  string
	to         int
	subscribed []string
	standing   map[string]string
	last       strictAnswer
}

const phoneState = `["m.room.name",""],["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],["m.room.avatar",""],` +
	`["m.room.canonical_alias",""],["m.room.power_levels",""],["org.matrix.msc3401.call.member","*"],["m.room.join_rules",""],["m.room.tombstone",""],` +
	`["m.room.create",""],["m.room.history_visibility",""],["io.element.functional_members",""],["m.space.parent","*"],["m.space.child","*"],["org.matrix.msc3672.beacon_info","*"]`

func (l *listed) body() string {
	subs := make([]string, len(l.subscribed))
	for i, id := range l.subscribed {
		subs[i] = fmt.Sprintf(`%q:{"required_state":[%s,["m.room.pinned_events",""]],"timeline_limit":20}`, id, phoneState)
	}
	return fmt.Sprintf(`{"conn_id":%q,"lists":{"all_rooms":{"ranges":[[0,%d]],"required_state":[%s],"timeline_limit":1,"filters":{}}},"room_subscriptions":{%s},`+
		`"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},"typing":{"enabled":true},`+
		`"io.element.msc4308.thread_subscriptions":{"enabled":true,"limit":10},"org.matrix.msc4262.profiles":{"enabled":true}}}`, l.conn, l.to, phoneState, strings.Join(subs, ","))
}

func (l *listed) sync() *strictAnswer {
	l.h.t.Helper()
	a := l.h.want(200, "", "POST", slides+"?timeout=0&set_presence=offline&pos="+l.pos, l.token, l.body())
	l.last = strictAnswer{}
	strictly(l.h.t, []byte(a.body), &l.last)
	l.pos = l.last.Pos
	l.play()
	return &l.last
}

func (l *listed) play() {
	l.h.t.Helper()
	for id, r := range l.last.Rooms {
		if _, err := mxid.ParseRoom(string(id)); err != nil {
			l.h.t.Errorf("%s: %v", id, err)
		}
		standing, from := "join", r.Required
		if r.Invite != nil {
			standing, from = "invite", r.Invite
		}
		for _, text := range from {
			var e struct {
				Type    string  `json:"type"`
				Key     *string `json:"state_key"`
				Content struct{ Membership string }
			}
			if err := json.Unmarshal(text, &e); err != nil || e.Key == nil {
				l.h.t.Errorf("%s: %v", text, err)
			}
			if e.Type == "m.room.member" && *e.Key == l.me {
				standing = e.Content.Membership
			}
		}
		l.standing[string(id)] = standing
		for _, hero := range r.Heroes {
			if _, err := mxid.ParseUser(hero.User); err != nil || hero.User == l.me {
				l.h.t.Errorf("%s: %v", hero.User, err)
			}
		}
	}
}

// are counts the rooms of a standing.
func (l *listed) are(standing string) (n int) {
	for _, s := range l.standing {
		if s == standing {
			n++
		}
	}
	return n
}

// The life of a room list: it begins with twenty rooms and grows to all, rooms come
// and go in every way there is, and the list shows no room that the user is not in.
func TestRoomList(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	rooms := make([]string, 24)
	for i := range rooms {
		rooms[i] = h.create(amy, `{"preset":"public_chat"}`)
		h.want(200, "", "POST", inRoom(rooms[i], "/join"), bob, `{}`)
	}
	l := &listed{h: h, token: bob, me: "@bob:hub.test", conn: "room-list", to: 19, standing: map[string]string{}}
	if a := l.sync(); len(a.Rooms) != 20 || a.Lists["all_rooms"].Count != 24 || l.standing[rooms[23]] != "join" {
		t.Fatalf("%d rooms of %d", len(a.Rooms), a.Lists["all_rooms"].Count)
	}
	l.to = 23
	if a := l.sync(); len(a.Rooms) != 4 || l.are("join") != 24 {
		t.Fatalf("%d rooms came", len(a.Rooms))
	}
	if a := l.sync(); len(a.Rooms) != 0 {
		t.Fatalf("%d rooms came though nothing happened", len(a.Rooms))
	}
	l.subscribed = rooms[:2]
	if a := l.sync(); len(a.Rooms) != 2 || !a.Rooms[mxid.RoomID(rooms[0])].Limited || len(a.Rooms[mxid.RoomID(rooms[0])].Timeline) < 5 {
		t.Fatalf("%+v", a.Rooms)
	}
	invites := make([]string, 4)
	for i := range invites {
		invites[i] = h.create(amy, `{"preset":"private_chat","invite":["@bob:hub.test"],"is_direct":true}`)
	}
	knock := h.create(amy, `{"initial_state":[{"type":"m.room.join_rules","state_key":"","content":{"join_rule":"knock"}}]}`)
	h.want(200, "", "POST", v3+"/knock/"+knock, bob, `{}`)
	if l.sync(); l.are("invite") != 4 || l.standing[knock] != "knock" {
		t.Fatal(l.standing)
	}
	leave := func(id, way string) { h.want(200, "", "POST", inRoom(id, "/"+way), bob, "{}") }
	out := func(id, way string) {
		h.want(200, "{}", "POST", inRoom(id, "/"+way), amy, `{"user_id":"@bob:hub.test"}`)
	}
	leave(invites[0], "leave")
	leave(invites[1], "leave")
	leave(invites[1], "forget")
	out(invites[2], "kick")
	leave(knock, "leave")
	leave(rooms[2], "leave")
	leave(rooms[3], "leave")
	leave(rooms[3], "forget")
	out(rooms[4], "kick")
	out(rooms[5], "ban")
	l.sync()
	for _, id := range []string{invites[0], invites[1], invites[2], knock, rooms[2], rooms[3], rooms[4]} {
		if l.standing[id] != "leave" {
			t.Errorf("%s: %s", id, l.standing[id])
		}
	}
	if l.standing[rooms[5]] != "ban" || l.are("join") != 20 || l.are("invite") != 1 {
		t.Error(l.standing)
	}
	leave(invites[3], "join")
	leave(rooms[2], "join")
	if l.sync(); l.standing[invites[3]] != "join" || l.standing[rooms[2]] != "join" || !l.last.Rooms[mxid.RoomID(rooms[2])].Initial {
		t.Error(l.standing)
	}
	h.want(200, "{}", "PUT", inRoom(rooms[0], "/typing/@amy:hub.test"), amy, `{"typing":true,"timeout":20000}`)
	said := h.say(amy, rooms[0], "s1", "kettle")
	h.want(200, "{}", "POST", inRoom(rooms[0], "/receipt/m.read/"+said), bob, `{}`)
	if a := l.sync(); a.Extensions["typing"] == nil || a.Extensions["receipts"] == nil || a.Rooms[mxid.RoomID(rooms[0])].Live != 1 {
		t.Errorf("%+v", a)
	}
	beside(t, l, rooms[0])
}

// beside is what the same device asks for on other connections meanwhile: its keys
// and messages, and what a notification is about.
func beside(t *testing.T, l *listed, id string) {
	keys := `{"conn_id":"encryption","extensions":{"to_device":{"enabled":true},"e2ee":{"enabled":true}}}`
	first := l.h.want(200, "", "POST", slides+"?timeout=0", l.token, keys)
	var e2ee struct {
		Counts map[string]uint32 `json:"device_one_time_keys_count"`
		Unused []string          `json:"device_unused_fallback_key_types"`
	}
	var messages struct {
		Next   string            `json:"next_batch"`
		Events []json.RawMessage `json:"events"`
	}
	var a strictAnswer
	strictly(t, []byte(first.body), &a)
	strictly(t, a.Extensions["e2ee"], &e2ee)
	strictly(t, a.Extensions["to_device"], &messages)
	if e2ee.Unused == nil || messages.Next == "" {
		t.Error(first.body)
	}
	body := fmt.Sprintf(`{"conn_id":"notifications","lists":{"invites":{"ranges":[[0,16]],"required_state":[%s],"timeline_limit":8,"filters":{"is_invite":true}}},`+
		`"room_subscriptions":{%q:{"required_state":[%s],"timeline_limit":16}},"extensions":{"account_data":{"enabled":true}}}`, phoneState, id, phoneState)
	strictly(t, []byte(l.h.want(200, "", "POST", slides+"?timeout=0", l.token, body).body), &a)
	if r := a.Rooms[mxid.RoomID(id)]; a.Lists["invites"].Count != 0 || len(r.Timeline) < 7 || r.Limited {
		t.Errorf("%+v", a.Rooms[mxid.RoomID(id)])
	}
	if l.sync(); len(l.last.Rooms) != 0 {
		t.Errorf("the room list is told more for it: %+v", l.last.Rooms)
	}
	l.h.want(200, "", "POST", slides+"?timeout=0&pos="+first.str("pos"), l.token, keys)
}
