package sync

import (
	"fmt"
	"sync"
	"testing"
)

// Many connections of many devices at once, each with requests that wait and are
// given up for others: every one is told of every message, and in order.
func TestManySliding(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.create(alice, "")
	const n, messages = 12, 30
	body := `{"lists":{"a":{"ranges":[[0,0]],"timeline_limit":100}}}`
	var all sync.WaitGroup
	for i := range n {
		p := h.phone(alice)
		p.req.Device = uint64(1000 + i/2)
		p.req.UserID = alice
		ask := fmt.Sprintf(`{"conn_id":"c%d",`, i) + body[1:]
		p.asks(ask)
		all.Go(func() {
			var seen []string
			for len(seen) < messages {
				ch := p.waits(ask)
				if len(seen)%3 == 0 {
					ch = p.waits(ask) // the one before is given up
				}
				got := <-ch
				if got.err != nil {
					t.Error(got.err)
					return
				}
				p.take(got.body)
				if room := p.slid.Rooms[h.id(r)]; room != nil {
					for _, e := range room.Timeline {
						if e.Type == "m.room.message" { // the room is told whole as it comes into the window
							seen = append(seen, bodies([]ev{e}))
						}
					}
				}
			}
			for i, s := range seen {
				if s != fmt.Sprint("m", i) {
					t.Errorf("%v", seen)
					return
				}
			}
		})
	}
	for i := range messages {
		h.say(r, alice, fmt.Sprint("m", i))
	}
	all.Wait()
	if h.Waiting() > n {
		t.Error(h.Waiting())
	}
	h.Close()
	if h.Waiting() != 0 || h.log.Parked() != 0 {
		t.Error("something still waits")
	}
}
