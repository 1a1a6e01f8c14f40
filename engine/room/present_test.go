package room

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/mxid"
	"hearth/engine/stream"
)

// What a redaction leaves of the power levels counts at once, and not only
// after a restart.
func TestRedactedLevelsCountAtOnce(t *testing.T) {
	fs := vfs.NewMem()
	h := openHub(t, fs)
	room := h.create("10", "@a:hub", "public")
	levels := `{"invite":50,"users":{"@a:hub":100}}`
	id := h.send(room, Draft{Type: "m.room.power_levels", StateKey: sk(""), Sender: "@a:hub", Content: []byte(levels)})
	h.send(room, Draft{Type: "m.room.redaction", Sender: "@a:hub", Redacts: id, Content: []byte(`{}`)})
	head, err := h.Head(room)
	if err != nil {
		t.Fatal(err)
	}
	now := head.Levels.Invite()
	if again := h.send(room, Draft{Type: "m.room.power_levels", StateKey: sk(""), Sender: "@a:hub", Content: []byte(levels)}); again == id {
		t.Error("the redacted event was taken for one that says the same")
	}
	h.send(room, Draft{Type: "m.room.redaction", Sender: "@a:hub", Redacts: h.last(room), Content: []byte(`{}`)})
	h.close()
	h = openHub(t, fs)
	defer h.close()
	if head, err = h.Head(room); err != nil || head.Levels.Invite() != now {
		t.Fatalf("inviting takes %d before a restart and %d after (%v)", now, head.Levels.Invite(), err)
	}
}

// last is the id of the room's newest event.
func (h *hub) last(room Num) mxid.EventID {
	h.t.Helper()
	head, err := h.Head(room)
	if err != nil {
		h.t.Fatal(err)
	}
	return head.ext[0].id
}

// A room that forks widely loses none of its ends when a message is sent.
func TestEndsBeyondTheFirstTwentyStay(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("11", "@a:hub", "public")
	w, err := h.Write(room)
	if err != nil {
		t.Fatal(err)
	}
	defer w.End()
	one := w.head.ext[0]
	for range maxPrev + 4 {
		w.head.ext = append(w.head.ext, one)
	}
	made, err := w.Add(&Draft{Type: "m.room.message", Sender: "@a:hub", Content: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Prev) != maxPrev || len(w.head.ext) != 6 || w.head.ext[0].id != made.ID {
		t.Fatalf("it follows %d events, %d ends remain", len(made.Prev), len(w.head.ext))
	}
}

// Whoever sees the tip at an event finds the event in the room's present, also
// where another's sync has moved the tip.
func TestTheHeadIsNeverBehindTheTip(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room, other := h.create("11", "@a:hub", "public"), h.create("11", "@a:hub", "public")
	w, err := h.Write(room)
	if err != nil {
		t.Fatal(err)
	}
	defer w.End()
	if _, err := w.Add(&Draft{Type: "m.room.name", StateKey: sk(""), Sender: "@a:hub", Content: []byte(`{"name":"n"}`)}); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Add(1)
	pending, err := w.Commit(func(tx *stream.Tx) error {
		go func() { // gets its turn as soon as the log's lock is free
			defer waiting.Done()
			h.send(other, Draft{Type: "m.room.message", Sender: "@a:hub", Content: []byte(`{}`)})
			tip := h.log.Tip()
			if head, err := h.Head(room); err != nil || head.Last+1 != tip {
				t.Errorf("tip %d, the room ends at %d (%v)", tip, head.Last, err)
			}
		}()
		return nil
	})
	waiting.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := pending.Wait(); err != nil {
		t.Fatal(err)
	}
}

// To forget a room and to join it at one moment leaves one of the two.
func TestForgettingNeverUndoesAJoin(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("11", "@a:hub", "public")
	member := func(membership string) {
		h.send(room, Draft{Type: "m.room.member", StateKey: sk("@b:hub"), Sender: "@b:hub", Content: []byte(`{"membership":"` + membership + `"}`)})
	}
	member("join")
	user, err := h.User("@b:hub")
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		member("leave")
		var both sync.WaitGroup
		both.Go(func() { member("join") })
		both.Go(func() { _ = h.Forget(room, user) }) // refused where the join was first
		both.Wait()
		if m, err := h.MemberOf(room, user); err != nil || m.Membership != Join || m.Forgotten {
			t.Fatalf("after the join: %+v, %v", m, err)
		}
	}
	if err := h.Verify(t.Errorf); err != nil {
		t.Fatal(err)
	}
}

// A type with NUL in it would read as another type and state key.
func TestTypesWithoutNUL(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("11", "@a:hub", "public")
	_, err := h.Send(room, &Draft{Type: "a\x00b", StateKey: sk(""), Sender: "@a:hub", Content: []byte(`{}`)})
	if err == nil {
		t.Error("a type with NUL was taken")
	}
}
