package sync

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"hearth/engine/mxid"
	"hearth/engine/room"
)

// spent reports the processor's time for each round of a benchmark: what the clock
// says depends on what else the machine does.
func spent(b *testing.B) func() {
	now := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := now()
	return func() { b.ReportMetric(float64((now()-began).Microseconds())/float64(b.N), "cpu-µs/op") }
}

// many is a user in 500 rooms, each with something said in it.
func (h *hub) many(n int) []room.Num {
	h.t.Helper()
	rooms := make([]room.Num, n)
	for i := range rooms {
		rooms[i] = h.create(alice, "")
		h.join(rooms[i], bob)
		h.state(rooms[i], alice, "m.room.name", "", fmt.Sprint("room ", i))
		for range 5 {
			h.say(rooms[i], alice, "m")
		}
	}
	return rooms
}

// roomList is what a client with a room list asks for.
func roomList(to int) string {
	return fmt.Sprintf(`{"conn_id":"room-list","lists":{"all_rooms":{"ranges":[[0,%d]],"timeline_limit":1,"required_state":[["m.room.name",""],`+
		`["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],["m.room.canonical_alias",""],`+
		`["m.room.power_levels",""],["m.room.create",""],["m.room.tombstone",""]],"filters":{"not_room_types":["m.space"]}}},`+
		`"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},"typing":{"enabled":true}}}`, to)
}

// The first window of 20 out of 500 rooms, for who has asked before.
func BenchmarkSlideFirst(b *testing.B) {
	h := start(b)
	h.many(500)
	p := h.phone(bob)
	p.asks(roomList(19))
	b.ReportAllocs()
	defer spent(b)()
	for b.Loop() {
		p.pos = ""
		p.once(b, roomList(19))
	}
}

// The same for who asks for the first time in the hub's life.
func BenchmarkSlideCold(b *testing.B) {
	h := start(b)
	h.many(500)
	p := h.phone(bob)
	defer spent(b)()
	for b.Loop() {
		s, err := Open(h.parts)
		h.must(err)
		h.Sync = s
		p.pos = ""
		p.once(b, roomList(19))
	}
}

// A window that grows from 20 rooms to 500, by 100 at a time.
func BenchmarkSlideGrowing(b *testing.B) {
	h := start(b)
	h.many(500)
	p := h.phone(bob)
	defer spent(b)()
	for b.Loop() {
		p.pos = ""
		p.once(b, roomList(19))
		for to := 99; to < 500; to += 100 {
			p.once(b, roomList(to))
		}
	}
}

// One new message in 500 rooms that the client has in its window.
func BenchmarkSlideNews(b *testing.B) {
	h := start(b)
	rooms := h.many(500)
	p := h.phone(bob)
	p.asks(roomList(499))
	h.say(rooms[100], alice, "news")
	req := p.request(roomList(499))
	b.ReportAllocs()
	defer spent(b)()
	for b.Loop() {
		body, _, err := h.Slide(req) // the answer before is taken for lost
		if err != nil {
			b.Fatal(err)
		}
		h.Done(body)
	}
}

// The same by /sync.
func BenchmarkNews(b *testing.B) {
	h := start(b)
	rooms := h.many(500)
	c := h.client(bob, "")
	c.sync()
	h.say(rooms[100], alice, "news")
	req := c.req
	b.ReportAllocs()
	defer spent(b)()
	for b.Loop() {
		body, _, err := h.Now(&req)
		if err != nil {
			b.Fatal(err)
		}
		h.Done(body)
	}
}

func (p *phone) once(b *testing.B, body string) {
	out, _, err := p.h.Slide(p.request(body))
	if err != nil {
		b.Fatal(err)
	}
	at := len(out) - 2
	for out[at-1] != '"' {
		at--
	}
	p.pos = string(out[at : len(out)-2])
	p.h.Done(out)
}

