package engine

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// inControl waits until a user stands in the control room as wanted.
func (h *hub) inControl(user mxid.UserID, want room.Membership) {
	h.t.Helper()
	h.waitFor("the standing of "+string(user)+" in the control room", func() bool {
		num, err := h.controlRoom()
		h.ok(err)
		known, err := h.Rooms.User(user)
		h.ok(err)
		if num == 0 || known == 0 {
			return false
		}
		m, err := h.Rooms.MemberOf(num, known)
		h.ok(err)
		return m.Membership == want
	})
}

// The owner of a hub with things is in the control room from the first moment on,
// and may use what is mapped nowhere; so is whoever becomes an admin later. Who
// left is left alone.
func TestAdminsAreInTheControlRoom(t *testing.T) {
	fs := vfs.NewCrashableMem()
	h := openOn(t, fs)
	_, err := h.ServeThings(mqtt.Limits{})
	h.ok(err)
	if num, err := h.controlRoom(); err != nil || num != 0 {
		t.Fatal("there is a control room for nobody", num, err)
	}
	_, err = h.Accounts.Create(account.NewUser{Localpart: "ann", Admin: true})
	h.ok(err)
	h.inControl("@ann:hub", room.Join)
	bea, err := h.Accounts.Create(account.NewUser{Localpart: "bea"})
	h.ok(err)
	for who, want := range map[string]bool{"@ann:hub": true, "@bea:hub": false} {
		for _, op := range []mqtt.Op{mqtt.Publish, mqtt.Subscribe, mqtt.Receive} {
			if got := h.Bridge.May(mqtt.Identity{Name: who}, op, "attic/window"); got != want {
				t.Errorf("%s %v: %v", who, op, got)
			}
		}
	}
	h.ok(h.Accounts.SetAdmin(bea, true))
	h.inControl("@bea:hub", room.Join)
	num, err := h.controlRoom()
	h.ok(err)
	head, err := h.Rooms.Head(num)
	h.ok(err)
	if level := head.Levels.UserLevel("@bea:hub"); level != 100 {
		t.Error("the second admin has level", level)
	}
	h.ok(h.Leave(num, "@bea:hub", ""))
	h.ok(h.Close())
	h = openOn(t, fs)
	_, err = h.ServeThings(mqtt.Limits{})
	h.ok(err)
	_, err = h.Accounts.Create(account.NewUser{Localpart: "cid", Admin: true})
	h.ok(err)
	h.inControl("@cid:hub", room.Join)
	h.inControl("@bea:hub", room.Leave)
}

// What is refused is told of once by who was refused, whatever the topics.
func TestRefusalsAreToldOfOnce(t *testing.T) {
	h := open(t)
	_, err := h.ServeThings(mqtt.Limits{})
	h.ok(err)
	_, err = h.Accounts.Create(account.NewUser{Localpart: "ann", Admin: true})
	h.ok(err)
	h.inControl("@ann:hub", room.Join)
	_, err = h.AddThing("porch", nil)
	h.ok(err)
	for _, topic := range []string{"attic/a", "attic/b", "attic/c"} {
		for _, op := range []mqtt.Op{mqtt.Publish, mqtt.Subscribe, mqtt.Receive} {
			if h.Bridge.May(mqtt.Identity{Name: "porch"}, op, topic) {
				t.Errorf("the thing may %v %s", op, topic)
			}
		}
	}
	num, err := h.controlRoom()
	h.ok(err)
	h.waitFor("the owner is told", func() bool { return strings.Count(h.lines(num), "\n") == 2 })
	for _, want := range []string{"porch may not publish to attic/a.", "porch may not subscribe to attic/a."} {
		if said := h.lines(num); !strings.Contains(said, want) {
			t.Errorf("not told %q: %q", want, said)
		}
	}
}

// A mapping that makes its room is the owner's from the first message on.
func TestOwnerPublishesIntoANewRoom(t *testing.T) {
	h := open(t)
	_, err := h.ServeThings(mqtt.Limits{})
	h.ok(err)
	_, err = h.Accounts.Create(account.NewUser{Localpart: "ann", Admin: true})
	h.ok(err)
	h.inControl("@ann:hub", room.Join)
	control, err := h.controlRoom()
	h.ok(err)
	key := "x"
	_, err = h.State(control, &room.Draft{Type: "io.hearth.mapping", StateKey: &key, Sender: "@ann:hub",
		Content: []byte(`{"topic":"house/+","room":"#house:hub","create":true,"mode":"event","type":"io.t"}`)})
	h.ok(err)
	h.waitFor("the mapping counts", func() bool { list, _ := h.Bridge.Mappings(); return len(list) == 1 })
	ann := mqtt.Identity{Name: "@ann:hub"}
	if h.Bridge.May(mqtt.Identity{Name: "@b:hub"}, mqtt.Publish, "house/x") || !h.Bridge.May(ann, mqtt.Publish, "house/x") {
		t.Fatal("before the room is there")
	}
	done := make(chan error, 1)
	if v := h.Bridge.Tap(&mqtt.Message{Topic: "house/x", Payload: []byte("x"), QoS: 1, From: ann}, func(err error) { done <- err }); !v.Later {
		t.Fatalf("%+v", v)
	}
	h.ok(<-done)
	for _, op := range []mqtt.Op{mqtt.Publish, mqtt.Receive} {
		if !h.Bridge.May(ann, op, "house/x") || h.Bridge.May(mqtt.Identity{Name: "@b:hub"}, op, "house/x") {
			t.Error("in the room", op)
		}
	}
}
