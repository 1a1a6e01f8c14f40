package stateres

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// randomRoom grows a room at random: events follow one or two random events and are
// kept where they are allowed in the state before them.
func randomRoom(rng *rand.Rand, version string, size int) (*script, []string) {
	s := newScript(version)
	var names []string
	add := func(line string) bool {
		name := "E" + strconv.Itoa(len(names))
		if len(names) == 0 {
			name = "CREATE" // which the room id of version 12 is made from
		}
		s.time = int64(rng.IntN(50)) // so that times are often equal
		if s.add(name+" "+line) != nil {
			return false
		}
		names = append(names, name)
		return true
	}
	users := []string{"@a", "@b", "@c", "@d", "@e"}
	levels := "@a=100,@b=50"
	if s.v.Creators {
		levels = "@b=50"
	}
	add("create . @a .")
	add("member @a @a join")
	add("power . @a " + levels)
	add("rules . @a public")
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	for tries := 0; len(names) < size && tries < 20*size; tries++ {
		prev := pick(names[max(0, len(names)-12):])
		if other := pick(names[max(0, len(names)-12):]); rng.IntN(3) == 0 && other != prev {
			prev += "," + other
		}
		var line string
		switch by := pick(users); rng.IntN(8) {
		case 0:
			line = "topic . " + by + " t"
		case 1:
			line = "name . " + by + " n"
		case 2:
			line = "rules . " + by + " " + pick([]string{"public", "invite"})
		case 3:
			line = fmt.Sprintf("power . %s %s=%d,%s=%d,topic=%d", by, by, rng.IntN(3)*50, pick(users), rng.IntN(3)*50, rng.IntN(2)*50)
			if !s.v.Creators {
				line += ",@a=100"
			}
		case 4:
			line = "member " + pick(users) + " " + by + " " + pick([]string{"ban", "leave", "invite"})
		default:
			line = "member " + by + " " + by + " " + pick([]string{"join", "join", "leave"})
		}
		add(line + " prev=" + prev)
	}
	return s, names
}

// TestOrderDoesNotMatter resolves random states of random rooms in many orders, by
// all algorithms.
func TestOrderDoesNotMatter(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 40 {
		s, names := randomRoom(rng, []string{"1", "6", "12"}[rng.IntN(3)], 60)
		for range 20 {
			sets := randomSets(rng, s, names)
			for _, res := range []event.StateRes{event.ResV1, event.ResV2, event.ResV21} {
				room := s.resolver(res)
				want := room.Resolve(sets)
				for range 3 {
					mixed := slices.Clone(sets)
					rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
					if got := room.Resolve(mixed); !maps.Equal(got, want) {
						t.Fatalf("seed %d: another order gives another state:\n%s\n%s", seed, s.draw(want), s.draw(got))
					}
				}
				checkResult(t, seed, sets, want)
			}
		}
	}
}

func randomSets(rng *rand.Rand, s *script, names []string) []State {
	sets := make([]State, 2+rng.IntN(3))
	for i := range sets {
		sets[i] = s.after[names[rng.IntN(len(names))]]
	}
	return sets
}

// checkResult holds what is true of every resolution: what all sets agree on stays.
func checkResult(t *testing.T, seed uint64, sets []State, got State) {
	t.Helper()
	for key, id := range sets[0] {
		if inAll(sets, key, id) && got[key] != id {
			t.Fatalf("seed %d: %v is %s in all sets and %s in the result", seed, key, id, got[key])
		}
	}
}

// TestFullConflicted compares the full conflicted set with one found as the
// specification words it, by walking from every event of every state.
func TestFullConflicted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 40 {
		s, names := randomRoom(rng, []string{"2", "12"}[rng.IntN(2)], 80)
		for range 20 {
			sets := randomSets(rng, s, names)
			_, c := split(sets)
			if len(c.Sets) == 0 {
				continue
			}
			for _, subgraph := range []bool{false, true} {
				g := newGraph(s.resolver(event.ResV2))
				var got []string
				for _, n := range g.fullConflicted(c, subgraph) {
					got = append(got, string(g.nodes[n].id))
				}
				slices.Sort(got)
				if want := plainFull(s, sets, c, subgraph); !slices.Equal(got, want) {
					t.Fatalf("seed %d, subgraph %v:\n%v, want\n%v", seed, subgraph, got, want)
				}
			}
		}
	}
}

