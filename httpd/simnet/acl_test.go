package simnet

import (
	"strings"
	"testing"

	"hearth/engine/mxid"
	"hearth/engine/room"
)

// say sends a message and gives its id.
func (u *User) say(id, text string) mxid.EventID {
	u.Hub.net.T.Helper()
	r := u.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/"+text), `{"msgtype":"m.text","body":"`+text+`"}`)
	return mxid.EventID(r.Str("event_id"))
}

// has waits until a hub has an event.
func (n *Net) has(h *Hub, ev mxid.EventID) {
	n.T.Helper()
	n.Until(string(h.Name)+" has "+string(ev), func() bool { _, err := h.Rooms.Lookup(ev); return err == nil })
}

// What a server says that a room's access list keeps out is taken in by nobody, and
// it is told nothing; once it is let in again, all of it comes.
func TestAccessList(t *testing.T) {
	n := New(t, 3)
	a, b, c := n.Hubs[0], n.Hubs[1], n.Hubs[2]
	amy, bob, ben, cy := a.User("amy"), b.User("bob"), b.User("ben"), c.User("cy")
	id := amy.create(`{"preset":"public_chat"}`)
	other := amy.create(`{"preset":"public_chat"}`)
	for _, in := range []string{id, other} {
		bob.Want(200, "", "POST", joinPath(in, a.Name), `{}`)
		cy.Want(200, "", "POST", joinPath(in, a.Name), `{}`)
		n.is(room.Join, in, bob.ID, a, b, c)
		n.is(room.Join, in, cy.ID, a, b, c)
	}
	acl := func(content string) mxid.EventID {
		ev := mxid.EventID(amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.server_acl/"), content).Str("event_id"))
		for _, h := range n.Hubs {
			n.has(h, ev)
		}
		return ev
	}
	last := acl(`{"allow":["*"],"deny":["b.*"]}`)
	kept := bob.say(id, "kept")
	bob.Want(200, "", "PUT", inRoom(id, "/typing/"+string(bob.ID)), `{"typing":true,"timeout":30000}`)
	bob.Want(200, "", "POST", inRoom(id, "/receipt/m.read/"+string(last)), `{}`)
	mark := bob.say(other, "mark")
	bob.Want(200, "", "POST", inRoom(other, "/receipt/m.read/"+string(mark)), `{}`)
	for _, u := range []*User{amy, cy} {
		n.has(u.Hub, mark)
		n.Until("the receipt in the other room", func() bool { return strings.Contains(u.sync().Body, string(bob.ID)+`":{"ts"`) })
		if _, err := u.Hub.Rooms.Lookup(kept); err == nil {
			t.Errorf("%s took in what a server that is kept out sent", u.Hub.Name)
		}
		in, _ := u.sync().Get("rooms", "join", id, "ephemeral", "events").([]any)
		if len(in) > 0 {
			t.Errorf("%s took in what is fleeting: %v", u.Hub.Name, in)
		}
	}
	// Neither does anybody get in by it.
	ben.Ask("POST", joinPath(id, a.Name), `{}`)
	if a.standing(id, ben.ID).Membership == room.Join {
		t.Error("a user of a server that is kept out came in")
	}
	acl(`{"allow":["*"]}`)
	again := bob.say(id, "again")
	for _, h := range []*Hub{a, c} {
		n.has(h, again)
		n.has(h, kept) // it is what the newest follows
	}
}

// A room that is closed here is gone only when those who are in it elsewhere know
// that its people here have left.
func TestClosedOnceTold(t *testing.T) {
	n := New(t, 2)
	a, b := n.Hubs[0], n.Hubs[1]
	amy, bob := a.User("amy"), b.User("bob")
	id := amy.create(`{"preset":"public_chat"}`)
	bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
	n.is(room.Join, id, bob.ID, a, b)
	num, err := a.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		t.Fatal(err)
	}
	n.Cut(a.Name, b.Name)
	if _, _, err := a.CloseRoom(num, true); err != nil {
		t.Fatal(err)
	}
	a.Restart()
	if _, err := a.Rooms.Find(mxid.RoomID(id)); err != nil {
		t.Error(err)
	}
	n.Heal(a.Name, b.Name)
	if err := a.Federation.Retry(b.Name); err != nil {
		t.Fatal(err)
	}
	n.is(room.Leave, id, amy.ID, b)
	n.Until("the room is gone", func() bool { _, err := a.Rooms.Find(mxid.RoomID(id)); return err != nil })
}

// What was said before the hub came to a room is found by its words once it was
// fetched.
func TestPastIsFound(t *testing.T) {
	n := New(t, 2)
	amy, bob := n.Hubs[0].User("amy"), n.Hubs[1].User("bob")
	id := amy.create(`{"preset":"public_chat"}`)
	amy.say(id, "zebra")
	amy.say(id, "giraffe")
	bob.Want(200, "", "POST", joinPath(id, n.Hubs[0].Name), `{}`)
	if page := bob.Want(200, "", "GET", inRoom(id, "/messages?dir=b&limit=50"), ""); !strings.Contains(page.Body, "zebra") {
		t.Fatal(page.Body)
	}
	found := bob.Want(200, "", "POST", v3+"/search", `{"search_categories":{"room_events":{"search_term":"zebra"}}}`)
	if got := found.Get("search_categories", "room_events", "count"); got != 1.0 {
		t.Error(found.Body)
	}
}

// An event that a client names is fetched where it lies in a hole.
func TestNamedInAHole(t *testing.T) {
	n := New(t, 2)
	amy, bob := n.Hubs[0].User("amy"), n.Hubs[1].User("bob")
	id := amy.create(`{"preset":"public_chat"}`)
	old := amy.say(id, "zebra")
	bob.Want(200, "", "POST", joinPath(id, n.Hubs[0].Name), `{}`)
	if r := bob.Want(200, "", "GET", inRoom(id, "/event/"+string(old)), ""); !strings.Contains(r.Body, "zebra") {
		t.Error(r.Body)
	}
	bob.Want(404, "M_NOT_FOUND", "GET", inRoom(id, "/event/$nowhere"), "")
}
