package federation

import (
	"context"
	"slices"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// Bounds of filling one gap.
const (
	gapTime   = 2 * time.Minute
	gapSteps  = 10  // requests for missing events
	gapLimit  = 100 // events of one of them
	gapLeast  = 10  // fewer new ones, and the server has no more to give
	gapEvents = 600 // events held at once
	gapStates = 10  // states that are asked for
	gapBatch  = 50  // events that are committed at once
)

// gap is the filling of what one event lacks.
type gap struct {
	*source
	have  map[mxid.EventID]*event.Event   // fetched, and not in the room yet
	given map[mxid.EventID][]mxid.EventID // states before those whose past is not to be had
	lacks map[mxid.EventID][]mxid.EventID // what those in have follow that is nowhere
	asked map[mxid.EventID]bool           // whose auth chain was asked for
	came  []mxid.EventID                  // what got into the room

	first   mxid.EventID          // the event that lacks something
	policed map[mxid.EventID]bool // what the policy server was asked about: whether it signed
	last    error                 // why the last server that was asked did not help
}

// fillGap brings an event that lacks something into its room: what is missing
// before it is asked for, step by step, and where that does not lead to what is
// here, the state is. An error of kind Remote says that it may go better later;
// any other that it will not.
//
// Spec: server-server, backfilling and retrieving missing events.
func (f *Federation) fillGap(ctx context.Context, r *row) error {
	const op = "federation.fillGap"
	h, err := f.Rooms.Head(r.room)
	if err != nil {
		return err
	}
	if why := f.refuses(h, r.origin); why != "" {
		return fault.E(fault.Forbidden, op, "%s", why)
	}
	e, err := event.ParseAs(h.Version, r.json, r.id)
	if err != nil {
		return err
	}
	s, err := f.sourceOf(h, r.origin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, gapTime)
	defer cancel()
	if err := f.o.VerifyEvents(ctx, h.Version, []*event.Event{e})[0]; err != nil {
		return err // its server's key may not have been to be had when it came
	}
	g := &gap{source: s, first: e.ID, have: map[mxid.EventID]*event.Event{e.ID: e}, given: map[mxid.EventID][]mxid.EventID{}, asked: map[mxid.EventID]bool{}, policed: map[mxid.EventID]bool{}}
	for _, step := range [...]func(context.Context) error{nil, g.walk, g.states} {
		if step != nil {
			if err := step(ctx); err != nil {
				return err
			}
		}
		if err := g.police(ctx); err != nil {
			return err
		}
		if err := g.accept(ctx); err != nil {
			return err
		}
		if g.have[e.ID] == nil {
			f.in.pending.arrived(h.Room, g.came)
			return nil
		}
	}
	if ctx.Err() != nil {
		return fault.E(fault.Remote, op, "the servers take too long: %w", ctx.Err())
	}
	if g.last == nil {
		g.last = fault.E(fault.NotFound, op, "the servers give none of it")
	}
	return fault.E(kindOf(g.last), op, "what it follows is not to be had: %w", g.last)
}

// accept brings what was fetched into the room, as far as nothing lacks. Auth
// events that lack are fetched once for each event.
func (g *gap) accept(ctx context.Context) error {
	for {
		auth, err := g.acceptAll()
		if err != nil {
			return err
		}
		asked := false
		for _, e := range auth {
			if g.asked[e.ID] || len(g.asked) > gapLimit || ctx.Err() != nil {
				continue
			}
			g.asked[e.ID], asked = true, true
			if err := g.authOf(ctx, e); err != nil {
				if ours(err) {
					return err
				}
				g.last = worse(g.last, err)
			}
		}
		if !asked {
			return nil
		}
	}
}

// acceptAll goes once through what was fetched, and gives the events that lack
// what authorises them.
func (g *gap) acceptAll() (auth []*event.Event, err error) {
	list := make([]*event.Event, 0, len(g.have))
	for _, e := range g.have {
		list = append(list, e)
	}
	list = inOrder(list, prevOf)
	g.lacks = map[mxid.EventID][]mxid.EventID{}
	for len(list) > 0 {
		n := min(len(list), gapBatch)
		some, err := g.acceptSome(list[:n])
		if err != nil {
			return nil, err
		}
		auth = append(auth, some...)
		list = list[n:]
	}
	return auth, nil
}

func (g *gap) acceptSome(list []*event.Event) (auth []*event.Event, err error) {
	w, err := g.f.Rooms.Write(g.h.Room)
	if err != nil {
		return nil, err
	}
	defer w.End()
	changed := false
	var settled []mxid.EventID
	for _, e := range list {
		if signed, asked := g.policed[e.ID]; asked && !signed {
			w.Advised(e.ID)
		}
		outcome, gap, err := w.Accept(e, g.given[e.ID])
		switch {
		case err != nil && ours(err):
			return nil, err
		case err != nil: // not for this room
			settled = append(settled, e.ID)
		case outcome == room.Missing:
			if g.lacks[e.ID] = gap.Prev; len(gap.Auth) > 0 {
				auth = append(auth, e)
			}
		default:
			settled = append(settled, e.ID)
			changed = changed || outcome != room.Known
		}
	}
	if changed {
		p, err := w.Commit(nil)
		if err != nil {
			return nil, err
		}
		if err := p.Wait(); err != nil {
			return nil, err
		}
	}
	for _, id := range settled {
		delete(g.have, id)
		g.came = append(g.came, id)
	}
	return auth, nil
}

// walk asks for the events before those that lack some, until what they follow
// is here or the steps are used up.
func (g *gap) walk(ctx context.Context) error {
	h, err := g.f.Rooms.Head(g.h.Room)
	if err != nil {
		return err
	}
	earliest, _ := h.Extremities()
	for range gapSteps {
		latest, err := g.bottoms()
		if err != nil || len(latest) == 0 || ctx.Err() != nil {
			return err
		}
		fresh := 0
		for _, server := range g.from {
			list, err := g.missing(ctx, server, earliest, latest)
			if err != nil {
				g.last = worse(g.last, err)
				continue
			}
			for _, e := range list {
				// Of what this hub has removed only that comes which others follow directly.
				if g.f.Rooms.Trimmed(g.h.Room, e) && !g.followed(e.ID) {
					continue
				}
				if g.have[e.ID] == nil && len(g.have) < gapEvents {
					g.have[e.ID] = e
					fresh++
				}
			}
			if fresh > 0 {
				break
			}
		}
		if fresh < gapLeast || len(g.have) >= gapEvents {
			return nil
		}
	}
	return nil
}

// bottoms lists the fetched events that follow one which is nowhere, and notes
// which.
func (g *gap) bottoms() (list []mxid.EventID, err error) {
	g.lacks = map[mxid.EventID][]mxid.EventID{}
	for id, e := range g.have {
		for _, p := range e.Prev {
			if g.have[p] != nil {
				continue
			}
			known, err := g.f.known(g.h.Room, p)
			if err != nil {
				return nil, err
			}
			if !known {
				g.lacks[id] = append(g.lacks[id], p)
			}
		}
		if len(g.lacks[id]) > 0 && len(list) < event.MaxPrev && !g.f.Rooms.Trimmed(g.h.Room, e) {
			list = append(list, id)
		}
	}
	return list, nil
}

// followed says whether a fetched event follows one directly that is nowhere.
func (g *gap) followed(id mxid.EventID) bool {
	for _, lacks := range g.lacks {
		if slices.Contains(lacks, id) {
			return true
		}
	}
	return false
}

// known says whether an event can be built upon: it has a place in the room's
// graph and the state after it is known. One of another room counts too; what
// follows it is refused, whatever is fetched.
func (f *Federation) known(num room.Num, id mxid.EventID) (bool, error) {
	e, err := f.Rooms.Lookup(id)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return e.In != num || e.After != 0, nil
}

// states has other servers tell the state before the oldest events that are not
// here; where such an event itself is not to be had, the state before what
// follows it.
//
// Nothing of it is asked where the event that began it all follows what no server
// shows: who sends an event has what it follows, and who keeps that back would
// have the room believe a state of its own making.
func (g *gap) states(ctx context.Context) error {
	if _, err := g.bottoms(); err != nil || len(g.lacks[g.first]) > 0 {
		return err
	}
	left := gapStates
	done := map[mxid.EventID]bool{}
	for child, ids := range g.lacks {
		for _, id := range ids {
			if done[id] || left == 0 || ctx.Err() != nil {
				continue
			}
			done[id] = true
			left--
			at := id
			if g.f.Rooms.Trimmed(g.h.Room, g.have[child]) {
				at = child
			} else if e := g.event(ctx, id); e != nil {
				g.have[id] = e
			} else {
				at = child
			}
			if g.given[at] != nil {
				continue
			}
			state, err := g.stateBefore(ctx, at)
			if err != nil {
				if ours(err) {
					return err
				}
				g.last = worse(g.last, err)
				if at == id {
					delete(g.have, id)
				}
				continue
			}
			g.given[at] = state
		}
	}
	return nil
}

// event is one that is here as an outlier, or that a server gives; nil where
// there is none.
func (g *gap) event(ctx context.Context, id mxid.EventID) *event.Event {
	if e, err := g.f.Rooms.Lookup(id); err == nil {
		if e.In == g.h.Room && e.Outlier() && !e.Redacted() {
			return e.Event
		}
		return nil
	}
	list, err := g.single(ctx, []mxid.EventID{id})
	if len(list) == 0 {
		g.last = worse(g.last, err)
		return nil
	}
	return list[0]
}
