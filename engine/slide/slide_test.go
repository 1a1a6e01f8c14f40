package slide

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

func parse(t testing.TB, body string) *Request {
	t.Helper()
	r, err := Parse([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestParse(t *testing.T) {
	r := parse(t, `{"conn_id":"c","pos":"p","txn_id":"t","timeout":30000,"set_presence":"offline","unknown":[],
		"lists":{"b":{"ranges":[[0,19],[30,39]],"timeline_limit":1000,"required_state":[["m.room.name",""]],"filters":{"is_dm":true,"is_invite":false}},
			"a":{"range":[2,2],"filters":{"is_invited":true,"room_name_like":"KITCHEN"}},"c":{}},
		"room_subscriptions":{"!b":{"timeline_limit":5},"!a":{"required_state":{"include":[{}],"lazy_members":true}}},
		"extensions":{"to_device":{"enabled":true,"since":"s","limit":3},"e2ee":{"enabled":true},"account_data":{"enabled":true,"lists":["a"]},
			"receipts":{"enabled":true,"rooms":["!a"]},"typing":{"enabled":false},"io.element.msc4308.thread_subscriptions":{"enabled":true},"else":1}}`)
	got := fmt.Sprintf("%s %s %s %d %s", r.ConnID, r.Pos, r.TxnID, r.Timeout, r.Presence)
	if got != "c p t 30000 offline" || len(r.Lists) != 3 || len(r.Subscriptions) != 2 {
		t.Fatalf("%+v", r)
	}
	a, b, c := &r.Lists[0], &r.Lists[1], &r.Lists[2]
	if a.Key != "a" || a.Has(1) || !a.Has(2) || a.Has(3) || a.Filter.Invited != Only || a.Filter.Name != "kitchen" {
		t.Errorf("%+v", a)
	}
	if b.Timeline != MaxTimeline || !b.Has(0) || !b.Has(19) || b.Has(20) || !b.Has(35) || b.Filter.DM != Only || b.Filter.Invited != Without {
		t.Errorf("%+v", b)
	}
	if !c.Has(0) || !c.Has(100_000) || c.State == nil || c.State.Wants("m.room.name", "", "@a:b") {
		t.Errorf("%+v", c)
	}
	if r.Subscriptions[0].Room != "!a" || !r.Subscriptions[0].State.Lazy() || r.Subscriptions[1].Timeline != 5 {
		t.Errorf("%+v", r.Subscriptions)
	}
	if !r.ToDevice.On || r.ToDevice.Since != "s" || r.ToDevice.Limit != 3 || !r.E2EE || r.Typing.On || !r.Threads.On {
		t.Errorf("%+v", r)
	}
	if !r.AccountData.List("a") || r.AccountData.List("b") || !r.AccountData.Room("!x") || r.Typing.List("a") {
		t.Errorf("%+v", r.AccountData)
	}
	if !r.Receipts.List("b") || !r.Receipts.Room("!a") || r.Receipts.Room("!b") || !r.Receipts.Extra("!a") || !r.Receipts.ByName() {
		t.Errorf("%+v", r.Receipts)
	}
}

func TestRefused(t *testing.T) {
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	lists := ""
	for i := range maxLists + 1 {
		lists += fmt.Sprintf(`,"l%d":{}`, i)
	}
	long := `"` + strings.Repeat("x", maxString+1) + `"`
	for body, kind := range map[string]fault.Kind{
		`{"conn_id":1}`:                        fault.BadJSON,
		`{"timeout":-1}`:                       fault.Invalid,
		`{"timeout":"1"}`:                      fault.BadJSON,
		`{"timeout":1.5}`:                      fault.BadJSON,
		`{"lists":[]}`:                         fault.BadJSON,
		`{"lists":{"":1}}`:                     fault.Invalid,
		`{"lists":{` + lists[1:] + `}}`:        fault.Invalid,
		`{"lists":{"a":{"ranges":[[1,0]]}}}`:   fault.Invalid,
		`{"lists":{"a":{"ranges":[[1]]}}}`:     fault.Invalid,
		`{"lists":{"a":{"ranges":[[0,1,2]]}}}`: fault.Invalid,
		`{"lists":{"a":{"ranges":[0,1]}}}`:     fault.BadJSON,
		`{"lists":{"a":{"ranges":[` + many(101, "[0,1]") + `]}}}`:                      fault.Invalid,
		`{"lists":{"a":{"timeline_limit":-1}}}`:                                        fault.Invalid,
		`{"lists":{"a":{"timeline_limit":"x"}}}`:                                       fault.BadJSON,
		`{"lists":{"a":{"required_state":1}}}`:                                         fault.BadJSON,
		`{"lists":{"a":{"required_state":[["a"]]}}}`:                                   fault.Invalid,
		`{"lists":{"a":{"required_state":[["a",1]]}}}`:                                 fault.BadJSON,
		`{"lists":{"a":{"required_state":[["a",` + long + `]]}}}`:                      fault.Invalid,
		`{"lists":{"a":{"required_state":[` + many(maxElements+1, `["a",""]`) + `]}}}`: fault.Invalid,
		`{"lists":{"a":{"required_state":{"include":{}}}}}`:                            fault.BadJSON,
		`{"lists":{"a":{"required_state":{"include":[1]}}}}`:                           fault.BadJSON,
		`{"lists":{"a":{"filters":{"is_dm":1}}}}`:                                      fault.BadJSON,
		`{"lists":{"a":{"filters":{"room_types":1}}}}`:                                 fault.BadJSON,
		`{"lists":{"a":{"filters":{"tags":[1]}}}}`:                                     fault.BadJSON,
		`{"room_subscriptions":{"!a":1}}`:                                              fault.BadJSON,
		`{"lists":{"a":{"filters":{"tags":[` + many(200, `"x"`) + `],"spaces":[` + many(200, `"x"`) + `]}},"b":{"filters":{"not_tags":[` + many(101, `"x"`) + `]}}}}`: fault.Invalid,
		`{"extensions":{"to_device":1}}`:                      fault.BadJSON,
		`{"extensions":{"e2ee":{"enabled":1}}}`:               fault.BadJSON,
		`{"extensions":{"typing":{"rooms":1}}}`:               fault.BadJSON,
		`{"extensions":{"thread_subscriptions":{"limit":0}}}`: fault.Invalid,
	} {
		if _, err := Parse([]byte(body)); !fault.Is(err, kind) {
			t.Errorf("%.80s: %v", body, err)
		}
	}
}

func TestRequired(t *testing.T) {
	const me = "@me:hub"
	for _, c := range []struct{ state, wants, lacks string }{
		{`[]`, "", "m.room.name| m.room.member|@me:hub"},
		{`[["m.room.name",""]]`, "m.room.name|", "m.room.name|x m.room.topic|"},
		{`[["m.room.member","$ME"]]`, "m.room.member|@me:hub", "m.room.member|@x:hub m.room.member|$ME"},
		{`[["m.room.member","$LAZY"]]`, "", "m.room.member|@me:hub m.room.member|$LAZY"},
		{`[["m.room.member","*"]]`, "m.room.member|@x:hub", "m.room.name|"},
		{`[["*",""]]`, "m.room.name| x|", "m.room.member|@x:hub"},
		{`[["*","*"]]`, "m.room.name| m.room.member|@x:hub x|y", ""},
		{`[["*","*"],["m.room.member","$LAZY"]]`, "m.room.name| x|y", "m.room.member|@x:hub"},
		{`[["*","*"],["m.room.member","$LAZY"],["m.room.member","$ME"]]`, "x|y m.room.member|@me:hub", "m.room.member|@x:hub"},
		{`{"include":[{}]}`, "m.room.name| m.room.member|@x:hub", ""},
		{`{"include":[{}],"lazy_members":true}`, "m.room.name| x|y", "m.room.member|@x:hub"},
		{`{"include":[{}],"exclude":[{"type":"x"}]}`, "m.room.name|", "x|y x|"},
		{`{"include":[{"state_key":"k"}]}`, "x|k y|k", "x|"},
		{`{"include":[{"type":"*","state_key":"*"}]}`, "*|*", "x|y"},
		{`{"exclude":[{}]}`, "", "x|"},
	} {
		q := parse(t, `{"lists":{"a":{"required_state":`+c.state+`}}}`).Lists[0].State
		ask := func(list string, want bool) {
			for _, item := range strings.Fields(list) {
				typ, key, _ := strings.Cut(item, "|")
				if q.Wants(typ, key, me) != want {
					t.Errorf("%s: %s", c.state, item)
				}
				if keys, named := q.Named(nil, me); named && want != slices.Contains(keys, Key{typ, key}) {
					t.Errorf("%s names %v", c.state, keys)
				}
			}
		}
		ask(c.wants, true)
		ask(c.lacks, false)
	}
	text := func(state string) string {
		return parse(t, `{"lists":{"a":{"required_state":`+state+`}}}`).Lists[0].State.Text()
	}
	if text(`[["a","b"],["c","*"]]`) != text(`{"include":[{"type":"c"},{"type":"a","state_key":"b"},{"type":"c"}]}`) {
		t.Error("the same asked for in two ways is not the same")
	}
	if text(`[["a","*"]]`) == text(`[["a","\"*"]]`) || text(`[["m.room.member","$ME"]]`) == text(`[["m.room.member","$"]]`) {
		t.Error("two that differ are the same")
	}
}

func TestFilter(t *testing.T) {
	f := parse(t, `{"lists":{"a":{"filters":{"room_types":[null,"m.space"],"not_room_types":["m.space"],"tags":["a","b"],"not_tags":["c"]}}}}`).Lists[0].Filter
	if !f.PassesType("") || f.PassesType("m.space") || f.PassesType("x") || !f.Facts() {
		t.Error("types")
	}
	if f.PassesTags(nil) || !f.PassesTags([]string{"a"}) || f.PassesTags([]string{"a", "c"}) {
		t.Error("tags")
	}
	f = parse(t, `{"lists":{"a":{"filters":{"room_types":[],"is_encrypted":false}}}}`).Lists[0].Filter
	if f.PassesType("") || f.Encrypted.Passes(true) || !f.Encrypted.Passes(false) || !f.DM.Passes(true) || !f.DM.Passes(false) {
		t.Error("empty")
	}
}

// Whatever is sent, it is refused or bounded.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"lists":{"a":{"ranges":[[0,9]],"timeline_limit":1,"required_state":[["*","*"],["m.room.member","$LAZY"]],"filters":{"tags":["x"]}}}}`))
	f.Add([]byte(`{"room_subscriptions":{"!a":{"required_state":{"include":[{"type":"a"}],"exclude":[{}]}}},"extensions":{"typing":{"enabled":true,"rooms":["*"]}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if cjson.Check(body) != nil {
			return
		}
		r, err := Parse(body)
		if err != nil {
			if !fault.Is(err, fault.BadJSON) && !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if len(r.Lists) > maxLists || len(r.Subscriptions) > maxSubscriptions || r.Timeout < 0 {
			t.Fatalf("%+v", r)
		}
		for i := range r.Lists {
			l := &r.Lists[i]
			if l.Timeline < 0 || l.Timeline > MaxTimeline || l.State == nil || i > 0 && r.Lists[i-1].Key >= l.Key {
				t.Fatalf("%+v", l)
			}
			_ = l.Has(7)
			_ = l.State.Wants("m.room.member", "@a:b", "@a:b")
		}
	})
}
