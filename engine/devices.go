package engine

import (
	"slices"

	"hearth/engine/account"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/engine/stream"
)

// A device and its keys are records of two packages, and others have to know when
// a device that they encrypt to is gone. So devices end here.

// Sharers lists the users of this hub who are in a room with the user, and the
// user: those who are told of changes of the user's devices.
func (e *Engine) Sharers(user uint32) ([]uint32, error) {
	list, err := e.Rooms.Beside(user)
	if err == nil && !slices.Contains(list, user) {
		list = append(list, user)
	}
	return list, err
}

// dropDevices deletes those devices of a user that gone picks, with all that is
// kept of them. told is what others have to be told. The caller holds the user, and
// calls Purge when the batch is applied.
func (e *Engine) dropDevices(tx *stream.Tx, user uint32, gone func(d *account.Device) bool) (told e2ee.Changed, err error) {
	var list []account.Device
	err = e.Accounts.DropDevices(tx, user, func(d *account.Device) bool {
		if !gone(d) {
			return false
		}
		list = append(list, *d)
		return true
	})
	for i := range list {
		if err != nil {
			return told, err
		}
		var had bool
		had, err = e.E2EE.DropDevice(tx, user, list[i].ID, list[i].Num)
		if had {
			told.Devices = append(told.Devices, list[i].ID)
		}
		if err == nil {
			err = e.Accounts.DropDeviceData(tx, user, list[i].ID)
		}
	}
	return told, err
}

// changeDevices runs a change of a user's devices in a batch of its own. change
// says what others see of it.
func (e *Engine) changeDevices(user uint32, change func(tx *stream.Tx) (told e2ee.Changed, err error)) error {
	defer e.Accounts.Hold(user)()
	defer e.Accounts.Purge(user)
	sharers, err := e.Sharers(user)
	if err != nil {
		return err
	}
	_, err = e.log.Commit(func(tx *stream.Tx) error {
		told, err := change(tx)
		if err != nil || !told.Any() {
			return err
		}
		return e.tellKeys(tx, user, sharers, &told)
	})
	return err
}

// tellKeys tells the sharers, whom it keeps, that a user's keys have changed.
func (e *Engine) tellKeys(tx *stream.Tx, user uint32, sharers []uint32, c *e2ee.Changed) error {
	tx.Wake(sharers...)
	return e.E2EE.Tell(tx, user, c)
}

// DeleteDevices deletes the devices that gone picks, their tokens, keys and
// messages.
func (e *Engine) DeleteDevices(user uint32, gone func(d *account.Device) bool) error {
	return e.changeDevices(user, func(tx *stream.Tx) (e2ee.Changed, error) { return e.dropDevices(tx, user, gone) })
}

// RenameDevice gives a device another display name. Where it has keys others see
// the name beside them, so they are told. NotFound where there is no such device.
func (e *Engine) RenameDevice(user uint32, id, name string) error {
	return e.changeDevices(user, func(tx *stream.Tx) (told e2ee.Changed, err error) {
		d, err := e.Accounts.Device(user, id)
		if err != nil {
			return told, err
		}
		if err := e.Accounts.RenameDevice(tx, user, id, name); err != nil || d.Name == name {
			return told, err
		}
		has, err := e.E2EE.HasKeys(user, id)
		if has {
			told.Devices = []string{id}
		}
		return told, err
	})
}

// Logout ends a session and its device.
func (e *Engine) Logout(s *account.Session) error {
	return e.DeleteDevices(s.User, func(d *account.Device) bool { return d.Num == s.DeviceNum })
}

// LogoutAll ends all sessions of a user and their devices, and those of browsers
// in the hub's own pages.
func (e *Engine) LogoutAll(user uint32) error {
	e.Accounts.SignOutAll(user)
	return e.DeleteDevices(user, func(*account.Device) bool { return true })
}

// SetPassword gives a user a new password. Where logout is set all devices go,
// but for the one with the id keep.
func (e *Engine) SetPassword(user uint32, password string, logout bool, keep string) error {
	hashed, err := e.Accounts.HashPassword(password)
	if err != nil {
		return err
	}
	return e.changeDevices(user, func(tx *stream.Tx) (told e2ee.Changed, err error) {
		if err := e.Accounts.PutPassword(tx, user, hashed); err != nil || !logout {
			return told, err
		}
		return e.dropDevices(tx, user, func(d *account.Device) bool { return d.ID != keep })
	})
}

// PutDehydrated makes a dehydrated device in the place of the one before, from an
// upload of its id, data and keys. Spec: MSC3814.
func (e *Engine) PutDehydrated(s *account.Session, body []byte, name string) (id string, err error) {
	const op = "engine.PutDehydrated"
	d, err := e2ee.ParseDehydrated(body)
	if err != nil {
		return "", err
	}
	up, err := e2ee.ParseUpload(e2ee.Owner{User: s.User, UserID: s.UserID, Device: d.ID}, body)
	if err != nil {
		return "", err
	}
	if !up.HasKeys() {
		return "", fault.E(fault.Missing, op, "a dehydrated device needs device_keys")
	}
	return d.ID, e.changeDevices(s.User, func(tx *stream.Tx) (told e2ee.Changed, err error) {
		old, err := e.E2EE.Dehydrated(s.User)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return told, err
		}
		if err := e.freeDeviceID(s.User, d.ID, old.Num); err != nil {
			return told, err
		}
		if told, err = e.dropDevices(tx, s.User, func(d *account.Device) bool { return d.Num == old.Num }); err != nil {
			return told, err
		}
		dev, err := e.Accounts.PutDevice(tx, s.User, d.ID, name)
		if err != nil {
			return told, err
		}
		d.Num, up.Num = dev.Num, dev.Num
		e.E2EE.PutDehydrated(tx, s.User, &d)
		if !slices.Contains(told.Devices, d.ID) {
			told.Devices = append(told.Devices, d.ID)
		}
		return told, e.E2EE.Put(tx, up)
	})
}

// freeDeviceID refuses an id that another device than old has, or a
// cross-signing key.
func (e *Engine) freeDeviceID(user uint32, id string, old uint64) error {
	const op = "engine.PutDehydrated"
	have, err := e.Accounts.Device(user, id)
	switch {
	case err == nil && have.Num != old:
		return fault.E(fault.Forbidden, op, "another device has this id")
	case err != nil && !fault.Is(err, fault.NotFound):
		return err
	}
	is, err := e.E2EE.IsCrossKey(user, id)
	if err == nil && is {
		err = fault.E(fault.Forbidden, op, "a cross-signing key has this id")
	}
	return err
}

// DropDehydrated deletes a user's dehydrated device and gives its id. NotFound
// where there is none.
func (e *Engine) DropDehydrated(user uint32) (id string, err error) {
	d, err := e.E2EE.Dehydrated(user)
	if err != nil {
		return "", err
	}
	return d.ID, e.DeleteDevices(user, func(dev *account.Device) bool { return dev.Num == d.Num })
}
