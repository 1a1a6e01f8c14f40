package simnet

import (
	"context"
	"strings"
	"sync"
	"testing"

	"hearth/engine/event"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// takeInvite has a hub take an invite that a server shows which is not in the
// room, and says that it is of some version.
func (n *Net) takeInvite(h *Hub, version, id string, sender, user mxid.UserID) {
	n.T.Helper()
	key := string(user)
	v := event.LookupVersion(version)
	e, err := event.Build(v, &event.Draft{Room: mxid.RoomID(id), Type: "m.room.member", StateKey: &key, Sender: sender, Time: 1, Depth: 9,
		Content: []byte(`{"membership":"invite"}`)}, n.Key(sender.Server()))
	if err != nil {
		n.T.Fatal(err)
	}
	if _, err := h.Federation.TakeInvite(context.Background(), sender.Server(), &federation.Invited{
		Room: mxid.RoomID(id), Event: e.ID, Version: version, Body: e.JSON,
	}); err != nil {
		n.T.Fatal(err)
	}
}

// What somebody says of a room with an invite stands in the way of nothing.
func TestInviteOfAnotherVersion(t *testing.T) {
	for _, versions := range [][2]string{{"11", "3"}, {"3", "10"}, {"10", "6"}} {
		n := New(t, 2)
		a, b := n.Hubs[0], n.Hubs[1]
		amy, bob, ben := a.User("amy"), b.User("bob"), b.User("ben")
		id := amy.create(`{"preset":"public_chat","room_version":"` + versions[0] + `"}`)
		n.takeInvite(b, versions[1], id, "@eve:x.test", bob.ID)
		n.takeInvite(b, versions[1], id, "@eve:x.test", ben.ID)
		n.is(room.Invite, id, bob.ID, b)
		amy.Want(200, "", "POST", inRoom(id, "/invite"), `{"user_id":"@bob:b.test"}`)
		n.is(room.Invite, id, bob.ID, a, b)
		n.is(room.None, id, ben.ID, b) // it was of the other version
		n.takeInvite(b, versions[1], id, "@eve:x.test", ben.ID)
		bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
		n.is(room.Join, id, bob.ID, a, b)
		n.is(room.None, id, ben.ID, b)
		n.sound()
		b.Restart()
		n.is(room.Join, id, bob.ID, b)
	}
}

// An invite to a room that the hub is not in is pushed, with the room's name.
func TestPushedInvite(t *testing.T) {
	var mu sync.Mutex
	var posts []string
	n := NewWith(t, 2, Options{Change: func(_ int, h *Hub) {
		h.Open.Push.Post = func(_ context.Context, _ string, body []byte) (int, []byte, error) {
			mu.Lock()
			defer mu.Unlock()
			posts = append(posts, string(body))
			return 200, []byte(`{}`), nil
		}
	}})
	a, b := n.Hubs[0], n.Hubs[1]
	amy, bob := a.User("amy"), b.User("bob")
	bob.Want(200, "", "POST", v3+"/pushers/set", `{"app_display_name":"a","app_id":"a","data":{"url":"https://push.test/_matrix/push/v1/notify"},`+
		`"device_display_name":"d","kind":"http","lang":"en","pushkey":"k"}`)
	id := amy.create(`{"preset":"private_chat","name":"Attic"}`)
	amy.Want(200, "", "POST", inRoom(id, "/invite"), `{"user_id":"@bob:b.test"}`)
	n.Until("bob is told of the invite", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(posts) > 0
	})
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{`"user_is_target":true`, `"room_name":"Attic"`, `"room_id":"` + id + `"`} {
		if !strings.Contains(posts[0], want) {
			t.Errorf("no %s in %s", want, posts[0])
		}
	}
	if list := bob.Want(200, "", "GET", v3+"/notifications", ""); !strings.Contains(list.Body, `"membership":"invite"`) {
		t.Error(list.Body)
	}
}
