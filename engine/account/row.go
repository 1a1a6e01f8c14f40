package account

import (
	"hearth/engine/fault"
	"hearth/engine/fields"
)

// rowErr is an error where a row could not be read. Rows grow; see package fields.
func rowErr(r *fields.Reader, what string) error {
	if r.Cut() {
		return fault.E(fault.Corrupt, "account", "the row of %s cannot be read", what)
	}
	return nil
}
