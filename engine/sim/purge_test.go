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
	"hearth/engine/stream"
)

// The power is cut at every sync of a purge. After each the room is either
// there, and a purge that was asked for goes on, or it is gone; no other room
// loses anything, and in the end no event of the room is left.
func TestPowerCutWhilePurging(t *testing.T) {
	seed := setting(t, "HEARTH_SEED", rand.Uint64())
	rng := rand.New(rand.NewPCG(seed, 3))
	d := newDisk()
	h, err := open(d)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newActor(h, &ledger{}, &square{}, rng, "a")
	if err != nil {
		t.Fatal(err)
	}
	var ids [2]mxid.RoomID
	var events [2][]mxid.EventID
	for i := range ids {
		if ids[i], err = h.CreateRoom(&engine.NewRoom{Creator: a.user, Preset: "public_chat", Alias: fmt.Sprint("room", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 400 {
		i := rng.IntN(2)
		num, err := h.Rooms.Find(ids[i])
		if err != nil {
			t.Fatal(err)
		}
		id, err := h.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: a.user, Content: []byte(`{"body":"some words"}`)})
		if err != nil {
			t.Fatal(err)
		}
		events[i] = append(events[i], id)
	}
	num, err := h.Rooms.Find(ids[1])
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
		over := answered.Load()
		left := d.CrashClone(vfs.CrashCloneCfg{RNG: rng, UnsyncedDataPercent: []int{0, 50, 100}[cuts%3]})
		if bad = afterCut(left, ids, events, over); bad != nil {
			bad = fmt.Errorf("cut %d: %w", cuts, bad)
		}
	})
	asked.Store(true)
	if _, _, err := h.CloseRoom(num, true); err != nil {
		t.Fatal(err)
	}
	answered.Store(true)
	if end := h.Rooms.Purged(num); end != nil {
		<-end
	}
	err = h.Close()
	mu.Lock()
	defer mu.Unlock()
	if err := errors.Join(bad, err); err != nil {
		t.Fatalf("HEARTH_SEED=%d: %v", seed, err)
	}
	t.Logf("%d power cuts", cuts)
	if cuts < 5 {
		t.Fatal("the purge went by without being cut")
	}
}

// afterCut opens what a cut has left: the first room is whole, the second whole
// or gone, gone where the purge was answered.
func afterCut(left *vfs.MemFS, ids [2]mxid.RoomID, events [2][]mxid.EventID, over bool) error {
	h, err := open(left)
	if err != nil {
		return err
	}
	num, err := h.Rooms.Find(ids[1])
	there := err == nil
	if err != nil && !fault.Is(err, fault.NotFound) || there && over {
		return fmt.Errorf("the purged room: %d, %v", num, err)
	}
	// A room that was being closed is ended soon after the start: a look at the
	// tables that meets the purge is repeated when that is through.
	err = errors.New("not looked at")
	for range 5 {
		for _, num := range h.Rooms.Purging() {
			if end := h.Rooms.Purged(num); end != nil {
				<-end
			}
		}
		if err = verify(h); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	for i := range ids {
		for _, id := range events[i] {
			_, err := h.Rooms.Lookup(id)
			if fault.Is(err, fault.NotFound) && i == 1 && there {
				_, ferr := h.Rooms.Find(ids[1])
				there = ferr == nil // it went meanwhile
			}
			if gone := i == 1 && !there; gone != fault.Is(err, fault.NotFound) || err != nil && !gone {
				return fmt.Errorf("room %d, event %s: %v", i, id, err)
			}
		}
	}
	n := 0
	kept, err := h.Rooms.Find(ids[0])
	if err == nil {
		err = h.Rooms.Timeline(kept, room.Key{}, room.After(stream.Pos(h.Tip())), false, func(room.Key, room.EventNum) (bool, error) {
			n++
			return true, nil
		})
	}
	if err == nil && n < len(events[0]) {
		err = fmt.Errorf("%d events of %d are left of the other room", n, len(events[0]))
	}
	return errors.Join(err, h.Close())
}
