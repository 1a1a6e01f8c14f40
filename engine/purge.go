package engine

import (
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// purgeTries is how often a room is emptied anew that somebody has entered
// before it could be ended.
const purgeTries = 3

// purge ends a room that was emptied, with all that other records keep of it,
// and has its events removed in the background. Media stay: other rooms may
// show them, and they have owners and quotas of their own.
func (e *Engine) purge(num room.Num) error {
	e.aliases.Lock()
	defer e.aliases.Unlock()
	aliases, err := e.Directory.Aliases(uint32(num))
	if err != nil {
		return err
	}
	err = e.Rooms.Purge(num, func(tx *stream.Tx, members []room.Member) error {
		for _, alias := range aliases {
			e.Directory.Drop(tx.Batch, alias, uint32(num))
		}
		e.Directory.Publish(tx.Batch, uint32(num), false)
		e.Ephemeral.DropRoom(tx.Batch, uint32(num))
		for _, m := range members {
			if !m.Local {
				continue
			}
			if err := e.Accounts.DropRoomData(tx, m.User, uint32(num)); err != nil {
				return err
			}
			e.unread.Drop(tx.Batch, m.User, uint32(num))
		}
		tx.DropMeta(note(noteClose, uint32(num)))
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case e.purges <- struct{}{}:
	default:
	}
	return nil
}

// runPurges removes what is left of purged rooms, those included that the hub
// had not come to when it stopped, until the engine ends.
func (e *Engine) runPurges(fail func(error)) {
	for {
		for _, num := range e.Rooms.Purging() {
			if err := e.finishPurge(num); err != nil {
				fail(err)
				break
			}
		}
		var again <-chan time.Time
		if list := e.held.take(); len(list) > 0 {
			again = time.After(holdLook)
			for _, num := range list {
				if _, err := e.endEmptied(num); err != nil && !fault.Is(err, fault.NotFound) {
					fail(err)
				}
			}
		}
		select {
		case <-e.stop:
			return
		case <-again:
		case <-e.purges:
		}
	}
}

const (
	// holdMost is how long a room that is being closed is kept for servers that have
	// not heard yet that its people here have left.
	holdMost = 24 * time.Hour
	// holdLook is how often it is looked whether they have.
	holdLook = 3 * time.Second
)

// held are the rooms that are kept so.
type held struct {
	mu    sync.Mutex
	rooms []room.Num
}

func (h *held) add(num room.Num) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rooms = append(h.rooms, num)
}

// take gives the rooms and forgets them.
func (h *held) take() []room.Num {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.rooms
	h.rooms = nil
	return list
}

// owes says whether an emptied room is to be kept a while: what its people's
// leaving is told by goes with it.
func (e *Engine) owes(num room.Num) (bool, error) {
	if e.Federation == nil {
		return true, nil // the engine is being opened: it is looked at soon after
	}
	owes, err := e.Federation.Owes(num)
	if err != nil || !owes {
		return false, err
	}
	h, err := e.Rooms.Head(num)
	if err != nil {
		return false, err
	}
	last := e.clock.now().UnixMilli() // where there is nothing, nothing is old
	err = e.Rooms.Timeline(num, room.Key{}, room.After(h.Last), true, func(_ room.Key, ev room.EventNum) (bool, error) {
		if one, err := e.Rooms.Event(ev); err == nil {
			last = one.Time
		}
		return false, nil
	})
	return e.clock.now().UnixMilli()-last < holdMost.Milliseconds(), err
}

// finishPurge removes what is left of one room.
func (e *Engine) finishPurge(num room.Num) error {
	if e.st.ReadOnly() {
		return nil
	}
	if err := e.Search.DropRoom(num); err != nil {
		return err
	}
	for {
		select {
		case <-e.stop:
			return nil // taken up at the next start
		default:
		}
		done, err := e.Rooms.PurgeSome(num, func(b *store.Batch, gone []room.EventNum) { e.Search.Drop(b, gone) })
		if done || err != nil {
			return err
		}
	}
}

// endEmptied ends a room that is being closed, if it was asked for: the note
// says so. Whoever enters it meanwhile is taken out again. A room of which other
// servers are still to be told is ended later.
func (e *Engine) endEmptied(num room.Num) (ended bool, err error) {
	val, ok, err := e.st.Meta(note(noteClose, uint32(num)))
	if err != nil || !ok || len(val) == 0 {
		return false, err
	}
	if owes, err := e.owes(num); err != nil || owes {
		if owes {
			e.held.add(num)
			select {
			case e.purges <- struct{}{}:
			default:
			}
		}
		return owes, err
	}
	for range purgeTries {
		if err = e.purge(num); !fault.Is(err, fault.Unknown) {
			break
		}
		if err := e.takeOut(num); err != nil {
			return false, err
		}
	}
	return err == nil, err
}
