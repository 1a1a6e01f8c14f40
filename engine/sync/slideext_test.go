package sync

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/engine/ephemeral"
)

// Messages for the device are told until the extension's own token proves that they
// came, whatever becomes of the connection.
func TestSlideToDevice(t *testing.T) {
	h := start(t)
	c, p := h.client(bob, ""), h.phone(bob)
	ask := func(since string, limit int) string {
		p.asks(fmt.Sprintf(`{"extensions":{"to_device":{"enabled":true,"since":%q,"limit":%d}}}`, since, limit))
		return bodies(p.slid.Ext.ToDevice.Events)
	}
	want(t, ask("", 100), "")
	h.toDevice(c, "1", "2", "3")
	want(t, ask(p.slid.Ext.ToDevice.Next, 100), "1 2 3")
	next := p.slid.Ext.ToDevice.Next
	p.pos = ""
	want(t, ask("nonsense", 2), "1 2")
	want(t, ask(p.slid.Ext.ToDevice.Next, 100), "3")
	want(t, ask(next, 100), "")
	want(t, ask("", 100), "")
	ch := p.waits(`{"extensions":{"to_device":{"enabled":true,"since":"` + next + `"}}}`)
	h.toDevice(c, "4")
	p.take((<-ch).body)
	want(t, bodies(p.slid.Ext.ToDevice.Events), "4")
	h.toDevice(c, "5")
	if p.asks(`{"lists":{}}`); p.slid.Ext.ToDevice != nil {
		t.Fatalf("%s", p.raw)
	}
	want(t, ask("d1_zz_99999", 100), "4 5")
}

// Who is new in the user's rooms, and who has gone, is told whatever the windows show.
func TestSlideDeviceLists(t *testing.T) {
	h := start(t)
	r, top := h.create(alice, ""), h.create(bob, "")
	h.join(r, bob)
	h.say(top, bob, "x")
	p := h.phone(bob)
	body := `{"lists":{"a":{"ranges":[[0,0]],"timeline_limit":1}},"extensions":{"e2ee":{"enabled":true}}}`
	if p.asks(body); p.slid.Ext.E2EE.Lists != nil || p.slid.Ext.E2EE.Unused == nil || p.slid.Ext.E2EE.Counts == nil {
		t.Fatalf("%s", p.raw)
	}
	lists := func() string {
		h.say(top, bob, "x")
		if p.asks(body); p.slid.Ext.E2EE.Lists == nil {
			return ""
		}
		return fmt.Sprint(p.slid.Ext.E2EE.Lists.Changed, p.slid.Ext.E2EE.Lists.Left)
	}
	want(t, lists(), "")
	h.changed(alice, bob)
	lost := p.pos
	want(t, lists(), "[@alice:hub] []")
	p.pos = lost
	want(t, lists(), "[@alice:hub] []")
	want(t, lists(), "")
	h.changed(carol)
	want(t, lists(), "")
	h.join(r, carol)
	want(t, lists(), "[@carol:hub] []")
	h.send(r, member(carol, carol, "leave"))
	want(t, lists(), "[] [@carol:hub]")
	// While the extension is off nothing is lost.
	h.changed(alice, bob)
	p.asks(`{"lists":{}}`)
	want(t, lists(), "[@alice:hub] []")
	ch := p.waits(body)
	h.changed(alice, bob)
	p.take((<-ch).body)
	if p.slid.Ext.E2EE.Lists == nil {
		t.Fatalf("%s", p.raw)
	}
}

// Extensions are for the rooms of the lists and subscriptions that they name, and
// tell of a room what they have not told.
func TestSlideScopes(t *testing.T) {
	h := start(t)
	one, two := h.create(alice, ""), h.create(alice, "")
	e1, e2 := h.say(one, alice, "1"), h.say(two, alice, "2")
	h.receipt(one, alice, ephemeral.Read, e1)
	h.receipt(two, alice, ephemeral.Read, e2)
	h.put(one, "x.a", `{"n":1}`)
	h.put(two, "x.a", `{"n":2}`)
	h.eph.SetTyping(uint32(one), h.user(alice), true, time.Minute)
	h.eph.SetTyping(uint32(two), h.user(alice), true, time.Minute)
	p := h.phone(alice)
	ask := func(receipts, data, typing string) string {
		p.asks(fmt.Sprintf(`{"lists":{"a":{"ranges":[[0,0]],"timeline_limit":1}},"room_subscriptions":{%q:{"timeline_limit":1}},`+
			`"extensions":{"receipts":{"enabled":true%s},"account_data":{"enabled":true%s},"typing":{"enabled":true%s}}}`, h.id(one), receipts, data, typing))
		s := ""
		for i, id := range []string{h.id(one), h.id(two)} {
			if p.slid.Ext.Receipts != nil && p.slid.Ext.Receipts.Rooms[id].Type != "" {
				s += fmt.Sprint("r", i+1)
			}
			if p.slid.Ext.Data.Rooms[id] != nil {
				s += fmt.Sprint("d", i+1)
			}
			if p.slid.Ext.Typing != nil && p.slid.Ext.Typing.Rooms[id].Content.IDs != nil {
				s += fmt.Sprint("t", i+1)
			}
		}
		return s
	}
	want(t, ask("", "", ""), "r1d1t1r2d2t2")
	want(t, ask("", "", ""), "")
	p.pos = ""
	want(t, ask(`,"lists":[]`, `,"rooms":[]`, `,"lists":["b"],"rooms":["*"]`), "r1t1d2")
	want(t, ask("", "", ""), "d1r2t2")
	h.put(one, "x.a", `{"n":3}`)
	h.put(two, "x.a", `{"n":4}`)
	want(t, ask("", `,"rooms":[]`, ""), "d2")
	want(t, ask("", "", ""), "d1")
	p.pos = ""
	want(t, ask(`,"lists":[],"rooms":["`+h.id(two)+`"]`, `,"lists":[],"rooms":[]`, `,"lists":[],"rooms":[]`), "r2")
	h.eph.SetTyping(uint32(two), h.user(alice), false, 0)
	want(t, ask("", "", ""), "r1d1t1d2t2")
	h.eph.SetTyping(uint32(one), h.user(alice), false, 0)
	want(t, ask("", "", ""), "t1")
	want(t, string(p.slid.Ext.Threads), "")
}

