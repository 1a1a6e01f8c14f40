package pushrule

import (
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// Place says where a new rule goes among the user's own of its kind. Before
// makes it the next more important than that rule, After the next less
// important; Before wins where both are given, and with neither a new rule is
// the most important and an old one stays where it is.
type Place struct{ Before, After string }

// Put adds a rule or replaces the one of the same id. The body holds the rule's
// actions, conditions and pattern. Spec: client-server, PUT pushrules.
func (rs *Ruleset) Put(kind Kind, id string, body []byte, at Place) error {
	const op = "pushrule.Put"
	switch {
	case id == "" || len(id) > maxID:
		return fault.E(fault.Invalid, op, "a rule id has 1 to %d bytes", maxID)
	case id[0] == '.':
		return fault.E(fault.Invalid, op, "rule ids that begin with a dot are the server's")
	case strings.ContainsAny(id, `/\`):
		return fault.E(fault.Invalid, op, "a rule id has no slash or backslash")
	case cjson.KindOf(body) != cjson.ObjectKind:
		return fault.E(fault.BadJSON, op, "a rule must be an object")
	}
	r, err := parseRule(kind, id, body)
	if err != nil {
		return err
	}
	own := slices.Clone(rs.own)
	old := indexOf(own, kind, id)
	if old >= 0 {
		r.off = own[old].off
	} else if len(own) >= maxRules {
		return fault.E(fault.TooLarge, op, "a user may have %d rules", maxRules)
	}
	own, err = place(own, r, old, at)
	if err != nil {
		return err
	}
	return rs.take(own, rs.changed)
}

// place puts r into the list; old is where the rule of its id stands, or -1.
func place(own []rule, r rule, old int, at Place) ([]rule, error) {
	by, after := at.Before, 0
	if by == "" {
		by, after = at.After, 1
	}
	switch {
	case by == "" && old >= 0 || by == r.id && old >= 0:
		own[old] = r
		return own, nil
	case by == "":
		first := slices.IndexFunc(own, func(o rule) bool { return o.kind >= r.kind })
		if first < 0 {
			first = len(own)
		}
		return slices.Insert(own, first, r), nil
	}
	if indexOf(own, r.kind, by) < 0 {
		return nil, fault.E(fault.Unknown, "pushrule.Put", "before/after rule not found: %s", by)
	}
	if old >= 0 {
		own = slices.Delete(own, old, old+1)
	}
	return slices.Insert(own, indexOf(own, r.kind, by)+after, r), nil
}

// take makes the lists the user's, unless they have grown too large to keep.
func (rs *Ruleset) take(own []rule, changed []change) error {
	next := Ruleset{me: rs.me, meJSON: rs.meJSON, own: own, changed: changed}
	if len(next.AppendStored(nil)) > maxStored {
		return fault.E(fault.TooLarge, "pushrule.Put", "all rules of a user may have %d bytes", maxStored)
	}
	*rs = next
	return nil
}

// Delete removes a rule of the user's own. Spec: client-server, DELETE pushrules.
func (rs *Ruleset) Delete(kind Kind, id string) error {
	const op = "pushrule.Delete"
	if i := indexOf(rs.own, kind, id); i >= 0 {
		rs.own = slices.Delete(slices.Clone(rs.own), i, i+1)
		return nil
	}
	if defaultIndex(kind, id) >= 0 {
		return fault.E(fault.Invalid, op, "a rule of the server's can be disabled but not deleted")
	}
	return noRule(op)
}

// Enabled says whether a rule is on.
func (rs *Ruleset) Enabled(kind Kind, id string) (bool, error) {
	if i := indexOf(rs.own, kind, id); i >= 0 {
		return !rs.own[i].off, nil
	}
	if i := defaultIndex(kind, id); i >= 0 {
		if ch := rs.changeOf(i); ch != nil {
			return !ch.off, nil
		}
		return !defaults[i].off, nil
	}
	return false, noRule("pushrule.Enabled")
}

// SetEnabled switches a rule on or off, the server's too.
func (rs *Ruleset) SetEnabled(kind Kind, id string, on bool) error {
	if i := indexOf(rs.own, kind, id); i >= 0 {
		rs.own = slices.Clone(rs.own)
		rs.own[i].off = !on
		return nil
	}
	i := defaultIndex(kind, id)
	if i < 0 {
		return noRule("pushrule.SetEnabled")
	}
	ch := rs.change(i)
	ch.off = !on
	return nil
}

// SetActions replaces a rule's actions, the server's too.
func (rs *Ruleset) SetActions(kind Kind, id string, actions []byte) error {
	result, err := parseActions(actions)
	if err != nil {
		return err
	}
	acts, err := canonical(actions)
	if err != nil {
		return err
	}
	if i := indexOf(rs.own, kind, id); i >= 0 {
		own := slices.Clone(rs.own)
		own[i].actions, own[i].result = acts, result
		return rs.take(own, rs.changed)
	}
	i := defaultIndex(kind, id)
	if i < 0 {
		return noRule("pushrule.SetActions")
	}
	next := Ruleset{changed: rs.changed}
	ch := next.change(i)
	ch.actions, ch.result = acts, result
	return rs.take(rs.own, next.changed)
}

// change gives the user's change of a default rule, made where there was none.
// The list is copied first: a copy of the Ruleset may still be read.
func (rs *Ruleset) change(i int) *change {
	rs.changed = slices.Clone(rs.changed)
	if ch := rs.changeOf(i); ch != nil {
		return ch
	}
	rs.changed = append(rs.changed, change{index: i, off: defaults[i].off})
	return &rs.changed[len(rs.changed)-1]
}

func noRule(op string) error { return fault.E(fault.NotFound, op, "the push rule was not found") }

func indexOf(own []rule, kind Kind, id string) int {
	return slices.IndexFunc(own, func(r rule) bool { return r.kind == kind && r.id == id })
}

func defaultIndex(kind Kind, id string) int {
	return slices.IndexFunc(defaults[:], func(r rule) bool { return r.kind == kind && r.id == id })
}
