package sync

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/ephemeral"
	"hearth/engine/room"
)

func want(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%q, want %q", got, want)
	}
}

func TestFirstAndNext(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.say(r, alice, "one")
	c := h.client(alice, "")
	rep := c.sync()
	j := rep.Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "m.room.create a:join m.room.power_levels m.room.join_rules one")
	want(t, bodies(j.State.Events), "")
	if j.Timeline.Limited || j.Summary.Joined != 1 || j.Summary.Invited != 0 || j.Unread["notification_count"] != 0 {
		t.Fatalf("%s", c.raw)
	}
	want(t, bodies(rep.Data.Events), "m.push_rules")
	if rep = c.sync(); len(rep.Rooms.Join) != 0 || string(c.raw) != noNews(rep.Next) {
		t.Fatalf("%s", c.raw)
	}
	h.join(r, bob)
	h.say(r, bob, "two")
	j = c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "b:join two")
	if j.Timeline.Limited || j.Summary.Joined != 2 || fmt.Sprint(j.Summary.Heroes) != "[@bob:hub]" || j.Unread["notification_count"] != 1 {
		t.Fatalf("%s", c.raw)
	}
	for _, e := range j.Timeline.Events {
		if e.Room != "" || e.Unsigned.Membership != "join" {
			t.Fatalf("%+v", e)
		}
	}
	h.say(r, bob, "three")
	if j = c.sync().Rooms.Join[h.id(r)]; j.Summary != nil || j.StateAfter != nil {
		t.Fatalf("a message told more than itself: %s", c.raw)
	}
}

func TestLimitedTimeline(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	c := h.client(alice, `{"room":{"timeline":{"limit":2}}}`)
	j := c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "m.room.power_levels m.room.join_rules")
	want(t, bodies(j.State.Events), "m.room.create a:join")
	h.state(r, alice, "m.room.name", "", "n1")
	h.state(r, alice, "m.room.name", "", "n2")
	h.state(r, alice, "m.room.topic", "", "t1")
	h.say(r, alice, "1")
	h.state(r, alice, "m.room.topic", "", "t2")
	since := c.req.Since
	j = c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "1 m.room.topic=t2")
	want(t, bodies(j.State.Events), "m.room.name=n2 m.room.topic=t1")
	if !j.Timeline.Limited {
		t.Fatal("not limited")
	}
	place, err := Place(j.Timeline.Prev)
	h.must(err)
	before := 0
	h.must(h.rooms.Timeline(r, room.Key{}, place, false, func(room.Key, room.EventNum) (bool, error) { before++; return true, nil }))
	if before != 7 {
		t.Fatalf("%d events before prev_batch, want 7", before)
	}
	c.req.UseStateAfter = true
	j = c.from(since).Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "1 m.room.topic=t2")
	want(t, bodies(j.StateAfter.Events), "m.room.name=n2 m.room.topic=t2")
	// What the timeline's filter hides is told as state.
	c = h.client(alice, `{"room":{"timeline":{"types":["m.room.message"]}}}`)
	c.sync()
	since = c.req.Since
	h.state(r, alice, "m.room.name", "", "n3")
	h.say(r, alice, "2")
	h.state(r, alice, "m.room.name", "", "n4")
	j = c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "2")
	want(t, bodies(j.State.Events), "m.room.name=n4")
	c.req.UseStateAfter = true
	j = c.from(since).Rooms.Join[h.id(r)]
	want(t, bodies(j.StateAfter.Events), "m.room.name=n4")
	h.say(r, alice, "3")
	if j = c.sync().Rooms.Join[h.id(r)]; j.StateAfter == nil || len(j.StateAfter.Events) != 0 {
		t.Fatalf("state_after has to be there also where it is empty: %s", c.raw)
	}
	c = h.client(alice, `{"room":{"timeline":{"limit":0}}}`)
	if j = c.sync().Rooms.Join[h.id(r)]; len(j.Timeline.Events) != 0 || !j.Timeline.Limited || len(j.State.Events) != 6 {
		t.Fatalf("%s", c.raw)
	}
}

