package stateres

import (
	"hearth/engine/auth"
	"hearth/engine/mxid"
)

// fullConflicted finds the full conflicted set and flags its events. subgraph says
// whether the conflicted state subgraph belongs to it, as in v2.1.
// Spec: rooms v12, full conflicted set.
func (g *graph) fullConflicted(c *Conflict, subgraph bool) []num {
	for _, set := range c.Sets {
		start := make([]num, 0, len(set))
		for _, id := range set {
			n := g.num(id)
			g.nodes[n].conflicted = true
			start = append(start, n)
		}
		g.walk(start, func(n num) bool {
			g.nodes[n].sets++
			return true
		})
	}
	reached := len(g.nodes)
	for n := range num(reached) {
		if node := &g.nodes[n]; node.known && node.conflicted {
			node.full = true
		}
	}
	if subgraph {
		g.addSubgraph(reached)
	}
	g.addDifference(c, reached)
	var full []num
	for n := range num(reached) {
		if !g.nodes[n].full {
			continue
		}
		if ev := g.event(n); ev != nil && ev.IsState {
			full = append(full, n)
		} else {
			g.nodes[n].full = false
		}
	}
	return full
}

// addSubgraph adds what lies on a path of auth references from one conflicted event
// to another. All nodes below reached can be come to from a conflicted event, so
// what remains is to go back from the conflicted events.
// Spec: rooms v12, conflicted state subgraph.
func (g *graph) addSubgraph(reached int) {
	back := g.reversed(reached)
	g.walks++
	g.stack = g.stack[:0]
	for n := range num(reached) {
		if g.nodes[n].full {
			g.nodes[n].mark = g.walks
			g.stack = append(g.stack, n)
		}
	}
	for len(g.stack) > 0 {
		n := g.stack[len(g.stack)-1]
		g.stack = g.stack[:len(g.stack)-1]
		for _, from := range back(n) {
			if g.nodes[from].mark != g.walks {
				g.nodes[from].mark = g.walks
				g.nodes[from].full = true
				g.stack = append(g.stack, from)
			}
		}
	}
}

// reversed gives the auth references of the first nodes backwards, in one array.
func (g *graph) reversed(reached int) (back func(num) []num) {
	starts := make([]int32, reached+1)
	for n := range reached {
		for _, a := range g.nodes[n].auth {
			starts[a+1]++
		}
	}
	for i := range reached {
		starts[i+1] += starts[i]
	}
	refs := make([]num, starts[reached])
	next := make([]int32, reached)
	copy(next, starts)
	for n := range reached {
		for _, a := range g.nodes[n].auth {
			refs[next[a]] = num(n)
			next[a]++
		}
	}
	return func(n num) []num { return refs[starts[n]:starts[n+1]] }
}

// addDifference adds the auth difference: what some state sets reach and others do
// not. A state is taken to reach its own events too, as deployed servers have it;
// that matters only for events all states share, which are then in no difference.
// Spec: rooms v2, auth difference.
//
// To walk from all events that the states share would look up every member of the
// room. First it is tried with those shared events that are doubtful themselves,
// which nearly always settles it.
func (g *graph) addDifference(c *Conflict, reached int) {
	var doubtful []num
	for n := range num(reached) {
		node := &g.nodes[n]
		if node.known && !node.full && int(node.sets) < len(c.Sets) {
			doubtful = append(doubtful, n)
		}
	}
	var shared []num
	for _, n := range doubtful {
		ev := g.event(n)
		if ev == nil || !ev.IsState {
			continue
		}
		if id, ok := c.Same(auth.Key{Type: ev.Type, StateKey: ev.StateKey}); ok && id == ev.ID {
			shared = append(shared, n)
		}
	}
	g.reachEverywhere(shared, len(c.Sets))
	if g.anyLeft(doubtful) {
		shared = shared[:0]
		c.EachSame(func(id mxid.EventID) bool {
			shared = append(shared, g.num(id))
			return true
		})
		g.reachEverywhere(shared, len(c.Sets))
	}
	for _, n := range doubtful {
		g.nodes[n].full = !g.nodes[n].everywhere
	}
}

// reachEverywhere flags what the given shared events reach. It need not go on where
// all state sets have been before.
func (g *graph) reachEverywhere(shared []num, sets int) {
	g.walk(shared, func(n num) bool {
		if g.nodes[n].everywhere || int(g.nodes[n].sets) == sets {
			return false
		}
		g.nodes[n].everywhere = true
		return true
	})
}

func (g *graph) anyLeft(doubtful []num) bool {
	for _, n := range doubtful {
		if !g.nodes[n].everywhere {
			return true
		}
	}
	return false
}
