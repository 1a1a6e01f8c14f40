package room

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// states are the states before and after each event of a room's timeline from a
// place on, by ids, with the auth chains of all that is in them.
func (h *hub) states(room Num, from Key) map[mxid.EventID]string {
	h.t.Helper()
	all := map[mxid.EventID]string{}
	for _, e := range h.events(room) {
		if e.At.Before(from) {
			continue
		}
		before, err := h.StateBefore(e)
		h.ok(err)
		after, err := h.StateAfter(e)
		h.ok(err)
		all[e.ID] = h.ids(before) + "\n" + h.ids(after) + "\n" + strings.Join(h.chain(e), " ")
	}
	return all
}

func (h *hub) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// ids names the events of a state, and what they say.
func (h *hub) ids(s State) string {
	h.t.Helper()
	var list []string
	h.ok(h.Each(s, func(e *Event) (bool, error) {
		list = append(list, string(e.ID)+string(e.Content)+strings.Join(h.chain(e), " "))
		return true, nil
	}))
	return strings.Join(list, "\n")
}

// chain lists what authorises an event, and what authorises that.
func (h *hub) chain(e *Event) (list []string) {
	h.t.Helper()
	todo := slices.Clone(e.Auth)
	for len(todo) > 0 {
		id := todo[0]
		if todo = todo[1:]; slices.Contains(list, string(id)) {
			continue
		}
		a, err := h.Lookup(id)
		if err != nil {
			h.t.Fatalf("what authorises %s: %v", e.ID, err)
		}
		list = append(list, string(id))
		todo = append(todo, a.Auth...)
	}
	slices.Sort(list)
	return list
}

// trimAll removes a room's history before a place to the last row.
func (h *hub) trimAll(room Num, o Trim) (seq uint64) {
	h.t.Helper()
	seq, err := h.Trim(room, o)
	h.ok(err)
	for range 1000 {
		done, err := h.TrimSome(room, nil)
		h.ok(err)
		if done {
			return seq
		}
	}
	h.t.Fatal("it does not end")
	return 0
}

// sound holds the tables against each other, and each pair of a state to an event.
func (h *hub) sound() {
	h.t.Helper()
	h.ok(h.Verify(func(format string, args ...any) { h.t.Errorf(format, args...) }))
	h.ok(h.All(0, func(room Num) bool {
		h.ok(h.snaps.Back(uint32(room), 1<<31, func(num snapshot.Num) bool {
			_, err := h.snaps.Refers(uint32(room), num, func(p snapshot.Pair) {
				if _, err := h.Event(EventNum(p.Event)); p.Event != 0 && err != nil {
					h.t.Errorf("snapshot %d of room %d names event %d: %v", num, room, p.Event, err)
				}
			})
			h.ok(err)
			return true
		}))
		return true
	}))
}

// passOn gives another hub what it was not given before, and speaks to it of nothing
// that is gone here.
func (h *hub) passOn(to *hub, from, room Num, given map[mxid.EventID]bool) {
	h.t.Helper()
	for _, e := range h.events(from) {
		if given[e.ID] {
			continue
		}
		given[e.ID] = true
		if out, gap := h.give(to, room, h.wire(e)); out == Missing {
			h.t.Fatalf("%s lacks %v", e.Type, gap)
		}
	}
}