func TestComingAndGoing(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.say(r, alice, "early")
	c := h.client(bob, `{"room":{"timeline":{"limit":3},"include_leave":true}}`)
	c.sync()
	begin := c.req.Since
	h.send(r, member(alice, bob, "invite"))
	rep := c.sync()
	if len(rep.Rooms.Join) != 0 || !strings.Contains(bodies(rep.Rooms.Invite[h.id(r)].State.Events), "b:invite") {
		t.Fatalf("%s", c.raw)
	}
	h.send(r, member(bob, bob, "leave"))
	if rep = c.sync(); rep.Rooms.Leave[h.id(r)] == nil || len(rep.Rooms.Invite) != 0 {
		t.Fatalf("%s", c.raw)
	}
	want(t, bodies(rep.Rooms.Leave[h.id(r)].Timeline.Events), "b:leave")
	want(t, bodies(rep.Rooms.Leave[h.id(r)].State.Events), "")
	h.join(r, bob)
	j := c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "b:invite b:leave b:join")
	want(t, bodies(j.State.Events), "m.room.create a:join m.room.power_levels m.room.join_rules")
	if !j.Timeline.Limited || len(c.reply.Rooms.Leave) != 0 {
		t.Fatalf("%s", c.raw)
	}
	want(t, j.Timeline.Events[0].Unsigned.Membership, "invite")
	h.say(r, alice, "while in")
	h.send(r, member(alice, bob, "ban"))
	h.say(r, alice, "secret")
	h.state(r, alice, "m.room.name", "", "secret")
	l := c.sync().Rooms.Leave[h.id(r)]
	want(t, bodies(l.Timeline.Events), "while in b:ban")
	want(t, bodies(l.State.Events), "")
	if rep = c.sync(); len(rep.Rooms.Leave) != 0 {
		t.Fatalf("left rooms are told once: %s", c.raw)
	}
	rep = c.from("")
	want(t, bodies(rep.Rooms.Leave[h.id(r)].Timeline.Events), "b:join while in b:ban")
	if strings.Contains(string(c.raw), "secret") {
		t.Fatalf("%s", c.raw)
	}
	h.send(r, member(alice, bob, "leave"))
	h.must(h.rooms.Forget(r, h.user(bob)))
	if rep = c.from(""); len(rep.Rooms.Leave) != 0 {
		t.Fatalf("a forgotten room: %s", c.raw)
	}
	if rep = c.sync(); len(rep.Rooms.Leave) != 0 {
		t.Fatalf("a forgotten room whose end the client knows: %s", c.raw)
	}
	h.join(r, bob)
	joined := c.sync().Next
	h.send(r, member(bob, bob, "leave"))
	h.must(h.rooms.Forget(r, h.user(bob)))
	h.say(r, alice, "secret")
	l = c.from(joined).Rooms.Leave[h.id(r)]
	if want(t, bodies(l.Timeline.Events), "b:leave"); strings.Contains(string(c.raw), "secret") {
		t.Fatalf("%s", c.raw)
	}
	if rep = c.sync(); len(rep.Rooms.Leave) != 0 {
		t.Fatalf("a forgotten room twice: %s", c.raw)
	}
	h.join(r, bob)
	if rep = c.from(begin); len(rep.Rooms.Leave) != 0 || rep.Rooms.Join[h.id(r)] == nil {
		t.Fatalf("%s", c.raw)
	}
}

func TestKnock(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.send(r, room.Draft{Type: "m.room.join_rules", StateKey: new(string), Sender: alice, Content: []byte(`{"join_rule":"knock"}`)})
	c := h.client(bob, "")
	c.sync()
	h.send(r, member(bob, bob, "knock"))
	if rep := c.sync(); !strings.Contains(bodies(rep.Rooms.Knock[h.id(r)].State.Events), "b:knock") {
		t.Fatalf("%s", c.raw)
	}
}

func TestOnlyWhatWasThereForTheMember(t *testing.T) {
	h := start(t)
	r := h.create(alice, "joined")
	h.say(r, alice, "before")
	h.join(r, bob)
	h.say(r, alice, "after")
	c := h.client(bob, "")
	// Nothing unseen lies in between: the timeline begins behind it.
	j := c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.Timeline.Events), "b:join after")
	if !j.Timeline.Limited {
		t.Fatalf("%s", c.raw)
	}
	since := c.req.Since
	h.send(r, member(bob, bob, "leave"))
	h.say(r, alice, "away")
	h.join(r, bob)
	h.say(r, alice, "back")
	want(t, bodies(c.from(since).Rooms.Join[h.id(r)].Timeline.Events), "b:join back")
}

