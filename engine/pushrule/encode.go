package pushrule

import (
	"hearth/engine/cjson"
)

// AppendClient appends all rules as GET /pushrules/ and the m.push_rules event
// show them. Spec: client-server, GET pushrules.
func (rs *Ruleset) AppendClient(dst []byte) []byte {
	dst = append(dst, `{"global":`...)
	dst = rs.AppendGlobal(dst)
	return append(dst, '}')
}

// AppendGlobal appends the one scope there is.
func (rs *Ruleset) AppendGlobal(dst []byte) []byte {
	dst = append(dst, '{')
	for kind := range numKinds {
		if kind > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, kind.String())
		dst = append(dst, ':')
		dst = rs.appendKind(dst, kind)
	}
	return append(dst, '}')
}

func (rs *Ruleset) appendKind(dst []byte, kind Kind) []byte {
	dst = append(dst, '[')
	start := len(dst)
	if kind == Override {
		dst = append(rs.appendDefault(dst, master), ',')
	}
	for i := range rs.own {
		if rs.own[i].kind == kind {
			dst = append(rs.own[i].appendOwn(dst), ',')
		}
	}
	for i := master + 1; i < len(defaults); i++ {
		if defaults[i].kind == kind {
			dst = append(rs.appendDefault(dst, i), ',')
		}
	}
	if len(dst) > start {
		dst = dst[:len(dst)-1]
	}
	return append(dst, ']')
}

// AppendRule appends one rule as GET /pushrules/global/KIND/ID shows it.
func (rs *Ruleset) AppendRule(dst []byte, kind Kind, id string) ([]byte, error) {
	if i := indexOf(rs.own, kind, id); i >= 0 {
		return rs.own[i].appendOwn(dst), nil
	}
	if i := defaultIndex(kind, id); i >= 0 {
		return rs.appendDefault(dst, i), nil
	}
	return dst, noRule("pushrule.AppendRule")
}

// AppendActions appends the actions of one rule, a JSON array.
func (rs *Ruleset) AppendActions(dst []byte, kind Kind, id string) ([]byte, error) {
	if i := indexOf(rs.own, kind, id); i >= 0 {
		return append(dst, rs.own[i].actions...), nil
	}
	if i := defaultIndex(kind, id); i >= 0 {
		if ch := rs.changeOf(i); ch != nil && ch.actions != nil {
			return append(dst, ch.actions...), nil
		}
		return append(dst, defaults[i].actions...), nil
	}
	return dst, noRule("pushrule.AppendActions")
}

// AppendStored appends what Parse reads: the user's own rules by kind, and what
// they changed of the server's. The defaults themselves are not stored, so that
// a new version of them reaches everybody.
func (rs *Ruleset) AppendStored(dst []byte) []byte {
	dst = append(dst, '{')
	dst = append(dst, `"changed":[`...)
	for i := range rs.changed {
		if i > 0 {
			dst = append(dst, ',')
		}
		ch := &rs.changed[i]
		dst = append(dst, `{"rule_id":`...)
		dst = cjson.AppendString(dst, defaults[ch.index].id)
		dst = appendEnabled(dst, ch.off)
		if ch.actions != nil {
			dst = append(append(dst, `,"actions":`...), ch.actions...)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	var last Kind
	for i := range rs.own {
		r := &rs.own[i]
		if i == 0 || r.kind != last {
			if i > 0 {
				dst = append(dst, ']')
			}
			dst = cjson.AppendString(append(dst, ','), r.kind.String())
			dst = append(dst, ":["...)
			last = r.kind
		} else {
			dst = append(dst, ',')
		}
		dst = r.appendOwn(dst)
	}
	if len(rs.own) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendEnabled(dst []byte, off bool) []byte {
	if off {
		return append(dst, `,"enabled":false`...)
	}
	return append(dst, `,"enabled":true`...)
}

func (r *rule) appendOwn(dst []byte) []byte {
	dst = append(append(dst, `{"actions":`...), r.actions...)
	switch r.kind {
	case Content:
		dst = cjson.AppendString(append(dst, `,"pattern":`...), r.pattern)
	case Override, Underride:
		dst = append(dst, `,"conditions":`...)
		if r.text == nil {
			dst = append(dst, `[]`...)
		}
		dst = append(dst, r.text...)
	}
	dst = append(dst, `,"default":false`...)
	dst = appendEnabled(dst, r.off)
	dst = cjson.AppendString(append(dst, `,"rule_id":`...), r.id)
	return append(dst, '}')
}

func (rs *Ruleset) appendDefault(dst []byte, i int) []byte {
	r := &defaults[i]
	off, actions := r.off, r.actions
	if ch := rs.changeOf(i); ch != nil {
		off = ch.off
		if ch.actions != nil {
			actions = ch.actions
		}
	}
	dst = append(append(dst, `{"actions":`...), actions...)
	if r.kind == Content {
		dst = cjson.AppendString(append(dst, `,"pattern":`...), rs.local())
	} else {
		dst = rs.appendConds(append(dst, `,"conditions":`...), r.conds)
	}
	dst = append(dst, `,"default":true`...)
	dst = appendEnabled(dst, off)
	dst = cjson.AppendString(append(dst, `,"rule_id":`...), r.id)
	return append(dst, '}')
}

func (rs *Ruleset) appendConds(dst []byte, conds []cond) []byte {
	dst = append(dst, '[')
	for i := range conds {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = rs.appendCond(dst, &conds[i])
	}
	return append(dst, ']')
}

func (rs *Ruleset) appendCond(dst []byte, c *cond) []byte {
	switch c.kind {
	case condName:
		return append(dst, `{"kind":"contains_display_name"}`...)
	case condMembers:
		dst = append(dst, `{"kind":"room_member_count","is":`...)
		dst = cjson.AppendString(dst, c.pattern)
		return append(dst, '}')
	case condPermission:
		dst = append(dst, `{"kind":"sender_notification_permission","key":`...)
		dst = cjson.AppendString(dst, c.key)
		return append(dst, '}')
	case condMatch:
		dst = cjson.AppendString(append(dst, `{"kind":"event_match","key":`...), c.key)
		pattern := c.pattern
		if c.me {
			pattern = string(rs.me)
		}
		dst = cjson.AppendString(append(dst, `,"pattern":`...), pattern)
		return append(dst, '}')
	}
	name := "event_property_is"
	if c.kind == condContains {
		name = "event_property_contains"
	}
	dst = cjson.AppendString(append(dst, `{"kind":`...), name)
	dst = cjson.AppendString(append(dst, `,"key":`...), c.key)
	dst = append(append(dst, `,"value":`...), c.want(rs)...)
	return append(dst, '}')
}