// plainFull is the full conflicted set without any cleverness.
func plainFull(s *script, sets []State, c *Conflict, subgraph bool) []string {
	full := make(map[mxid.EventID]bool)
	conflicted := make(map[mxid.EventID]bool)
	for _, set := range c.Sets {
		for _, id := range set {
			full[id], conflicted[id] = true, true
		}
	}
	reached := make(map[mxid.EventID]int)
	for _, set := range sets {
		chain := make(map[mxid.EventID]bool)
		for _, id := range set {
			plainChain(s, id, chain)
		}
		for id := range chain {
			reached[id]++
		}
	}
	for id, n := range reached {
		if n < len(sets) {
			full[id] = true
		}
	}
	if subgraph {
		for from := range conflicted {
			below := make(map[mxid.EventID]bool)
			plainChain(s, from, below)
			for id := range below {
				further := make(map[mxid.EventID]bool)
				plainChain(s, id, further)
				for to := range further {
					full[id] = full[id] || conflicted[to] && to != from
				}
			}
		}
	}
	var ids []string
	for id, in := range full {
		if in {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	return ids
}

func plainChain(s *script, id mxid.EventID, chain map[mxid.EventID]bool) {
	if chain[id] {
		return
	}
	chain[id] = true
	for _, a := range s.events[id].Auth {
		plainChain(s, a, chain)
	}
}

// TestBrokenGraphs gives the algorithms what only forged events can be: cycles,
// events that are not there, references to messages and to themselves.
func TestBrokenGraphs(t *testing.T) {
	for _, version := range []string{"1", "2", "10", "12"} {
		v := event.LookupVersion(version)
		events := make(map[mxid.EventID]*event.Event)
		mk := func(id, typ, key string, refs ...mxid.EventID) {
			events[mxid.EventID(id)] = &event.Event{
				Version: v, ID: mxid.EventID(id), Room: "!c", Type: typ, StateKey: key, IsState: key != "-", Sender: "@a:b",
				Auth: refs, Content: []byte(`{"membership":"ban"}`), JSON: []byte("{}"), Prev: []mxid.EventID{"$c"},
			}
		}
		mk("$c", typeCreate, "", "$p1")
		mk("$p1", typePowerLevels, "", "$p2", "$c", "$gone")
		mk("$p2", typePowerLevels, "", "$p1", "$p2", "$c")
		mk("$m", "m.room.message", "-", "$m", "$p1")
		mk("$b", typeMember, "@x:b", "$m", "$p2", "$b2")
		mk("$b2", typeMember, "@y:b", "$b", "$c", "$c")
		mk("$t", "m.room.topic", "", "$p1", "$b", "$gone")
		key := func(typ, k string) auth.Key { return auth.Key{Type: typ, StateKey: k} }
		sets := []State{
			{key(typeCreate, ""): "$c", key(typePowerLevels, ""): "$p1", key(typeMember, "@x:b"): "$b", key("m.room.topic", ""): "$t"},
			{key(typeCreate, ""): "$c", key(typePowerLevels, ""): "$p2", key(typeMember, "@x:b"): "$gone", key("m.room.name", ""): "$m"},
			{key(typePowerLevels, ""): "$p2", key(typeMember, "@y:b"): "$b2"},
		}
		for _, res := range []event.StateRes{event.ResV1, event.ResV2, event.ResV21} {
			vv := *v
			vv.Res = res
			Resolve(&vv, sets, func(id mxid.EventID) *event.Event { return events[id] })
		}
	}
}

func TestFewSets(t *testing.T) {
	s, names := randomRoom(rand.New(rand.NewPCG(1, 1)), "10", 20)
	room := s.resolver(event.ResV2)
	if got := room.Resolve(nil); len(got) != 0 {
		t.Errorf("nothing gives %v", got)
	}
	last := s.after[names[len(names)-1]]
	if got := room.Resolve([]State{last}); !maps.Equal(got, last) {
		t.Errorf("one set gives %v", got)
	}
	if got := room.Resolve([]State{last, last}); !maps.Equal(got, last) {
		t.Errorf("the same set twice gives %v", got)
	}
}
