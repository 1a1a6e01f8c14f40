package stream

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

func open(t *testing.T, fs store.FS) (*store.Store, *Log) {
	t.Helper()
	st, err := store.Open(store.Options{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(st)
	if err != nil {
		t.Fatal(err)
	}
	return st, l
}

func put(t *testing.T, l *Log, n int, users ...uint32) Pos {
	t.Helper()
	pos, err := l.Commit(func(tx *Tx) error {
		for range n {
			tx.Put(&Entry{Kind: RoomEvent, Room: 7, User: 3, Event: uint64(tx.Next()), Diff: []byte("d")})
		}
		tx.Wake(users...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func TestEntriesComeBackInOrder(t *testing.T) {
	fs := vfs.NewMem()
	st, l := open(t, fs)
	put(t, l, 3)
	if _, err := l.Commit(func(*Tx) error { return errors.New("no") }); err == nil {
		t.Fatal("an error of fill was lost")
	}
	if pos := put(t, l, 2); pos != 5 || l.Tip() != 5 {
		t.Fatalf("position %d, tip %d: a given-up batch took positions", pos, l.Tip())
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st, l = open(t, fs)
	defer st.Close()
	if l.Tip() != 5 {
		t.Fatalf("tip %d after reopening", l.Tip())
	}
	var got []string
	err := l.Read(1, 4, func(pos Pos, e *Entry) bool {
		got = append(got, fmt.Sprint(pos, e.Room, e.User, e.Event, string(e.Diff)))
		return true
	})
	if err != nil || fmt.Sprint(got) != "[2 7 3 2d 3 7 3 3d 4 7 3 4d]" {
		t.Fatal(got, err)
	}
}

// Whether entries come from memory or from the disk, readers see the same.
func TestRecentEntriesAreTheSame(t *testing.T) {
	fs := vfs.NewMem()
	st, l := open(t, fs)
	put(t, l, 3)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st, l = open(t, fs)
	defer st.Close()
	for n := range 2*keepRecent/7 + 1 {
		put(t, l, 1+n%13)
	}
	read := func(after, upto Pos) (list []Pos) {
		t.Helper()
		if err := l.Read(after, upto, func(pos Pos, e *Entry) bool {
			if e.Event != uint64(pos) || string(e.Diff) != "d" {
				t.Fatalf("at %d: %+v", pos, e)
			}
			list = append(list, pos)
			return len(list) < 400
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	tip := l.Tip()
	for _, c := range [][2]Pos{{0, tip}, {2, 3}, {2, 5}, {tip - 1, tip}, {tip - keepRecent, tip}, {tip - keepRecent - 1, tip}, {tip - 40, tip - 20}, {tip, tip}} {
		got := read(c[0], c[1])
		if n := min(int(c[1]-c[0]), 400); len(got) != n || n > 0 && (got[0] != c[0]+1 || got[n-1] != c[0]+Pos(n)) {
			t.Errorf("after %d up to %d: %v", c[0], c[1], got)
		}
	}
}

func TestWaitersAreWokenByUser(t *testing.T) {
	st, l := open(t, vfs.NewMem())
	defer st.Close()
	told := map[string]int{}
	a, b := l.Park(1, func() { told["a"]++ }), l.Park(2, func() { told["b"]++ })
	defer b.Leave()
	changed := l.Changed()
	put(t, l, 1, 1)
	<-changed
	if told["a"] != 1 || told["b"] != 0 {
		t.Fatal(told)
	}
	a.Leave()
	put(t, l, 1, 1)
	if l.Parked() != 1 {
		t.Fatal(l.Parked())
	}
	l.Wake(2)
	if told["a"] != 1 || told["b"] != 1 {
		t.Fatal(told)
	}
}

// Writers at the same time get every position once, and the tip ends at the last.
func TestManyWriters(t *testing.T) {
	st, l := open(t, vfs.NewMem())
	defer st.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if _, err := l.Commit(func(tx *Tx) error {
					tx.Put(&Entry{Kind: Receipt, Room: 1})
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	want := Pos(0)
	if err := l.Read(0, l.Tip(), func(pos Pos, _ *Entry) bool {
		want++
		return pos == want
	}); err != nil || want != 400 || l.Tip() != 400 {
		t.Fatal(want, l.Tip(), err)
	}
}

// What was acknowledged is there after a power cut, and the tip that a reader
// saw before it is never past what is there after.
func TestTipIsNeverAheadOfTheDisk(t *testing.T) {
	fs := vfs.NewCrashableMem()
	st, l := open(t, fs)
	for i := range 30 {
		p, err := l.Begin(func(tx *Tx) error {
			tx.Put(&Entry{Kind: Receipt, Room: uint32(i)})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		seen := l.Tip()
		if i%3 == 0 {
			if err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			if l.Tip() != p.Pos {
				t.Fatalf("tip %d after waiting for %d", l.Tip(), p.Pos)
			}
			seen = p.Pos
		} else {
			defer p.Wait()
		}
		st2, l2 := open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
		if l2.Tip() < seen {
			t.Fatalf("a reader saw %d, after the cut the log ends at %d", seen, l2.Tip())
		}
		if err := st2.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { st.Close() })
}

// A follower is woken for its own entries, and at times for others', so that it is
// never far behind.
func TestFollow(t *testing.T) {
	st, l := open(t, vfs.NewMem())
	defer st.Close()
	f := l.Follow(func(e *Entry) bool { return e.Room == 7 })
	defer f.Leave()
	woken := func() bool {
		select {
		case <-f.News():
			return true
		default:
			return false
		}
	}
	put := func(room uint32) {
		t.Helper()
		if _, err := l.Commit(func(tx *Tx) error { tx.Put(&Entry{Kind: RoomEvent, Room: room}); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if !woken() || woken() {
		t.Fatal("a follower is to look once at what was there before it")
	}
	put(7)
	if put(8); !woken() {
		t.Fatal("its own entry did not wake it")
	}
	n := 0
	for ; n < quietMost && !woken(); n++ {
		put(8)
	}
	if n < quietMost/2 || n == quietMost {
		t.Fatalf("woken after %d entries that are not its own", n)
	}
	f.Leave()
	if put(7); woken() {
		t.Fatal("woken after it has left")
	}
}
