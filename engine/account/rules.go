package account

import (
	"hearth/engine/mxid"
	"hearth/engine/pushrule"
	"hearth/engine/stream"
)

// PushRules reads a user's push rules. What is stored is only what the user
// changed, as account data of type m.push_rules in package pushrule's form.
func (a *Accounts) PushRules(user uint32, id mxid.UserID) (*pushrule.Ruleset, error) {
	stored, _, err := a.Data(nil, user, 0, TypePushRules)
	if err != nil {
		return nil, err
	}
	return pushrule.Parse(id, stored)
}

// EditPushRules changes a user's push rules as edit asks, and tells the user's
// clients of it.
func (a *Accounts) EditPushRules(user uint32, id mxid.UserID, edit func(rules *pushrule.Ruleset) error) error {
	defer a.Hold(user)()
	rules, err := a.PushRules(user, id)
	if err != nil {
		return err
	}
	if err := edit(rules); err != nil {
		return err
	}
	stored := rules.AppendStored(nil)
	_, err = a.log.Commit(func(tx *stream.Tx) error { return a.PutData(tx, user, 0, TypePushRules, stored) })
	a.forgetContacts(user, TypePushRules)
	return err
}
