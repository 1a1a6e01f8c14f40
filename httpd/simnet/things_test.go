package simnet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"hearth/engine/bridge"
	"hearth/engine/mqtt"
)

// A thing's reading at one hub is read on the other that shares the room, and what
// is said there comes out on the thing's topic.
func TestThingsOfAnotherHub(t *testing.T) {
	n := NewWith(t, 2, Options{Change: func(hub int, h *Hub) {
		if hub != 0 {
			return
		}
		for _, text := range []string{
			`{"topic":"porch/temperature","room":"#porch:a.test","mode":"event","type":"m.room.message"}`,
			`{"topic":"porch/light","room":"#porch:a.test","mode":"command"}`,
		} {
			m, err := bridge.ParseMapping([]byte(text), "the test")
			if err != nil {
				t.Fatal(err)
			}
			h.Open.Things.Mappings = append(h.Open.Things.Mappings, m)
		}
	}})
	amy, bob := n.Hubs[0].User("amy"), n.Hubs[1].User("bob")
	id := amy.create(`{"preset":"public_chat","room_alias_name":"porch"}`)
	bob.Want(200, "", "POST", joinPath(id, amy.Hub.Name), `{}`)
	porch, err := amy.Hub.AddThing("porch", nil)
	if err != nil {
		t.Fatal(err)
	}
	broker, err := amy.Hub.ServeThings(mqtt.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var came []string
	answered := make(chan mqtt.Reason, 8)
	c, _, err := broker.Connect(context.Background(), &mqtt.Connect{ClientID: "p", Username: "porch", Password: []byte(porch.Secret), Version: 5},
		&mqtt.Opening{Expiry: 60}, &mqtt.Link{
			Deliver: func(d *mqtt.Delivery) bool {
				mu.Lock()
				defer mu.Unlock()
				came = append(came, fmt.Sprintf("%s %s %s", d.Topic, d.Payload, d.Correlation))
				return true
			},
			Answer: func(a mqtt.Answer) { answered <- a.Reason },
			Full:   func() bool { return false },
			Close:  func(mqtt.Reason, string) {},
		})
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	done := make(chan struct{})
	c.Subscribe([]mqtt.Request{{Filter: "porch/light", QoS: 1}}, 0, func([]mqtt.Reason) { close(done) })
	<-done
	say := func(topic, payload string, packet uint16) {
		t.Helper()
		if err := c.Publish(&mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1}, packet); err != nil {
			t.Fatal(err)
		}
		if r := <-answered; r.Failed() {
			t.Fatal(topic, r)
		}
	}
	say("porch/temperature", "21.5", 1)
	for _, u := range []*User{amy, bob} {
		r := u.until(`"body":"21.5"`, "GET", v3+"/sync", "")
		if !strings.Contains(r.Body, `"sender":"@porch:a.test"`) {
			t.Errorf("%s reads it from somebody else", u.ID)
		}
	}
	// The link is away for a while: nothing is lost, neither way.
	n.Cut(amy.Hub.Name, bob.Hub.Name)
	say("porch/temperature", "22.5", 2)
	said := bob.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/1"), text("on")).Str("event_id")
	n.Heal(amy.Hub.Name, bob.Hub.Name)
	say("porch/temperature", "23.5", 3)
	bob.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/2"), text("off"))
	bob.until(`"body":"22.5"`, "GET", inRoom(id, "/messages?dir=b"), "")
	n.Until("the command comes out at the thing", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(came, "porch/light on "+said)
	})
	say("porch/light/reply", "is on", 4)
	r := bob.until(`is on`, "GET", inRoom(id, "/messages?dir=b"), "")
	if !strings.Contains(r.Body, said) {
		t.Error("the answer does not name the command")
	}
	n.sound()
}