func TestLazyMembers(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.state(r, alice, "m.room.name", "", "n")
	h.join(r, bob)
	h.join(r, carol)
	for i := range 4 {
		h.say(r, bob, fmt.Sprint(i))
	}
	const lazy = `{"room":{"timeline":{"limit":2},"state":{"lazy_load_members":true,"types":["m.room.member"]}}}`
	c := h.client(carol, lazy)
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].State.Events), "b:join c:join")
	first := c.req.Since
	h.say(r, bob, "4")
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].State.Events), "") // bob is known
	h.say(r, alice, "5")
	since := c.req.Since
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].State.Events), "a:join")
	want(t, bodies(c.from(since).Rooms.Join[h.id(r)].State.Events), "a:join") // the answer may have been lost
	h.say(r, alice, "6")
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].State.Events), "")
	// Changes in a gap are told, needed or not.
	h.join(r, "@dave:hub")
	for i := range 3 {
		h.say(r, bob, fmt.Sprint(i))
	}
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].State.Events), "d:join")
	want(t, bodies(c.from("").Rooms.Join[h.id(r)].State.Events), "b:join c:join") // all is forgotten
	h.say(r, alice, "7")
	c.req.UseStateAfter = true
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].StateAfter.Events), "a:join")
	c = h.client(carol, `{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true,"types":["m.room.member"]}}}`)
	c.from(first)
	h.say(r, bob, "8")
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].State.Events), "b:join")
	// A room without a name shows its heroes, and who they are.
	h.state(r, alice, "m.room.name", "", "")
	c = h.client(carol, lazy)
	j := c.sync().Rooms.Join[h.id(r)]
	want(t, fmt.Sprint(j.Summary.Heroes), "[@alice:hub @bob:hub @dave:hub]")
	want(t, bodies(j.State.Events), "a:join b:join c:join d:join")
}

func TestEphemeralAndAccountData(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.join(r, bob)
	ev := h.say(r, alice, "one")
	c := h.client(bob, "")
	c.sync()
	h.eph.SetTyping(uint32(r), h.user(alice), true, time.Minute)
	h.receipt(r, alice, ephemeral.Read, ev)
	j := c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.Ephemeral.Events), "m.typing m.receipt")
	want(t, string(j.Ephemeral.Events[0].Content), `{"user_ids":["@alice:hub"]}`)
	want(t, string(j.Ephemeral.Events[1].Content), `{"`+string(ev)+`":{"m.read":{"@alice:hub":{"ts":1}}}}`)
	if len(c.sync().Rooms.Join) != 0 {
		t.Fatalf("told twice: %s", c.raw)
	}
	h.receipt(r, alice, ephemeral.ReadPrivate, ev)
	if len(c.sync().Rooms.Join) != 0 {
		t.Fatalf("a private receipt: %s", c.raw)
	}
	h.receipt(r, bob, ephemeral.ReadPrivate, ev)
	j = c.sync().Rooms.Join[h.id(r)]
	if j.Unread["notification_count"] != 0 || !strings.Contains(string(j.Ephemeral.Events[0].Content), "m.read.private") {
		t.Fatalf("%s", c.raw)
	}
	_, err := h.acc.SetData(h.user(bob), 0, "x.global", []byte(`{"a":1}`))
	h.must(err)
	_, err = h.acc.SetData(h.user(bob), uint32(r), "x.room", []byte(`{"b":1}`))
	h.must(err)
	rep := c.sync()
	want(t, bodies(rep.Data.Events), "x.global")
	want(t, bodies(rep.Rooms.Join[h.id(r)].Data.Events), "x.room")
	rep = c.from("")
	want(t, bodies(rep.Data.Events), "x.global m.push_rules")
	j = rep.Rooms.Join[h.id(r)]
	want(t, bodies(j.Data.Events), "x.room")
	want(t, bodies(j.Ephemeral.Events), "m.typing m.receipt")
	none := h.client(bob, `{"account_data":{"types":[]},"presence":{"types":[]},"room":{"ephemeral":{"types":[]},"account_data":{"not_types":["*"]},
		"timeline":{"types":[]},"state":{"types":[]}}}`)
	if rep = none.sync(); len(rep.Data.Events) != 0 || len(rep.Rooms.Join[h.id(r)].Ephemeral.Events) != 0 {
		t.Fatalf("%s", none.raw)
	}
	h.say(r, alice, "two")
	if none.sync(); strings.Contains(string(none.raw), "rooms") {
		t.Fatalf("%s", none.raw)
	}
}

