package federation

import (
	"context"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// Bounds of filling a hole.
const (
	fillLimit  = 100 // events that are asked for at once
	fillStates = 4   // states that are asked for; what follows more ends than that stays unseen
	holeRest   = time.Minute
	maxResting = 512
)

// tried remembers which holes nobody could fill a moment ago, and sees to it that
// one filling of a room is under way at a time.
type tried struct {
	mu    sync.Mutex
	until map[hole]time.Time
	rooms map[room.Num]chan struct{} // closed when the room's filling ends
}

type hole struct {
	room room.Num
	at   room.Key
}

func newTried() *tried {
	return &tried{until: map[hole]time.Time{}, rooms: map[room.Num]chan struct{}{}}
}

// enter waits until no other fills the room. waited says that one did.
func (t *tried) enter(ctx context.Context, num room.Num) (leave func(), waited bool, err error) {
	for {
		t.mu.Lock()
		busy := t.rooms[num]
		if busy == nil {
			mine := make(chan struct{})
			t.rooms[num] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.rooms, num)
				t.mu.Unlock()
				close(mine)
			}, waited, nil
		}
		t.mu.Unlock()
		select {
		case <-busy:
			waited = true
		case <-ctx.Done():
			return nil, true, fault.E(fault.Remote, "federation.Backfill", "another fills the room's past: %w", ctx.Err())
		}
	}
}

// rests says whether a hole is left alone for a while.
func (t *tried) rests(h hole, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Before(t.until[h])
}

func (t *tried) rest(h hole, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.until) >= maxResting {
		clear(t.until)
	}
	t.until[h] = now.Add(holeRest)
}

// Backfill fetches events from before a hole in a room's timeline. filled says
// whether the timeline there is another now; where it is not, no server gave
// anything, and none is asked again for a minute.
// Spec: server-server, GET /backfill/{roomId}.
func (f *Federation) Backfill(ctx context.Context, num room.Num, at room.Key) (filled bool, err error) {
	if f.o.Peer == nil || f.in.holes.rests(hole{num, at}, f.o.Now()) {
		return false, nil
	}
	leave, _, err := f.in.holes.enter(ctx, num)
	if err != nil {
		return false, nil // it takes too long: what is here is shown
	}
	defer leave()
	var gone *room.Hole
	if err := f.Rooms.Holes(num, at, at.Next(), false, func(h *room.Hole) (bool, error) {
		gone = h
		return false, nil
	}); err != nil {
		return false, err
	}
	if gone == nil {
		return true, nil // another has filled it
	}
	if gone.Trimmed() {
		return false, nil // what this hub has removed does not come back by itself
	}
	h, err := f.Rooms.Head(num)
	if err != nil {
		return false, err
	}
	s, err := f.sourceOf(h, f.above(h, at))
	if err != nil {
		return false, err
	}
	for _, server := range s.from {
		if filled, err = s.fill(ctx, server, gone); filled || err != nil && ours(err) || ctx.Err() != nil {
			return filled, err
		}
	}
	f.in.holes.rest(hole{num, at}, f.o.Now())
	return false, nil
}

// above is the server whose user sent the event above a hole: it had what came
// before.
func (f *Federation) above(h *room.Head, at room.Key) (server mxid.Server) {
	_ = f.Rooms.Timeline(h.Room, at, at.Next(), false, func(_ room.Key, num room.EventNum) (bool, error) {
		if e, err := f.Rooms.Event(num); err == nil {
			server = e.Sender.Server()
		}
		return false, nil
	}) // without it the others are asked
	return server
}

