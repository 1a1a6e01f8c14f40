package sim

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
	"hearth/engine/stream"
)

// Readers with stored cursors follow the log while others write. After a cut at
// any sync no cursor stands past the log's end, none has gone back behind what
// it had on disk, and a reader that goes on from it misses no entry.
func TestCursorsNeverRunAhead(t *testing.T) {
	seed := setting(t, "HEARTH_SEED", rand.Uint64())
	d := newDisk()
	st, err := store.Open(store.Options{Dir: "db", FS: d, MemTable: memTable})
	if err != nil {
		t.Fatal(err)
	}
	l, err := stream.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 3))
	var bad error
	safe := map[string]stream.Pos{} // cursors whose batch was waited for
	d.after(func() {
		mu.Lock()
		defer mu.Unlock()
		if bad != nil || rng.IntN(3) != 0 {
			return
		}
		told := l.Tip()
		left := d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
		bad = cursorsAfter(left, told, safe)
	})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for n := range 60 {
				if _, err := l.Commit(func(tx *stream.Tx) error {
					tx.Put(&stream.Entry{Kind: stream.Receipt, Room: uint32(n)})
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		}()
		go func() {
			defer wg.Done()
			name := fmt.Sprint("reader", i)
			for pos := stream.Pos(0); pos < 60; {
				pos = follow(t, st, l, name, pos, i == 0)
				if i == 0 {
					mu.Lock()
					safe[name] = pos
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
	if err := st.Close(); err != nil || bad != nil {
		t.Fatalf("HEARTH_SEED=%d: %v, %v", seed, err, bad)
	}
}

// follow reads on to the tip and stores the cursor; synced waits for it.
func follow(t *testing.T, st *store.Store, l *stream.Log, name string, pos stream.Pos, synced bool) stream.Pos {
	changed := l.Changed()
	tip := l.Tip()
	if tip == pos {
		<-changed
		return pos
	}
	if err := l.Read(pos, tip, func(at stream.Pos, _ *stream.Entry) bool {
		pos++
		return at == pos
	}); err != nil || pos != tip {
		t.Errorf("%s read up to %d of %d: %v", name, pos, tip, err)
	}
	b := st.NewBatch()
	stream.SetCursor(b, name, pos)
	put := st.Apply
	if synced {
		put = st.Commit
	}
	if err := put(b); err != nil {
		t.Error(err)
	}
	return pos
}

func cursorsAfter(left *vfs.MemFS, told stream.Pos, safe map[string]stream.Pos) error {
	st, err := store.Open(store.Options{Dir: "db", FS: left})
	if err != nil {
		return err
	}
	defer st.Close()
	l, err := stream.Open(st)
	if err != nil {
		return err
	}
	if l.Tip() < told {
		return fmt.Errorf("the tip was %d, after the cut it is %d", told, l.Tip())
	}
	for i := range 3 {
		name := fmt.Sprint("reader", i)
		pos, err := l.Cursor(name)
		if err != nil || pos > l.Tip() || pos < safe[name] {
			return fmt.Errorf("%s stands at %d, had stored %d, the log ends at %d, %w", name, pos, safe[name], l.Tip(), err)
		}
		n := pos
		if err := l.Read(pos, l.Tip(), func(at stream.Pos, _ *stream.Entry) bool {
			n++
			return at == n
		}); err != nil || n != l.Tip() {
			return fmt.Errorf("%s goes on from %d and ends at %d of %d, %w", name, pos, n, l.Tip(), err)
		}
	}
	return nil
}