// Two hubs write into a room, and one removes its history again and again, at random
// places. At each event that remains the state is what it was, the room's present and
// that of the other hub agree in the end, and no row is left that nothing needs.
func TestStatesOutliveTrim(t *testing.T) {
	for _, version := range []string{"1", "6", "11", "12"} {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 11))
		t.Run(version, func(t *testing.T) {
			t.Logf("seed %d", seed)
			a, b, onA, onB := two(t, version)
			defer a.close()
			defer func() { b.close() }()
			toA, toB := map[mxid.EventID]bool{}, map[mxid.EventID]bool{}
			for _, e := range a.events(onA) {
				toB[e.ID] = true
			}
			for range 12 {
				for range 2 {
					for range rnd.IntN(12) {
						a.act(rnd, onA)
					}
					for range rnd.IntN(12) {
						b.act(rnd, onB)
					}
					a.passOn(b, onA, onB, toB)
					b.passOn(a, onB, onA, toA)
				}
				b.speak(onB)
				b.passOn(a, onB, onA, toA)
				a.speak(onA)
				a.passOn(b, onA, onB, toB)
				list := b.events(onB)
				if len(list) == 0 {
					continue
				}
				at := list[rnd.IntN(len(list))].At
				if rnd.IntN(8) == 0 {
					at = After(list[len(list)-1].At.Pos)
				}
				was, present := b.states(onB, at), b.present(onB)
				b.trimAll(onB, Trim{Before: at, Sweep: rnd.IntN(2) == 0, KeepLocal: rnd.IntN(3) == 0})
				b.sound()
				for id, state := range b.states(onB, Key{}) {
					if was[id] != state {
						t.Fatalf("seed %d: at %s the state was\n%s\nand is\n%s", seed, id, was[id], state)
					}
					delete(was, id)
				}
				if len(was) > 0 || b.present(onB) != present {
					t.Fatalf("seed %d: %d events are gone; the present was\n%s\nand is\n%s", seed, len(was), present, b.present(onB))
				}
				if rnd.IntN(3) == 0 {
					b = b.again(b.opts)
				}
			}
			if got, want := b.present(onB), a.present(onA); got != want {
				t.Fatalf("seed %d: one hub has\n%s\n\nthe other\n%s", seed, want, got)
			}
			b.trimAll(onB, Trim{Before: After(b.log.Tip()), Sweep: true})
			b.sound()
			b.onlyNeeded(onB)
		})
	}
}

// again opens a hub's store anew.
func (h *hub) again(o Options) *hub {
	h.t.Helper()
	n := *h
	var err error
	n.Rooms, err = Open(h.st, h.log, h.names, o)
	h.ok(err)
	return &n
}

// onlyNeeded counts what is left of a room whose history is removed up to its end.
func (h *hub) onlyNeeded(room Num) {
	h.t.Helper()
	head, err := h.Head(room)
	h.ok(err)
	needed := map[EventNum]bool{}
	add := func(e *Event) {
		needed[e.Num] = true
		for _, id := range h.chain(e) {
			one, err := h.Lookup(mxid.EventID(id))
			h.ok(err)
			needed[one.Num] = true
		}
	}
	h.ok(h.Each(head.State, func(e *Event) (bool, error) { add(e); return true, nil }))
	placed := 0
	for _, t := range [...]store.Table{store.StateBody, store.OtherBody} {
		h.ok(h.st.ScanPrefix(t.Prefix(), func(key, val []byte) (bool, error) {
			e := &Event{}
			_, err := e.parseHeader(val)
			if e.At != (Key{}) {
				placed++
			}
			return true, err
		}))
	}
	// Of the whole life of the room: what is needed now, an end or two, what the chains
	// of differences name that lead to the present, and how people left.
	if most := len(needed) + 150; placed > most {
		h.t.Errorf("%d events that had a place are left, %d are needed", placed, len(needed))
	}
	if list := h.events(room); len(list) != 0 {
		h.t.Errorf("%d events are shown", len(list))
	}
}