func TestIgnoredUsers(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.join(r, bob)
	h.join(r, carol)
	_, err := h.acc.SetData(h.user(bob), 0, "m.ignored_user_list", []byte(`{"ignored_users":{"@carol:hub":{}}}`))
	h.must(err)
	c := h.client(bob, "")
	c.sync()
	h.say(r, carol, "rude")
	h.state(r, carol, "m.room.topic", "", "t")
	h.send(h.create(carol, ""), member(carol, bob, "invite"))
	rep := c.sync()
	want(t, bodies(rep.Rooms.Join[h.id(r)].Timeline.Events), "m.room.topic=t")
	if len(rep.Rooms.Invite) != 0 || rep.Rooms.Join[h.id(r)].Unread["notification_count"] != 0 {
		t.Fatalf("%s", c.raw)
	}
	h.send(h.create(alice, ""), member(alice, bob, "invite"))
	if rep = c.sync(); len(rep.Rooms.Invite) != 1 {
		t.Fatalf("%s", c.raw)
	}
	for _, config := range [][2]string{
		{"m.invite_permission_config", `{"default_action":"block"}`}, {"m.invite_permission_config", `{}`},
		{"org.matrix.msc4155.invite_permission_config", `{"ignored_servers":["hub"]}`},
	} {
		_, err := h.acc.SetData(h.user(bob), 0, config[0], []byte(config[1]))
		h.must(err)
		c = h.client(bob, "")
		if rep = c.sync(); (len(rep.Rooms.Invite) == 1) != (config[1] == "{}") {
			t.Fatalf("%s: %s", config[1], c.raw)
		}
	}
}

func TestPresence(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.join(r, bob)
	c := h.client(bob, "")
	c.sync()
	other := h.client(carol, "")
	other.req.Presence = ephemeral.Online
	other.sync()
	on := h.client(alice, "")
	on.req.Presence = ephemeral.Unavailable
	on.sync()
	rep := c.sync()
	if len(rep.Presence.Events) != 1 || rep.Presence.Events[0].Sender != string(alice) || string(rep.Presence.Events[0].Content) != `{"presence":"unavailable"}` {
		t.Fatalf("%s", c.raw)
	}
	since := c.req.Since
	h.join(r, carol)
	if rep = c.sync(); len(rep.Presence.Events) != 1 || rep.Presence.Events[0].Sender != string(carol) {
		t.Fatalf("of who joins: %s", c.raw)
	}
	if rep = c.sync(); len(rep.Presence.Events) != 0 {
		t.Fatalf("%s", c.raw)
	}
	if rep = other.sync(); len(rep.Presence.Events) != 1 || rep.Presence.Events[0].Sender != string(alice) {
		t.Fatalf("to who joins: %s", other.raw)
	}
	if rep = c.from(""); len(rep.Presence.Events) != 2 {
		t.Fatalf("at first: %s", c.raw)
	}
	c.req.Filter = h.client(bob, `{"presence":{"not_senders":["@carol:hub"]}}`).req.Filter
	if rep = c.from(since); len(rep.Presence.Events) != 0 {
		t.Fatalf("%s", c.raw)
	}
}

func TestThreadCounts(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.join(r, bob)
	c := h.client(bob, `{"room":{"timeline":{"unread_thread_notifications":true}}}`)
	c.sync()
	root := h.say(r, alice, "root")
	h.send(r, room.Draft{Type: "m.room.message", Sender: alice, Content: []byte(`{"body":"bob","m.relates_to":{"rel_type":"m.thread","event_id":"` + string(root) + `"}}`)})
	j := c.sync().Rooms.Join[h.id(r)]
	if j.Unread["notification_count"] != 1 || j.Threads[string(root)]["highlight_count"] != 1 || j.Threads[string(root)]["notification_count"] != 1 {
		t.Fatalf("%s", c.raw)
	}
}

