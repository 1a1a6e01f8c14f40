package filter

import (
	"strings"
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

func parse(t *testing.T, src string) *Filter {
	t.Helper()
	f, err := Parse([]byte(src))
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return f
}

func TestTheDefaultLetsEverythingPass(t *testing.T) {
	for _, f := range []*Filter{{}, parse(t, `{}`), parse(t, `{"room":{"timeline":{}},"event_format":"client","presence":null,"x":1}`)} {
		for _, p := range []*Part{f.Presence, f.AccountData, f.Room.State, f.Room.Timeline, f.Room.Ephemeral, f.Room.AccountData} {
			if !p.Passes("m.room.message", "@a:b", []byte(`{}`)) || !p.PassesRoom("!r") || p.Nothing() || !p.Everything() ||
				p.LazyMembers() || p.RedundantMembers() || p.ThreadCounts() || p.Limit(10, 100) != 10 {
				t.Errorf("%+v", p)
			}
		}
		if !f.Room.Passes("!r") || f.Room.IncludeLeave || f.Federation || f.Fields != nil {
			t.Errorf("%+v", f)
		}
	}
}

func TestMatching(t *testing.T) {
	type event struct {
		typ     string
		sender  mxid.UserID
		content string
	}
	msg := event{"m.room.message", "@a:x", `{"body":"url"}`}
	pic := event{"m.room.message", "@b:x", `{"url":"mxc://x/y"}`}
	reply := event{"m.room.message", "@a:x", `{"m.relates_to":{"event_id":"$x","rel_type":"m.thread"}}`}
	odd := event{"m.room.message", "@a:x", `{"m.relates_to":{"rel_type":["m.thread"]}}`}
	for _, c := range []struct {
		part string
		ev   event
		want bool
	}{
		{`{"types":["m.room.message"]}`, msg, true},
		{`{"types":["m.room.*"]}`, msg, true},
		{`{"types":["m.*.member"]}`, msg, false},
		{`{"types":["*"]}`, msg, true},
		{`{"types":["m.room.messag?"]}`, msg, false},
		{`{"types":[]}`, msg, false},
		{`{"types":["m.room.message"],"not_types":["m.room.*"]}`, msg, false},
		{`{"not_types":[]}`, msg, true},
		{`{"senders":["@a:x"]}`, msg, true},
		{`{"senders":["@a:x"]}`, pic, false},
		{`{"senders":[]}`, msg, false},
		{`{"senders":["@a:x"],"not_senders":["@a:x"]}`, msg, false},
		{`{"contains_url":true}`, msg, false},
		{`{"contains_url":true}`, pic, true},
		{`{"contains_url":false}`, msg, true},
		{`{"contains_url":false}`, pic, false},
		{`{"rel_types":["m.thread"]}`, odd, false},
		{`{"rel_types":["m.thread"]}`, event{typ: "m.push_rules"}, false},
		{`{"rel_types":[]}`, reply, false},
		{`{"rel_types":null}`, msg, true},
		{`{"not_rel_types":[]}`, reply, true},
		{`{"not_rel_types":["m.thread"]}`, odd, true},
	} {
		p := parse(t, `{"room":{"timeline":`+c.part+`}}`).Room.Timeline
		if got := p.Passes(c.ev.typ, c.ev.sender, []byte(c.ev.content)); got != c.want {
			t.Errorf("%s on %v: %v", c.part, c.ev, got)
		}
	}
	f := parse(t, `{"room":{"rooms":["!a","!b"],"not_rooms":["!b"],"include_leave":true,"state":{"rooms":["!b"],"lazy_load_members":true},
		"timeline":{"limit":500,"unread_thread_notifications":true,"related_by_senders":["@a:b"],"related_by_rel_types":["m.thread"]},
		"ephemeral":{"not_types":["*"]},"account_data":{"include_redundant_members":true,"limit":0}},"event_format":"federation"}`)
	r := &f.Room
	if !r.Passes("!a") || r.Passes("!b") || r.Passes("!c") || !r.IncludeLeave || !f.Federation {
		t.Errorf("%+v", r)
	}
	if r.State.PassesRoom("!a") || !r.State.PassesRoom("!b") || !r.State.LazyMembers() || r.State.RedundantMembers() {
		t.Errorf("%+v", r.State)
	}
	if tl := r.Timeline; tl.Limit(10, 100) != 100 || !tl.ThreadCounts() || tl.Everything() || len(tl.RelatedSenders) != 1 || len(tl.RelatedTypes) != 1 {
		t.Errorf("%+v", tl)
	}
	if !r.Ephemeral.Nothing() || r.AccountData.Limit(10, 100) != 0 || !r.AccountData.RedundantMembers() {
		t.Errorf("%+v %+v", r.Ephemeral, r.AccountData)
	}
}

func TestTypePatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, typ string
		want         bool
	}{
		{"", "", true}, {"*", "", true}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "abbbc", true},
		{"*.b", "a.b.b", true}, {"a**b", "ab", true}, {"*b*", "abc", true}, {"*b*", "ac", false}, {"A", "a", false}, {"a*b*b", "ab", false},
	} {
		if got := typeMatches(c.pattern, c.typ); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.typ, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for src, want := range map[string]fault.Kind{
		``:                                     fault.NotJSON,
		`{`:                                    fault.NotJSON,
		"{\"a\":\"\xff\"}":                     fault.NotJSON,
		`[]`:                                   fault.BadJSON,
		`"x"`:                                  fault.BadJSON,
		`{"room":"x"}`:                         fault.BadJSON,
		`{"room":{"timeline":[]}}`:             fault.BadJSON,
		`{"room":{"timeline":{"types":"x"}}}`:  fault.BadJSON,
		`{"room":{"state":{"types":[1]}}}`:     fault.BadJSON,
		`{"room":{"include_leave":"yes"}}`:     fault.BadJSON,
		`{"room":{"timeline":{"limit":"10"}}}`: fault.BadJSON,
		`{"room":{"timeline":{"limit":1.5}}}`:  fault.BadJSON,
		`{"room":{"timeline":{"limit":-1}}}`:   fault.Invalid,
		`{"room":{"timeline":{"senders":["a:b"]}}}`:                     fault.Invalid,
		`{"presence":{"not_senders":["name"]}}`:                         fault.Invalid,
		`{"room":{"rooms":["#alias:b"]}}`:                               fault.Invalid,
		`{"event_format":"xml"}`:                                        fault.Invalid,
		`{"event_format":1}`:                                            fault.BadJSON,
		`{"event_fields":"type"}`:                                       fault.BadJSON,
		`{"room":{"state":{"lazy_load_members":1}}}`:                    fault.BadJSON,
		`{"x":"` + strings.Repeat("x", maxBytes) + `"}`:                 fault.TooLarge,
		`{"event_fields":["a"` + strings.Repeat(`,"a"`, maxList) + `]}`: fault.TooLarge,
	} {
		if _, err := Parse([]byte(src)); !fault.Is(err, want) {
			t.Errorf("%.60s: %v", src, err)
		}
	}
	if p, err := ParseRoomEvents(nil); p != nil || err != nil {
		t.Error(p, err)
	}
	if p, err := ParseRoomEvents([]byte(`{"limit":3}`)); err != nil || p.Limit(10, 100) != 3 {
		t.Error(p, err)
	}
	if _, err := ParseRoomEvents([]byte(`{"limit":`)); !fault.Is(err, fault.NotJSON) {
		t.Error(err)
	}
}

