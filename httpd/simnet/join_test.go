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

// sound fails the test where a hub's tables do not agree.
func (n *Net) sound() {
	n.T.Helper()
	for _, h := range n.Hubs {
		if err := h.Verify(func(line string) { n.T.Errorf("%s: %s", h.Name, line) }); err != nil {
			n.T.Error(err)
		}
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
