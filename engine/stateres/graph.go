package stateres

import (
	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// num is an event within one resolution.
type num int32

// node is what is known of an event. Of most events only the references are needed,
// so the event itself is kept only once event has been asked for it.
type node struct {
	id     mxid.EventID
	ev     *event.Event
	auth   []num
	loaded bool
	known  bool // Lookup had it; meaningful once loaded

	mark       int32 // the last walk that came by
	sets       int32 // how many state sets reach it
	conflicted bool  // it is in a state set under a conflicted key
	everywhere bool  // the events all sets share reach it
	full       bool  // it is in the full conflicted set
	placed     bool  // it has been ordered
}

// graph holds the events of one resolution and their auth references.
type graph struct {
	room  *Room
	nums  map[mxid.EventID]num
	nodes []node
	walks int32
	stack []num
}

func newGraph(r *Room) *graph { return &graph{room: r, nums: make(map[mxid.EventID]num)} }

// num numbers an event, without looking it up.
func (g *graph) num(id mxid.EventID) num {
	n, ok := g.nums[id]
	if !ok {
		n = num(len(g.nodes))
		g.nodes = append(g.nodes, node{id: id})
		g.nums[id] = n
	}
	return n
}

// load makes sure of a node's references and says whether the event is known.
func (g *graph) load(n num) bool {
	if g.nodes[n].loaded {
		return g.nodes[n].known
	}
	g.nodes[n].loaded = true
	ev := g.room.Lookup(g.nodes[n].id)
	if ev == nil {
		return false
	}
	refs := make([]num, len(ev.Auth))
	for i, id := range ev.Auth {
		refs[i] = g.num(id)
	}
	g.nodes[n].known, g.nodes[n].auth = true, refs
	return true
}

// event is the event itself, nil where it is not known.
func (g *graph) event(n num) *event.Event {
	if !g.load(n) {
		return nil
	}
	if g.nodes[n].ev == nil {
		g.nodes[n].ev = g.room.Lookup(g.nodes[n].id)
	}
	return g.nodes[n].ev
}

// walk follows auth references from start and calls enter once for each known
// event, the start included. Where enter returns false the walk does not go on
// from there.
func (g *graph) walk(start []num, enter func(n num) bool) {
	g.walks++
	g.stack = append(g.stack[:0], start...)
	for len(g.stack) > 0 {
		n := g.stack[len(g.stack)-1]
		g.stack = g.stack[:len(g.stack)-1]
		if g.nodes[n].mark == g.walks {
			continue
		}
		g.nodes[n].mark = g.walks
		if !g.load(n) || !enter(n) {
			continue
		}
		for _, a := range g.nodes[n].auth {
			if g.nodes[a].mark != g.walks {
				g.stack = append(g.stack, a)
			}
		}
	}
}

// authOf is the auth event of n with the key, -1 where n names none. Of several,
// which valid events do not have, the last counts.
func (g *graph) authOf(n num, typ, stateKey string) num {
	if !g.load(n) {
		return -1
	}
	refs := g.nodes[n].auth
	for i := len(refs) - 1; i >= 0; i-- {
		if ev := g.event(refs[i]); ev != nil && ev.Is(typ, stateKey) {
			return refs[i]
		}
	}
	return -1
}

// powerOf is the power levels event among the auth events of n, -1 where there is
// none.
func (g *graph) powerOf(n num) num { return g.authOf(n, typePowerLevels, "") }

// createOf is the create event that an event stands on; nil where it is not known.
func (g *graph) createOf(n num) *event.Event {
	if g.room.Version.RoomIDIsCreate {
		ev := g.event(n)
		if ev == nil {
			return nil
		}
		// No auth event names it; the room id does.
		return g.event(g.num(auth.CreateID(ev.Room)))
	}
	if at := g.authOf(n, typeCreate, ""); at >= 0 {
		return g.event(at)
	}
	return nil
}
