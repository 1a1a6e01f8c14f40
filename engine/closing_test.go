package engine

import (
	"strings"
	"testing"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

func TestCloseRoom(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Preset: "public_chat", Public: true, Alias: "main", Name: "Main", Topic: "talk", Invite: []mxid.UserID{c}})
	h.ok(h.Join(num, b, nil))
	s, err := h.Summary(num)
	h.ok(err)
	if s.Name != "Main" || s.Topic != "talk" || s.Alias != "#main:hub" || s.Creator != a || s.Joined != 2 || s.Local != 2 ||
		!s.Published || !s.Federates || s.JoinRule != "public" || s.Guests != "" || s.Visibility != "shared" || s.StateLen < 8 {
		t.Fatalf("%+v", s)
	}
	h.ok(h.BlockRoom(h.id(num), a, true))
	key := string(b)
	_, err = h.State(num, &room.Draft{Type: "m.room.member", StateKey: &key, Sender: b, Content: []byte(`{"membership":"knock"}`)})
	h.is(err, fault.Forbidden)
	if err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Error(err) // the room's own rules are not asked first
	}
	out, aliases, err := h.CloseRoom(num, false)
	h.ok(err)
	if len(out) != 2 || len(aliases) != 1 {
		t.Fatal(out, aliases)
	}
	for user, n := range h.nums {
		m, err := h.Rooms.MemberOf(num, n)
		h.ok(err)
		if m.Membership != room.Leave || !m.Forgotten {
			t.Errorf("%s: %+v", user, m)
		}
	}
	_, err = h.Resolve("#main:hub")
	h.is(err, fault.NotFound)
	if s, err = h.Summary(num); s.Published || err != nil {
		t.Fatal(s, err)
	}
	h.is(h.Join(num, b, nil), fault.Forbidden)
	h.ok(h.BlockRoom(h.id(num), a, false))
	h.ok(h.Join(num, b, nil))
	h.is(h.BlockRoom("nonsense", a, true), fault.Invalid)
}

// A hub that stopped while it closed a room goes on with it.
func TestCloseRoomIsTakenUp(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Preset: "public_chat"})
	_, err := h.log.Commit(func(tx *stream.Tx) error {
		tx.SetMeta(note(noteClose, uint32(num)), nil)
		return nil
	})
	h.ok(err)
	h.ok(h.takeUp())
	if got := h.membership(num, string(a)); got != "leave" {
		t.Fatal(got)
	}
	if _, ok, err := h.st.Meta(note(noteClose, uint32(num))); ok || err != nil {
		t.Fatal("the note is still there", err)
	}
}

func TestCrown(t *testing.T) {
	h := open(t)
	for _, version := range []string{"11", "12"} {
		num := h.create(NewRoom{Version: version})
		h.ok(h.Crown(num, b))
		if got := h.membership(num, string(b)); got != "invite" {
			t.Fatal(got)
		}
		head, err := h.Rooms.Head(num)
		h.ok(err)
		if got := head.Levels.UserLevel(b); got != 100 {
			t.Fatal(version, got)
		}
		h.ok(h.Crown(num, b))
		h.ok(h.Leave(num, a, ""))
		h.is(h.Crown(num, c), fault.Forbidden)
	}
}
