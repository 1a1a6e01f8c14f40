package engine

import (
	"fmt"

	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/room"
)

// Verify reads the whole store and tells problem whatever its tables say
// against each other, one line each. Nobody may be writing meanwhile: it is for
// the time between opening an engine and serving from it, and for a folder that
// no hub has open. The error is one of reading; with it the walk has ended early.
func (e *Engine) Verify(problem func(line string)) error {
	bad := func(format string, args ...any) { problem(fmt.Sprintf(format, args...)) }
	for _, step := range [...]func() error{
		func() error { return e.names.Verify(bad) },
		func() error { return e.log.Verify(bad) },
		func() error { return e.Rooms.Verify(bad) },
		func() error { return e.Accounts.Verify(bad) },
		func() error { return e.Directory.Verify(e.hasRoom, bad) },
		func() error { return e.Ephemeral.Verify(e.log.Tip(), bad) },
		func() error { return e.E2EE.Verify(bad) },
		func() error { return e.verifyThings(bad) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// verifyThings reads what is kept for things; each has to be a user of this hub.
func (e *Engine) verifyThings(bad func(format string, args ...any)) error {
	for _, one := range e.Things.List() {
		if id := e.Accounts.ID(one.Name); one.User == 0 {
			bad("thing %s has no user", one.Name)
		} else if num, err := e.Accounts.Find(id); err != nil {
			return err
		} else if num != one.User {
			bad("thing %s is user %d, and %s is %d", one.Name, one.User, id, num)
		}
	}
	if err := e.Shadows.Verify(bad); err != nil {
		return err
	}
	if err := e.Telemetry.Verify(bad); err != nil {
		return err
	}
	if e.broker.Load() != nil {
		return nil // its rows move while it runs
	}
	return mqtt.Verify(e.st, bad)
}

// hasRoom says whether there is a room of that number.
func (e *Engine) hasRoom(num uint32) (bool, error) {
	_, err := e.Rooms.Head(room.Num(num))
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}
