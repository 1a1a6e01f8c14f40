package engine

import "time"

// clock is the time events are signed with. A hub has no battery for its clock
// and may start in the past. Time never runs backwards across a restart: it
// begins no earlier than the newest event that was made here and, until the
// system's own clock is past that, moves on with the uptime. Events of other
// servers do not count: they have whatever time their maker likes.
type clock struct {
	system func() time.Time
	floor  time.Time // the time of our newest event when the store was opened
	began  time.Time // when that was, with its monotonic reading
}

func (c *clock) now() time.Time {
	t := c.system()
	if floor := c.floor.Add(time.Since(c.began)); t.Before(floor) {
		return floor
	}
	return t
}
