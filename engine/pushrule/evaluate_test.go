package pushrule

import (
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

const me = "@me:hub"

// target makes an event from its client-visible parts. A nil state key is no
// state event.
func target(typ, content string, stateKey *string) *Target {
	e := &event.Event{Type: typ, Sender: "@other:hub", Room: "!r:hub", ID: "$e", Content: []byte(content)}
	if stateKey != nil {
		e.StateKey, e.IsState = *stateKey, true
	}
	e.JSON = cjson.AppendString([]byte(`{"content":`+content+`,"depth":7,"type":`), typ)
	e.JSON = append(e.JSON, '}')
	return &Target{Event: e, Members: 5, SenderMay: func(mxid.UserID, string) bool { return false }}
}

func key(s string) *string { return &s }

func TestDefaults(t *testing.T) {
	loud := func(tt *Target) *Target {
		tt.SenderMay = func(u mxid.UserID, k string) bool { return u == "@other:hub" && k == "room" }
		return tt
	}
	named := func(tt *Target) *Target { tt.DisplayName = "ängela"; return tt }
	two := func(tt *Target) *Target { tt.Members = 2; return tt }
	for _, c := range []struct {
		name   string
		target *Target
		want   string // n notify, h highlight, then the sound
	}{
		{"message", target("m.room.message", `{"body":"hi","msgtype":"m.text"}`, nil), "n"},
		{"message of two", two(target("m.room.message", `{"body":"hi","msgtype":"m.text"}`, nil)), "n default"},
		{"encrypted", target("m.room.encrypted", `{}`, nil), "n"},
		{"encrypted of two", two(target("m.room.encrypted", `{}`, nil)), "n default"},
		{"notice", target("m.room.message", `{"body":"hi","msgtype":"m.notice"}`, nil), ""},
		{"mention", target("m.room.message", `{"body":"x","m.mentions":{"user_ids":["@a:b","@me:hub"]}}`, nil), "nh default"},
		{"mention of another", target("m.room.message", `{"body":"x","m.mentions":{"user_ids":["@a:b"]}}`, nil), "n"},
		{"mentions of a wrong type", target("m.room.message", `{"body":"x","m.mentions":{"user_ids":"@me:hub"}}`, nil), "n"},
		{"room mention", loud(target("m.room.message", `{"body":"x","m.mentions":{"room":true}}`, nil)), "nh"},
		{"room mention without power", target("m.room.message", `{"body":"x","m.mentions":{"room":true}}`, nil), "n"},
		{"room mention as text", loud(target("m.room.message", `{"body":"x","m.mentions":{"room":"true"}}`, nil)), "n"},
		{"edit", target("m.room.message", `{"body":"x","m.relates_to":{"event_id":"$a","rel_type":"m.replace"}}`, nil), ""},
		{"edit with mention", target("m.room.message", `{"m.mentions":{"user_ids":["@me:hub"]},"m.relates_to":{"rel_type":"m.replace"}}`, nil), "nh default"},
		{"invite", target("m.room.member", `{"membership":"invite"}`, key(me)), "n default"},
		{"invite of another", target("m.room.member", `{"membership":"invite"}`, key("@x:hub")), ""},
		{"join", target("m.room.member", `{"membership":"join"}`, key("@x:hub")), ""},
		{"tombstone", target("m.room.tombstone", `{}`, key("")), "nh"},
		{"tombstone of a key", target("m.room.tombstone", `{}`, key("a")), ""},
		{"tombstone that is none", target("m.room.tombstone", `{}`, nil), ""},
		{"reaction", target("m.reaction", `{}`, nil), ""},
		{"acl", target("m.room.server_acl", `{}`, key("")), ""},
		{"call", target("m.call.invite", `{}`, nil), "n ring"},
		{"poll", target("org.matrix.msc3381.poll.start", `{}`, nil), "n"},
		{"topic", target("m.room.topic", `{"topic":"x"}`, key("")), ""},
		{"user name in the body", target("m.room.message", `{"body":"hi @ME:hub"}`, nil), "nh default"},
		{"a longer user name", target("m.room.message", `{"body":"hi mel"}`, nil), "n"},
		{"display name in the body", named(target("m.room.message", `{"body":"hi Ängela?"}`, nil)), "nh default"},
		{"a longer display name", named(target("m.room.message", `{"body":"hi Ängelas"}`, nil)), "n"},
		{"names beside m.mentions", named(target("m.room.message", `{"body":"hi me, Ängela","m.mentions":{}}`, nil)), "n"},
		{"@room in the body", loud(target("m.room.message", `{"body":"hi @room"}`, nil)), "nh"},
		{"@room without power", target("m.room.message", `{"body":"hi @room"}`, nil), "n"},
	} {
		if got := spell(New(me).Evaluate(c.target)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func spell(a Actions) string {
	s := ""
	if a.Notify {
		s = "n"
	}
	if a.Highlight {
		s += "h"
	}
	if a.Sound != "" {
		s += " " + a.Sound
	}
	return s
}

func TestOwnEventsAreSilent(t *testing.T) {
	m := target("m.room.message", `{"body":"hi"}`, nil)
	m.Event.Sender = me
	if a := New(me).Evaluate(m); a.Notify || a.Raw != nil {
		t.Fatalf("%+v", a)
	}
}

func TestConditions(t *testing.T) {
	content := `{"body":"tea\ntime for Me*","list":["a",1,null,{"x":1}],"m.federate":true,"m\\x":"s","n":12,"z":null}`
	for _, c := range []struct {
		cond string
		want bool
	}{
		{`{"kind":"event_match","key":"content.body","pattern":"time"}`, true},
		{`{"kind":"event_match","key":"content.body","pattern":"tim"}`, false},
		{`{"kind":"event_match","key":"content.n","pattern":"*"}`, false},
		{`{"kind":"event_match","key":"content.none","pattern":"*"}`, false},
		{`{"kind":"event_match","key":"content.m\\\\x","pattern":"s"}`, true},
		{`{"kind":"event_match","key":"room_id","pattern":"!r:*"}`, true},
		{`{"kind":"event_match","key":"sender","pattern":"@OTHER:hub"}`, true},
		{`{"kind":"event_match","key":"state_key","pattern":"*"}`, false},
		{`{"kind":"event_match","key":"type","pattern":"m.room.?essage"}`, true},
		{`{"kind":"event_property_is","key":"content.m\\.federate","value":true}`, true},
		{`{"kind":"event_property_is","key":"content.m\\.federate","value":"true"}`, false},
		{`{"kind":"event_property_is","key":"content.m\\.federate","value":1}`, false},
		{`{"kind":"event_property_is","key":"content.m.federate","value":true}`, false},
		{`{"kind":"event_property_is","key":"content.n","value":12}`, true},
		{`{"kind":"event_property_is","key":"content.z","value":null}`, true},
		{`{"kind":"event_property_is","key":"content.none","value":null}`, false},
		{`{"kind":"event_property_is","key":"depth","value":7}`, true},
		{`{"kind":"event_property_is","key":"type","value":"m.room.message"}`, true},
		{`{"kind":"event_property_contains","key":"content.list","value":"a"}`, true},
		{`{"kind":"event_property_contains","key":"content.list","value":1}`, true},
		{`{"kind":"event_property_contains","key":"content.list","value":null}`, true},
		{`{"kind":"event_property_contains","key":"content.list","value":"x"}`, false},
		{`{"kind":"event_property_contains","key":"content.body","value":"a"}`, false},
		{`{"kind":"contains_display_name"}`, true},
		{`{"kind":"room_member_count","is":"5"}`, true},
		{`{"kind":"room_member_count","is":"==5"}`, true},
		{`{"kind":"room_member_count","is":"<5"}`, false},
		{`{"kind":"room_member_count","is":"<=5"}`, true},
		{`{"kind":"room_member_count","is":">4"}`, true},
		{`{"kind":"room_member_count","is":">=6"}`, false},
		{`{"kind":"sender_notification_permission","key":"room"}`, false},
		{`{"kind":"org.example.unknown"}`, false},
	} {
		rs := New(me)
		if err := rs.Put(Override, "x", []byte(`{"actions":[{"set_tweak":"sound","value":"hit"}],"conditions":[`+c.cond+`]}`), Place{}); err != nil {
			t.Errorf("%s: %v", c.cond, err)
			continue
		}
		m := target("m.room.message", content, nil)
		m.DisplayName = "me*"
		if got := rs.Evaluate(m).Sound == "hit"; got != c.want {
			t.Errorf("%s: %v", c.cond, got)
		}
	}
}

func TestSplitPath(t *testing.T) {
	for path, want := range map[string][]string{
		"":                 {""},
		"content.body":     {"content", "body"},
		`content.m\.x.y`:   {"content", "m.x", "y"},
		`content.m\\foo`:   {"content", `m\foo`},
		`a\x`:              {`a\x`},
		`a\`:               {`a\`},
		`a..b`:             {"a", "", "b"},
		`content.m\\\.foo`: {"content", `m\.foo`},
	} {
		got := splitPath(path)
		same := len(got) == len(want)
		for i := range min(len(got), len(want)) {
			same = same && got[i] == want[i]
		}
		if !same {
			t.Errorf("%q: %q", path, got)
		}
	}
}

// Unread counts put every message of a room past the rules of each reader, so a
// plain message must cost no allocation at all.
func TestPlainMessageAllocatesNothing(t *testing.T) {
	rs := New(me)
	m := target("m.room.message", `{"body":"The kettle in the kitchen is hot now","msgtype":"m.text"}`, nil)
	m.DisplayName = "Kitchen Tablet"
	if n := testing.AllocsPerRun(100, func() { rs.Evaluate(m) }); n != 0 {
		t.Errorf("%v allocations, budget is 0", n)
	}
	if err := rs.Put(Content, "k", []byte(`{"actions":["notify"],"pattern":"kettle*warm"}`), Place{}); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { rs.Evaluate(m) }); n != 0 {
		t.Errorf("%v allocations with a content rule, budget is 0", n)
	}
}

func BenchmarkPlainMessage(b *testing.B) {
	rs := New(me)
	m := target("m.room.message", `{"body":"The kettle in the kitchen is hot now","m.mentions":{},"msgtype":"m.text"}`, nil)
	b.ReportAllocs()
	for b.Loop() {
		rs.Evaluate(m)
	}
}
