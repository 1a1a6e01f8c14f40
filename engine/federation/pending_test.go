package federation

import (
	"testing"

	"hearth/engine/mxid"
	"hearth/engine/room"
)

// What was tried least comes next, what has got what it lacked before all others,
// and what a server has sent waits with what could not be had of that server.
func TestOrderOfWaiting(t *testing.T) {
	p := &pending{rooms: map[room.Num]*queue{}}
	for num := uint64(1); num <= 4; num++ {
		origin := mxid.Server("evil.test")
		if num == 4 {
			origin = "good.test"
		}
		p.add(&row{room: 1, num: num, origin: origin, id: mxid.EventID(rune('a' + num))}, lacking{lacks: mxid.EventID(rune('A' + num))})
	}
	q := p.rooms[1]
	if n, _ := q.next(0); n != 1 {
		t.Errorf("%d is first", n)
	}
	q.putOff(&row{num: 1, origin: "evil.test", tries: 1}, 100)
	if n, _ := q.next(0); n != 4 {
		t.Errorf("%d is next, and the server of the first does not answer", n)
	}
	q.putOff(&row{num: 4, origin: "good.test", tries: 1}, 50)
	if n, soonest := q.next(0); n != 0 || soonest != 50 {
		t.Errorf("%d is next, at %d", n, soonest)
	}
	if n, _ := q.next(100); n != 2 {
		t.Errorf("%d is next later", n)
	}
	q.rows[3].next, q.rows[3].due = 0, true
	q.putOff(&row{num: 2, origin: "evil.test", tries: 1}, 200)
	if n, _ := q.next(0); n != 3 {
		t.Errorf("%d is next, and not what has what it lacked", n)
	}
}
