package stateres

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"strings"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// The state event types that the orders look at.
const (
	typeCreate      = "m.room.create"
	typeMember      = "m.room.member"
	typePowerLevels = "m.room.power_levels"
	typeJoinRules   = "m.room.join_rules"
)

// run is one resolution by v2 or v2.1.
type run struct {
	*graph
	c     *Conflict
	empty bool             // v2.1: the checks start from nothing
	work  map[auth.Key]num // what the checks have put over the unconflicted state

	// The power levels of the last check, parsed when they are used again: events
	// in a row are mostly checked against the same.
	create, power *event.Event
	uses          int
	levels        *auth.PowerLevels
}

// resolveV2 is the algorithm of v2 and, with two changes, v2.1.
// Spec: rooms v2, state resolution, algorithm; rooms v12, the same.
func (r *Room) resolveV2(c *Conflict) State {
	v21 := r.Version.Res == event.ResV21
	x := &run{graph: newGraph(r), c: c, empty: v21, work: make(map[auth.Key]num)}
	full := x.fullConflicted(c, v21)
	// Step 1 and 2.
	x.check(x.byPower(x.powerEvents(full)))
	// Step 3 and 4.
	x.check(x.byMainline(full))
	// Step 5: what all sets share stays.
	out := make(State, len(x.work))
	for key, n := range x.work {
		if _, ok := c.Same(key); !ok {
			out[key] = x.nodes[n].id
		}
	}
	return out
}

// powerEvents selects the power events of the full conflicted set, and with each
// what its auth references lead to without leaving the set.
// Spec: rooms v2, power events; algorithm, step 1.
func (x *run) powerEvents(full []num) []num {
	var start, all []num
	for _, n := range full {
		if isPower(x.event(n)) {
			start = append(start, n)
		}
	}
	x.walk(start, func(n num) bool {
		if x.nodes[n].full {
			all = append(all, n)
		}
		return x.nodes[n].full
	})
	return all
}

// isPower says whether an event might take somebody's rights away.
func isPower(ev *event.Event) bool {
	switch ev.Type {
	case typePowerLevels, typeJoinRules:
		return ev.StateKey == ""
	case typeMember:
		m := auth.Membership(ev)
		return (m == "leave" || m == "ban") && ev.StateKey != string(ev.Sender)
	}
	return false
}

// ranked is an event with what orders it.
type ranked struct {
	n    num
	rank int64 // the lower comes first
	time int64
	id   mxid.EventID
}

func (a ranked) compare(b ranked) int {
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	if c := cmp.Compare(a.time, b.time); c != 0 {
		return c
	}
	return strings.Compare(string(a.id), string(b.id))
}

