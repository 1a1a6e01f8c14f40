package pushrule

// A rule's actions as the client sees them.
const (
	silent      = `[]`
	notify      = `["notify"]`
	notifySound = `["notify",{"set_tweak":"sound","value":"default"}]`
	notifyRing  = `["notify",{"set_tweak":"sound","value":"ring"}]`
	notifyLight = `["notify",{"set_tweak":"highlight"}]`
	notifyBoth  = `["notify",{"set_tweak":"sound","value":"default"},{"set_tweak":"highlight"}]`
)

// master is the index of .m.rule.master in defaults. It alone stands before the
// user's own rules. Spec: client-server, push rules, predefined rules.
const master = 0

// defaults is the server's rule set, most important first within each kind.
// Nobody writes to it; a user's changes lie beside it. Spec: client-server, push
// rules, predefined rules, and for the rules marked legacy its text up to v1.16.
// The rules about polls are those of MSC3930.
var defaults = [...]rule{
	{kind: Override, id: ".m.rule.master", off: true, actions: []byte(silent)},
	{kind: Override, id: ".m.rule.suppress_notices", actions: []byte(silent),
		conds: []cond{match("content.msgtype", "m.notice")}},
	{kind: Override, id: ".m.rule.invite_for_me", actions: []byte(notifySound), result: Actions{Notify: true, Sound: "default"},
		conds: []cond{match("type", "m.room.member"), match("content.membership", "invite"), matchMe("state_key")}},
	{kind: Override, id: ".m.rule.member_event", actions: []byte(silent),
		conds: []cond{match("type", "m.room.member")}},
	{kind: Override, id: ".m.rule.is_user_mention", actions: []byte(notifyBoth),
		result: Actions{Notify: true, Highlight: true, Sound: "default"},
		conds:  []cond{{kind: condContains, key: `content.m\.mentions.user_ids`, path: splitPath(`content.m\.mentions.user_ids`), me: true}}},
	{kind: Override, id: ".m.rule.contains_display_name", actions: []byte(notifyBoth), legacy: true,
		result: Actions{Notify: true, Highlight: true, Sound: "default"}, conds: []cond{{kind: condName}}},
	{kind: Override, id: ".m.rule.is_room_mention", actions: []byte(notifyLight), result: Actions{Notify: true, Highlight: true},
		conds: []cond{is(`content.m\.mentions.room`, `true`), {kind: condPermission, key: "room"}}},
	{kind: Override, id: ".m.rule.roomnotif", actions: []byte(notifyLight), legacy: true, result: Actions{Notify: true, Highlight: true},
		conds: []cond{match("content.body", "@room"), {kind: condPermission, key: "room"}}},
	{kind: Override, id: ".m.rule.tombstone", actions: []byte(notifyLight), result: Actions{Notify: true, Highlight: true},
		conds: []cond{match("type", "m.room.tombstone"), match("state_key", "")}},
	{kind: Override, id: ".m.rule.reaction", actions: []byte(silent),
		conds: []cond{match("type", "m.reaction")}},
	{kind: Override, id: ".m.rule.room.server_acl", actions: []byte(silent),
		conds: []cond{match("type", "m.room.server_acl"), match("state_key", "")}},
	{kind: Override, id: ".m.rule.suppress_edits", actions: []byte(silent),
		conds: []cond{is(`content.m\.relates_to.rel_type`, `"m.replace"`)}},
	{kind: Override, id: ".org.matrix.msc3930.rule.poll_response", actions: []byte(silent),
		conds: []cond{match("type", "org.matrix.msc3381.poll.response")}},

	// The pattern is the user's own localpart.
	{kind: Content, id: ".m.rule.contains_user_name", actions: []byte(notifyBoth), legacy: true,
		result: Actions{Notify: true, Highlight: true, Sound: "default"}},

	{kind: Underride, id: ".m.rule.call", actions: []byte(notifyRing), result: Actions{Notify: true, Sound: "ring"},
		conds: []cond{match("type", "m.call.invite")}},
	{kind: Underride, id: ".m.rule.encrypted_room_one_to_one", actions: []byte(notifySound), result: Actions{Notify: true, Sound: "default"},
		conds: []cond{members("2"), match("type", "m.room.encrypted")}},
	{kind: Underride, id: ".m.rule.room_one_to_one", actions: []byte(notifySound), result: Actions{Notify: true, Sound: "default"},
		conds: []cond{members("2"), match("type", "m.room.message")}},
	{kind: Underride, id: ".m.rule.message", actions: []byte(notify), result: Actions{Notify: true},
		conds: []cond{match("type", "m.room.message")}},
	{kind: Underride, id: ".m.rule.encrypted", actions: []byte(notify), result: Actions{Notify: true},
		conds: []cond{match("type", "m.room.encrypted")}},
	{kind: Underride, id: ".org.matrix.msc3930.rule.poll_start_one_to_one", actions: []byte(notifySound),
		result: Actions{Notify: true, Sound: "default"},
		conds:  []cond{members("2"), match("type", "org.matrix.msc3381.poll.start")}},
	{kind: Underride, id: ".org.matrix.msc3930.rule.poll_start", actions: []byte(notify), result: Actions{Notify: true},
		conds: []cond{match("type", "org.matrix.msc3381.poll.start")}},
	{kind: Underride, id: ".org.matrix.msc3930.rule.poll_end_one_to_one", actions: []byte(notifySound),
		result: Actions{Notify: true, Sound: "default"},
		conds:  []cond{members("2"), match("type", "org.matrix.msc3381.poll.end")}},
	{kind: Underride, id: ".org.matrix.msc3930.rule.poll_end", actions: []byte(notify), result: Actions{Notify: true},
		conds: []cond{match("type", "org.matrix.msc3381.poll.end")}},
}

func match(key, pattern string) cond {
	return cond{kind: condMatch, key: key, path: splitPath(key), pattern: pattern, glob: newGlob(pattern)}
}

// matchMe is match with the user's own id for a pattern.
func matchMe(key string) cond {
	return cond{kind: condMatch, key: key, path: splitPath(key), me: true}
}

func is(key, value string) cond {
	return cond{kind: condIs, key: key, path: splitPath(key), value: []byte(value)}
}

func members(is string) cond {
	c := cond{kind: condMembers, pattern: is}
	c.op, c.count, _ = parseCount(is)
	return c
}