func TestFullState(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	c := h.client(alice, "")
	c.sync()
	c.req.FullState, c.req.Timeout = true, time.Hour
	j := c.sync().Rooms.Join[h.id(r)]
	want(t, bodies(j.State.Events), "m.room.create a:join m.room.power_levels m.room.join_rules")
	want(t, bodies(j.Timeline.Events), "")
}

func TestFormsOfEvents(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.say(r, alice, "one")
	c := h.client(alice, `{"event_fields":["type","content.body"],"room":{"timeline":{"limit":1}}}`)
	if c.sync(); !strings.Contains(string(c.raw), `"timeline":{"events":[{"content":{"body":"one"},"type":"m.room.message"}]`) {
		t.Fatalf("%s", c.raw)
	}
	c = h.client(alice, `{"event_format":"federation","room":{"timeline":{"limit":1}}}`)
	if c.sync(); !strings.Contains(string(c.raw), `"prev_events":[`) {
		t.Fatalf("%s", c.raw)
	}
	root := h.say(r, alice, "two")
	h.send(r, room.Draft{Type: "m.reaction", Sender: alice, Content: []byte(`{"m.relates_to":{"rel_type":"m.annotation","event_id":"` + string(root) + `","key":"k"}}`)})
	c = h.client(alice, `{"room":{"timeline":{"related_by_rel_types":["m.annotation"],"related_by_senders":["@alice:hub"]}}}`)
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].Timeline.Events), "two")
	c = h.client(alice, `{"room":{"timeline":{"related_by_senders":["@bob:hub"]}}}`)
	want(t, bodies(c.sync().Rooms.Join[h.id(r)].Timeline.Events), "")
	c = h.client(alice, `{"room":{"not_rooms":["`+h.id(r)+`"]}}`)
	if rep := c.sync(); len(rep.Rooms.Join) != 0 {
		t.Fatalf("%s", c.raw)
	}
	c = h.client(alice, `{"room":{"timeline":{"rooms":[]},"state":{"rooms":[]}}}`)
	if j := c.sync().Rooms.Join[h.id(r)]; len(j.Timeline.Events)+len(j.State.Events) != 0 {
		t.Fatalf("%s", c.raw)
	}
}

func TestTokens(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	r := h.create(alice, "")
	c := h.client(alice, "")
	c.sync()
	tok, ok := parseToken(c.req.Since)
	if !ok || tok.incarnation != h.incarnation || tok.pos != h.log.Tip() {
		t.Fatal(c.req.Since, tok)
	}
	if back := string(tok.appendTo(nil)); back != c.req.Since {
		t.Fatal(back)
	}
	if later, ok := parseToken(c.req.Since + "_7_future"); !ok || later != tok {
		t.Fatal("what a later version adds has to be ignored")
	}
	foreign, ahead := tok, tok
	foreign.incarnation++
	ahead.pos++
	for _, s := range []string{"", "x", "s1_", "s1_?", "s2_1_2", string(foreign.appendTo(nil)), string(ahead.appendTo(nil)), strings.Repeat("1", 300)} {
		if rep := c.from(s); rep.Rooms.Join[h.id(r)] == nil || len(rep.Data.Events) != 1 {
			t.Errorf("%q is no full answer: %s", s, c.raw)
		}
	}
	// After a restart the token goes on, though the ephemeral counter is another.
	c.from(string(tok.appendTo(nil)))
	since := c.req.Since
	h.must(h.st.Close())
	h = open(t, fs)
	defer func() { h.must(h.st.Close()) }()
	c.h = h
	if rep := c.from(since); len(rep.Rooms.Join)+len(rep.Data.Events) != 0 {
		t.Fatalf("%s", c.raw)
	}
	h.eph.SetTyping(uint32(r), h.user(alice), true, time.Minute)
	if rep := c.from(since); len(rep.Rooms.Join) != 1 {
		t.Fatalf("%s", c.raw)
	}
	if k, err := Place(since); err != nil || k != room.After(tok.pos) {
		t.Fatal(k, err)
	}
	if _, err := Place("s1"); err == nil {
		t.Fatal("not a token")
	}
}
