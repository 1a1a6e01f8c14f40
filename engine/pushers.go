package engine

import (
	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/stream"
)

// SetPusher has a user told of notifications by a pusher, in the place of the one
// of the same app_id and pushkey. Where alone is set, other users lose theirs.
// Spec: client-server, POST /pushers/set.
func (e *Engine) SetPusher(s *account.Session, p account.Pusher, alone bool) error {
	if err := account.CheckPusher(&p); err != nil {
		return err
	}
	if p.Kind == account.PushEmail {
		if err := e.mayMail(s.User, p.Key); err != nil {
			return err
		}
	}
	p.Device = s.DeviceNum
	_, err := e.log.Commit(func(tx *stream.Tx) error { return e.Accounts.PutPusher(tx, s.User, p, alone) })
	if err != nil {
		return err
	}
	return e.Push.Added(s.User, p.ID())
}

// mayMail refuses addresses that the user has not proven to be theirs: a hub
// must not be a way to fill somebody else's mailbox.
func (e *Engine) mayMail(user uint32, address string) error {
	const op = "engine.SetPusher"
	if !e.mails {
		return fault.E(fault.Invalid, op, "this hub sends no mail: its owner has set no mail server")
	}
	address, err := account.CanonicalEmail(address)
	if err != nil {
		return err
	}
	owner, err := e.Accounts.FindThreepid("email", address)
	if err == nil && owner != user {
		err = fault.E(fault.Invalid, op, "the pushkey of a mail pusher must be an address of yours that was proven")
	}
	return err
}

// DropPusher deletes a pusher, if the user has it.
func (e *Engine) DropPusher(user uint32, id account.PusherID) error {
	_, err := e.log.Commit(func(tx *stream.Tx) error {
		tx.Frees()
		return e.Accounts.DropPusher(tx, user, id)
	})
	return err
}
