package engine

import (
	"context"
	"time"

	"hearth/engine/fault"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// Bounds of what one reader of the past makes the hub ask of other servers.
const (
	pastTime   = 8 * time.Second
	pastRounds = 6 // pages of other servers for one of ours
)

// FillPast fetches what is missing in the part of a room's past that a query
// asks for, as far as other servers give it soon. What they do not give is read
// over, and asked for again another time.
func (e *Engine) FillPast(ctx context.Context, v *history.View, q *history.Query) error {
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	for round := 0; ; {
		at, ok, err := v.Hole(q)
		if err != nil || !ok {
			return err
		}
		filled := false
		if round < pastRounds && ctx.Err() == nil {
			round++
			if filled, err = e.Federation.Backfill(ctx, v.Room, at); err != nil {
				return err
			}
		}
		if !filled {
			v.Pass(at)
		}
	}
}

// FillThreads fetches what a page of a room's threads lacks, as far as other servers
// give it soon. Where there is more to fetch the page ends before it.
func (e *Engine) FillThreads(ctx context.Context, v *history.View, q *history.ThreadQuery) error {
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	came := false
	for round := 0; ; round++ {
		hole, root, err := v.ThreadsLack(q)
		if err != nil || hole == nil && root == "" {
			return err
		}
		late := round >= pastRounds || ctx.Err() != nil
		switch {
		case hole == nil:
			if !late {
				if _, err := e.fetchPast(ctx, v, root); err != nil && !fault.Is(err, fault.NotFound) {
					return err
				}
			}
			q.Without(root)
		case late && came:
			q.End(*hole)
			return nil
		default:
			filled := false
			if !late {
				if filled, err = e.Federation.Backfill(ctx, v.Room, *hole); err != nil {
					return err
				}
			}
			if came = came || filled; !filled {
				v.Pass(*hole)
			}
		}
	}
}

// NearTime finds the event of a room that is nearest to a time, also where others
// have it: then the past is fetched as far as that event.
// Spec: client-server, GET /rooms/{roomId}/timestamp_to_event.
func (e *Engine) NearTime(ctx context.Context, v *history.View, ts int64, back bool) (*room.Event, error) {
	best, err := v.Nearest(ts, back)
	if err != nil && !fault.Is(err, fault.NotFound) || v.Head.Hole == (room.Key{}) {
		return best, err
	}
	if best != nil && best.Time == ts {
		return best, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	id, at, rerr := e.Federation.NearTime(ctx, v.Room, ts, back)
	if rerr != nil || best != nil && (id == best.ID || back && at <= best.Time || !back && at >= best.Time) {
		return best, err
	}
	found, ferr := e.fetchPast(ctx, v, id)
	if ferr != nil {
		return best, err
	}
	return found, nil
}

// FetchEvent fetches the past of a room as far as an event that a client names, as
// far as others give it soon. Where it does not come, nothing is wrong.
func (e *Engine) FetchEvent(ctx context.Context, v *history.View, id mxid.EventID) error {
	if _, err := e.Rooms.Lookup(id); !fault.Is(err, fault.NotFound) || v.Head.Hole == (room.Key{}) {
		return nil // what is here may be read or not
	}
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	if _, err := e.fetchPast(ctx, v, id); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// fetchPast fills holes, the newest first, until an event is here.
func (e *Engine) fetchPast(ctx context.Context, v *history.View, id mxid.EventID) (*room.Event, error) {
	for range pastRounds {
		found, err := v.Find(id)
		if !fault.Is(err, fault.NotFound) || ctx.Err() != nil {
			return found, err
		}
		var holes []room.Key
		if err := e.Rooms.Holes(v.Room, room.Key{}, v.End(), true, func(h *room.Hole) (bool, error) {
			holes = append(holes, h.At)
			return len(holes) < pastRounds, nil
		}); err != nil {
			return nil, err
		}
		filled := false
		for _, at := range holes {
			if filled, err = e.Federation.Backfill(ctx, v.Room, at); filled || err != nil {
				break
			}
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if !filled {
			break
		}
	}
	return v.Find(id)
}
