package simnet

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"

	"hearth/engine/event"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// judge is a policy server: it signs what does not speak of spam.
type judge struct {
	mu    sync.Mutex
	away  bool
	asked int
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
		case strings.Contains(string(r.Body), "spam"):
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
	j.mu.Lock()
	j.away = true
	j.mu.Unlock()
	if r, _ := say(amy, "anybody"); r.Status == 200 {
		t.Error(r.Body)
	}
	amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.policy/"), `{}`)
	if r, _ := say(amy, "free"); r.Status != 200 {
		t.Error(r.Body)
	}
	n.sound()
}