// queue is a heap of events that nothing holds back any more.
type queue []ranked

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].compare(q[j]) < 0 }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(e any)        { *q = append(*q, e.(ranked)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// byPower orders events so that each comes after those of them it refers to, else
// the more powerful sender first: Kahn's algorithm with a heap.
// Spec: rooms v2, reverse topological power ordering.
func (x *run) byPower(events []num) []num {
	place := make(map[num]int, len(events))
	for i, n := range events {
		place[n] = i
	}
	waits := make([]int, len(events)) // for how many references
	after := make([][]int, len(events))
	for i, n := range events {
		x.walks++
		for _, a := range x.nodes[n].auth {
			at, ok := place[a]
			if !ok || x.nodes[a].mark == x.walks {
				continue
			}
			x.nodes[a].mark = x.walks
			waits[i]++
			after[at] = append(after[at], i)
		}
	}
	var ready queue
	for i, n := range events {
		if waits[i] == 0 {
			ready = append(ready, x.byLevel(n))
		}
	}
	heap.Init(&ready)
	ordered := make([]num, 0, len(events))
	for len(ready) > 0 {
		n := heap.Pop(&ready).(ranked).n
		ordered = append(ordered, n)
		for _, i := range after[place[n]] {
			if waits[i]--; waits[i] == 0 {
				heap.Push(&ready, x.byLevel(events[i]))
			}
		}
	}
	for _, n := range events {
		x.nodes[n].placed = true // also where a cycle kept it out
	}
	return ordered
}

// byLevel ranks an event by its sender's power level according to its auth events.
func (x *run) byLevel(n num) ranked {
	ev := x.event(n)
	var power *event.Event
	if at := x.powerOf(n); at >= 0 {
		power = x.event(at)
	}
	level := auth.UserLevel(x.createOf(n), power, ev.Sender)
	return ranked{n: n, rank: -level, time: ev.Time, id: ev.ID}
}

// byMainline orders what byPower has not placed by the age of the power levels it
// stands on. Spec: rooms v2, mainline ordering.
func (x *run) byMainline(full []num) []num {
	// The closest power levels come last, so positions are negated ranks.
	ranks := make(map[num]int64)
	if at, ok := x.current(auth.Key{Type: typePowerLevels}); ok {
		for i := int64(0); at >= 0; i++ {
			if _, again := ranks[at]; again {
				break
			}
			ranks[at] = -i
			at = x.powerOf(at)
		}
	}
	var rest []ranked
	for _, n := range full {
		if !x.nodes[n].placed {
			ev := x.event(n)
			rest = append(rest, ranked{n: n, rank: x.mainlineRank(n, ranks), time: ev.Time, id: ev.ID})
		}
	}
	slices.SortFunc(rest, ranked.compare)
	ordered := make([]num, len(rest))
	for i, e := range rest {
		ordered[i] = e.n
	}
	return ordered
}

// mainlineRank follows the power levels below n until a rank is known, and keeps it
// for all on the way. Where the mainline is never met the rank is the lowest.
func (x *run) mainlineRank(n num, ranks map[num]int64) int64 {
	rank := int64(math.MinInt64)
	var way []num
	for at := x.powerOf(n); at >= 0; at = x.powerOf(at) {
		if known, ok := ranks[at]; ok {
			rank = known
			break
		}
		ranks[at] = math.MinInt64 // should the way come back here
		way = append(way, at)
	}
	for _, at := range way {
		ranks[at] = rank
	}
	return rank
}

// check applies the events in their order, each where the state so far allows it.
// Spec: rooms v2, iterative auth checks.
func (x *run) check(ordered []num) {
	for _, n := range ordered {
		ev := x.event(n)
		state := func(typ, stateKey string) *event.Event { return x.stateFor(n, typ, stateKey) }
		if auth.CheckWith(ev, state, x.parsed(state)) == nil {
			x.work[auth.Key{Type: ev.Type, StateKey: ev.StateKey}] = n
		}
	}
}

// current is the event of a key in the state so far.
func (x *run) current(key auth.Key) (num, bool) {
	if n, ok := x.work[key]; ok {
		return n, true
	}
	if !x.empty {
		if id, ok := x.c.Same(key); ok {
			return x.num(id), true
		}
	}
	return -1, false
}

// stateFor is the state that n is checked against: the state so far, and where that
// has nothing what n names among its auth events.
func (x *run) stateFor(n num, typ, stateKey string) *event.Event {
	if at, ok := x.current(auth.Key{Type: typ, StateKey: stateKey}); ok {
		if ev := x.event(at); ev != nil && !x.room.rejected(ev.ID) {
			return ev
		}
	}
	if typ == typeCreate && stateKey == "" && x.room.Version.RoomIDIsCreate {
		return x.createOf(n)
	}
	if at := x.authOf(n, typ, stateKey); at >= 0 {
		if ev := x.event(at); !x.room.rejected(ev.ID) {
			return ev
		}
	}
	return nil
}

// parsed gives the power levels of a state parsed, where the check before had the
// same; nil where they are better read in place.
func (x *run) parsed(state auth.State) *auth.PowerLevels {
	create, power := state(typeCreate, ""), state(typePowerLevels, "")
	if create != x.create || power != x.power {
		x.create, x.power, x.uses, x.levels = create, power, 0, nil
		return nil
	}
	if x.uses++; x.uses == 2 {
		x.levels = auth.ParsePowerLevels(create, power)
	}
	return x.levels
}
