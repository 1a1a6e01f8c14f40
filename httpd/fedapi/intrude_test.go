package fedapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hearth/engine/account"
	"hearth/engine/auth"
	"hearth/engine/ephemeral"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// newOutcast is a villain of whose two users the room has banned the one.
func newOutcast(t *testing.T) *villain {
	t.Helper()
	v, alice := newVillain(t)
	v.send(v.joinOf("@eva:evil.test", `{"membership":"join"}`))
	alice.Want(200, "", "POST", "/_matrix/client/v3/rooms/"+string(v.head().ID)+"/ban", fmt.Sprintf(`{"user_id":%q}`, v.user))
	return v
}

// A join that the room has refused is not let in because it is here already: the
// state of the room would go to who is kept out.
func TestRefusedJoinAgain(t *testing.T) {
	v := newOutcast(t)
	key := string(v.user)
	for _, c := range []struct{ what, content string }{
		{"join", `{"membership":"join"}`}, {"leave", `{"membership":"leave"}`},
	} {
		e := v.make(&event.Draft{Type: "m.room.member", StateKey: &key, Content: []byte(c.content)})
		v.send(e)
		if _, err := v.hub.Rooms.Lookup(e.ID); err != nil {
			t.Fatalf("the %s was not kept as refused: %v", c.what, err)
		}
		a := federation.Arrival{Room: v.head().ID, Event: e.ID, Body: e.JSON}
		if _, err := v.hub.Federation.LetIn(context.Background(), v.name, c.what, &a); !fault.Is(err, fault.Forbidden) {
			t.Errorf("the refused %s was let in: %v", c.what, err)
		}
	}
}

// A join that was let in is answered again, since the answer may have been lost;
// not once its user is out of the room.
func TestJoinAnsweredAgain(t *testing.T) {
	v, alice := newVillain(t)
	user := mxid.UserID("@eva:evil.test")
	e := v.joinOf(user, `{"membership":"join"}`)
	a := federation.Arrival{Room: v.head().ID, Event: e.ID, Body: e.JSON}
	for range 2 {
		if got, err := v.hub.Federation.LetIn(context.Background(), v.name, "join", &a); err != nil || got.ID != e.ID {
			t.Fatal(err)
		}
	}
	alice.Want(200, "", "POST", "/_matrix/client/v3/rooms/"+string(v.head().ID)+"/kick", fmt.Sprintf(`{"user_id":%q}`, user))
	if _, err := v.hub.Federation.LetIn(context.Background(), v.name, "join", &a); !fault.Is(err, fault.Forbidden) {
		t.Errorf("the join of who was thrown out: %v", err)
	}
}

// joinOf is the membership of another user of the villain's, by themselves.
func (v *villain) joinOf(user mxid.UserID, content string) *event.Event {
	was := v.user
	defer func() { v.user = was }()
	v.user = user
	key := string(user)
	return v.make(&event.Draft{Type: "m.room.member", StateKey: &key, Content: []byte(content)})
}

// Nobody is shown a join with this hub's signature for which the hub has no reason,
// the room's policy server neither: other servers take that for the hub's word.
func TestVouchedForNobody(t *testing.T) {
	v, alice := newVillain(t)
	path := "/_matrix/client/v3/rooms/" + string(v.head().ID) + "/state/"
	alice.Want(200, "", "PUT", path+"m.room.join_rules/", `{"join_rule":"restricted","allow":[]}`)
	alice.Want(200, "", "PUT", path+"m.room.policy/", `{"via":"evil.test","public_keys":{"ed25519":"`+base64.RawStdEncoding.EncodeToString(v.n.Key(v.name).Key.Public().(ed25519.PublicKey))+`"}}`)
	var shown atomic.Int64
	v.play(func(r *federation.Request) (*federation.Answer, error) {
		if strings.Contains(r.Path, "/policy/") && bytes.Contains(r.Body, []byte(`"a.test":{`)) {
			shown.Add(1)
		}
		return &federation.Answer{Status: 400, Body: []byte(`{"errcode":"M_FORBIDDEN"}`)}, nil
	})
	e := v.joinOf("@eva:evil.test", fmt.Sprintf(`{"join_authorised_via_users_server":%q,"membership":"join"}`, alice.ID))
	a := federation.Arrival{Room: v.head().ID, Event: e.ID, Body: e.JSON}
	if _, err := v.hub.Federation.LetIn(context.Background(), v.name, "join", &a); !fault.Is(err, fault.Forbidden) {
		t.Error(err)
	}
	if shown.Load() != 0 {
		t.Error("the policy server was shown a join that this hub has signed and does not allow")
	}
}

