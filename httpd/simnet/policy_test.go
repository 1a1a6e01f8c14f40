package simnet

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/event"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// judge is a policy server: it signs what does not speak of spam.
type judge struct {
	mu    sync.Mutex
	away  bool
	hates string // what speaks of this is not signed either
	asked int
}

func (j *judge) set(away bool, hates string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.away, j.hates = away, hates
}

// sign is what the judge answers.
func (j *judge) sign(via mxid.Server, key ed25519.PrivateKey) Foreign {
	return func(r *federation.Request) (*federation.Answer, error) {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.asked++
		switch {
		case j.away:
			return &federation.Answer{Status: 502, Body: []byte(`{}`)}, nil
		case strings.Contains(string(r.Body), "spam"), j.hates != "" && strings.Contains(string(r.Body), j.hates):
			return &federation.Answer{Status: 400, Body: []byte(`{"errcode":"M_FORBIDDEN","error":"this looks like spam"}`)}, nil
		}
		e, err := event.ParseAs(event.LookupVersion("11"), r.Body, "$x")
		if err != nil {
			return nil, err
		}
		sig := base64.RawStdEncoding.EncodeToString(ed25519.Sign(key, e.SigningBytes(nil)))
		return &federation.Answer{Status: 200, Body: fmt.Appendf(nil, `{%q:{"ed25519:policy_server":%q}}`, via, sig)}, nil
	}
}

// A room with a policy server takes what that has signed: its own people's words
// after it was asked, those of others with its signature or its word.
func TestPolicyServer(t *testing.T) {
	n := New(t, 3)
	a, b, c := n.Hubs[0], n.Hubs[1], n.Hubs[2]
	amy, bob, cy := a.User("amy"), b.User("bob"), c.User("cy")
	id := amy.create(`{"preset":"public_chat","room_version":"11"}`)
	for _, u := range []*User{bob, cy} {
		u.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
	}
	n.is(room.Join, id, cy.ID, a, b, c)
	n.is(room.Join, id, bob.ID, a, b, c)
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var j judge
	n.Police(c.Name, j.sign(c.Name, key))
	policy := fmt.Sprintf(`{"via":"c.test","public_keys":{"ed25519":%q}}`, base64.RawStdEncoding.EncodeToString(pub))
	amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.policy/"), policy)
	n.Until("b has the policy", func() bool { return bob.Ask("GET", inRoom(id, "/state/m.room.policy/"), "").Status == 200 })

	say := func(u *User, text string) (Reply, mxid.EventID) {
		r := u.Ask("PUT", inRoom(id, "/send/m.room.message/")+text, `{"msgtype":"m.text","body":"`+text+`"}`)
		return r, mxid.EventID(r.Str("event_id"))
	}
	r, good := say(bob, "hello")
	if r.Status != 200 {
		t.Fatal(r.Body)
	}
	n.Until("a has what b said", func() bool { _, err := a.Rooms.Lookup(good); return err == nil })
	e, err := a.Rooms.Lookup(good)
	if err != nil || e.SoftFailed() || len(event.Signatures(e.JSON, "c.test")) != 1 {
		t.Fatal(err, string(e.JSON))
	}
	if again, same := say(bob, "hello"); again.Status != 200 || same != good { // the transaction is the same
		t.Error(again.Body)
	}
	if r, _ := say(bob, "spam"); r.Status != 403 || r.Str("errcode") != "M_FORBIDDEN" || r.Str("error") != "this looks like spam" {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	// Membership is asked about too, and so is a kick.
	bob.Want(200, "", "PUT", inRoom(id, "/state/m.room.member/@bob:b.test"), `{"membership":"join","displayname":"Bob"}`)
	bob.Want(403, "M_FORBIDDEN", "PUT", inRoom(id, "/state/m.room.member/@bob:b.test"), `{"membership":"join","displayname":"spam"}`)

	// A server that does not ask is asked for: hub b without the policy in mind.
	num, err := b.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text string
		soft bool
	}{{"fine", false}, {"more spam", true}} {
		ev, err := b.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: bob.ID, Content: []byte(`{"body":"` + tt.text + `"}`)})
		if err != nil {
			t.Fatal(err)
		}
		n.Until("a has the unsigned event", func() bool { _, err := a.Rooms.Lookup(ev); return err == nil })
		if e, err := a.Rooms.Lookup(ev); err != nil || e.SoftFailed() != tt.soft {
			t.Errorf("%s: soft-failed is %v (%v)", tt.text, e.SoftFailed(), err)
		}
	}
	// Where it does not answer nothing is said, until the room lets go of it.
	j.set(true, "")
	if r, _ := say(amy, "anybody"); r.Status == 200 {
		t.Error(r.Body)
	}
	amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.policy/"), `{}`)
	if r, _ := say(amy, "free"); r.Status != 200 {
		t.Error(r.Body)
	}
	n.sound()
}