// What went is not found, what stays without a place is an outlier, and what looks as
// if it came back is not shown.
func TestTrimmedIsGone(t *testing.T) {
	a, b, onA, onB := two(t, "12")
	defer a.close()
	defer b.close()
	first := text("@b:hub", "first")
	firstID, err := a.Send(onA, &first)
	a.ok(err)
	for range 5 {
		a.speak(onA)
	}
	a.catchUp(b, onA, onB)
	list := b.events(onB)
	at := list[len(list)-2].At
	if seq := b.trimAll(onB, Trim{Before: at, Sweep: true}); seq != 1 {
		t.Fatal(seq)
	}
	b.sound()
	if _, err := b.Lookup(firstID); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	rest := b.events(onB)
	if len(rest) != 2 || rest[0].At != at {
		t.Fatal(len(rest))
	}
	head, err := b.Head(onB)
	b.ok(err)
	if head.Hole != at {
		t.Fatal(head.Hole)
	}
	b.ok(b.Each(head.State, func(e *Event) (bool, error) {
		if !e.Outlier() || e.At != (Key{}) {
			t.Errorf("%s has a place", e.Type)
		}
		return true, nil
	}))
	if seq := b.trimAll(onB, Trim{Before: at, Sweep: true}); seq != 0 {
		t.Fatal("there was nothing to remove", seq)
	}
	// It comes back, with a state that somebody tells: it is known, and shown to nobody.
	e, err := a.Lookup(firstID)
	a.ok(err)
	w, err := b.Write(onB)
	b.ok(err)
	var given []mxid.EventID
	before, err := a.StateBefore(e)
	a.ok(err)
	a.ok(a.Each(before, func(e *Event) (bool, error) { given = append(given, e.ID); return true, nil }))
	out, gap, err := w.Accept(a.wire(e), given)
	if err != nil || out != SoftFailed {
		t.Fatal(out, gap, err)
	}
	_, err = w.Commit(nil)
	b.ok(err)
	if len(b.events(onB)) != 2 {
		t.Fatal("it is shown again")
	}
	// What is new, and follows what was removed, is taken once its state is told.
	a.speak(onA)
	a.passOn(b, onA, onB, seen(a.events(onA)[:len(a.events(onA))-1]))
	if len(b.events(onB)) != 3 || a.present(onA) != b.present(onB) {
		t.Fatal("the new event is not there")
	}
	b.sound()
}

func seen(list []*Event) map[mxid.EventID]bool {
	m := map[mxid.EventID]bool{}
	for _, e := range list {
		m[e.ID] = true
	}
	return m
}

// What stays between the removals is looked through once it has become much: the
// states of a room whose state changes all day do not pile up.
func TestLeftoversGo(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	most := 0
	for range 30 {
		for i := range 40 {
			d := Draft{Type: "m.room.topic", StateKey: sk(""), Sender: "@a:hub", Content: fmt.Appendf(nil, `{"topic":"%d"}`, i)}
			_, err := h.Send(room, &d)
			h.ok(err)
		}
		h.trimAll(room, Trim{Before: After(h.log.Tip())})
		n := 0
		for _, t := range [...]store.Table{store.StateBody, store.Snapshot} {
			h.ok(h.st.ScanPrefix(t.Prefix(), func(_, _ []byte) (bool, error) { n++; return true, nil }))
		}
		most = max(most, n)
	}
	h.sound()
	t.Logf("at most %d rows of 2,400", most)
	if most > 500 {
		t.Errorf("%d rows pile up", most)
	}
}

// A place is found by time, whoever lies about the time.
func TestOlder(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	begin := h.opts.Now().UnixMilli() + 1
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range int64(300) {
		d := text("@a:hub", "x")
		switch d.Time = begin + 10*i; rnd.IntN(20) {
		case 0:
			d.Time = begin + 400*24*3_600_000 // of the future
		case 1:
			d.Time -= 20 // the clocks are not the same
		}
		_, err := h.Send(room, &d)
		h.ok(err)
	}
	for _, ts := range []int64{begin - 1000, begin + 5, begin + 1000, begin + 2995, begin + 5000} {
		at, err := h.Older(room, Key{}, ts)
		h.ok(err)
		wrong := 0
		for _, e := range h.events(room) {
			if e.Time < begin+3_600_000 && e.At.Before(at) != (e.Time < ts) {
				wrong++
			}
		}
		if wrong > 4 {
			t.Errorf("at %d %d events are on the wrong side", ts-begin, wrong)
		}
	}
}

