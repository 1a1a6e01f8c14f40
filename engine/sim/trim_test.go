package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// The power is cut at every sync of the removal of a history. After each the room is
// whole or begins where it was to begin, its state is the same, and what was begun
// goes on to its end.
func TestPowerCutWhileTrimming(t *testing.T) {
	seed := setting(t, "HEARTH_SEED", rand.Uint64())
	rng := rand.New(rand.NewPCG(seed, 5))
	d := newDisk()
	h, err := open(d)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newActor(h, &ledger{}, &square{}, rng, "a")
	if err != nil {
		t.Fatal(err)
	}
	id, err := h.CreateRoom(&engine.NewRoom{Creator: a.user, Preset: "public_chat"})
	if err != nil {
		t.Fatal(err)
	}
	num, err := h.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	var events []mxid.EventID // messages
	for i := range 1300 {
		draft := room.Draft{Type: "m.room.message", Sender: a.user, Content: []byte(`{"body":"some words"}`)}
		state := rng.IntN(8) == 0
		if key := ""; state {
			draft.Type, draft.StateKey, draft.Content = "m.room.topic", &key, fmt.Appendf(nil, `{"topic":"%d"}`, i)
		}
		one, err := h.Rooms.Send(num, &draft)
		if err != nil {
			t.Fatal(err)
		}
		if !state {
			events = append(events, one)
		}
	}
	at := len(events) - 30
	head, err := h.Rooms.Head(num)
	if err != nil {
		t.Fatal(err)
	}
	var asked, answered atomic.Bool
	var mu sync.Mutex // guards those below
	cuts := 0
	var bad error
	d.after(func() {
		mu.Lock()
		defer mu.Unlock()
		if !asked.Load() || bad != nil {
			return
		}
		cuts++
		c := trimCut{id: id, gone: events[:at], stay: events[at:], state: head.State, over: answered.Load()}
		left := d.CrashClone(vfs.CrashCloneCfg{RNG: rng, UnsyncedDataPercent: []int{0, 50, 100}[cuts%3]})
		if bad = c.after(left); bad != nil {
			bad = fmt.Errorf("cut %d: %w", cuts, bad)
		}
	})
	asked.Store(true)
	if _, err := h.PurgeHistory(num, engine.History{Event: events[at], Local: true}); err != nil {
		t.Fatal(err)
	}
	answered.Store(true)
	<-h.Rooms.TrimEnd(num)
	err = h.Close()
	mu.Lock()
	defer mu.Unlock()
	if err := errors.Join(bad, err); err != nil {
		t.Fatalf("HEARTH_SEED=%d: %v", seed, err)
	}
	t.Logf("%d power cuts", cuts)
	if cuts < 5 {
		t.Fatal("the removal went by without being cut")
	}
}

// trimCut is what has to be found after a cut.
type trimCut struct {
	id         mxid.RoomID
	gone, stay []mxid.EventID
	state      room.State
	over       bool // the removal was answered
}

// after opens what a cut has left, before and after what was begun has come to its end.
func (c *trimCut) after(left *vfs.MemFS) error {
	h, err := open(left)
	if err != nil {
		return err
	}
	num, err := h.Rooms.Find(c.id)
	if err != nil {
		return err
	}
	end := h.Rooms.TrimEnd(num)
	if err := c.shown(h, end != nil || c.over); err != nil {
		return fmt.Errorf("before the end: %w", err)
	}
	if end != nil {
		<-end
	}
	return errors.Join(c.shown(h, end != nil || c.over), verify(h), h.Close())
}

// shown looks for the events, of which the older are gone or not.
func (c *trimCut) shown(h *hub, gone bool) error {
	for i, id := range append(c.gone[:len(c.gone):len(c.gone)], c.stay...) {
		_, err := h.Rooms.Lookup(id)
		if want := gone && i < len(c.gone); want != fault.Is(err, fault.NotFound) || err != nil && !want {
			return fmt.Errorf("event %d of %d: %v", i, len(c.gone), err)
		}
	}
	num, err := h.Rooms.Find(c.id)
	if err != nil {
		return err
	}
	head, err := h.Rooms.Head(num)
	if err != nil {
		return err
	}
	for i, p := range head.State {
		if len(head.State) != len(c.state) || c.state[i] != p {
			return errors.New("the state is another")
		}
		if _, err := h.Rooms.Event(room.EventNum(p.Event)); err != nil {
			return err
		}
	}
	first, err := h.Rooms.Lookup(c.stay[0])
	if err == nil {
		_, err = h.Rooms.StateBefore(first)
	}
	return err
}