// policed is a room of three hubs of which the third has the policy server.
func policed(t *testing.T, n *Net) (j *judge, amy, bob *User, id string) {
	a, b, c := n.Hubs[0], n.Hubs[1], n.Hubs[2]
	amy, bob = a.User("amy"), b.User("bob")
	cy := c.User("cy")
	id = amy.create(`{"preset":"public_chat","room_version":"11"}`)
	for _, u := range []*User{bob, cy} {
		u.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
		n.is(room.Join, id, u.ID, a, b)
	}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	j = &judge{}
	n.Police(c.Name, j.sign(c.Name, key))
	amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.policy/"),
		fmt.Sprintf(`{"via":"c.test","public_keys":{"ed25519":%q}}`, base64.RawStdEncoding.EncodeToString(pub)))
	n.Until("b has the policy", func() bool { return bob.Ask("GET", inRoom(id, "/state/m.room.policy/"), "").Status == 200 })
	return j, amy, bob, id
}

// What the hub says by itself is shown to the policy server too: the end of a room
// that is upgraded, aliases that go, names that change.
func TestPolicyServerIsShownAll(t *testing.T) {
	n := New(t, 3)
	j, amy, _, id := policed(t, n)
	a := amy.Hub
	num, err := a.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		t.Fatal(err)
	}
	state := func(typ, key string) *room.Event {
		t.Helper()
		h, err := a.Rooms.Head(num)
		if err != nil {
			t.Fatal(err)
		}
		e, err := a.Rooms.StateEvent(h.State, typ, key)
		if err != nil || e == nil {
			t.Fatalf("%s: %v", typ, err)
		}
		return e
	}
	signed := func(typ, key, says string) {
		t.Helper()
		n.Until(typ+" says "+says, func() bool { return strings.Contains(string(state(typ, key).Content), says) })
		if e := state(typ, key); len(event.Signatures(e.JSON, "c.test")) != 1 {
			t.Errorf("%s is not signed: %s", typ, e.JSON)
		}
	}
	amy.Want(200, "", "PUT", v3+"/directory/room/%23one:a.test", fmt.Sprintf(`{"room_id":%q}`, id))
	amy.Want(200, "", "PUT", v3+"/directory/room/%23two:a.test", fmt.Sprintf(`{"room_id":%q}`, id))
	amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.canonical_alias/"), `{"alias":"#one:a.test","alt_aliases":["#two:a.test"]}`)
	amy.Want(200, "", "DELETE", v3+"/directory/room/%23two:a.test", "")
	signed("m.room.canonical_alias", "", `{"alias":"#one:a.test"}`)
	amy.Want(200, "", "PUT", v3+"/profile/"+string(amy.ID)+"/displayname", `{"displayname":"Amy"}`)
	signed("m.room.member", string(amy.ID), `"Amy"`)
	amy.Want(200, "", "PUT", v3+"/profile/"+string(amy.ID)+"/displayname", `{"displayname":"spam"}`)
	amy.Want(200, "", "PUT", v3+"/profile/"+string(amy.ID)+"/displayname", `{"displayname":"Amy again"}`)
	signed("m.room.member", string(amy.ID), `"Amy again"`)

	j.set(false, "m.room.tombstone")
	amy.Want(403, "M_FORBIDDEN", "POST", inRoom(id, "/upgrade"), `{"new_version":"12"}`)
	j.set(false, "")
	to := amy.Want(200, "", "POST", inRoom(id, "/upgrade"), `{"new_version":"12"}`).Str("replacement_room")
	signed("m.room.tombstone", "", to)
	signed("m.room.canonical_alias", "", `{}`)
	signed("m.room.power_levels", "", `"invite":50`)
	n.sound()
}

