package pushrule

import (
	"fmt"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// Kind is one of the five lists of rules.
type Kind uint8

// The kinds in the order in which they are asked.
const (
	Override Kind = iota
	Content
	Room
	Sender
	Underride
	numKinds
)

// kindNames are the kinds as paths and JSON spell them.
var kindNames = [numKinds]string{"override", "content", "room", "sender", "underride"}

// ParseKind reads a kind as a path spells it.
func ParseKind(s string) (Kind, bool) {
	for i, name := range kindNames {
		if name == s {
			return Kind(i), true
		}
	}
	return 0, false
}

func (k Kind) String() string { return kindNames[k] }

// Actions is what the first matching rule says. The zero Actions is silence.
type Actions struct {
	Notify    bool
	Highlight bool
	Sound     string // the value of the sound tweak; empty where there is none
	Raw       []byte // the rule's actions as JSON, for a push gateway; nil where no rule matched
}

// rule is one rule, ready to be asked.
type rule struct {
	kind    Kind
	off     bool
	legacy  bool // asked only of events without m.mentions
	id      string
	pattern string // content rules: as written
	glob    glob   // content rules
	conds   []cond
	text    []byte // conditions of a user's rule as JSON; nil where there are none
	actions []byte // JSON array
	result  Actions
}

// change is what a user made of a default rule.
type change struct {
	index   int // in defaults
	off     bool
	actions []byte // nil: the default's
	result  Actions
}

// Ruleset is all rules of one user. A user who changed nothing has one of a
// few dozen bytes; the defaults are shared. It is not safe for concurrent
// change; reading it at once from many goroutines is safe.
type Ruleset struct {
	me      mxid.UserID
	meJSON  []byte
	own     []rule // by kind, most important first
	changed []change
}

// New is the default rule set for a user.
func New(me mxid.UserID) *Ruleset {
	return &Ruleset{me: me, meJSON: cjson.AppendString(nil, string(me))}
}

// Parse reads what AppendStored wrote. Empty bytes are a user who changed
// nothing.
func Parse(me mxid.UserID, stored []byte) (*Ruleset, error) {
	rs := New(me)
	if len(stored) == 0 {
		return rs, nil
	}
	var failed error
	err := cjson.Object(stored, func(key, val []byte) bool {
		failed = rs.parseList(string(key), val)
		return failed == nil
	})
	if failed == nil {
		failed = err
	}
	if failed != nil {
		return nil, fmt.Errorf("pushrule: stored rules of %s: %w", me, failed)
	}
	rs.sort()
	return rs, nil
}

// sort brings the user's rules into the order of the kinds, which the members
// of a canonical object are not in.
func (rs *Ruleset) sort() {
	sorted := make([]rule, 0, len(rs.own))
	for kind := range numKinds {
		for _, r := range rs.own {
			if r.kind == kind {
				sorted = append(sorted, r)
			}
		}
	}
	rs.own = sorted
}

func (rs *Ruleset) parseList(key string, list []byte) error {
	kind, isKind := ParseKind(key)
	var failed error
	err := cjson.Array(list, func(val []byte) bool {
		if isKind {
			failed = rs.parseOwn(kind, val)
		} else if key == "changed" {
			rs.parseChange(val)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (rs *Ruleset) parseOwn(kind Kind, val []byte) error {
	id, _ := stringOf(val, "rule_id")
	r, err := parseRule(kind, id, val)
	if err != nil {
		return err
	}
	if on, ok := cjson.Lookup(val, "enabled"); ok {
		enabled, isBool := cjson.Bool(on)
		r.off = isBool && !enabled
	}
	rs.own = append(rs.own, r)
	return nil
}

// parseChange drops a change of a rule that this version no longer has.
func (rs *Ruleset) parseChange(val []byte) {
	id, _ := stringOf(val, "rule_id")
	for i := range defaults {
		if defaults[i].id != id {
			continue
		}
		ch := change{index: i, off: defaults[i].off}
		if on, ok := cjson.Lookup(val, "enabled"); ok {
			enabled, isBool := cjson.Bool(on)
			ch.off = isBool && !enabled
		}
		if acts, ok := cjson.Lookup(val, "actions"); ok {
			if result, err := parseActions(acts); err == nil {
				ch.actions = clone(acts)
				ch.result = result
			}
		}
		rs.changed = append(rs.changed, ch)
		return
	}
}

// Changed says whether the user has any rule or change of their own. Where not,
// there is nothing to store.
func (rs *Ruleset) Changed() bool { return len(rs.own) > 0 || len(rs.changed) > 0 }

// Evaluate gives the actions of the first rule that matches. What a user sent
// is silent to them. Spec: client-server, push rules.
func (rs *Ruleset) Evaluate(t *Target) Actions {
	if t.Event.Sender == rs.me {
		return Actions{}
	}
	if a, ok := rs.askDefault(master, t); ok {
		return a
	}
	own, def := 0, master+1
	for kind := range numKinds {
		for ; own < len(rs.own) && rs.own[own].kind == kind; own++ {
			if r := &rs.own[own]; !r.off && r.matches(rs, t) {
				return answer(r.result, r.actions)
			}
		}
		for ; def < len(defaults) && defaults[def].kind == kind; def++ {
			if a, ok := rs.askDefault(def, t); ok {
				return a
			}
		}
	}
	return Actions{}
}

func (rs *Ruleset) askDefault(i int, t *Target) (Actions, bool) {
	r := &defaults[i]
	off, result, raw := r.off, r.result, r.actions
	if ch := rs.changeOf(i); ch != nil {
		off = ch.off
		if ch.actions != nil {
			result, raw = ch.result, ch.actions
		}
	}
	if off || !r.matches(rs, t) {
		return Actions{}, false
	}
	return answer(result, raw), true
}

func answer(result Actions, raw []byte) Actions {
	result.Raw = raw
	return result
}

func (rs *Ruleset) changeOf(i int) *change {
	for n := range rs.changed {
		if rs.changed[n].index == i {
			return &rs.changed[n]
		}
	}
	return nil
}

// local is the user's localpart.
func (rs *Ruleset) local() string {
	local, _, _ := strings.Cut(strings.TrimPrefix(string(rs.me), "@"), ":")
	return local
}

func (r *rule) matches(rs *Ruleset, t *Target) bool {
	if r.legacy {
		if _, ok := cjson.Lookup(t.Event.Content, "m.mentions"); ok {
			return false
		}
	}
	switch r.kind {
	case Content:
		text, ok := stringAt(t.Event, []string{"content", "body"})
		if r.glob.segs == nil { // .m.rule.contains_user_name
			return ok && named(text, rs.local())
		}
		return ok && r.glob.word(text)
	case Room:
		return string(t.Event.Room) == r.id
	case Sender:
		return string(t.Event.Sender) == r.id
	}
	for i := range r.conds {
		if !r.conds[i].holds(rs, t) {
			return false
		}
	}
	return true
}

// stringOf looks up a string member.
func stringOf(obj []byte, key string) (string, bool) {
	val, ok := cjson.Lookup(obj, key)
	if !ok {
		return "", false
	}
	return cjson.String(val)
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }
