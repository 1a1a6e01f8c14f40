package stateres

import (
	"fmt"
	"strconv"
	"testing"

	"hearth/engine/event"
	"hearth/engine/mxid"
)

// largeRoom has so many members, then two forks of so many changes each: bans,
// joins, levels, rules and topics.
func largeRoom(t testing.TB, version string, members, changes int) (*script, []State) {
	s := newScript(version)
	must := func(line string) {
		t.Helper()
		if err := s.add(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	must("CREATE create . @a .")
	must("ALICE member @a @a join")
	first := "@a=100,@b=50"
	if s.v.Creators {
		first = "@b=50"
	}
	must("POWER power . @a " + first)
	must("RULES rules . @a public")
	for i := range members {
		must(fmt.Sprintf("M%d member @m%d @m%d join", i, i, i))
	}
	base := s.last
	var sets []State
	for fork := range 2 {
		prev := " prev=" + base
		for i := range changes {
			name := fmt.Sprintf("F%d_%d", fork, i)
			m := strconv.Itoa((i*7 + fork*3) % members)
			switch i % 5 {
			case 0:
				must(name + " member @m" + m + " @a ban" + prev)
			case 1:
				must(fmt.Sprintf("%s member @n%d_%d @n%d_%d join%s", name, fork, i, fork, i, prev))
			case 2:
				must(fmt.Sprintf("%s power . @a %s,@x%d=%d%s", name, first, i, i%50, prev))
			case 3:
				must(name + " pinned_events p" + m + " @a x" + prev)
			case 4:
				must(name + " rules . @a public" + prev)
			}
			prev = ""
		}
		sets = append(sets, s.after[s.last])
	}
	return s, sets
}

// TestWorkIsLinear counts what a resolution looks up. A fork of so many changes may
// cost a few looks at each event, and an argument over a topic must not cost one at
// each member.
func TestWorkIsLinear(t *testing.T) {
	for _, version := range []string{"10", "12"} {
		s, sets := largeRoom(t, version, 400, 200)
		looks := 0
		room := s.resolver(s.v.Res)
		room.Lookup = func(id mxid.EventID) *event.Event {
			looks++
			return s.events[id]
		}
		room.Resolve(sets)
		if limit := 3 * len(s.events); looks > limit {
			t.Errorf("v%s: two forks take %d looks at %d events", version, looks, len(s.events))
		}
		for _, line := range []string{"T1 topic . @a one prev=M399", "T2 topic . @a two prev=M399"} {
			if err := s.add(line); err != nil {
				t.Fatal(err)
			}
		}
		looks = 0
		room.Resolve([]State{s.after["T1"], s.after["T2"]})
		if looks > 20 {
			t.Errorf("v%s: two topics take %d looks", version, looks)
		}
	}
}

// TestDeepChain resolves forks whose auth chains are long, which no recursion would
// survive and nothing quadratic finish.
func TestDeepChain(t *testing.T) {
	const depth = 50_000
	for _, version := range []string{"1", "10", "12"} {
		s := newScript(version)
		first := "P0 power . @a @a=100"
		if s.v.Creators {
			first = "P0 power . @a @b=100"
		}
		for _, line := range []string{"CREATE create . @a .", "ALICE member @a @a join", first} {
			if err := s.add(line); err != nil {
				t.Fatal(err)
			}
		}
		start := s.after["P0"]
		power := s.events["$P0"]
		var sets []State
		for fork := range 2 {
			state := State{}
			for key, id := range start {
				state[key] = id
			}
			last := power
			for i := range depth {
				next := *power
				next.ID = mxid.EventID(fmt.Sprintf("$P%d_%d", fork, i))
				next.Time = int64(i)
				next.Auth = append(append([]mxid.EventID{}, power.Auth...), last.ID)
				s.events[next.ID] = &next
				last = &next
			}
			for key, id := range state {
				if id == power.ID {
					state[key] = last.ID
				}
			}
			sets = append(sets, state)
		}
		room := s.resolver(s.v.Res)
		room.Rejected = nil
		if got := room.Resolve(sets); len(got) != len(start) {
			t.Errorf("v%s: %d keys, want %d", version, len(got), len(start))
		}
	}
}

func BenchmarkForks(b *testing.B) {
	for _, version := range []string{"1", "10", "12"} {
		b.Run("v"+version, func(b *testing.B) {
			s, sets := largeRoom(b, version, 1000, 500)
			room := s.resolver(s.v.Res)
			b.ReportAllocs()
			for b.Loop() {
				room.Resolve(sets)
			}
		})
	}
}