// A name that changes while the policy server is silent is told when that speaks
// again, also after a restart.
func TestPolicyServerIsWaitedFor(t *testing.T) {
	n := New(t, 3)
	j, amy, _, id := policed(t, n)
	a := amy.Hub
	j.set(true, "")
	amy.Want(200, "", "PUT", v3+"/profile/"+string(amy.ID)+"/displayname", `{"displayname":"Amy"}`)
	a.Restart()
	shown := func() string {
		return amy.Want(200, "", "GET", inRoom(id, "/state/m.room.member/"+string(amy.ID)), "").Str("displayname")
	}
	for _, away := range []bool{true, false} {
		j.set(away, "")
		if err := a.TakeUp(); err != nil {
			t.Fatal(err)
		}
		if name := shown(); (name == "Amy") == away {
			t.Errorf("with the policy server silent: %v, the room shows %q", away, name)
		}
	}
	n.sound()
}

// Where the policy server does not answer, what it has not signed waits for it; it
// does not wait for ever.
func TestPolicyServerAway(t *testing.T) {
	var ahead atomic.Int64
	n := NewWith(t, 3, Options{Now: func(int) time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	j, amy, bob, id := policed(t, n)
	a, b := amy.Hub, bob.Hub
	num, err := b.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		t.Fatal(err)
	}
	unsigned := func(text string) mxid.EventID {
		ev, err := b.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: bob.ID, Content: []byte(`{"body":"` + text + `"}`)})
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	asked := func() int {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.asked
	}
	j.set(true, "")
	before := asked()
	later := unsigned("later")
	n.Until("it is asked about", func() bool { return asked() > before && a.Federation.Waiting() > 0 })
	if _, err := a.Rooms.Lookup(later); err == nil {
		t.Error("it is in the room")
	}
	// Time goes by in steps, and with each something comes that has a look at what
	// waits: the hub may not have noted yet that it asked in vain.
	passes := func(what string, so func() bool) {
		t.Helper()
		looks := 0
		n.Until(what, func() bool {
			if so() {
				return true
			}
			if looks++; looks%100 == 0 {
				ahead.Add(int64(20 * time.Second))
				unsigned("look")
			}
			return false
		})
	}
	there := func(ev mxid.EventID) func() bool {
		return func() bool { _, err := a.Rooms.Lookup(ev); return err == nil }
	}
	j.set(false, "")
	next := unsigned("next")
	passes("it is there", there(next))
	for _, ev := range []mxid.EventID{later, next} {
		if e, err := a.Rooms.Lookup(ev); err != nil || e.SoftFailed() {
			t.Errorf("%s: %v", ev, err)
		}
	}
	j.set(true, "")
	before = asked()
	never := unsigned("never")
	n.Until("it waits", func() bool { return a.Federation.Waiting() > 0 })
	passes("it waits no more", there(never))
	if e, err := a.Rooms.Lookup(never); err != nil || !e.SoftFailed() {
		t.Errorf("what was never signed: %v", err)
	}
	if n := asked() - before; n < 3 {
		t.Errorf("in two minutes it was asked %d times", n)
	}
	n.Until("nothing waits", func() bool { return a.Federation.Waiting() == 0 })
	j.set(false, "")
	ahead.Add(int64(time.Minute)) // it is not asked twice in a row
	last := unsigned("last")
	n.Until("it is asked and there", func() bool {
		e, err := a.Rooms.Lookup(last)
		return err == nil && !e.SoftFailed()
	})
}
