package pushrule

import (
	"bytes"
	"slices"

	"hearth/engine/cjson"
)

// Carry gives a room that takes another's place the rules that a user has for
// the old one: those of kind room, and those of other kinds that are named after
// it. It says whether there were any.
// Spec: client-server, room upgrades, server behaviour.
func (rs *Ruleset) Carry(from, to string) (bool, error) {
	old, fresh := cjson.AppendString(nil, from), cjson.AppendString(nil, to)
	own := slices.Clone(rs.own)
	changed := false
	for i := 0; i < len(own); i++ {
		r := own[i]
		if r.id != from || indexOf(own, r.kind, to) >= 0 || len(own) >= maxRules {
			continue
		}
		body := bytes.ReplaceAll(r.appendOwn(nil), old, fresh)
		made, err := parseRule(r.kind, to, body)
		if err != nil {
			return false, err
		}
		made.off = r.off
		own = slices.Insert(own, i+1, made)
		i++
		changed = true
	}
	if !changed {
		return false, nil
	}
	return true, rs.take(own, rs.changed)
}
