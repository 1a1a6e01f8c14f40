package room

import (
	"testing"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// forge makes an event of the first hub's that it would not make itself.
func (h *hub) forge(on *Event, prev mxid.EventID, d event.Draft) *event.Event {
	h.t.Helper()
	d.Room, d.Time, d.Depth = on.Room, on.Time, on.Depth+1
	if d.Prev = []mxid.EventID{prev}; d.Content == nil {
		d.Content = []byte(`{}`)
	}
	e, err := event.Build(on.Version, &d, &h.opts.Signer)
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// What follows a refused event is judged as if that were not there, and what is
// kept of the refused is in order.
func TestWhatFollowsTheRefused(t *testing.T) {
	a, b, onA, onB := two(t, "12")
	defer a.close()
	defer b.close()
	a.send(onA, text("@a:hub", "first"))
	a.catchUp(b, onA, onB)
	list := a.events(onA)
	last := list[len(list)-1]
	// Refused by its own auth events, and by the state before it.
	for _, auth := range [][]mxid.EventID{nil, last.Auth} {
		bad := a.forge(last, last.ID, event.Draft{Type: "m.room.topic", StateKey: sk(""), Sender: "@b:hub", Auth: auth})
		if out, _ := a.give(b, onB, bad); out != Rejected {
			t.Fatal(out)
		}
		next := a.forge(last, bad.ID, event.Draft{Type: "m.room.message", Sender: "@a:hub", Auth: last.Auth})
		if out, gap := a.give(b, onB, next); out != Accepted {
			t.Fatal(out, gap)
		}
	}
	if err := b.Verify(t.Errorf); err != nil {
		t.Fatal(err)
	}
}

// The states of one room never become another's.
func TestEventsOfAnotherRoom(t *testing.T) {
	a, b, onA, onB := two(t, "12")
	defer a.close()
	defer b.close()
	other := b.create("12", "@mallory:hub", "public")
	list := b.events(other)
	theirs := list[len(list)-1]
	last := a.events(onA)[len(a.events(onA))-1]
	mixed := a.forge(last, theirs.ID, event.Draft{Type: "m.room.message", Sender: "@a:hub", Auth: last.Auth})
	if out, gap := a.give(b, onB, mixed); out != Rejected {
		t.Fatal(out, gap)
	}
	w, err := b.Write(onB)
	if err != nil {
		t.Fatal(err)
	}
	defer w.End()
	stray := b.forge(theirs, theirs.ID, event.Draft{Type: "m.room.message", Sender: "@mallory:hub", Auth: theirs.Auth})
	if _, _, err := w.Accept(stray, nil); !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
}
