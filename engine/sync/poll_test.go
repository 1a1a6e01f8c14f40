package sync

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"hearth/engine/fault"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// answerOf is what a poll was told.
type answerOf struct {
	body []byte
	err  error
}

// wait parks the client and gives where the answer comes.
func (c *client) wait(timeout time.Duration) chan answerOf {
	c.h.t.Helper()
	req := c.req
	req.Timeout = timeout
	ch := make(chan answerOf, 1)
	body, ready, err := c.h.Now(&req)
	c.h.must(err)
	if ready {
		ch <- answerOf{append([]byte(nil), body...), nil}
		return ch
	}
	c.h.Wait(&req, func(body []byte, err error) { ch <- answerOf{append([]byte(nil), body...), err} })
	return ch
}

func TestPollIsTold(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	other := h.create(bob, "")
	c := h.client(alice, "")
	c.sync()
	ch := c.wait(time.Hour)
	h.say(other, bob, "not for alice")
	if h.Waiting() != 1 {
		t.Fatal("nothing waits")
	}
	h.say(r, alice, "news")
	got := <-ch
	h.must(got.err)
	c.take(got.body)
	want(t, bodies(c.reply.Rooms.Join[h.id(r)].Timeline.Events), "news")
	// News that came between the two requests is told at once.
	h.say(r, alice, "more")
	got = <-c.wait(time.Hour)
	c.take(got.body)
	want(t, bodies(c.reply.Rooms.Join[h.id(r)].Timeline.Events), "more")
	if h.Waiting() != 0 || h.log.Parked() != 0 {
		t.Fatal("something still waits")
	}
}

func TestPollEnds(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	c := h.client(alice, `{"room":{"timeline":{"types":["x"]},"state":{"types":["x"]}}}`)
	c.sync()
	since := c.req.Since
	ch := c.wait(time.Millisecond)
	h.say(r, alice, "filtered")
	c.take((<-ch).body)
	if string(c.raw) != noNews(c.reply.Next) {
		t.Fatalf("%s", c.raw)
	}
	c.req.Since = since
	ch = c.wait(time.Hour)
	h.Close()
	c.take((<-ch).body)
	ch = c.wait(time.Hour)
	c.take((<-ch).body)
	if c.reply.Next == since {
		t.Fatal("the token stands still")
	}
}

// A poll that looks for news all the time ends all the same, and each that
// waits is told of what concerns it, whatever the interleaving.
func TestManyPolls(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	const n = 50
	clients := make([]*client, n)
	chans := make([]chan answerOf, n)
	for i := range clients {
		clients[i] = h.client(alice, "")
		clients[i].req.Device = uint64(1000 + i)
		clients[i].sync()
		chans[i] = clients[i].wait(time.Hour)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			h.say(r, alice, "m")
		}
	}()
	for i, ch := range chans {
		for seen := 0; seen < 20; ch = clients[i].wait(time.Hour) {
			got := <-ch
			h.must(got.err)
			clients[i].take(got.body)
			j := clients[i].reply.Rooms.Join[h.id(r)]
			if seen += len(j.Timeline.Events); j.Timeline.Limited {
				break // the rest is behind prev_batch
			}
			if seen == 20 {
				break
			}
		}
	}
	<-done
}

// What one waiting request keeps in memory: the poll, its timer and the log's
// note of it. There is no goroutine, no buffer and no stack.
func TestWaitingIsCheap(t *testing.T) {
	h := start(t)
	h.create(alice, "")
	c := h.client(alice, "")
	c.sync()
	const n = 1000
	req := c.req
	req.Timeout = time.Hour
	before, goroutines := heap(), runtime.NumGoroutine()
	for range n {
		h.Wait(&req, func([]byte, error) {})
	}
	if g := runtime.NumGoroutine() - goroutines; g > 5 {
		t.Errorf("%d goroutines for %d that wait", g, n)
	}
	if each := (heap() - before) / n; each > 1024 {
		t.Errorf("%d bytes for each that waits, budget is 1024", each)
	}
	h.Close()
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestLongPollTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, memFS())
		h.create(alice, "")
		c := h.client(alice, "")
		c.sync()
		began := time.Now()
		got := <-c.wait(30 * time.Second)
		h.must(got.err)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("%v", took)
		}
		got = <-c.wait(24 * time.Hour)
		if took := time.Since(began); took != 30*time.Second+MaxTimeout {
			t.Errorf("%v", took)
		}
		h.Close()
		h.must(h.st.Close())
	})
}