// What a connection keeps: 500 rooms in a list are a few kB, and a request that
// waits holds neither a goroutine nor a buffer.
func TestSlidingIsCheap(t *testing.T) {
	h := start(t)
	const n, wide = 150, 60
	h.many(wide)
	phones := make([]*phone, n)
	for i := range 100 { // what is shared is in memory before
		p := h.phone(bob)
		p.req.Device += 5000 + uint64(i)
		p.asks(roomList(wide - 1))
	}
	measure := func(f func(i int)) int64 {
		before := heap()
		for i := range n {
			f(i)
		}
		return (heap() - before) / n
	}
	if each := measure(func(i int) {
		phones[i] = h.phone(bob)
		phones[i].req.Device += 1000 + uint64(i)
		phones[i].asks(roomList(wide - 1))
		phones[i].asks(roomList(wide - 1))
		phones[i].raw, phones[i].slid = nil, slid{}
	}); each > wide*24+6000 {
		t.Errorf("%d bytes for a connection with %d rooms", each, wide)
	} else {
		t.Logf("%d bytes for a connection with %d rooms", each, wide)
	}
	goroutines := runtime.NumGoroutine()
	if each := measure(func(i int) {
		req := phones[i].request(roomList(wide - 1))
		req.Body.Timeout = time.Hour.Milliseconds()
		if _, ready, err := h.Slide(req); ready || err != nil {
			t.Fatal(ready, err)
		}
		h.WaitSlide(req, func([]byte, error) {})
	}); each > 4096 {
		t.Errorf("%d bytes for each that waits, budget is 4096", each)
	} else {
		t.Logf("%d bytes for each that waits", each)
	}
	if g := runtime.NumGoroutine() - goroutines; g > 5 {
		t.Errorf("%d goroutines for %d that wait", g, n)
	}
	h.Close()
}

// What one message costs in allocations for each client that waits, in a window
// of 100 rooms: it must not grow with the window.
func TestSlideAllocs(t *testing.T) {
	h := start(t)
	rooms := h.many(100)
	p := h.phone(bob)
	p.asks(roomList(99))
	h.say(rooms[50], alice, "news")
	req := p.request(roomList(99))
	const most = 48
	n := testing.AllocsPerRun(100, func() {
		body, _, err := h.Slide(req)
		if err != nil {
			t.Fatal(err)
		}
		h.Done(body)
	})
	if n > most {
		t.Errorf("%v allocations, budget is %d", n, most)
	}
	t.Log(n)
}

// Connections are few for each device and bounded for all: the one that was used
// least recently goes.
func TestConnectionsAreBounded(t *testing.T) {
	h := start(t)
	h.create(alice, "")
	var phones []*phone
	body := func(i int) string { return fmt.Sprintf(`{"conn_id":"c%d","lists":{"a":{"timeline_limit":1}}}`, i) }
	for i := range maxConns + 1 {
		p := h.phone(alice)
		p.asks(body(i))
		phones = append(phones, p)
		phones[0].asks(body(0))
	}
	phones[0].asks(body(0))
	if _, _, err := h.Slide(phones[1].request(body(1))); err == nil {
		t.Error("the least recently used is still known")
	}
	list := `{"conn_id":"x","lists":{"a":{"required_state":[["x",""]`
	for i := range 150 {
		list += fmt.Sprintf(`,["%0200d","%d"]`, i, i)
	}
	list += `]}}}`
	for i := range 200 {
		p := h.phone(alice)
		p.req.Device += 10 + uint64(i)
		p.asks(list)
		p.asks(list)
	}
	h.conns.mu.Lock()
	defer h.conns.mu.Unlock()
	sum := 0
	for _, n := range h.conns.bytes {
		sum += n
	}
	if h.conns.sum > connsBytes || sum != h.conns.sum || len(h.conns.of) != len(h.conns.used) || len(h.conns.of) > 100 {
		t.Errorf("%d connections, %d bytes, %d counted, %d used", len(h.conns.of), h.conns.sum, sum, len(h.conns.used))
	}
}

// Rosters are forgotten where they become many, and made again.
func TestRostersAreBounded(t *testing.T) {
	h := start(t)
	num := h.create(alice, "")
	for i := range 5 {
		r, err := h.roster(uint32(1000+i), mxid.UserID(fmt.Sprintf("@u%d:hub", i)))
		h.must(err)
		r.places = make([]place, maxPlaces/3)
		r.mu.Unlock()
	}
	p := h.phone(alice)
	p.asks(roomList(9))
	if len(h.rosters.of) > 4 || len(h.rosters.of) != len(h.rosters.used) || h.rosters.of[1000] != nil {
		t.Errorf("%d rosters, %d used", len(h.rosters.of), len(h.rosters.used))
	}
	p.room(num)
}
