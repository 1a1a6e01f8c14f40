package engine

import (
	"hearth/engine/account"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
	"hearth/engine/thing"
)

// A thing is a user, a device and a credential: they are made and ended in one
// batch, so that no power cut leaves a name without a way in, or a way in
// without a name.

// NewThing is a thing with what its owner is told this once.
type NewThing struct {
	ID     mxid.UserID
	Name   string
	Secret string // empty: it keeps the secret that it knocked with
}

// AddThing makes a thing, or gives one that was revoked a new life.
//
// Errors: BadUsername; UserInUse for a person's name and a thing that is there.
func (e *Engine) AddThing(name string, allow []thing.Grant) (NewThing, error) {
	return e.addThing(name, allow, nil)
}

// ApproveThing lets in a thing that knocks. What it knocked with lets it in from
// now on, where that is long enough and all that knocked with the name had the
// same; otherwise it gets a secret.
//
// Errors: NotFound where no such thing knocks; those of AddThing.
func (e *Engine) ApproveThing(name string, allow []thing.Grant) (NewThing, error) {
	k, err := e.Things.Knocking(name)
	if err != nil {
		return NewThing{}, err
	}
	return e.addThing(name, allow, k)
}

func (e *Engine) addThing(name string, allow []thing.Grant, k *thing.Knock) (n NewThing, err error) {
	name = e.Things.Short(name)
	if err := thing.CheckName(name); err != nil {
		return n, err
	}
	defer e.Things.Hold()()
	n = NewThing{Name: name, ID: e.Accounts.ID(name)}
	one, err := e.newThing(name, n.ID)
	if err != nil {
		return n, err
	}
	for _, g := range allow {
		if err := one.Grant(g); err != nil {
			return n, err
		}
	}
	if k == nil || !one.Adopt(k) {
		if n.Secret, err = one.NewSecret(); err != nil {
			return n, err
		}
	}
	if err := e.putThing(one); err != nil {
		return n, err
	}
	return n, e.Things.Answered(name)
}

// newThing begins a thing of a name that is free, or is that of one that was
// revoked. The caller holds the things.
func (e *Engine) newThing(name string, id mxid.UserID) (*thing.Thing, error) {
	const op = "engine.AddThing"
	old, err := e.Things.Find(name)
	switch {
	case err == nil && !old.Revoked:
		return nil, fault.E(fault.UserInUse, op, "there is a thing %s already; hearth thing revoke ends it", name)
	case err == nil:
		return &thing.Thing{Name: name, User: old.User, Made: e.clock.now()}, nil
	case !fault.Is(err, fault.NotFound):
		return nil, err
	}
	if err := e.Things.Room(); err != nil {
		return nil, err
	}
	if err := e.Accounts.CheckName(name); err != nil {
		return nil, err
	}
	user, err := e.names.Number(store.Users, string(id))
	return &thing.Thing{Name: name, User: user, Made: e.clock.now()}, err
}

// putThing writes user, device and thing.
func (e *Engine) putThing(one *thing.Thing) error {
	defer e.Accounts.Hold(one.User)()
	if u, err := e.Accounts.User(one.User); err == nil && u.Deactivated {
		return fault.E(fault.UserInUse, "engine.AddThing", "the user of that name was deactivated, and its name stays taken")
	}
	_, err := e.log.Commit(func(tx *stream.Tx) error {
		d, err := e.Accounts.PutMachine(tx, one.User, thing.DeviceID, "MQTT of "+one.Name)
		if err != nil {
			return err
		}
		one.DeviceNum = d.Num
		return e.Things.Put(tx.Batch, one)
	})
	if err == nil {
		e.Things.Learn(one)
	}
	return err
}

// RevokeThing ends a thing's credentials, its device and its sessions. Its user
// stays a member of its rooms, and its name can be added again. A thing that
// only knocks is told of no more.
//
// Errors: NotFound.
func (e *Engine) RevokeThing(name string) error {
	defer e.Things.Hold()()
	old, err := e.Things.Find(name)
	if fault.Is(err, fault.NotFound) {
		if derr := e.Things.Deny(name); derr == nil {
			return nil
		}
	}
	if err != nil {
		return err
	}
	one := old.Clone()
	one.Revoked, one.Secret, one.Salt, one.Certs, one.DeviceNum = true, nil, nil, nil, 0
	err = e.changeDevices(one.User, func(tx *stream.Tx) (e2ee.Changed, error) {
		tx.Frees()
		told, err := e.dropDevices(tx, one.User, func(*account.Device) bool { return true })
		if err != nil {
			return told, err
		}
		return told, e.Things.Put(tx.Batch, one)
	})
	if err != nil {
		return err
	}
	e.Things.Learn(one)
	if e.ended != nil {
		e.ended(one.Name)
	}
	return nil
}

// CertifyThing makes a TLS client certificate for a thing: certificate and key in
// PEM, which the hub does not keep.
//
// Errors: NotFound, also for a thing that was revoked.
func (e *Engine) CertifyThing(name string) ([]byte, error) {
	defer e.Things.Hold()()
	old, err := e.Things.Find(name)
	if err != nil {
		return nil, err
	}
	if old.Revoked {
		return nil, fault.E(fault.NotFound, "engine.CertifyThing", "the thing %s was revoked", old.Name)
	}
	one := old.Clone()
	text, err := e.Things.Issue(one)
	if err != nil {
		return nil, err
	}
	return text, e.Things.Save(one)
}

// OnRevoke has f called with the name of each thing that is revoked, once its
// credentials are gone: who serves it ends its sessions. It is set before
// anybody is served.
func (e *Engine) OnRevoke(f func(name string)) { e.ended = f }