func TestSlideThreads(t *testing.T) {
	h := start(t)
	r, other := h.create(alice, ""), h.create(alice, "")
	p := h.phone(alice)
	ask := func(limit int) string {
		p.asks(fmt.Sprintf(`{"extensions":{"io.element.msc4308.thread_subscriptions":{"enabled":true,"limit":%d}}}`, limit))
		return string(p.slid.Ext.Threads)
	}
	want(t, ask(9), "")
	user := h.user(alice)
	ch := p.waits(`{"extensions":{"io.element.msc4308.thread_subscriptions":{"enabled":true}}}`)
	h.must(h.acc.Subscribe(user, uint32(r), "$a", 0))
	p.take((<-ch).body)
	at := h.log.Tip()
	want(t, string(p.slid.Ext.Threads), fmt.Sprintf(`{"subscribed":{"!b:hub":{"$a":{"automatic":false,"bump_stamp":%d}}}}`, at))
	want(t, ask(9), "")
	since := p.pos
	h.must(h.acc.Unsubscribe(user, uint32(r), "$a"))
	h.must(h.acc.Subscribe(user, uint32(other), "$b", 1))
	h.must(h.acc.Subscribe(user, uint32(r), "$c", 0))
	want(t, ask(9), fmt.Sprintf(`{"subscribed":{"!b:hub":{"$c":{"automatic":false,"bump_stamp":%d}},"!c:hub":{"$b":{"automatic":true,"bump_stamp":%d}}},`+
		`"unsubscribed":{"!b:hub":{"$a":{"bump_stamp":%d}}}}`, at+3, at+2, at+1))
	p.pos = since
	want(t, ask(1), fmt.Sprintf(`{"subscribed":{"!b:hub":{"$c":{"automatic":false,"bump_stamp":%d}}},"prev_batch":"h1_%d"}`, at+3, at+2))
	p.pos = ""
	if got := ask(9); !strings.Contains(got, `"$a"`) || !strings.Contains(got, `"$b"`) {
		t.Fatal(got)
	}
	from, ok := ThreadsFrom(fmt.Sprintf("h1_%d", at+2))
	page, err := h.Threads(nil, user, ThreadRange{After: at, Upto: from, Limit: 1})
	h.must(err)
	want(t, fmt.Sprint(ok, " ", string(page.Body)), fmt.Sprintf(`true {"subscribed":{"!c:hub":{"$b":{"automatic":true,"bump_stamp":%d}}},"unsubscribed":{},"end":"h1_%d"}`, at+2, at+1))
	for _, s := range []string{"", "h1_", "h1_x", "h2_1", "h1_-1"} {
		if _, ok := ThreadsFrom(s); ok {
			t.Error(s)
		}
	}
}

// The accepted text's words.
func TestSlideFinal(t *testing.T) {
	h := start(t)
	r, asked := h.create(alice, ""), h.create(alice, "")
	h.join(r, bob)
	h.send(asked, member(alice, bob, "invite"))
	p := h.phone(bob)
	p.req.Final = true
	p.asks(`{"txn_id":"t","lists":{"a":{"range":[0,9],"timeline_limit":1,"required_state":{"include":[{"type":"m.room.create"}]}}}}`)
	if p.room(r).Membership != "join" || p.room(asked).Membership != "invite" || p.room(asked).Stripped == nil || p.slid.TxnID != "t" {
		t.Fatalf("%s", p.raw)
	}
	want(t, bodies(p.room(r).Required), "m.room.create")
	p.asks(`{"lists":{"a":{"timeline_limit":3}}}`)
	want(t, strings.Join(p.room(r).Lists, " "), "a")
	if !strings.Contains(string(p.raw), `"expanded_timeline":true`) || strings.Contains(string(p.raw), "notification_count") {
		t.Fatalf("%s", p.raw)
	}
	h.send(asked, member(bob, bob, "leave"))
	p.asks(fmt.Sprintf(`{"lists":{"a":{"timeline_limit":3},"b":{"timeline_limit":1},"c":{"range":[8,9]}},"room_subscriptions":{%q:{}}}`, h.id(asked)))
	if got := p.room(asked); got.Membership != "leave" || bodies(got.Stripped) != "b:leave" || strings.Join(got.Lists, " ") != "a b" {
		t.Fatalf("%s", p.raw)
	}
	h.say(r, alice, "x")
	p.asks(fmt.Sprintf(`{"room_subscriptions":{%q:{}}}`, h.id(r)))
	if p.room(r).Lists != nil {
		t.Fatalf("%s", p.raw)
	}
}
