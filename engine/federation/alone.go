package federation

import (
	"sync"

	"hearth/engine/room"
	"hearth/engine/stream"
)

// alone are rooms in which no other server is: most rooms of a hub, whose events
// are then no business of the sender's. A room is in it until something in it
// changes.
type alone struct {
	mu    sync.Mutex
	rooms map[room.Num]struct{}
	moves uint64 // how often a room has left it, or would have
}

// maxAlone bounds the rooms that are remembered; the others are looked up.
const maxAlone = 4096

func (a *alone) has(num room.Num) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.rooms[num]
	return ok
}

// stamp is to be taken before it is looked who is in a room, for add.
func (a *alone) stamp() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.moves
}

// add takes a room in, unless anything has changed anywhere since at.
func (a *alone) add(num room.Num, at uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moves != at {
		return
	}
	if a.rooms == nil || len(a.rooms) >= maxAlone {
		a.rooms = map[room.Num]struct{}{}
	}
	a.rooms[num] = struct{}{}
}

func (a *alone) drop(num room.Num) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moves++
	delete(a.rooms, num)
}

// mine says whether an entry may be for another server. It is asked for each in
// order, when it is on disk.
func (s *sender) mine(e *stream.Entry) bool {
	switch e.Kind {
	case stream.RoomEvent, stream.Standing:
		if len(e.Diff) > 0 || e.Flags&stream.FlagArrival != 0 || e.Kind == stream.Standing {
			s.alone.drop(room.Num(e.Room))
			return true
		}
		fallthrough // others' events too: Owes goes by how far a shared room was read
	case stream.Receipt:
		return !s.alone.has(room.Num(e.Room))
	}
	return concerns(e)
}