// fill has one server fill a hole.
func (s *source) fill(ctx context.Context, server mxid.Server, h *room.Hole) (bool, error) {
	got, err := s.backfill(ctx, server, h.Lacks, fillLimit)
	if err != nil || len(got) == 0 {
		return false, err
	}
	list := inOrder(got, prevOf)
	if list, err = s.authorised(ctx, list); err != nil {
		return false, err
	}
	given, err := s.pasts(ctx, list)
	if err != nil {
		return false, err
	}
	w, err := s.f.Rooms.Write(s.h.Room)
	if err != nil {
		return false, err
	}
	defer w.End()
	filled, _, err := w.Fill(h, list, given)
	if err != nil {
		return false, err
	}
	if filled == 0 && !w.Closes() {
		return false, nil
	}
	p, err := w.Commit(nil)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		return false, err
	}
	if s.f.o.Filled != nil {
		ids := make([]mxid.EventID, len(list))
		for i, e := range list {
			ids[i] = e.ID
		}
		s.f.o.Filled(ids)
	}
	return true, nil
}

// authorised fetches what authorises events, and leaves out those for which it is
// not to be had.
func (s *source) authorised(ctx context.Context, list []*event.Event) ([]*event.Event, error) {
	in := make(map[mxid.EventID]bool, len(list))
	good := list[:0]
	asks := 20
	for _, e := range list {
		if s.f.Rooms.Trimmed(s.h.Room, e) {
			good = append(good, e) // it is not taken
			continue
		}
		var needs []mxid.EventID
		for _, id := range e.Auth {
			if !in[id] {
				needs = append(needs, id)
			}
		}
		lacks, err := s.absent(needs)
		if err != nil {
			return nil, err
		}
		if len(lacks) > 0 && asks > 0 {
			asks--
			if err := s.authOf(ctx, e); err != nil && ours(err) {
				return nil, err
			}
			if lacks, err = s.absent(needs); err != nil {
				return nil, err
			}
		}
		if len(lacks) == 0 {
			in[e.ID] = true
			good = append(good, e)
		}
	}
	return good, nil
}

// pasts has the states told before those events of a list that follow something
// which is neither in the list nor here.
func (s *source) pasts(ctx context.Context, list []*event.Event) (map[mxid.EventID][]mxid.EventID, error) {
	in := make(map[mxid.EventID]bool, len(list))
	given := map[mxid.EventID][]mxid.EventID{}
	left := fillStates
	for _, e := range list {
		if s.f.Rooms.Trimmed(s.h.Room, e) {
			continue
		}
		in[e.ID] = true
		lacks := false
		for _, id := range e.Prev {
			if in[id] {
				continue
			}
			known, err := s.f.known(s.h.Room, id)
			if err != nil {
				return nil, err
			}
			lacks = lacks || !known
		}
		if !lacks || left == 0 {
			continue
		}
		left--
		state, err := s.stateBefore(ctx, e.ID)
		if err != nil && ours(err) {
			return nil, err
		}
		if err == nil {
			given[e.ID] = state
		}
	}
	return given, nil
}

// NearTime asks other servers for the event of a room that is nearest to a time.
// Spec: server-server, GET /timestamp_to_event/{roomId}.
func (f *Federation) NearTime(ctx context.Context, num room.Num, ts int64, back bool) (id mxid.EventID, at int64, err error) {
	err = fault.E(fault.NotFound, "federation.NearTime", "no server has an event near this time")
	if f.o.Peer == nil {
		return "", 0, err
	}
	h, e := f.Rooms.Head(num)
	if e != nil {
		return "", 0, e
	}
	s, e := f.sourceOf(h, "")
	if e != nil {
		return "", 0, e
	}
	for _, server := range s.from {
		answer, e := s.get(ctx, server, nearPath(h.ID, ts, back), 0)
		if e != nil {
			if err = worse(err, e); ctx.Err() != nil {
				break
			}
			continue
		}
		text, _ := cjson.LookupString(answer, "event_id")
		val, _ := cjson.Lookup(answer, "origin_server_ts")
		t, ok := cjson.Int(val)
		if id, e := mxid.ParseEvent(text); e == nil && ok && (back && t <= ts || !back && t >= ts) {
			return id, t, nil
		}
	}
	return "", 0, err
}
