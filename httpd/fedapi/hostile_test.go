package fedapi_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/simnet"
)

// villain is a server that is no hub, with a user in a hub's room, who says what
// it likes.
type villain struct {
	t    *testing.T
	n    *simnet.Net
	hub  *simnet.Hub
	num  room.Num
	name mxid.Server
	user mxid.UserID
}

func newVillain(t *testing.T) (*villain, *simnet.User) {
	t.Helper()
	return newVillainIn(t, event.DefaultVersion)
}

// newVillainIn is newVillain in a room of some version.
func newVillainIn(t *testing.T, version string) (*villain, *simnet.User) {
	t.Helper()
	n := simnet.NewWith(t, 1, simnet.Options{Quiet: true})
	a := n.Hubs[0]
	alice := a.User("alice")
	id := mxid.RoomID(alice.Want(200, "", "POST", "/_matrix/client/v3/createRoom", `{"preset":"public_chat","room_version":"`+version+`"}`).Str("room_id"))
	num, err := a.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	v := &villain{t: t, n: n, hub: a, num: num, name: "evil.test", user: "@eve:evil.test"}
	v.play(func(*federation.Request) (*federation.Answer, error) {
		return nil, fault.E(fault.Remote, "villain", "no answer")
	})
	key := string(v.user)
	answer := v.send(v.make(&event.Draft{Type: "m.room.member", StateKey: &key, Content: []byte(`{"membership":"join"}`)}))
	if h := v.head(); h.Joined != 2 {
		t.Fatal(h.Joined, answer, a.Federation.Waiting())
	}
	return v, alice
}

// play has the villain's server answer by a function, all but the question for
// its keys.
func (v *villain) play(f simnet.Foreign) {
	k := v.n.Key(v.name)
	pub := base64.RawStdEncoding.EncodeToString(k.Key.Public().(ed25519.PublicKey))
	keys, err := event.SignJSON(nil, fmt.Appendf(nil, `{"server_name":%q,"valid_until_ts":%d,"verify_keys":{%q:{"key":%q}},"old_verify_keys":{}}`,
		v.name, time.Now().Add(24*time.Hour).UnixMilli(), k.KeyID, pub), k)
	if err != nil {
		v.t.Fatal(err)
	}
	v.n.Play(v.name, func(r *federation.Request) (*federation.Answer, error) {
		if strings.Contains(r.Path, "/key/v2/server") {
			return &federation.Answer{Status: 200, Body: keys}, nil
		}
		return f(r)
	})
}

func (v *villain) head() *room.Head {
	v.t.Helper()
	h, err := v.hub.Rooms.Head(v.num)
	if err != nil {
		v.t.Fatal(err)
	}
	return h
}

// make builds an event on the room's present where the draft says nothing else.
func (v *villain) make(d *event.Draft) *event.Event {
	v.t.Helper()
	h := v.head()
	d.Room, d.Sender, d.Time = h.ID, v.user, time.Now().UnixMilli()
	if d.Prev == nil {
		d.Prev, d.Depth = h.Extremities()
		d.Depth++
	}
	if d.Auth == nil {
		for _, k := range auth.Needed(h.Version, d.Type, d.StateKey, d.Sender, d.Content) {
			if e, err := v.hub.Rooms.StateEvent(h.State, k.Type, k.StateKey); err != nil {
				v.t.Fatal(err)
			} else if e != nil {
				d.Auth = append(d.Auth, e.ID)
			}
		}
	}
	e, err := event.Build(h.Version, d, v.n.Key(v.name))
	if err != nil {
		v.t.Fatal(err)
	}
	return e
}

