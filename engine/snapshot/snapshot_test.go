package snapshot

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// A long random life of a room's state reads back the same by every road:
// whole, by single keys, with and without the cache.
func TestChainsReadBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	st, err := store.Open(store.Options{Dir: "db", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var set Set
	var ref Ref
	sets := map[Num]Set{}
	deepest := uint32(0)
	for num := Num(1); num <= 400; num++ {
		var delta []Pair
		for range 1 + rnd.IntN(3) {
			p := Pair{Key: 1 + rnd.Uint32N(60), Event: uint64(num)}
			if rnd.IntN(5) == 0 {
				p.Event = 0
			}
			if !slices.ContainsFunc(delta, func(d Pair) bool { return d.Key == p.Key }) {
				delta = append(delta, p)
			}
		}
		next := set.With(delta)
		if got := set.With(Diff(set, next)); !slices.Equal(got, next) {
			t.Fatalf("Diff does not lead from %v to %v", set, next)
		}
		set = next
		b := st.NewBatch()
		ref = Put(b, 9, num, ref, delta, set)
		if err := st.Commit(b); err != nil {
			t.Fatal(err)
		}
		sets[num] = set
		deepest = max(deepest, ref.Depth)
	}
	if deepest == 0 || deepest > chain(60) {
		t.Fatalf("chains of up to %d", deepest)
	}
	for _, cache := range []int{0, 1 << 10, 1 << 20} {
		s := New(st, cache)
		for range 300 {
			num := Num(1 + rnd.IntN(400))
			got, err := s.Load(9, num)
			if err != nil || !slices.Equal(got, sets[num]) {
				t.Fatalf("snapshot %d: %v, want %v (%v)", num, got, sets[num], err)
			}
			key := 1 + rnd.Uint32N(60)
			num = Num(1 + rnd.IntN(400))
			if ev, err := s.Get(9, num, key); err != nil || ev != sets[num].Get(key) {
				t.Fatalf("key %d of snapshot %d: %d, want %d (%v)", key, num, ev, sets[num].Get(key), err)
			}
		}
		if s.pairs > s.limit {
			t.Fatalf("the cache holds %d pairs of %d", s.pairs, s.limit)
		}
	}
	if _, err := New(st, 0).Load(9, 401); err == nil {
		t.Fatal("a missing snapshot was read")
	}
}
