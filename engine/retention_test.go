package engine

import (
	"fmt"
	"testing"
	"time"

	"hearth/engine/room"
)

const day = 24 * time.Hour

func TestWhatRoomsWant(t *testing.T) {
	for _, c := range []struct {
		content string
		owner   time.Duration
		want    time.Duration
	}{
		{`{}`, 0, 0},
		{`{}`, 90 * day, 90 * day},
		{`{"max_lifetime":864000000}`, 0, 10 * day},
		{`{"max_lifetime":864000000}`, 90 * day, 10 * day},
		{`{"max_lifetime":864000000}`, 5 * day, 5 * day},
		{`{"max_lifetime":864000000,"min_lifetime":86400000}`, 90 * day, 10 * day},
		{`{"max_lifetime":86400000,"min_lifetime":864000000}`, 90 * day, 90 * day}, // it contradicts itself
		{`{"min_lifetime":864000000}`, 5 * day, 5 * day},
		{`{"min_lifetime":864000000}`, 0, 0},
		{`{"max_lifetime":"864000000"}`, 90 * day, 90 * day},
		{`{"max_lifetime":-1}`, 90 * day, 90 * day},
		{`{"max_lifetime":0}`, 0, 0},
		{`{"max_lifetime":9007199254740991}`, 0, 36_500 * day},
		{`{"max_lifetime":9007199254740991}`, 90 * day, 90 * day},
		{`{"max_lifetime":null,"min_lifetime":null}`, 90 * day, 90 * day},
	} {
		if got := roomKeeps([]byte(c.content), c.owner); got != c.want {
			t.Errorf("%s, and the owner %v: %v, not %v", c.content, c.owner, got, c.want)
		}
	}
}

func TestWhenRetentionIsDue(t *testing.T) {
	night := time.Date(2026, 3, 1, 3, 5, 0, 0, time.UTC)
	for _, c := range []struct {
		now, last time.Time
		want      bool
	}{
		{night, night.Add(-day), true},
		{night, night.Add(-2 * time.Hour), false},
		{night.Add(time.Hour), night.Add(-day), false},
		{night.Add(10 * time.Hour), night.Add(-10 * time.Hour), false},
		{night.Add(13 * time.Hour), night.Add(-day), true}, // it is switched off at night
		{night, night.Add(time.Hour), true},                // the clock was wrong then
	} {
		if got := retentionDue(c.now, c.last); got != c.want {
			t.Errorf("at %v, after %v: %v", c.now, c.last, got)
		}
	}
}

// A run removes what is too old by the owner's word and by the rooms', each at its own.
func TestExpire(t *testing.T) {
	h := open(t)
	h.halt()
	now := h.clock.now()
	began := now.Add(-101 * day)
	fill := func(retention string) room.Num {
		h.clock.system = func() time.Time { return began }
		num := h.create(NewRoom{})
		h.clock.system = func() time.Time { return now }
		for age := 100; age >= 0; age -= 10 {
			_, err := h.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: a, Time: now.Add(-time.Duration(age)*day - time.Hour).UnixMilli(),
				Content: fmt.Appendf(nil, `{"body":"age %d"}`, age)})
			h.ok(err)
		}
		if retention != "" {
			key := ""
			_, err := h.Rooms.Send(num, &room.Draft{Type: typeRetention, StateKey: &key, Sender: a, Content: []byte(retention)})
			h.ok(err)
		}
		return num
	}
	run := func(want int) {
		t.Helper()
		rooms, err := h.Expire()
		h.ok(err)
		if rooms != want {
			t.Fatalf("something is too old in %d rooms, not %d", rooms, want)
		}
		h.finishTrims()
		h.verify()
	}
	shows := func(num room.Num, oldest int) {
		t.Helper()
		page := h.page(num, a)
		for age := 0; age <= 100; age += 10 {
			if contains(page, fmt.Sprintf(`"age %d"`, age)) != (age <= oldest) {
				t.Errorf("room %d, age %d: %s", num, age, page)
			}
		}
	}
	plain, month, hour := fill(""), fill(fmt.Sprintf(`{"max_lifetime":%d}`, (35*day).Milliseconds())), fill(`{"max_lifetime":3600000}`)
	run(2) // by their own wish
	shows(plain, 100)
	shows(month, 30)
	shows(hour, 0) // a day is the least
	h.keep = 55 * day
	run(1)
	shows(plain, 50)
	shows(month, 30)
	run(0)
	// The first look only begins to count; the next one a day later finds what to do.
	h.keep = 15 * day
	h.ok(h.retentionTurn(now))
	shows(plain, 50)
	h.ok(h.retentionTurn(now.Add(2 * day)))
	h.finishTrims()
	shows(plain, 10)
}

// finishTrims does what the job would.
func (h *hub) finishTrims() {
	h.t.Helper()
	for _, num := range h.Rooms.Trimming() {
		for done := false; !done; {
			var err error
			done, err = h.Rooms.TrimSome(num, h.Search.Forget)
			h.ok(err)
		}
	}
}

// A clock that has leapt ahead by years removes nothing, unless it goes on from there.
func TestClockThatLeaps(t *testing.T) {
	h := open(t)
	h.halt()
	h.keep = 30 * day
	num := h.create(NewRoom{})
	h.write(num, a, `{"body":"new"}`)
	now := h.clock.now()
	gone := func(at time.Time, want bool) {
		t.Helper()
		h.ok(h.retentionTurn(at))
		h.finishTrims()
		if page := h.page(num, a); contains(page, "new") == want {
			t.Fatalf("at %v: %s", at, page)
		}
	}
	gone(now, false)
	gone(now.Add(day), false)
	wrong := now.Add(20 * 365 * day)
	gone(wrong, false)
	gone(wrong.Add(10*time.Minute), false)
	gone(wrong.Add(200*day), false) // started anew, and wrong in another way
	gone(now.Add(2*day), false)     // it is set right
	gone(now.Add(3*day), false)
	gone(now.Add(-9000*day), false) // started without the time
	gone(now.Add(4*day), false)
	// So long the hub was off.
	late := now.Add(60 * day)
	gone(late, false)
	gone(late.Add(23*time.Hour), false)
	gone(late.Add(25*time.Hour), true)
	h.verify()
}

// What claims to be old, and has come since, has nothing removed, wherever it stands.
func TestWhatClaimsToBeOld(t *testing.T) {
	h := open(t)
	h.halt()
	h.keep = 30 * day
	now := h.clock.now()
	num := h.create(NewRoom{})
	pass := func(from, to int) { // days
		for n := from; n <= to; n++ {
			at := now.Add(time.Duration(n) * day)
			h.clock.system = func() time.Time { return at }
			h.ok(h.retentionTurn(at))
		}
	}
	pass(0, 10)
	for i := range 200 {
		at := now.Add(10 * day)
		if i%4 != 0 {
			at = time.UnixMilli(1) // most of them
		}
		_, err := h.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: a, Time: at.UnixMilli(), Content: []byte(`{"body":"x"}`)})
		h.ok(err)
	}
	pass(11, 32)
	s, _ := h.Rooms.TrimOf(num)
	n := 0
	h.ok(h.Rooms.Timeline(num, room.Key{}, room.After(mustHead(h, num).Last), false, func(room.Key, room.EventNum) (bool, error) {
		n++
		return true, nil
	}))
	if n != 200 || s.Seq != 1 {
		t.Fatal(n, s) // the room's own beginning is as old as it says
	}
	h.finishTrims()
	pass(33, 42)
	if page := h.page(num, a); contains(page, `"x"`) {
		t.Fatal(page)
	}
}
