package simnet

import (
	"fmt"
	"net/url"
	"testing"

	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

const v3 = "/_matrix/client/v3"

// create makes a room and gives its id.
func (u *User) create(body string) string {
	u.Hub.net.T.Helper()
	return u.Want(200, "", "POST", v3+"/createRoom", body).Str("room_id")
}

func inRoom(id, rest string) string { return v3 + "/rooms/" + url.PathEscape(id) + rest }

func joinPath(id string, via ...mxid.Server) string {
	path := v3 + "/join/" + url.PathEscape(id)
	for i, s := range via {
		sep := "&"
		if i == 0 {
			sep = "?"
		}
		path += sep + "via=" + string(s)
	}
	return path
}

// standing is a user's membership as a hub has it.
func (h *Hub) standing(id string, user mxid.UserID) room.Member {
	t := h.net.T
	t.Helper()
	num, err := h.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		return room.Member{}
	}
	n, err := h.Rooms.User(user)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Rooms.MemberOf(num, n)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// is fails the test unless all hubs have the user's membership so.
func (n *Net) is(m room.Membership, id string, user mxid.UserID, hubs ...*Hub) {
	n.T.Helper()
	for _, h := range hubs {
		n.Until(fmt.Sprintf("%s has %s as %q in %s", h.Name, user, m, id), func() bool { return h.standing(id, user).Membership == m })
	}
}

// sound fails the test where a hub's tables do not come to agree: what is still
// being written does not, for a moment.
func (n *Net) sound() {
	n.T.Helper()
	for _, h := range n.Hubs {
		var lines []string
		defer func() {
			if n.T.Failed() {
				n.T.Logf("%s: %q", h.Name, lines)
			}
		}()
		n.Until("the tables of "+string(h.Name)+" agree", func() bool {
			lines = nil
			if err := h.Verify(func(line string) { lines = append(lines, line) }); err != nil {
				lines = append(lines, err.Error())
			}
			return len(lines) == 0
		})
	}
}

func TestJoin(t *testing.T) {
	for _, version := range event.Versions() {
		t.Run(version, func(t *testing.T) {
			n := New(t, 3)
			a, b, c := n.Hubs[0], n.Hubs[1], n.Hubs[2]
			amy, bob, cy := a.User("amy"), b.User("bob"), c.User("cy")
			id := amy.create(`{"preset":"public_chat","room_version":"` + version + `","name":"Here"}`)
			r := bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
			if r.Str("room_id") != id {
				t.Error(r.Body)
			}
			n.is(room.Join, id, bob.ID, a, b)
			if got := bob.Want(200, "", "GET", inRoom(id, "/state/m.room.name"), "").Str("name"); got != "Here" {
				t.Errorf("the room is called %q", got)
			}
			// By one who has come by federation himself.
			cy.Want(200, "", "POST", joinPath(id, b.Name), `{}`)
			n.is(room.Join, id, cy.ID, a, b, c)
			n.sound()
		})
	}
}

// sync asks for all that a user is told.
func (u *User) sync() Reply {
	u.Hub.net.T.Helper()
	return u.Want(200, "", "GET", v3+`/sync?filter=`+url.QueryEscape(`{"room":{"include_leave":true}}`), "")
}

// versionsFrom lists the room versions from a number on.
func versionsFrom(least int) []string { return event.Versions()[least-1:] }

func TestInvite(t *testing.T) {
	for _, version := range versionsFrom(1) {
		t.Run(version, func(t *testing.T) {
			n := New(t, 2)
			a, b := n.Hubs[0], n.Hubs[1]
			amy, bob, ben := a.User("amy"), b.User("bob"), b.User("ben")
			id := amy.create(`{"preset":"private_chat","room_version":"` + version + `","name":"Here","invite":["@bob:b.test"]}`)
			n.is(room.Invite, id, bob.ID, a, b)
			events, _ := bob.sync().Get("rooms", "invite", id, "invite_state", "events").([]any)
			shown := map[string]bool{}
			for _, e := range events {
				m, _ := e.(map[string]any)
				typ, _ := m["type"].(string)
				shown[typ] = true
				if m["origin_server_ts"] != nil || m["content"] == nil {
					t.Errorf("not stripped: %v", m)
				}
			}
			if !shown["m.room.member"] || !shown["m.room.name"] || !shown["m.room.create"] {
				t.Errorf("the invite shows %v", shown)
			}
			bob.Want(200, "", "POST", joinPath(id), `{}`)
			n.is(room.Join, id, bob.ID, a, b)
			// Now both are in the room; the next invite comes twice.
			amy.Want(200, "", "POST", inRoom(id, "/invite"), `{"user_id":"@ben:b.test"}`)
			n.is(room.Invite, id, ben.ID, a, b)
			ben.Want(200, "", "POST", inRoom(id, "/leave"), `{}`)
			n.is(room.Leave, id, ben.ID, a, b)
			amy.Want(403, "M_FORBIDDEN", "POST", inRoom(id, "/invite"), `{"user_id":"@bob:b.test"}`)
			n.sound()
		})
	}
}

func TestTurnDown(t *testing.T) {
	for _, version := range versionsFrom(1) {
		t.Run(version, func(t *testing.T) {
			n := New(t, 2)
			a, b := n.Hubs[0], n.Hubs[1]
			amy, bob, ben := a.User("amy"), b.User("bob"), b.User("ben")
			id := amy.create(`{"preset":"private_chat","room_version":"` + version + `","invite":["@bob:b.test","@ben:b.test"]}`)
			bob.Want(200, "", "POST", inRoom(id, "/leave"), `{}`)
			n.is(room.Leave, id, bob.ID, a, b)
			if r := bob.sync(); r.Get("rooms", "invite") != nil || r.Get("rooms", "leave", id) == nil {
				t.Error(r.Body)
			}
			bob.Want(403, "M_FORBIDDEN", "POST", joinPath(id, a.Name), `{}`)
			// The invite is withdrawn.
			amy.Want(200, "", "POST", inRoom(id, "/kick"), `{"user_id":"@ben:b.test"}`)
			n.is(room.Leave, id, ben.ID, a, b)
			// The other side is gone, and the user leaves all the same.
			amy.Want(200, "", "POST", inRoom(id, "/invite"), `{"user_id":"@ben:b.test"}`)
			n.is(room.Invite, id, ben.ID, a, b)
			n.Cut(a.Name, b.Name)
			ben.Want(200, "", "POST", inRoom(id, "/leave"), `{}`)
			n.is(room.Leave, id, ben.ID, b)
			ben.Want(200, "", "POST", inRoom(id, "/forget"), `{}`)
			b.Restart()
			n.Heal(a.Name, b.Name)
			amy.Want(200, "", "POST", inRoom(id, "/invite"), `{"user_id":"@bob:b.test"}`)
			n.is(room.Invite, id, bob.ID, b)
			n.sound()
		})
	}
}

func TestKnock(t *testing.T) {
	for _, version := range versionsFrom(7) {
		t.Run(version, func(t *testing.T) {
			n := New(t, 2)
			a, b := n.Hubs[0], n.Hubs[1]
			amy, bob := a.User("amy"), b.User("bob")
			id := amy.create(`{"room_version":"` + version + `","name":"Here","initial_state":[{"type":"m.room.join_rules","state_key":"","content":{"join_rule":"knock"}}]}`)
			knock := v3 + "/knock/" + url.PathEscape(id) + "?via=a.test"
			bob.Want(200, "", "POST", knock, `{"reason":"let me in"}`)
			n.is(room.Knock, id, bob.ID, a, b)
			if bob.sync().Get("rooms", "knock", id, "knock_state", "events") == nil {
				t.Error("the knock is not shown")
			}
			bob.Want(200, "", "POST", inRoom(id, "/leave"), `{}`) // taken back
			n.is(room.Leave, id, bob.ID, a, b)
			bob.Want(200, "", "POST", knock, `{}`)
			amy.Want(200, "", "POST", inRoom(id, "/kick"), `{"user_id":"@bob:b.test"}`) // refused
			n.is(room.Leave, id, bob.ID, a, b)
			bob.Want(200, "", "POST", knock, `{}`)
			amy.Want(200, "", "POST", inRoom(id, "/invite"), `{"user_id":"@bob:b.test"}`)
			n.is(room.Invite, id, bob.ID, a, b)
			bob.Want(200, "", "POST", joinPath(id), `{}`)
			n.is(room.Join, id, bob.ID, a, b)
			n.sound()
		})
	}
}

func TestRestricted(t *testing.T) {
	for _, version := range versionsFrom(8) {
		t.Run(version, func(t *testing.T) {
			n := New(t, 3)
			a, b, c := n.Hubs[0], n.Hubs[1], n.Hubs[2]
			amy, bob, ben, cy := a.User("amy"), b.User("bob"), b.User("ben"), c.User("cy")
			club := amy.create(`{"preset":"public_chat","room_version":"` + version + `"}`)
			id := amy.create(`{"room_version":"` + version + `","initial_state":[{"type":"m.room.join_rules","state_key":"","content":{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"` + club + `"}]}}]}`)
			bob.Want(403, "M_FORBIDDEN", "POST", joinPath(id, a.Name), `{}`)
			bob.Want(200, "", "POST", joinPath(club, a.Name), `{}`)
			bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
			n.is(room.Join, id, bob.ID, a, b)
			// By a hub that has nobody who may let others in, and which therefore asks.
			amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.power_levels"), `{"invite":50,"users":{`+levels(version)+`}}`)
			n.Until("the levels are here", func() bool {
				r := bob.Ask("GET", inRoom(id, "/state/m.room.power_levels"), "")
				return r.Get("invite") == 50.0
			})
			cy.Want(200, "", "POST", joinPath(club, a.Name), `{}`)
			n.is(room.Join, club, cy.ID, a, b, c)
			n.Cut(a.Name, c.Name)
			cy.Want(400, "M_UNABLE_TO_GRANT_JOIN", "POST", joinPath(id, b.Name), `{}`)
			n.Heal(a.Name, c.Name)
			cy.Want(200, "", "POST", joinPath(id, b.Name, a.Name), `{}`)
			ben.Want(200, "", "POST", joinPath(club), `{}`)
			n.is(room.Join, club, ben.ID, a, b)
			ben.Want(200, "", "POST", joinPath(id), `{}`) // bob's hub is in the room, and cannot let ben in
			n.is(room.Join, id, ben.ID, a, b, c)
			n.sound()
		})
	}
}

// levels is the users of a power levels event that the creator may send.
func levels(version string) string {
	if event.LookupVersion(version).Creators {
		return ""
	}
	return `"@amy:a.test":100`
}

func TestRejoin(t *testing.T) {
	for _, version := range versionsFrom(1) {
		t.Run(version, func(t *testing.T) {
			n := New(t, 2)
			a, b := n.Hubs[0], n.Hubs[1]
			amy, bob, ben := a.User("amy"), b.User("bob"), b.User("ben")
			id := amy.create(`{"preset":"public_chat","room_version":"` + version + `","room_alias_name":"here"}`)
			bob.Want(200, "", "POST", joinPath("#here:a.test"), `{}`)
			n.is(room.Join, id, bob.ID, a, b)
			bob.Want(200, "", "POST", inRoom(id, "/leave"), `{}`)
			n.is(room.Leave, id, bob.ID, a, b)
			amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.topic"), `{"topic":"meanwhile"}`)
			ben.Want(200, "", "POST", joinPath(id), `{}`)
			bob.Want(200, "", "POST", joinPath(id), `{}`)
			n.is(room.Join, id, ben.ID, a, b)
			n.is(room.Join, id, bob.ID, a, b)
			if got := bob.Want(200, "", "GET", inRoom(id, "/state/m.room.topic"), "").Str("topic"); got != "meanwhile" {
				t.Errorf("the topic is %q", got)
			}
			n.sound()
		})
	}
}