// However many ends a hostile server makes, and however deep, what others have said
// holds.
func TestEndsDoNotUndo(t *testing.T) {
	v, alice := newVillain(t)
	user := mxid.UserID("@eva:evil.test")
	v.send(v.joinOf(user, `{"membership":"join"}`))
	from, _ := v.head().Extremities()
	alice.Want(200, "", "POST", "/_matrix/client/v3/rooms/"+string(v.head().ID)+"/ban", fmt.Sprintf(`{"user_id":%q}`, user))
	v.send(v.say("upon the ban")) // so that the ban's end is one of the hostile
	var list []*event.Event
	for i := range 150 {
		e := v.make(&event.Draft{Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":"%d"}`, i), Prev: from, Depth: 1000 + int64(i)})
		if list = append(list, e); len(list) == 50 {
			v.send(list...)
			list = nil
		}
	}
	num, err := v.hub.Rooms.User(user)
	if err != nil {
		t.Fatal(err)
	}
	is := func(when string) {
		t.Helper()
		if m, err := v.hub.Rooms.MemberOf(v.num, num); err != nil || m.Membership != room.Ban {
			t.Errorf("%s: the banned is %s, %v", when, m.Membership, err)
		}
	}
	is("after many ends")
	v.hub.Restart()
	v.send(v.make(&event.Draft{Type: "m.room.message", Content: []byte(`{}`), Prev: from, Depth: 2000}))
	is("after a restart")
	say(t, alice, v.num, "on with it")
	v.send(v.say("yes"))
	is("after the ends were joined")
}

// another is a second server that is no hub, and answers nothing but for its keys.
func (v *villain) another(name mxid.Server) *villain {
	o := *v
	o.name, o.user = name, mxid.UserID("@eve:"+string(name))
	o.play(func(*federation.Request) (*federation.Answer, error) {
		return nil, fault.E(fault.Remote, "villain", "no answer")
	})
	return &o
}

// What servers send that are not in a room takes little of the place for events
// that wait, and one server that is in it not all.
func TestPlaceForWaiting(t *testing.T) {
	v, _ := newVillain(t)
	n := 0
	flood := func(from *villain, count int) (staged int) {
		before := v.hub.Federation.Waiting()
		for range count / 50 {
			var list []*event.Event
			for range 50 {
				n++
				list = append(list, from.say("x", mxid.EventID(fmt.Sprintf("$%043d", n))))
			}
			from.send(list...)
		}
		return v.hub.Federation.Waiting() - before
	}
	if got := flood(v.another("one.test"), 100) + flood(v.another("two.test"), 100); got == 0 || got > 50 {
		t.Errorf("%d events of servers wait that are not in the room", got)
	}
	if got := flood(v, 1000); got < 400 || got > 600 {
		t.Errorf("%d events of one server in the room wait", got)
	}
}

// Transactions whose events name servers that are slow to tell their keys take no
// place from those of others.
func TestSlowKeysHoldUpNobody(t *testing.T) {
	v, _ := newVillain(t)
	const servers = 12
	begun, free := make(chan struct{}, servers), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	defer release()
	var all sync.WaitGroup
	var ended atomic.Int64
	for i := range servers {
		slow := v.another(mxid.Server(fmt.Sprintf("slow%d.test", i)))
		v.n.PlayKeys(slow.name, func(*federation.Request) (*federation.Answer, error) {
			begun <- struct{}{}
			<-free
			return nil, fault.E(fault.Remote, "villain", "no answer")
		})
		e := slow.say("who am I?")
		all.Go(func() {
			body := append(append([]byte(`{"pdus":[`), e.JSON...), `]}`...)
			if _, err := v.hub.Federation.Receive(context.Background(), mxid.Server(fmt.Sprintf("from%d.test", i)), "x", body); err != nil {
				t.Error(err)
			}
			ended.Add(1)
		})
	}
	for range 8 {
		<-begun
	}
	good := v.say("good")
	all.Go(func() { v.send(good) })
	until(t, "what another server says is there", func() bool { return has(v.hub, good.ID) })
	if ended.Load() != 0 {
		t.Error("it had to wait for the others")
	}
	release()
	all.Wait()
}

// Where the hub is not in a room, an event that concerns its user there counts only
// with a signature that was checked.
func TestUncheckedOutside(t *testing.T) {
	v, _ := newVillain(t)
	bob := v.hub.User("bob")
	const away = "!away:evil.test"
	version := event.LookupVersion("11")
	build := func(content string, prev []mxid.EventID, by *event.Signer) *event.Event {
		key := string(bob.ID)
		e, err := event.Build(version, &event.Draft{Room: away, Type: "m.room.member", StateKey: &key, Sender: v.user, Time: 1, Depth: 9,
			Content: []byte(content), Prev: prev, Auth: prev}, by)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	invite := build(`{"membership":"invite"}`, nil, v.n.Key(v.name))
	if _, err := v.hub.Federation.TakeInvite(context.Background(), v.name, &federation.Invited{Room: away, Event: invite.ID, Version: "11", Body: invite.JSON}); err != nil {
		t.Fatal(err)
	}
	withdraw := func(keyID string) {
		by := *v.n.Key(v.name)
		by.KeyID = keyID
		v.send(build(`{"membership":"leave"}`, []mxid.EventID{invite.ID}, &by))
	}
	standing := func() room.Membership {
		num, err := v.hub.Rooms.Find(away)
		if err != nil {
			t.Fatal(err)
		}
		user, err := v.hub.Rooms.User(bob.ID)
		if err != nil {
			t.Fatal(err)
		}
		m, err := v.hub.Rooms.MemberOf(num, user)
		if err != nil {
			t.Fatal(err)
		}
		return m.Membership
	}
	withdraw("ed25519:none")
	withdraw("ed25519:none") // now its server was just asked
	if is := standing(); is != room.Invite {
		t.Errorf("after a leaving whose signature nobody can check: %s", is)
	}
	withdraw(v.n.Key(v.name).KeyID)
	if is := standing(); is != room.Leave {
		t.Errorf("after a leaving that is signed: %s", is)
	}
}

// One message for all devices of somebody who has many is not multiplied without
// bounds.
func TestMessageForManyDevices(t *testing.T) {
	v, alice := newVillain(t)
	for i := range 100 {
		if _, _, err := v.hub.Accounts.Login(alice.Num, account.NewSession{Device: fmt.Sprint("d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	waits := func() int {
		return strings.Count(fmt.Sprint(alice.Want(200, "", "GET", "/_matrix/client/v3/sync", "").Body), `"m.x"`)
	}
	tell := func(id string, size int) {
		body := fmt.Sprintf(`{"pdus":[],"edus":[{"edu_type":"m.direct_to_device","content":{"message_id":%q,"sender":%q,"type":"m.x","messages":{%q:{"*":{"a":%q}}}}}]}`,
			id, v.user, alice.ID, strings.Repeat("x", size))
		if _, err := v.hub.Federation.Receive(context.Background(), v.name, id, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	tell("long", 60<<10)
	if n := waits(); n != 0 {
		t.Errorf("%d copies of a long one wait", n)
	}
	tell("short", 1<<10)
	if n := waits(); n != 1 {
		t.Errorf("%d copies of a short one wait for one device", n)
	}
}

// The greatest depth that an event can have leaves room for one more.
func TestGreatestDepth(t *testing.T) {
	for _, version := range []string{"5", "12"} {
		v, alice := newVillainIn(t, version)
		for _, depth := range []int64{1<<53 - 1, math.MaxInt64} {
			v.send(v.make(&event.Draft{Type: "m.room.message", Content: []byte(`{}`), Prev: ends(v.head()), Depth: depth}))
			id := say(t, alice, v.num, "and on")
			e, err := v.hub.Rooms.Lookup(id)
			if err != nil || e.Depth < 1 || e.Depth > 1<<53-1 {
				t.Errorf("version %s, after a depth of %d: %d, %v", version, depth, e.Depth, err)
			}
		}
	}
}

func ends(h *room.Head) []mxid.EventID {
	ids, _ := h.Extremities()
	return ids
}

// A type with NUL in it, by which the hub parts the names of states, makes no state
// that cannot be read.
func TestForkOfOddType(t *testing.T) {
	v, alice := newVillain(t)
	alice.Want(200, "", "PUT", "/_matrix/client/v3/rooms/"+string(v.head().ID)+"/state/m.room.power_levels/",
		fmt.Sprintf(`{"users":{%q:100},"state_default":0}`, v.user))
	from := ends(v.head())
	key := "k"
	var forks []*event.Event
	for i := range 4 {
		e := v.make(&event.Draft{Type: "a\x00b", StateKey: &key, Content: fmt.Appendf(nil, `{"n":%d}`, i), Prev: from, Depth: 50})
		v.send(e)
		forks = append(forks, e)
	}
	odd := v.make(&event.Draft{Type: "a", StateKey: &[]string{"b\x00k"}[0], Content: []byte(`{"n":"odd"}`), Prev: from, Depth: 50})
	v.send(odd)
	say(t, alice, v.num, "and on")
	h := v.head()
	for i := 1; i < len(h.State); i++ {
		if h.State[i-1].Key >= h.State[i].Key {
			t.Errorf("the state is out of order: %v", h.State)
		}
	}
	e, err := v.hub.Rooms.StateEvent(h.State, "a\x00b", key)
	if err != nil || e == nil {
		t.Errorf("of %d forks none is there: %v", len(forks), err)
	}
	v.hub.Restart()
	say(t, alice, v.num, "after a restart")
}

// Receipts in threads that nobody has seen leave no rows.
func TestReceiptsInNoThread(t *testing.T) {
	v, alice := newVillain(t)
	root := say(t, alice, v.num, "root")
	user, err := v.hub.Rooms.User(v.user)
	if err != nil {
		t.Fatal(err)
	}
	for i, thread := range []string{"main", string(root), "$nowhere", "junk", strings.Repeat("x", 300)} {
		body := fmt.Sprintf(`{"pdus":[],"edus":[{"edu_type":"m.receipt","content":{%q:{"m.read":{%q:{"event_ids":[%q],"data":{"ts":1,"thread_id":%q}}}}}}]}`,
			v.head().ID, v.user, root, thread)
		if _, err := v.hub.Federation.Receive(context.Background(), v.name, fmt.Sprint("r", i), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	if err := v.hub.Ephemeral.ReceiptsOf(uint32(v.num), user, func(*ephemeral.Receipt) { n++ }); err != nil || n != 2 {
		t.Errorf("%d receipts, %v", n, err)
	}
}

// Anybody may say that an address has found its user, and makes the hub ask nobody
// with that, where there is no such user.
func TestBoundToNobody(t *testing.T) {
	v, alice := newVillain(t)
	var asked atomic.Int64
	v.answers(func(path string) (int, string) {
		if strings.Contains(path, "exchange") {
			asked.Add(1)
		}
		return 200, `{}`
	})
	for user, want := range map[mxid.UserID]int64{"@nobody:a.test": 0, alice.ID: 1} {
		before := asked.Load()
		invite := fmt.Sprintf(`{"invites":[{"mxid":%q,"sender":%q,"room_id":"!x:evil.test","signed":{"token":"t"}}]}`, user, v.user)
		if r := alice.Ask("PUT", "/_matrix/federation/v1/3pid/onbind", invite); r.Status != 200 {
			t.Error(r.Status, r.Body)
		}
		if got := asked.Load() - before; got != want {
			t.Errorf("%s: %d questions, want %d", user, got, want)
		}
	}
}

// Who is not in a room leaves nothing there: neither what was never allowed nor what
// is not allowed any more.
func TestRefusedOfOutsiders(t *testing.T) {
	v, alice := newVillain(t)
	before, depth := v.head().Extremities()
	late := v.make(&event.Draft{Type: "m.room.message", Content: []byte(`{"body":"late"}`), Prev: before, Depth: depth + 1})
	alice.Want(200, "", "POST", "/_matrix/client/v3/rooms/"+string(v.head().ID)+"/ban", fmt.Sprintf(`{"user_id":%q}`, v.user))
	stranger := v.another("stranger.test")
	create := auth.CreateID(v.head().ID)
	for _, c := range []struct {
		from *villain
		e    *event.Event
	}{
		{v, late},
		{v, v.say("banned")},
		{stranger, stranger.make(&event.Draft{Type: "m.room.message", Content: []byte(`{}`), Prev: []mxid.EventID{create}, Auth: []mxid.EventID{}, Depth: 2})},
	} {
		if answer := c.from.send(c.e); !strings.Contains(answer, "refuse") {
			t.Errorf("%s", answer)
		}
		if _, err := v.hub.Rooms.Lookup(c.e.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s is kept: %v", c.e.Content, err)
		}
	}
}
