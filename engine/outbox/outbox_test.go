package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// world is a log whose entries are for one destination each, named by the
// entry's user, and those destinations.
type world struct {
	t    *testing.T
	fs   *vfs.MemFS
	st   *store.Store
	log  *stream.Log
	box  *Outbox
	got  map[string][]stream.Pos
	down map[string]error
	seen []string // "dest from-upto" of each try
	most int      // entries of one delivery; 0: all
	mu   sync.Mutex
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, fs: vfs.NewCrashableMem(), got: map[string][]stream.Pos{}, down: map[string]error{}}
	w.open()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() {
	var err error
	w.st, err = store.Open(store.Options{Dir: "db", FS: w.fs})
	w.must(err)
	w.log, err = stream.Open(w.st)
	w.must(err)
	w.box, err = Open(w.st, w.log, Options{Name: "x", Deliver: w.deliver, Random: func() float64 { return 1 }})
	w.must(err)
}

func (w *world) close() {
	w.t.Helper()
	w.must(w.box.Close())
	w.must(w.st.Close())
}

func name(user uint32) string { return fmt.Sprint("d", user) }

// fail has a destination refuse everything.
func (w *world) fail(dest string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[dest] = err
}

func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.down)
}

// tries gives what was tried since it was last asked.
func (w *world) tries() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

func (w *world) deliver(ctx context.Context, dest string, from, upto stream.Pos) (stream.Pos, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, fmt.Sprintf("%s %d-%d", dest, from, upto))
	if err := w.down[dest]; err != nil {
		return from, err
	}
	acked, n := upto, 0
	err := w.log.Read(from, upto, func(pos stream.Pos, e *stream.Entry) bool {
		if name(e.User) != dest {
			return true
		}
		if n++; w.most > 0 && n > w.most {
			acked = pos - 1
			return false
		}
		w.got[dest] = append(w.got[dest], pos)
		return true
	})
	return acked, err
}

// write puts an entry for each user and tells the outbox.
func (w *world) write(users ...uint32) {
	w.t.Helper()
	_, err := w.log.Commit(func(tx *stream.Tx) error {
		for _, u := range users {
			tx.Put(&stream.Entry{Kind: stream.Account, User: u})
		}
		return nil
	})
	w.must(err)
	w.tell()
}

// tell is the reader: it goes on from where the outbox stands.
func (w *world) tell() {
	w.t.Helper()
	tip := w.log.Tip()
	var dests []string
	w.must(w.log.Read(w.box.Told(), tip, func(_ stream.Pos, e *stream.Entry) bool {
		dests = append(dests, name(e.User))
		return true
	}))
	w.must(w.box.News(tip, dests...))
}

func (w *world) want(dest string, want ...stream.Pos) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.got[dest]; !slices.Equal(got, want) {
		w.t.Fatalf("%s got %v, want %v; tries %q", dest, got, want, w.seen)
	}
}

func (w *world) rows() (all []string) {
	w.t.Helper()
	synctest.Wait()
	w.must(w.box.Each(func(s *State) bool {
		all = append(all, fmt.Sprintf("%s after %d, %d failures, %s", s.Dest, s.From, s.Failures, s.Error))
		return true
	}))
	return all
}

// A destination that fails has a row and is tried after growing waits; the others
// are in step without any; back, it gets everything in order and its row goes.
func TestFailAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.write(1, 2)
		w.want("d1", 1)
		w.want("d2", 2)
		w.fail("d1", errors.New("no route"))
		w.write(1)
		synctest.Wait()
		w.write(2, 1)
		w.want("d2", 2, 4)
		if got := w.rows(); !slices.Equal(got, []string{"d1 after 2, 1 failures, no route"}) {
			t.Fatal(got)
		}
		w.tries()
		time.Sleep(10*time.Second + 20*time.Second + 40*time.Second + time.Second)
		synctest.Wait()
		if got := w.tries(); !slices.Equal(got, []string{"d1 2-3", "d1 2-3", "d1 2-3"}) {
			t.Fatalf("%q", got)
		}
		time.Sleep(24 * time.Hour) // the wait ends growing at an hour
		synctest.Wait()
		if n := len(w.tries()); n < 23 || n > 29 {
			t.Fatal(n, "tries")
		}
		w.fail("d1", nil)
		w.must(w.box.Alive("d1"))
		w.want("d1", 1, 3, 5)
		if got := w.rows(); got != nil {
			t.Fatal(got)
		}
		w.write(1)
		w.want("d1", 1, 3, 5, 6)
	})
}

