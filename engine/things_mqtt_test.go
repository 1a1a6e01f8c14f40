package engine

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// waitFor waits until something is so that another goroutine brings about.
func (h *hub) waitFor(what string, so func() bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatal("it did not come to be: " + what)
		}
	}
}

func (h *hub) lines(num room.Num) (all string) {
	h.t.Helper()
	h.ok(h.Rooms.Timeline(num, room.Key{}, room.After(1<<62), false, func(_ room.Key, n room.EventNum) (bool, error) {
		e, err := h.Rooms.Event(n)
		if err == nil && e.Type == "m.room.message" {
			body, _ := cjson.LookupString(e.Content, "body")
			all += string(e.Sender) + " " + body + "\n"
		}
		return true, err
	}))
	return all
}

// An unknown thing knocks, the owner is told in the control room, and answers there.
func TestApprovingInTheControlRoom(t *testing.T) {
	h := open(t)
	h.ok(h.Accounts.SetAdmin(h.nums["@a:hub"], true))
	c := &mqtt.Connect{ClientID: "esp", Username: "lamp", Password: []byte("a-good-secret"), Remote: netip.MustParseAddr("192.168.1.7")}
	if _, err := h.letIn(context.Background(), c); !fault.Is(err, fault.Forbidden) {
		t.Fatal("a stranger:", err)
	}
	num, err := h.ControlRoom()
	h.ok(err)
	if told := h.lines(num); !strings.Contains(told, "calls itself lamp") || !strings.Contains(told, "approve lamp") {
		t.Fatal(told)
	}
	say := func(user mxid.UserID, text string) {
		t.Helper()
		_, err := h.Send(num, &room.Draft{Type: "m.room.message", Sender: user, Content: []byte(`{"msgtype":"m.text","body":"` + text + `"}`)})
		h.ok(err)
	}
	h.ok(h.Join(num, "@a:hub", nil))
	h.ok(h.Invite(num, "@a:hub", "@b:hub", ""))
	h.ok(h.Join(num, "@b:hub", nil))
	say("@b:hub", "approve lamp")
	h.waitFor("b is told", func() bool { return strings.Contains(h.lines(num), "@b:hub lacks") })
	if _, err := h.Things.Find("lamp"); err == nil {
		t.Fatal("somebody without power let a thing in")
	}
	say("@a:hub", "Approve lamp")
	h.waitFor("the thing is let in", func() bool { id, err := h.letIn(context.Background(), c); return err == nil && id.Name == "lamp" })
	say("@a:hub", "revoke lamp")
	h.waitFor("the thing is out", func() bool { _, err := h.letIn(context.Background(), c); return fault.Is(err, fault.Unauthorised) })
}

// People come in with an access token, and nobody with a password.
func TestPeopleOnMQTT(t *testing.T) {
	h := open(t)
	tokens, _, err := h.Accounts.Login(h.nums["@a:hub"], account.NewSession{})
	h.ok(err)
	for _, c := range []struct {
		user, password string
		want           string
	}{{"a", tokens.Access, "@a:hub"}, {"@a:hub", tokens.Access, "@a:hub"}, {"b", tokens.Access, ""}, {"a", "x", ""}, {"", "", ""}} {
		id, err := h.letIn(context.Background(), &mqtt.Connect{Username: c.user, Password: []byte(c.password)})
		if id.Name != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %+v %v", c, id, err)
		}
	}
}

// What a mapped topic lets whom do follows the room, also when it changes.
func TestPolicyFollowsTheRoom(t *testing.T) {
	h := open(t)
	_, err := h.AddThing("lamp", nil)
	h.ok(err)
	id, err := h.CreateRoom(&NewRoom{Creator: "@a:hub", Alias: "house", Version: "11"})
	h.ok(err)
	num, err := h.Rooms.Find(id)
	h.ok(err)
	control, err := h.ControlRoom()
	h.ok(err)
	put := func(in room.Num, user mxid.UserID, typ, key, content string) {
		t.Helper()
		_, err := h.State(in, &room.Draft{Type: typ, StateKey: &key, Sender: user, Content: []byte(content)})
		h.ok(err)
	}
	hubUser := h.Accounts.ID(noticesName)
	put(control, hubUser, "io.hearth.mapping", "x", `{"topic":"house/+","room":"#house:hub","mode":"event","type":"io.t"}`)
	h.waitFor("the mapping counts", func() bool {
		list, faults := h.Bridge.Mappings()
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return len(list) == 1
	})
	may := func(who string, op mqtt.Op, topic string) bool {
		return h.Bridge.May(mqtt.Identity{Name: who}, op, topic)
	}
	for _, c := range []struct {
		who   string
		op    mqtt.Op
		topic string
		want  bool
	}{
		{"@a:hub", mqtt.Publish, "house/x", true}, {"@a:hub", mqtt.Subscribe, "#", true}, {"@a:hub", mqtt.Publish, "other", false},
		{"@b:hub", mqtt.Publish, "house/x", false}, {"@b:hub", mqtt.Subscribe, "house/#", false}, {"@b:hub", mqtt.Receive, "house/x", false},
		{"lamp", mqtt.Publish, "lamp/x", true}, {"lamp", mqtt.Publish, "house/x", false}, {"lamp", mqtt.Subscribe, "#", false},
		{"lamp", mqtt.Receive, "$SYS/x", false}, {"lamp", mqtt.Publish, "$shadow/lamp/x/get", true}, {"lamp", mqtt.Publish, "$shadow/house/x/get", false},
		{string(hubUser), mqtt.Publish, "other", true}, {string(hubUser), mqtt.Receive, "$SYS/x", true}, {"nobody", mqtt.Publish, "nobody/x", false},
	} {
		if got := may(c.who, c.op, c.topic); got != c.want {
			t.Errorf("%s %d %s: %v", c.who, c.op, c.topic, got)
		}
	}
	h.ok(h.Invite(num, "@a:hub", "@b:hub", ""))
	h.ok(h.Join(num, "@b:hub", nil))
	h.waitFor("b may", func() bool { return may("@b:hub", mqtt.Publish, "house/x") && may("@b:hub", mqtt.Receive, "house/x") })
	put(num, "@a:hub", "m.room.power_levels", "", `{"users":{"@a:hub":100},"events":{"io.t":50}}`)
	h.waitFor("b may read only", func() bool { return !may("@b:hub", mqtt.Publish, "house/x") && may("@b:hub", mqtt.Receive, "house/x") })
	h.ok(h.Kick(num, "@a:hub", "@b:hub", ""))
	h.waitFor("b may nothing", func() bool { return !may("@b:hub", mqtt.Receive, "house/x") })

	put(num, "@a:hub", "m.room.encryption", "", `{"algorithm":"m.megolm.v1.aes-sha2"}`)
	done := make(chan error, 1)
	v := h.Bridge.Tap(&mqtt.Message{Topic: "house/x", Payload: []byte("x"), QoS: 1, From: mqtt.Identity{Name: "lamp"}}, func(err error) { done <- err })
	if !v.Later {
		t.Fatalf("%+v", v)
	}
	if r, text := mqtt.ReasonOf(<-done); r != mqtt.Implementation || !strings.Contains(text, "encrypted") {
		t.Errorf("into an encrypted room: %v %q", r, text)
	}
	put(control, hubUser, "io.hearth.mapping", "y", `{"topic":"z","mode":"teleport"}`)
	h.waitFor("the owner is told of a bad mapping", func() bool { return strings.Contains(h.lines(control), "teleport") })
}
