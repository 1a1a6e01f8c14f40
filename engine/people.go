package engine

import (
	"hearth/engine/mxid"
)

// SetProfile sets a field of a user's profile to a JSON value, or deletes it
// where the value is nil.
func (e *Engine) SetProfile(user uint32, id mxid.UserID, field string, value []byte) error {
	return e.Accounts.SetProfile(user, field, value)
}

// Deactivate ends an account for good.
func (e *Engine) Deactivate(user uint32, id mxid.UserID, erase bool) error {
	return e.Accounts.End(user, erase)
}