// What is told with an error is kept, a wait that the other side asks for is
// kept to, and Later is no failure.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.fail("d1", fault.Wait("x", 10*time.Minute))
		w.fail("d2", Later{time.Now().Add(time.Hour)})
		w.fail("d3", errors.New(strings.Repeat("ä", 300)))
		w.write(1, 2, 3)
		for _, s := range w.rows() {
			if strings.HasPrefix(s, "d2") != strings.Contains(s, " 0 failures") || len(s) > 250 {
				t.Fatal(s)
			}
		}
		w.heal()
		time.Sleep(9 * time.Minute)
		w.want("d1")
		w.want("d3", 3)
		time.Sleep(2 * time.Minute)
		w.want("d1", 1)
		w.want("d2")
		w.write(2)
		time.Sleep(50 * time.Minute)
		w.want("d2", 2, 4)
	})
}

// Waits survive a restart, and so does what was not delivered.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write(1)
		w.want("d1", 1)
		w.fail("d1", errors.New("down"))
		w.write(1, 2)
		w.want("d2", 3)
		w.close()
		time.Sleep(time.Second)
		w.tries()
		w.open()
		w.tell()
		w.write(2)
		w.want("d2", 3, 4)
		if got := w.tries(); len(got) != 1 {
			t.Fatalf("%q", got)
		}
		w.heal()
		time.Sleep(10 * time.Second)
		w.want("d1", 1, 2)
		w.close()
		w.open()
		if w.box.Told() != 4 {
			t.Fatal(w.box.Told())
		}
		w.close()
	})
}

func TestLongName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		if w.box.News(w.log.Tip()+1, strings.Repeat("x", maxDest+1)) == nil {
			t.Fatal("a name too long was taken")
		}
	})
}

// Whatever fails and whenever the power goes, each destination gets all that is
// for it, in order; doubled is only what a crash doubled.
func TestNothingLost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		w.most = 3
		crashes := 0
		for range 400 {
			switch n := rnd.IntN(20); {
			case n < 12:
				w.write(rnd.Uint32N(5), rnd.Uint32N(40))
			case n < 14:
				w.fail(name(rnd.Uint32N(5)), errors.New("down"))
			case n < 16:
				w.heal()
			case n < 18:
				time.Sleep(time.Duration(rnd.IntN(60)) * time.Second)
			case n == 18:
				synctest.Wait()
			default:
				synctest.Wait()
				crashes++
				clone := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rnd})
				w.close()
				w.fs = clone
				w.open()
				w.tell()
			}
		}
		w.heal()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		want := map[string][]stream.Pos{}
		w.must(w.log.Read(0, w.log.Tip(), func(pos stream.Pos, e *stream.Entry) bool {
			want[name(e.User)] = append(want[name(e.User)], pos)
			return true
		}))
		for dest, all := range want {
			next := 0 // each is first seen in its turn
			for _, pos := range w.got[dest] {
				if next < len(all) && pos == all[next] {
					next++
				} else if !slices.Contains(all[:next], pos) {
					t.Fatalf("%s got %d out of turn: %v of %v", dest, pos, w.got[dest], all)
				}
			}
			if next != len(all) {
				t.Fatalf("%s lacks %v", dest, all[next:])
			}
			if crashes == 0 && len(w.got[dest]) != len(all) {
				t.Fatalf("%s got %d for %d", dest, len(w.got[dest]), len(all))
			}
		}
		if got := w.rows(); got != nil {
			t.Fatal(got)
		}
		w.close()
	})
}

func FuzzRow(f *testing.F) {
	f.Add((&row{From: 1, Upto: 2, Failures: 3, Next: 4, Since: 5, Error: "x"}).appendTo(nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		var r, back row
		if r.parse(src) != nil {
			return
		}
		if err := back.parse(r.appendTo(nil)); err != nil || back != r {
			t.Fatal(back, r, err)
		}
	})
}