// One message to one client that waits. The budget is for the answer alone.
func BenchmarkDelivery(b *testing.B) {
	h := start(b)
	r := h.create(alice, "")
	h.join(r, bob)
	c := h.client(bob, "")
	c.sync()
	h.say(r, alice, "m")
	since, _ := parseToken(c.req.Since)
	req := c.req
	b.ReportAllocs()
	for b.Loop() {
		a, err := h.answer(&req, since, true, 0)
		if err != nil || !a.news {
			b.Fatal(err)
		}
		h.Done(a.dst)
	}
}

func BenchmarkFirst(b *testing.B) {
	h := start(b)
	for range 20 {
		r := h.create(alice, "")
		for range 100 {
			h.say(r, alice, "m")
		}
	}
	c := h.client(alice, "")
	req := c.req
	b.ReportAllocs()
	for b.Loop() {
		body, _, err := h.Now(&req)
		if err != nil {
			b.Fatal(err)
		}
		h.Done(body)
	}
}

// The same answer must come of the log and of the rooms' last positions.
func TestLongAbsence(t *testing.T) {
	h := start(t)
	quiet, r, gone := h.create(alice, ""), h.create(alice, ""), h.create(alice, "")
	for _, num := range []room.Num{quiet, r, gone} {
		h.join(num, bob)
	}
	c := h.client(bob, `{"room":{"timeline":{"limit":1}}}`)
	c.sync()
	since := c.req.Since
	h.state(r, alice, "m.room.name", "", "n")
	h.send(gone, member(bob, bob, "leave"))
	read := h.say(r, alice, "read")
	h.receipt(r, alice, 1, read)
	last := h.say(r, alice, "last")
	short := *c.from(since)
	for range shortLag {
		h.say(gone, alice, "noise")
	}
	long := c.from(since)
	if len(long.Rooms.Join) != 1 || len(long.Rooms.Leave) != 1 || long.Rooms.Join[h.id(quiet)] != nil {
		t.Fatalf("%s", c.raw)
	}
	a, b := short.Rooms.Join[h.id(r)], long.Rooms.Join[h.id(r)]
	want(t, bodies(b.State.Events), bodies(a.State.Events))
	want(t, bodies(b.Ephemeral.Events), "m.receipt")
	if b.Timeline.Events[0].ID != string(last) || !b.Timeline.Limited {
		t.Fatalf("%s", c.raw)
	}
}

// A device that is logged out while its request waits is told nothing more.
func TestPollOfADeviceThatIsGone(t *testing.T) {
	h := start(t)
	num := h.create(alice, "")
	c := h.client(alice, "")
	c.sync()
	ch := c.wait(time.Hour)
	if _, err := h.log.Commit(func(tx *stream.Tx) error {
		tx.Put(&stream.Entry{Kind: stream.Devices, User: c.req.User})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h.say(num, alice, "secret")
	if got := <-ch; !fault.Is(got.err, fault.UnknownToken) {
		t.Fatalf("%s, %v", got.body, got.err)
	}
}

// What one message costs in allocations for each client that waits.
func TestDeliveryAllocs(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.join(r, bob)
	c := h.client(bob, "")
	c.sync()
	h.say(r, alice, "m")
	since, _ := parseToken(c.req.Since)
	req := c.req
	const most = 14
	if n := testing.AllocsPerRun(100, func() {
		a, err := h.answer(&req, since, true, 0)
		if err != nil || !a.news {
			t.Fatal(err)
		}
		h.Done(a.dst)
	}); n > most {
		t.Errorf("%v allocations", n)
	}
}
