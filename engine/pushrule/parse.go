package pushrule

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// Bounds on what a user may store. Every event of every room is run past the
// rules of every reader, so rules are work for the hub as much as room on disk.
const (
	maxRules   = 1000      // rules of a user's own
	maxConds   = 64        // conditions of one rule
	maxActions = 32        // actions of one rule
	maxID      = 512       // bytes of a rule id
	maxStored  = 128 << 10 // bytes of all that AppendStored writes
)

// parseRule reads a rule's parameters: actions, and by kind conditions or a
// pattern. It is as strict about stored rules as about new ones, since both
// passed it once.
func parseRule(kind Kind, id string, body []byte) (rule, error) {
	const op = "pushrule.Put"
	r := rule{kind: kind, id: id}
	acts, ok := cjson.Lookup(body, "actions")
	if !ok {
		return r, fault.E(fault.Missing, op, "a rule needs actions")
	}
	var err error
	if r.result, err = parseActions(acts); err != nil {
		return r, err
	}
	if r.actions, err = canonical(acts); err != nil {
		return r, err
	}
	switch kind {
	case Content:
		r.pattern, ok = stringOf(body, "pattern")
		if !ok {
			return r, fault.E(fault.Missing, op, "a content rule needs a pattern")
		}
		if len(r.pattern) > maxPattern {
			return r, fault.E(fault.TooLarge, op, "a pattern may have %d bytes", maxPattern)
		}
		r.glob = newGlob(r.pattern)
	case Override, Underride:
		conds, ok := cjson.Lookup(body, "conditions")
		if !ok {
			return r, nil
		}
		if r.conds, err = parseConds(conds); err != nil {
			return r, err
		}
		r.text, err = canonical(conds)
	}
	return r, err
}

// canonical copies JSON in its canonical form. Scalars in it can then be
// compared with those of an event byte by byte.
func canonical(src []byte) ([]byte, error) {
	out, err := cjson.Canonical(nil, src, false)
	if err != nil {
		return nil, fault.E(fault.BadJSON, "pushrule.Put", "%w", err)
	}
	return out, nil
}

func parseConds(list []byte) ([]cond, error) {
	const op = "pushrule.Put"
	if cjson.KindOf(list) != cjson.ArrayKind {
		return nil, fault.E(fault.BadJSON, op, "conditions must be an array")
	}
	conds := []cond{}
	var failed error
	err := cjson.Array(list, func(val []byte) bool {
		var c cond
		if len(conds) == maxConds {
			failed = fault.E(fault.TooLarge, op, "a rule may have %d conditions", maxConds)
			return false
		}
		c, failed = parseCond(val)
		conds = append(conds, c)
		return failed == nil
	})
	if failed != nil {
		return nil, failed
	}
	return conds, err
}

// parseCond reads one condition. An unknown kind is kept and never matches, as
// the specification asks; a known kind without its parameters is refused.
func parseCond(val []byte) (cond, error) {
	const op = "pushrule.Put"
	if cjson.KindOf(val) != cjson.ObjectKind {
		return cond{}, fault.E(fault.BadJSON, op, "a condition must be an object")
	}
	kind, ok := stringOf(val, "kind")
	if !ok {
		return cond{}, fault.E(fault.BadJSON, op, "a condition needs a kind")
	}
	c := cond{}
	hasKey := false
	if c.key, hasKey = stringOf(val, "key"); hasKey {
		c.path = splitPath(c.key)
	}
	good := hasKey
	switch kind {
	case "event_match":
		c.kind = condMatch
		c.pattern, ok = stringOf(val, "pattern")
		good = good && ok && len(c.pattern) <= maxPattern
		c.glob = newGlob(c.pattern)
	case "event_property_is":
		c.kind = condIs
		c.value, ok = scalar(val)
		good = good && ok
	case "event_property_contains":
		c.kind = condContains
		c.value, ok = scalar(val)
		good = good && ok
	case "contains_display_name":
		c.kind, good = condName, true
	case "room_member_count":
		c.kind = condMembers
		c.pattern, ok = stringOf(val, "is")
		c.op, c.count, good = parseCount(c.pattern)
		good = good && ok
	case "sender_notification_permission":
		c.kind = condPermission
	default:
		return cond{}, nil
	}
	if !good {
		return cond{}, fault.E(fault.Invalid, op, "condition %s has wrong parameters", kind)
	}
	return c, nil
}

// scalar gives the condition's value in canonical form. Numbers are integers
// only; arrays and objects are no values. Spec: client-server, push rules,
// event_property_is.
func scalar(cond []byte) ([]byte, bool) {
	val, ok := cjson.Lookup(cond, "value")
	if !ok {
		return nil, false
	}
	switch cjson.KindOf(val) {
	case cjson.ArrayKind, cjson.ObjectKind:
		return nil, false
	case cjson.NumberKind:
		if _, ok := cjson.Int(val); !ok {
			return nil, false
		}
	}
	out, err := cjson.Canonical(nil, val, false)
	return out, err == nil
}

// parseActions reads a list of actions. The historical dont_notify and coalesce
// are kept as they were written and mean nothing. Spec: client-server, push
// rules, historical actions.
func parseActions(list []byte) (Actions, error) {
	const op = "pushrule.SetActions"
	var a Actions
	if cjson.KindOf(list) != cjson.ArrayKind {
		return a, fault.E(fault.BadJSON, op, "actions must be an array")
	}
	n := 0
	var failed error
	err := cjson.Array(list, func(val []byte) bool {
		if n++; n > maxActions {
			failed = fault.E(fault.TooLarge, op, "a rule may have %d actions", maxActions)
			return false
		}
		failed = a.add(val)
		return failed == nil
	})
	if failed != nil {
		return Actions{}, failed
	}
	if err != nil {
		return Actions{}, fault.E(fault.BadJSON, op, "%w", err)
	}
	return a, nil
}

func (a *Actions) add(val []byte) error {
	const op = "pushrule.SetActions"
	switch cjson.KindOf(val) {
	case cjson.StringKind:
		switch name, _ := cjson.String(val); name {
		case "notify":
			a.Notify = true
		case "dont_notify", "coalesce":
		default:
			return fault.E(fault.Invalid, op, "no action is called %q", name)
		}
		return nil
	case cjson.ObjectKind:
		return a.tweak(val)
	}
	return fault.E(fault.BadJSON, op, "an action must be a string or an object")
}

// tweak notes the tweaks that the hub itself has a use for; others pass through
// to the gateway in Raw.
func (a *Actions) tweak(val []byte) error {
	name, ok := stringOf(val, "set_tweak")
	if !ok {
		return fault.E(fault.Invalid, "pushrule.SetActions", "an action object needs set_tweak")
	}
	value, has := cjson.Lookup(val, "value")
	switch name {
	case "highlight":
		on, isBool := cjson.Bool(value)
		a.Highlight = !has || isBool && on
	case "sound":
		a.Sound, _ = cjson.String(value)
	}
	return nil
}