func (v *villain) say(text string, prev ...mxid.EventID) *event.Event {
	d := event.Draft{Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":%q}`, text), Prev: prev}
	if prev != nil {
		d.Depth = 100
	}
	return v.make(&d)
}

func (v *villain) send(events ...*event.Event) string { return send(v.t, v.hub, v.name, events...) }

// answers has the villain's server answer by path, with a body made of the
// request; it counts the questions.
func (v *villain) answers(f func(path string) (status int, body string)) *atomic.Int64 {
	asked := new(atomic.Int64)
	v.play(func(r *federation.Request) (*federation.Answer, error) {
		asked.Add(1)
		status, body := f(r.Path)
		return &federation.Answer{Status: status, Body: []byte(body)}, nil
	})
	return asked
}

// Junk, wrong signatures and events of strange rooms fail by themselves; what is
// good beside them is taken in.
func TestBadEventsFailAlone(t *testing.T) {
	v, _ := newVillain(t)
	good := v.say("good")
	forged := strings.Replace(string(v.say("forged").JSON), "@eve:evil.test", "@alice:a.test", 1)
	body := `{"pdus":[null,7,"x",{},{"room_id":"!nowhere:x","type":"m"},{"room_id":` + fmt.Sprintf("%q", v.head().ID) + `,"type":7},` +
		forged + `,` + string(good.JSON) + `],"edus":[7,{"edu_type":"m.unknown","content":{}}]}`
	answer, err := v.hub.Federation.Receive(context.Background(), v.name, "mixed", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if !has(v.hub, good.ID) {
		t.Fatalf("the good one is not there: %s", answer)
	}
	var told struct {
		PDUs map[mxid.EventID]struct{ Error string }
	}
	if err := json.Unmarshal(answer, &told); err != nil {
		t.Fatal(err)
	}
	if r, ok := told.PDUs[good.ID]; !ok || r.Error != "" || len(told.PDUs) < 3 {
		t.Errorf("%s", answer)
	}
	if v.head().Joined != 2 {
		t.Error("something else came in")
	}
	again, err := v.hub.Federation.Receive(context.Background(), v.name, "mixed", []byte(`{"pdus":[]}`))
	if err != nil || string(again) != string(answer) {
		t.Errorf("the same transaction again: %s, %v", again, err)
	}
	for _, bad := range []string{`{}`, `{"pdus":7}`, `{"pdus":[` + strings.Repeat("{},", 50) + `{}]}`, `{"pdus":[],"edus":[` + strings.Repeat("{},", 100) + `{}]}`} {
		if _, err := v.hub.Federation.Receive(context.Background(), v.name, bad[:min(len(bad), 20)], []byte(bad)); !fault.Is(err, fault.BadJSON) {
			t.Errorf("%.30s: %v", bad, err)
		}
	}
}

// A server that answers each question for missing events with events that lack
// more, for ever, is asked a bounded number of times, and nothing of it stays.
func TestEndlessGap(t *testing.T) {
	v, _ := newVillain(t)
	var n atomic.Int64
	lost := func() mxid.EventID { // the id of an event that nobody has
		return mxid.EventID(fmt.Sprintf("$%043d", n.Add(1)))
	}
	asked := v.answers(func(path string) (int, string) {
		if !strings.Contains(path, "get_missing_events") {
			return 404, `{"errcode":"M_NOT_FOUND"}`
		}
		var list []string
		for range 100 {
			list = append(list, string(v.say("deep", lost()).JSON))
		}
		return 200, `{"events":[` + strings.Join(list, ",") + `]}`
	})
	e := v.say("on nothing", lost())
	v.send(e)
	good := v.say("meanwhile")
	v.send(good)
	if !has(v.hub, good.ID) {
		t.Error("the room stands still")
	}
	until(t, "the event is given up", func() bool { return v.hub.Federation.Waiting() == 0 })
	if asked.Load() > 100 || has(v.hub, e.ID) {
		t.Errorf("asked %d times; in the room: %v", asked.Load(), has(v.hub, e.ID))
	}
}

// A server that does not answer keeps its own events waiting, in bounded number,
// and nobody else's. After a restart they go on waiting.
func TestSilentServer(t *testing.T) {
	v, alice := newVillain(t)
	var last mxid.EventID
	for i := range 30 {
		var list []*event.Event
		for j := range 50 {
			list = append(list, v.say("x", mxid.EventID(fmt.Sprintf("$%043d", i*100+j+1))))
		}
		v.send(list...)
	}
	if n := v.hub.Federation.Waiting(); n == 0 || n > 1000 {
		t.Errorf("%d events wait", n)
	}
	good := v.say("good")
	v.send(good)
	last = say(t, alice, v.num, "still here")
	if !has(v.hub, good.ID) || !has(v.hub, last) {
		t.Error("the room stands still")
	}
	v.hub.Restart()
	if n := v.hub.Federation.Waiting(); n == 0 || n > 1000 {
		t.Errorf("%d events wait after a restart", n)
	}
}

// A state that is not what it says, or far too large, is not taken.
func TestHugeAndWrongState(t *testing.T) {
	v, _ := newVillain(t)
	prev := v.say("before", mxid.EventID(fmt.Sprintf("$%043d", 1)))
	for what, state := range map[string]string{
		"huge":  `{"auth_chain_ids":[],"pdu_ids":["` + strings.Repeat(`$`+strings.Repeat("a", 43)+`","`, 120_000) + `$b"]}`,
		"junk":  `{"auth_chain_ids":7,"pdu_ids":{"a":1}}`,
		"empty": `{"auth_chain_ids":[],"pdu_ids":[]}`,
		"lies":  `{"auth_chain_ids":[],"pdu_ids":["$` + strings.Repeat("a", 43) + `"]}`,
	} {
		v.answers(func(path string) (int, string) {
			switch {
			case strings.Contains(path, "/state_ids/"):
				return 200, state
			case strings.Contains(path, "/event/") && strings.Contains(path, string(prev.ID[1:20])):
				return 200, `{"pdus":[` + string(prev.JSON) + `]}`
			}
			return 404, `{}`
		})
		e := v.say(what, prev.ID)
		v.send(e)
		until(t, what+" is given up", func() bool { return v.hub.Federation.Waiting() == 0 })
		if has(v.hub, e.ID) || has(v.hub, prev.ID) {
			t.Errorf("%s: it is in the room", what)
		}
	}
}

// However many ends somebody makes, a room keeps few.
func TestManyEnds(t *testing.T) {
	v, _ := newVillain(t)
	from, depth := v.head().Extremities()
	var list []*event.Event
	for i := range 200 {
		e := v.make(&event.Draft{Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":"%d"}`, i), Prev: from, Depth: depth + 1})
		if list = append(list, e); len(list) == 50 {
			v.send(list...)
			list = nil
		}
	}
	if ends, _ := v.head().Extremities(); len(ends) > 51 {
		t.Errorf("%d ends", len(ends))
	}
}

// What is too long, too deep or no JSON is refused before anybody asks who sent it.
func TestBodiesAreBounded(t *testing.T) {
	_, alice := newVillain(t)
	for _, tt := range []struct {
		name, body string
		status     int
		errcode    string
	}{
		{"too long", `{"pdus":[],"x":"` + strings.Repeat("x", federation.MaxTransaction) + `"}`, 413, "M_TOO_LARGE"},
		{"too deep", `{"pdus":[` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `]}`, 400, "M_NOT_JSON"},
		{"deep content", `{"pdus":[],"edus":[{"edu_type":"m.typing","content":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + `}]}`, 400, "M_NOT_JSON"},
		{"cut", `{"pdus":[`, 400, "M_NOT_JSON"},
		{"no object", `[]`, 400, "M_BAD_JSON"},
		{"no signature", `{"pdus":[]}`, 401, "M_UNAUTHORIZED"},
	} {
		if r := alice.Ask("PUT", "/_matrix/federation/v1/send/1", tt.body); r.Status != tt.status || r.Str("errcode") != tt.errcode {
			t.Errorf("%s: %d %.200s, want %d %s", tt.name, r.Status, r.Body, tt.status, tt.errcode)
		}
	}
}

// In a room with a policy server the event that joins many ends is shown to that
// first.
func TestEndsAreJoinedWithTheWordOfThePolicyServer(t *testing.T) {
	v, alice := newVillain(t)
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(e *event.Event) []byte { return ed25519.Sign(key, e.SigningBytes(nil)) }
	asked := new(atomic.Int64)
	v.play(func(r *federation.Request) (*federation.Answer, error) {
		if r.Path != "/_matrix/policy/v1/sign" {
			return nil, fault.E(fault.Remote, "villain", "no answer")
		}
		e, err := event.ParseAs(v.head().Version, r.Body, "$x")
		if err != nil {
			return nil, err
		}
		asked.Add(1)
		return &federation.Answer{Status: 200, Body: fmt.Appendf(nil, `{%q:{%q:%q}}`, v.name, room.PolicyKey, base64.RawStdEncoding.EncodeToString(sign(e)))}, nil
	})
	alice.Want(200, "", "PUT", "/_matrix/client/v3/rooms/"+string(v.head().ID)+"/state/m.room.policy/",
		fmt.Sprintf(`{"via":%q,"public_keys":{"ed25519":%q}}`, v.name, base64.RawStdEncoding.EncodeToString(pub)))
	from, depth := v.head().Extremities()
	var list []*event.Event
	for i := range 20 {
		e := v.make(&event.Draft{Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":"%d"}`, i), Prev: from, Depth: depth + 1})
		if e, err = e.WithSignature(v.name, room.PolicyKey, sign(e)); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	v.send(list...)
	until(t, "the ends are joined", func() bool { ends, _ := v.head().Extremities(); return len(ends) == 1 })
	if asked.Load() != 1 {
		t.Errorf("the policy server was asked %d times", asked.Load())
	}
}
