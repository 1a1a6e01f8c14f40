package engine

import (
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
		select {
		case <-e.stop:
			return
		case <-e.purges:
		}
	}
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
// says so. Whoever enters it meanwhile is taken out again.
func (e *Engine) endEmptied(num room.Num) (ended bool, err error) {
	val, ok, err := e.st.Meta(note(noteClose, uint32(num)))
	if err != nil || !ok || len(val) == 0 {
		return false, err
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
