package federation

import (
	"testing"
	"time"

	"hearth/engine/event"
	"hearth/engine/room"
)

// What there is no place for is named, so that its sender hears of it; what waits
// already is not.
func TestNoPlaceToWait(t *testing.T) {
	p := &pending{rooms: map[room.Num]*queue{}, count: maxPending - 1}
	list := []lacking{{e: &event.Event{ID: "$a"}}, {e: &event.Event{ID: "$b"}}, {e: &event.Event{ID: "$a"}}}
	rows, refused := p.admit(1, "a.test", list, time.Unix(1, 0))
	if len(rows) != 1 || rows[0].id != "$a" || len(refused) != 1 || refused[0] != "$b" {
		t.Errorf("%d wait, refused %q", len(rows), refused)
	}
}
