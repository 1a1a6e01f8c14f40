package clientapi

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/pushrule"
	"hearth/httpd/wire"
)

func (a *API) rules(r *wire.Req) (*pushrule.Ruleset, error) {
	return a.accounts.PushRules(r.Session.User, r.Session.UserID)
}

// rule reads which rule the path names.
func rule(r *wire.Req) (kind pushrule.Kind, id string, err error) {
	if err := scope(r); err != nil {
		return 0, "", err
	}
	kind, ok := pushrule.ParseKind(r.Path("kind"))
	if !ok {
		// As for a rule that is not there: clients ask for the rules of proposals that the hub does not have.
		return 0, "", fault.E(fault.NotFound, "clientapi.pushRule", "there is no such kind of push rule")
	}
	return kind, r.Path("ruleId"), nil
}

// scope holds the path to the one scope there is. Older versions of the
// specification spelt it as a parameter.
func scope(r *wire.Req) error {
	if r.Path("scope") != "global" {
		return fault.E(fault.NotFound, "clientapi.pushRule", "push rules have the scope global only")
	}
	return nil
}

// Spec: client-server, GET /pushrules/.
func (a *API) pushRules(r *wire.Req) error {
	rules, err := a.rules(r)
	if err != nil {
		return err
	}
	return r.OK(rules.AppendClient(r.Out()))
}

// Spec: client-server, GET /pushrules/global/.
func (a *API) pushRulesIn(r *wire.Req) error {
	if err := scope(r); err != nil {
		return err
	}
	rules, err := a.rules(r)
	if err != nil {
		return err
	}
	return r.OK(rules.AppendGlobal(r.Out()))
}

// Spec: client-server, GET /pushrules/global/{kind}/{ruleId}.
func (a *API) pushRule(r *wire.Req) error {
	kind, id, err := rule(r)
	if err != nil {
		return err
	}
	rules, err := a.rules(r)
	if err != nil {
		return err
	}
	dst, err := rules.AppendRule(r.Out(), kind, id)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// editRule changes the user's rules, and answers {}.
func (a *API) editRule(r *wire.Req, edit func(rules *pushrule.Ruleset, kind pushrule.Kind, id string) error) error {
	kind, id, err := rule(r)
	if err != nil {
		return err
	}
	err = a.accounts.EditPushRules(r.Session.User, r.Session.UserID, func(rules *pushrule.Ruleset) error {
		return edit(rules, kind, id)
	})
	if err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, PUT /pushrules/global/{kind}/{ruleId}.
func (a *API) setPushRule(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if _, ok := pushrule.ParseKind(r.Path("kind")); !ok {
		return fault.E(fault.Invalid, "clientapi.setPushRule", "there is no such kind of push rule")
	}
	at := pushrule.Place{Before: r.QueryOr("before", ""), After: r.QueryOr("after", "")}
	return a.editRule(r, func(rules *pushrule.Ruleset, kind pushrule.Kind, id string) error {
		return rules.Put(kind, id, body, at)
	})
}

// Spec: client-server, DELETE /pushrules/global/{kind}/{ruleId}.
func (a *API) deletePushRule(r *wire.Req) error {
	return a.editRule(r, (*pushrule.Ruleset).Delete)
}

// Spec: client-server, GET /pushrules/global/{kind}/{ruleId}/enabled.
func (a *API) ruleEnabled(r *wire.Req) error {
	kind, id, err := rule(r)
	if err != nil {
		return err
	}
	rules, err := a.rules(r)
	if err != nil {
		return err
	}
	on, err := rules.Enabled(kind, id)
	if err != nil {
		return err
	}
	if on {
		return r.OK(append(r.Out(), `{"enabled":true}`...))
	}
	return r.OK(append(r.Out(), `{"enabled":false}`...))
}

// Spec: client-server, PUT /pushrules/global/{kind}/{ruleId}/enabled.
func (a *API) setRuleEnabled(r *wire.Req) error {
	var q struct {
		Enabled *bool `json:"enabled"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Enabled == nil {
		return fault.E(fault.Missing, "clientapi.setRuleEnabled", "enabled or not?")
	}
	return a.editRule(r, func(rules *pushrule.Ruleset, kind pushrule.Kind, id string) error {
		return rules.SetEnabled(kind, id, *q.Enabled)
	})
}

// Spec: client-server, GET /pushrules/global/{kind}/{ruleId}/actions.
func (a *API) ruleActions(r *wire.Req) error {
	kind, id, err := rule(r)
	if err != nil {
		return err
	}
	rules, err := a.rules(r)
	if err != nil {
		return err
	}
	dst, err := rules.AppendActions(append(r.Out(), `{"actions":`...), kind, id)
	if err != nil {
		return err
	}
	return r.OK(append(dst, '}'))
}

// Spec: client-server, PUT /pushrules/global/{kind}/{ruleId}/actions.
func (a *API) setRuleActions(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	actions, ok := cjson.Lookup(body, "actions")
	if !ok {
		return fault.E(fault.Missing, "clientapi.setRuleActions", "which actions?")
	}
	return a.editRule(r, func(rules *pushrule.Ruleset, kind pushrule.Kind, id string) error {
		return rules.SetActions(kind, id, actions)
	})
}