func TestFields(t *testing.T) {
	const ev = `{"content":{"a.b":1,"a":{"b":2,"c":3},"body":"x","x\\y":4},"event_id":"$e","type":"t","unsigned":{"age":1}}`
	for fields, want := range map[string]string{
		`[]`:                                  `{}`,
		`["type","event_id"]`:                 `{"event_id":"$e","type":"t"}`,
		`["content.body","none","type.x"]`:    `{"content":{"body":"x"}}`,
		`["content.a.b"]`:                     `{"content":{"a":{"b":2}}}`,
		`["content.a\\.b"]`:                   `{"content":{"a.b":1}}`,
		`["content.x\\\\y"]`:                  `{"content":{"x\\y":4}}`,
		`["content.a.b","content"]`:           `{"content":{"a.b":1,"a":{"b":2,"c":3},"body":"x","x\\y":4}}`,
		`["content.a.b","content.a.c","con"]`: `{"content":{"a":{"b":2,"c":3}}}`,
	} {
		f := parse(t, `{"event_fields":`+fields+`}`)
		if got := string(f.AppendFields(nil, []byte(ev))); got != want {
			t.Errorf("%s: %s", fields, got)
		}
	}
	if got := string((*Filter)(nil).AppendFields([]byte("x"), []byte(ev))); got != "x"+ev {
		t.Error(got)
	}
}

// A hub parks thousands of requests, nearly all with the default filter.
func TestDefaultFilterAllocatesNothing(t *testing.T) {
	f := Filter{}
	if n := testing.AllocsPerRun(100, func() {
		if !f.Room.Passes("!r") || !f.Room.Timeline.Passes("m.room.message", "@a:b", nil) || f.Room.State.LazyMembers() {
			t.Error("the default filter left something out")
		}
	}); n != 0 {
		t.Errorf("%v allocations, budget is 0", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"event_fields":["content.a\\.b"],"room":{"timeline":{"types":["m.*"],"limit":3}}}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		flt, err := Parse(src)
		if err != nil {
			if k := fault.KindOf(err); k == fault.Internal {
				t.Fatal(err)
			}
			return
		}
		out := flt.AppendFields(nil, []byte(`{"content":{"a.b":1,"body":"x"},"type":"t"}`))
		if err := cjson.Check(out); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		flt.Room.Timeline.Passes("m.room.message", "@a:b", []byte(`{}`))
	})
}

// MSC3874: by the relation that an event has itself.
func TestRelationTypes(t *testing.T) {
	thread, plain := []byte(`{"m.relates_to":{"rel_type":"m.thread","event_id":"$x"}}`), []byte(`{}`)
	for src, want := range map[string][2]bool{
		`{"org.matrix.msc3874.rel_types":["m.thread"]}`:     {true, false},
		`{"rel_types":["m.reference"]}`:                     {false, false},
		`{"org.matrix.msc3874.not_rel_types":["m.thread"]}`: {false, true},
		`{"not_rel_types":["m.reference"]}`:                 {true, true},
	} {
		p, err := ParseRoomEvents([]byte(src))
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{p.Passes("t", "@a:b", thread), p.Passes("t", "@a:b", plain)}; got != want || p.Everything() {
			t.Errorf("%s: %v", src, got)
		}
	}
}
