package stateres

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// plain is state resolution v2 and v2.1 a second time, step by step as the
// specification words it and without a thought for speed.
type plain struct {
	s     *script
	v21   bool
	same  State
	full  map[mxid.EventID]bool
	state State
}

func plainResolve(s *script, sets []State, v21 bool) State {
	same, c := split(sets)
	if len(c.Sets) == 0 {
		return same
	}
	p := &plain{s: s, v21: v21, same: same, full: make(map[mxid.EventID]bool), state: State{}}
	for _, id := range plainFull(s, sets, c, v21) {
		p.full[mxid.EventID(id)] = true
	}
	if !v21 {
		p.state = maps.Clone(same)
	}
	power := make(map[mxid.EventID]bool)
	for id := range p.full {
		if isPower(s.events[id]) {
			p.withChain(id, power)
		}
	}
	p.check(p.powerOrder(power))
	p.check(p.mainlineOrder(power))
	maps.Copy(p.state, same)
	return p.state
}

func (p *plain) withChain(id mxid.EventID, into map[mxid.EventID]bool) {
	if into[id] || !p.full[id] {
		return
	}
	into[id] = true
	for _, a := range p.s.events[id].Auth {
		p.withChain(a, into)
	}
}

func (p *plain) authOf(id mxid.EventID, typ string) *event.Event {
	for _, a := range p.s.events[id].Auth {
		if p.s.events[a].Is(typ, "") {
			return p.s.events[a]
		}
	}
	return nil
}

// powerOrder takes, again and again, the least event all of whose references that
// are to be ordered have been taken.
func (p *plain) powerOrder(events map[mxid.EventID]bool) []mxid.EventID {
	var out []mxid.EventID
	level := func(id mxid.EventID) int64 {
		e := p.s.events[id]
		return auth.ParsePowerLevels(p.s.events["$CREATE"], p.authOf(id, typePowerLevels)).UserLevel(e.Sender)
	}
	less := func(a, b mxid.EventID) bool {
		if x, y := level(a), level(b); x != y {
			return x > y
		}
		if x, y := p.s.events[a].Time, p.s.events[b].Time; x != y {
			return x < y
		}
		return a < b
	}
	for len(out) < len(events) {
		best := mxid.EventID("")
		for id := range events {
			ready := !slices.Contains(out, id)
			for _, a := range p.s.events[id].Auth {
				ready = ready && (!events[a] || slices.Contains(out, a))
			}
			if ready && (best == "" || less(id, best)) {
				best = id
			}
		}
		out = append(out, best)
	}
	return out
}

func (p *plain) mainlineOrder(placed map[mxid.EventID]bool) []mxid.EventID {
	var mainline []mxid.EventID
	if id, ok := p.state[auth.Key{Type: typePowerLevels}]; ok {
		for e := p.s.events[id]; e != nil; e = p.authOf(e.ID, typePowerLevels) {
			mainline = append(mainline, e.ID)
		}
	}
	position := func(id mxid.EventID) int {
		for e := p.authOf(id, typePowerLevels); e != nil; e = p.authOf(e.ID, typePowerLevels) {
			if i := slices.Index(mainline, e.ID); i >= 0 {
				return i
			}
		}
		return math.MaxInt
	}
	var out []mxid.EventID
	for id := range p.full {
		if !placed[id] {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b mxid.EventID) int {
		x, y := position(a), position(b)
		switch {
		case x != y && x > y:
			return -1
		case x != y:
			return 1
		}
		ea, eb := p.s.events[a], p.s.events[b]
		if ea.Time != eb.Time {
			return int(ea.Time - eb.Time)
		}
		if a < b {
			return -1
		}
		return 1
	})
	return out
}

func (p *plain) check(ordered []mxid.EventID) {
	for _, id := range ordered {
		e := p.s.events[id]
		state := func(typ, stateKey string) *event.Event {
			if at, ok := p.state[auth.Key{Type: typ, StateKey: stateKey}]; ok {
				return p.s.events[at]
			}
			for _, a := range e.Auth {
				if p.s.events[a].Is(typ, stateKey) {
					return p.s.events[a]
				}
			}
			if typ == typeCreate && e.Version.RoomIDIsCreate {
				return p.s.events["$CREATE"]
			}
			return nil
		}
		if auth.Check(e, state) == nil {
			p.state[auth.Key{Type: e.Type, StateKey: e.StateKey}] = id
		}
	}
}

// TestAgainstPlain compares the algorithms with their plain form on random rooms,
// and makes sure that these have enough to argue about.
func TestAgainstPlain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	differ := 0
	for range 40 {
		s, names := randomRoom(rng, []string{"6", "12"}[rng.IntN(2)], 80)
		for range 20 {
			sets := randomSets(rng, s, names)
			got2, got21 := s.resolver(event.ResV2).Resolve(sets), s.resolver(event.ResV21).Resolve(sets)
			if want := plainResolve(s, sets, false); !maps.Equal(got2, want) {
				t.Fatalf("seed %d: v2 gives\n%s, want\n%s", seed, s.draw(got2), s.draw(want))
			}
			if want := plainResolve(s, sets, true); !maps.Equal(got21, want) {
				t.Fatalf("seed %d: v2.1 gives\n%s, want\n%s", seed, s.draw(got21), s.draw(want))
			}
			if v1 := s.resolver(event.ResV1).Resolve(sets); !maps.Equal(v1, got2) {
				differ++
			}
		}
	}
	if differ == 0 {
		t.Errorf("seed %d: v1 and v2 agree everywhere: the rooms are too tame", seed)
	}
	t.Logf("v1 and v2 differ in %d of 800", differ)
}
