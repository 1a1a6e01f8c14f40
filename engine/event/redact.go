package event

import (
	"errors"

	"hearth/engine/cjson"
)

// errShape is what is said of JSON that is no object or no JSON.
var errShape = errors.New("event is not a JSON object")

// contentRule says which content keys redaction keeps.
type contentRule uint8

const (
	keepNothing contentRule = iota
	keepMember
	keepCreate
	keepJoinRules
	keepPower
	keepAliases
	keepVisibility
	keepRedaction
)

// ruleOf finds the rule for an event type, given as canonical JSON with its
// quotes. None of these names has an escape in canonical form.
func ruleOf(typ []byte) contentRule {
	switch string(typ) {
	case `"m.room.member"`:
		return keepMember
	case `"m.room.create"`:
		return keepCreate
	case `"m.room.join_rules"`:
		return keepJoinRules
	case `"m.room.power_levels"`:
		return keepPower
	case `"m.room.aliases"`:
		return keepAliases
	case `"m.room.history_visibility"`:
		return keepVisibility
	case `"m.room.redaction"`:
		return keepRedaction
	}
	return keepNothing
}

// keepsKey says whether redaction keeps a key of the event itself.
// Spec: rooms v1 and v11, Redactions.
func (v *Version) keepsKey(key []byte) bool {
	switch string(key) {
	case "event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures",
		"depth", "prev_events", "auth_events", "origin_server_ts":
		return true
	case "prev_state", "origin", "membership":
		return !v.Redaction11
	}
	return false
}

// keepsContent says whether redaction keeps a key of content. The invite inside
// of a member event is not judged here: only a part of it stays.
// Spec: rooms v1, v6, v8, v9 and v11, Redactions.
func (v *Version) keepsContent(rule contentRule, key []byte) bool {
	switch rule {
	case keepMember:
		return string(key) == "membership" || v.KeepAuthorised && string(key) == "join_authorised_via_users_server"
	case keepCreate:
		return v.Redaction11 || string(key) == "creator"
	case keepJoinRules:
		return string(key) == "join_rule" || v.Restricted && string(key) == "allow"
	case keepPower:
		switch string(key) {
		case "ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default":
			return true
		case "invite":
			return v.Redaction11
		}
	case keepAliases:
		return v.AliasesOwned && string(key) == "aliases"
	case keepVisibility:
		return string(key) == "history_visibility"
	case keepRedaction:
		return v.Redaction11 && string(key) == "redacts"
	}
	return false
}

// appendRedactedContent appends what redaction leaves of content, an object in
// canonical form. Content of another kind leaves an empty object.
func (v *Version) appendRedactedContent(dst []byte, rule contentRule, content []byte) []byte {
	if rule == keepCreate && v.Redaction11 && cjson.KindOf(content) == cjson.ObjectKind {
		return append(dst, content...)
	}
	dst = append(dst, '{')
	start := len(dst)
	_ = cjson.Object(content, func(key, val []byte) bool {
		switch {
		case v.keepsContent(rule, key):
			dst = appendMember(dst, start, key, val)
		case rule == keepMember && v.Redaction11 && string(key) == "third_party_invite" && cjson.KindOf(val) == cjson.ObjectKind:
			dst = appendMember(dst, start, key, nil)
			dst = append(dst, '{')
			if signed, ok := cjson.Lookup(val, "signed"); ok {
				dst = append(dst, `"signed":`...)
				dst = append(dst, signed...)
			}
			dst = append(dst, '}')
		}
		return true
	})
	return append(dst, '}')
}

// appendMember appends one member to the object whose first member belongs at
// start. The key is one that needs no escape.
func appendMember(dst []byte, start int, key, val []byte) []byte {
	if len(dst) > start {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	return append(dst, val...)
}

// RedactJSON appends what redaction leaves of an event in canonical form. The
// result is canonical, has the same id and bears the same signatures; what came
// under unsigned is gone. Spec: rooms, Redactions of each version.
func RedactJSON(dst []byte, v *Version, json []byte) ([]byte, error) {
	return v.appendRedacted(dst, json, true)
}

// appendRedacted redacts, with the signatures or without: without them the result
// is what reference hash and signatures are made of.
func (v *Version) appendRedacted(dst, json []byte, signatures bool) ([]byte, error) {
	typ, _ := cjson.Lookup(json, "type")
	rule, was := ruleOf(typ), len(dst)
	dst = append(dst, '{')
	start := len(dst)
	err := cjson.Object(json, func(key, val []byte) bool {
		switch {
		case !v.keepsKey(key) || !signatures && string(key) == "signatures":
		case string(key) == "content":
			dst = appendMember(dst, start, key, nil)
			dst = v.appendRedactedContent(dst, rule, val)
		default:
			dst = appendMember(dst, start, key, val)
		}
		return true
	})
	if err != nil {
		return dst[:was], errShape
	}
	return append(dst, '}'), nil
}

// appendWithout appends a canonical object without some of its keys.
func appendWithout(dst, json []byte, drop func(key []byte) bool) ([]byte, error) {
	was := len(dst)
	dst = append(dst, '{')
	err := cjson.Object(json, func(key, val []byte) bool {
		if drop(key) {
			return true
		}
		if len(dst) > was+1 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, string(key))
		dst = append(dst, ':')
		dst = append(dst, val...)
		return true
	})
	if err != nil {
		return dst[:was], errShape
	}
	return append(dst, '}'), nil
}

// Redacted is the event as redaction leaves it, under the same id.
func (e *Event) Redacted() (*Event, error) {
	json, err := RedactJSON(make([]byte, 0, len(e.JSON)), e.Version, e.JSON)
	if err != nil {
		return nil, err
	}
	return ParseAs(e.Version, json, e.ID)
}
