package federation

import (
	"context"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// A room whose events come from many sides keeps ends that nothing follows, and
// its present is resolved from all of them with each event. Where the next
// message of our own is long in coming, an event that says nothing joins them.

const (
	manyEnds    = 10 // more than these are joined
	joinedEvery = time.Minute
	maxJoiners  = 5 // members that are tried for one who may speak
	maxJoined   = 512
)

// dummy is the type of an event that only joins ends; clients show none of it.
const dummy = "org.matrix.dummy_event"

// joined remembers when the ends of a room were joined last.
type joined struct {
	mu sync.Mutex
	at map[room.Num]time.Time
}

// due says whether a room's ends may be joined now, and notes that they are.
func (j *joined) due(num room.Num, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if at, ok := j.at[num]; ok && now.Sub(at) < joinedEvery {
		return false
	}
	if j.at == nil || len(j.at) >= maxJoined {
		j.at = map[room.Num]time.Time{}
	}
	j.at[num] = now
	return true
}

// joinEnds sends an event on a room's ends where these are many and some user of
// this hub may speak there. It is no fault where nobody may. A policy server that
// has to be asked keeps nobody waiting.
func (f *Federation) joinEnds(h *room.Head) error {
	if ids, _ := h.Extremities(); len(ids) <= manyEnds || !f.in.joined.due(h.Room, f.o.Now()) {
		return nil
	}
	p, err := f.Rooms.Policy(h)
	if err != nil {
		return err
	}
	if p == nil {
		return f.joinBySome(h, f.Rooms.Send)
	}
	f.in.pending.goes(func(ctx context.Context) {
		send := func(num room.Num, d *room.Draft) (mxid.EventID, error) { return f.sendPoliced(ctx, num, d) }
		if err := f.joinBySome(h, send); err != nil && ctx.Err() == nil {
			f.o.Log("the ends of %s are not joined: %v", h.ID, err)
		}
	})
	return nil
}

// joinBySome has one of the users speak who may.
func (f *Federation) joinBySome(h *room.Head, send func(num room.Num, d *room.Draft) (mxid.EventID, error)) error {
	needed := h.Levels.EventLevel(dummy, false)
	tried := 0
	for _, num := range h.Local {
		id, err := f.Rooms.UserID(num)
		if err != nil {
			return err
		}
		if h.Levels.UserLevel(id) < needed {
			continue
		}
		_, err = send(h.Room, &room.Draft{Type: dummy, Sender: mxid.UserID(id), Content: []byte(`{}`)})
		if !fault.Is(err, fault.Forbidden) {
			return err
		}
		if tried++; tried == maxJoiners {
			break
		}
	}
	return nil
}

// sendPoliced sends an event of this hub's own making that the room's policy server
// has signed.
func (f *Federation) sendPoliced(ctx context.Context, num room.Num, d *room.Draft) (mxid.EventID, error) {
	w, err := f.Rooms.Write(num)
	if err != nil {
		return "", err
	}
	e, err := w.Make(d)
	w.End()
	if err != nil {
		return "", err
	}
	if e, err = f.Policed(ctx, num, e); err != nil {
		return "", err
	}
	if w, err = f.Rooms.Write(num); err != nil {
		return "", err
	}
	defer w.End()
	if _, err = w.Enter(e, room.Txn{}); err != nil {
		return "", err
	}
	p, err := w.Commit(nil)
	if err != nil {
		return "", err
	}
	return e.ID, p.Wait()
}
