package engine

import (
	"time"

	"hearth/engine/room"
)

// maxWatching bounds those who wait at rooms they are not in: each is a goroutine
// that looks up whenever the log moves.
const maxWatching = 64

// Watch calls done when something has come to a room behind a place, when the
// time is over, or when the hub stops. It is for who is not in the room; members
// wait in package sync, at no cost. Where too many wait already it is called at
// once. done runs on a goroutine of its own.
func (e *Engine) Watch(num room.Num, after room.Key, timeout time.Duration, done func()) {
	over := e.watching.Add(1) > maxWatching
	e.running.Go(func() {
		defer e.watching.Add(-1)
		defer done()
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		for !over {
			changed := e.log.Changed()
			head, err := e.Rooms.Head(num)
			if err != nil || head.Last >= after.Pos && head.Last <= e.log.Tip() {
				return
			}
			select {
			case <-changed:
			case <-timer.C:
				return
			case <-e.stop:
				return
			}
		}
	})
}
