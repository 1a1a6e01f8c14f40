package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/engine/fault"
	"hearth/engine/room"
)

// Who may not send any more when it is time does not send by what was left behind.
func TestDelayedOfWhoMayNotSend(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Version: "11"})
	in, err := h.Rooms.RoomID(num)
	h.ok(err)
	a := h.nums["@a:hub"]
	later := func(text string) string {
		t.Helper()
		id, err := h.Later(a, in, &room.Draft{Type: "m.room.message", Sender: "@a:hub", Content: []byte(`{"msgtype":"m.text","body":"` + text + `"}`)}, time.Hour)
		h.ok(err)
		return id
	}
	for name, set := range map[string]func(uint32, bool) error{"suspended": h.Accounts.SetSuspended, "locked": h.Accounts.SetLocked} {
		id := later(name)
		h.ok(set(a, true))
		h.is(h.SendDelayed(id), fault.Forbidden)
		h.ok(set(a, false))
		h.ok(h.SendDelayed(id))
	}
	if got := h.lines(num); strings.Count(got, "\n") != 2 {
		t.Error(got)
	}
}

// What waits is in memory, so that its bytes are bounded as its number is.
func TestDelayedBytes(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Version: "11"})
	in, err := h.Rooms.RoomID(num)
	h.ok(err)
	n := 0
	for ; n < 100; n++ {
		_, err := h.Later(h.nums["@a:hub"], in, &room.Draft{Type: "m.x", Sender: "@a:hub", Content: fmt.Appendf(nil, `{"x":"%060000d"}`, n)}, time.Hour)
		if fault.Is(err, fault.Limit) {
			break
		}
		h.ok(err)
	}
	if n != 8 {
		t.Errorf("%d events of 60 kB wait", n)
	}
}
