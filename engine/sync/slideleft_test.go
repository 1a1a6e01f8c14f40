package sync

import (
	"fmt"
	"testing"

	"hearth/engine/room"
)

// Clients take a room without an invite's state for joined unless the state that
// they ask for says otherwise: whatever way a room was left, the user's own member
// event comes with it.
func TestSlideLeftRoomsSaySo(t *testing.T) {
	h := start(t)
	p := h.phone(bob)
	body := all(3, `["m.room.create",""],["m.room.member","$LAZY"],["m.room.member","$ME"]`)
	p.asks(body)
	leave := func(r room.Num) { h.send(r, member(bob, bob, "leave")) }
	ways := []struct {
		name string
		do   func(r room.Num)
		last string
	}{
		{"an invite that is turned down", func(r room.Num) { leave(r) }, "b:leave"},
		{"an invite that is taken back", func(r room.Num) { h.send(r, member(alice, bob, "leave")) }, "b:leave"},
		{"an invite that is turned down and forgotten", func(r room.Num) {
			leave(r)
			h.must(h.rooms.Forget(r, h.user(bob)))
		}, "b:leave"},
		{"left and forgotten", func(r room.Num) {
			h.join(r, bob)
			p.asks(body)
			leave(r)
			h.must(h.rooms.Forget(r, h.user(bob)))
		}, "b:leave"},
		{"kicked", func(r room.Num) {
			h.join(r, bob)
			p.asks(body)
			h.send(r, member(alice, bob, "leave"))
		}, "b:leave"},
		{"left, and banned later", func(r room.Num) {
			h.join(r, bob)
			p.asks(body)
			leave(r)
			p.asks(body)
			h.send(r, member(alice, bob, "ban"))
		}, "b:ban"},
		{"left and banned", func(r room.Num) {
			h.join(r, bob)
			p.asks(body)
			leave(r)
			h.send(r, member(alice, bob, "ban"))
		}, "b:ban"},
	}
	for _, way := range ways {
		r := h.create(alice, "")
		h.send(r, member(alice, bob, "invite"))
		p.asks(body)
		way.do(r)
		p.asks(body)
		own := ""
		for _, e := range p.room(r).Required {
			if e.Type == "m.room.member" && *e.Key == string(bob) {
				own += bodies([]ev{e}) + " "
			}
		}
		if own != way.last+" " {
			t.Errorf("%s: the state says %q: %s", way.name, own, p.raw)
		}
	}
}

// A connection that the hub forgot does not take with it what the user left
// meanwhile: the next tells of that too.
func TestSlideLeftWhileForgotten(t *testing.T) {
	h := start(t)
	old, left, forgotten := h.create(alice, ""), h.create(alice, ""), h.create(alice, "")
	for _, r := range []room.Num{old, left, forgotten} {
		h.join(r, bob)
	}
	h.send(old, member(bob, bob, "leave"))
	p := h.phone(bob)
	body := all(1, `["m.room.member","$ME"]`)
	p.asks(body)
	want(t, p.told(), fmt.Sprintf("%d %d", left, forgotten))
	s, err := Open(h.parts)
	h.must(err)
	h.Sync.Close()
	h.Sync = s
	h.send(left, member(bob, bob, "leave"))
	h.send(forgotten, member(bob, bob, "leave"))
	h.must(h.rooms.Forget(forgotten, h.user(bob)))
	for range 2 { // an answer may be lost
		if _, _, err := h.Slide(p.request(body)); err == nil {
			t.Fatal("the position is known after a restart")
		}
	}
	for range 2 {
		p.pos = ""
		p.asks(body)
		want(t, p.told(), fmt.Sprintf("%d %d", left, forgotten))
		for _, r := range []room.Num{left, forgotten} {
			want(t, bodies(p.room(r).Required), "b:leave")
		}
	}
	if p.asks(body); len(p.slid.Rooms) != 0 {
		t.Fatalf("%s", p.raw)
	}
	other := h.phone(bob)
	other.req.Device++
	if other.asks(body); len(other.slid.Rooms) != 0 {
		t.Fatalf("a device that was told nothing: %s", other.raw)
	}
}

// A subscription alone, without a list, hears of the end too.
func TestSlideSubscribedAndForgotten(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.join(r, bob)
	p := h.phone(bob)
	body := fmt.Sprintf(`{"room_subscriptions":{%q:{"timeline_limit":1,"required_state":[["m.room.member","$ME"]]}}}`, h.id(r))
	p.asks(body)
	h.send(r, member(bob, bob, "leave"))
	h.must(h.rooms.Forget(r, h.user(bob)))
	p.asks(body)
	want(t, bodies(p.room(r).Required), "b:leave")
	if p.asks(body); len(p.slid.Rooms) != 0 {
		t.Fatalf("%s", p.raw)
	}
}