// Some that claim to be old have nothing removed that came before them, be they where
// the room is halved or in a row.
func TestOlderAmongLiars(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		old, recent int
		lies        func(i int) bool
	}{
		{0, 1000, func(i int) bool { return i == 500 }},
		{100, 1000, func(i int) bool { return i >= 450 && i < 650 }},
		{100, 1000, func(int) bool { return rnd.IntN(5) < 2 }},
		{0, 30, func(i int) bool { return i > 20 }},
	} {
		var o older
		for i := range c.old + c.recent {
			if o.found() {
				break
			}
			o.take(Key{Pos: stream.Pos(i + 1)}, i >= c.old && !c.lies(i))
		}
		for !o.found() && len(o.ahead) > 0 {
			o.step()
		}
		if at := int(o.at.Pos); at < c.old || at > c.old+5 {
			t.Errorf("%d of %d go, %d are old", at, c.old+c.recent, c.old)
		}
	}
}

// What comes while it is looked for what is needed stays whole: an event that has its
// state told, of which something was about to go.
func TestComesWhileSweeping(t *testing.T) {
	a, b, onA, onB := two(t, "12")
	defer a.close()
	defer b.close()
	topic := func(n int) {
		_, err := a.Send(onA, &Draft{Type: "m.room.topic", Sender: "@a:hub", StateKey: sk(""), Content: fmt.Appendf(nil, `{"topic":"%d"}`, n)})
		a.ok(err)
	}
	topic(0)
	old := text("@a:hub", "old")
	oldID, err := a.Send(onA, &old)
	a.ok(err)
	for n := range 60 { // more than one chain of differences
		topic(n)
	}
	a.speak(onA)
	a.catchUp(b, onA, onB)
	list := b.events(onB)
	_, err = b.Trim(onB, Trim{Before: list[len(list)-1].At, Sweep: true})
	b.ok(err)
	come := func() {
		e, err := a.Lookup(oldID)
		a.ok(err)
		before, err := a.StateBefore(e)
		a.ok(err)
		var given []mxid.EventID
		a.ok(a.Each(before, func(e *Event) (bool, error) { given = append(given, e.ID); return true, nil }))
		w, err := b.Write(onB)
		b.ok(err)
		defer w.End()
		_, gap, err := w.Accept(a.wire(e), given)
		if err != nil || !gap.Empty() {
			t.Fatal(gap, err)
		}
		_, err = w.Commit(nil)
		b.ok(err)
	}
	came := false
	for done := false; !done; {
		if tr := b.trims.of(onB); !came && tr.marks != nil && tr.marks.ready {
			come()
			came = true
		}
		done, err = b.TrimSome(onB, nil)
		b.ok(err)
	}
	if !came {
		t.Fatal("it was over too soon")
	}
	b.sound()
}

// Who leaves again after a removal is seen as they left: what a removal before has set
// aside of their coming and going names states that are gone.
func TestLeavesAgainAfterTrim(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	member := func(what string) {
		_, err := h.Send(room, &Draft{Type: "m.room.member", Sender: "@b:hub", StateKey: sk("@b:hub"), Content: []byte(`{"membership":"` + what + `"}`)})
		h.ok(err)
	}
	trim := func() {
		h.speak(room)
		h.trimAll(room, Trim{Before: After(h.log.Tip()), Sweep: true})
		h.sound()
	}
	for range 4 {
		member("join")
		for n := range 40 {
			_, err := h.Send(room, &Draft{Type: "m.room.topic", Sender: "@a:hub", StateKey: sk(""), Content: fmt.Appendf(nil, `{"topic":"%d"}`, n)})
			h.ok(err)
		}
		trim()
		member("leave")
		trim()
	}
}
