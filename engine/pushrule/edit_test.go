package pushrule

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

func put(t *testing.T, rs *Ruleset, kind Kind, id, body string, at Place) {
	t.Helper()
	if err := rs.Put(kind, id, []byte(body), at); err != nil {
		t.Fatalf("put %s: %v", id, err)
	}
}

// order spells the user's own rules.
func order(rs *Ruleset) string {
	var ids []string
	for _, r := range rs.own {
		ids = append(ids, r.kind.String()[:1]+"/"+r.id)
	}
	return strings.Join(ids, " ")
}

func TestPlaces(t *testing.T) {
	const body = `{"actions":["notify"]}`
	rs := New(me)
	step := func(id string, at Place, want string) {
		t.Helper()
		put(t, rs, Room, id, body, at)
		if got := order(rs); got != want {
			t.Fatalf("after %s: %s, want %s", id, got, want)
		}
	}
	step("a", Place{}, "r/a")
	step("b", Place{}, "r/b r/a")
	step("c", Place{After: "b"}, "r/b r/c r/a")
	step("d", Place{Before: "a"}, "r/b r/c r/d r/a")
	step("e", Place{Before: "b", After: "a"}, "r/e r/b r/c r/d r/a")
	step("c", Place{}, "r/e r/b r/c r/d r/a")
	step("c", Place{Before: "e"}, "r/c r/e r/b r/d r/a")
	step("c", Place{After: "c"}, "r/c r/e r/b r/d r/a")
	put(t, rs, Underride, "u", body, Place{})
	put(t, rs, Override, "o", body, Place{})
	put(t, rs, Sender, "s", body, Place{})
	if got, want := order(rs), "o/o r/c r/e r/b r/d r/a s/s u/u"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	for _, at := range []Place{{Before: "none"}, {After: "none"}, {Before: ".m.rule.call"}, {After: "o"}} {
		if err := rs.Put(Room, "x", []byte(body), at); !fault.Is(err, fault.Unknown) {
			t.Errorf("%+v: %v", at, err)
		}
	}
	if err := rs.Delete(Room, "e"); err != nil {
		t.Fatal(err)
	}
	if got, want := order(rs), "o/o r/c r/b r/d r/a s/s u/u"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
}

func TestPutRefuses(t *testing.T) {
	long := strings.Repeat("x", maxPattern+1)
	many := strings.Repeat(`{"kind":"contains_display_name"},`, maxConds) + `{"kind":"contains_display_name"}`
	for _, c := range []struct {
		kind     Kind
		id, body string
		want     fault.Kind
	}{
		{Override, ".m.rule.mine", `{"actions":[]}`, fault.Invalid},
		{Override, "a/b", `{"actions":[]}`, fault.Invalid},
		{Override, `a\b`, `{"actions":[]}`, fault.Invalid},
		{Override, "", `{"actions":[]}`, fault.Invalid},
		{Override, strings.Repeat("x", maxID+1), `{"actions":[]}`, fault.Invalid},
		{Override, "x", `[]`, fault.BadJSON},
		{Override, "x", `{}`, fault.Missing},
		{Override, "x", `{"actions":{}}`, fault.BadJSON},
		{Override, "x", `{"actions":[1]}`, fault.BadJSON},
		{Override, "x", `{"actions":["shout"]}`, fault.Invalid},
		{Override, "x", `{"actions":[{"value":1}]}`, fault.Invalid},
		{Override, "x", `{"actions":[` + strings.Repeat(`"notify",`, maxActions) + `"notify"]}`, fault.TooLarge},
		{Override, "x", `{"actions":[],"conditions":{}}`, fault.BadJSON},
		{Override, "x", `{"actions":[],"conditions":[1]}`, fault.BadJSON},
		{Override, "x", `{"actions":[],"conditions":[{}]}`, fault.BadJSON},
		{Override, "x", `{"actions":[],"conditions":[{"kind":"event_match","key":"a"}]}`, fault.Invalid},
		{Override, "x", `{"actions":[],"conditions":[{"kind":"event_match","pattern":"a"}]}`, fault.Invalid},
		{Override, "x", `{"actions":[],"conditions":[{"kind":"event_match","key":"a","pattern":"` + long + `"}]}`, fault.Invalid},
		{Override, "x", `{"actions":[],"conditions":[{"kind":"event_property_is","key":"a","value":[]}]}`, fault.Invalid},
		{Override, "x", `{"actions":[],"conditions":[{"kind":"event_property_is","key":"a","value":1.5}]}`, fault.Invalid},
		{Override, "x", `{"actions":[],"conditions":[{"kind":"room_member_count","is":"~2"}]}`, fault.Invalid},
		{Override, "x", `{"actions":[],"conditions":[{"kind":"room_member_count","is":2}]}`, fault.Invalid},
		{Override, "x", `{"actions":[],"conditions":[` + many + `]}`, fault.TooLarge},
		{Content, "x", `{"actions":[]}`, fault.Missing},
		{Content, "x", `{"actions":[],"pattern":"` + long + `"}`, fault.TooLarge},
	} {
		rs := New(me)
		if err := rs.Put(c.kind, c.id, []byte(c.body), Place{}); !fault.Is(err, c.want) {
			t.Errorf("%.80s: %v", c.body, err)
		}
		if rs.Changed() {
			t.Errorf("%.80s: kept", c.body)
		}
	}
}

func TestBounds(t *testing.T) {
	rs := New(me)
	for i := range maxRules {
		put(t, rs, Room, fmt.Sprint(i), `{"actions":[]}`, Place{})
		rs.own = rs.own[:len(rs.own):len(rs.own)]
	}
	if err := rs.Put(Room, "one more", []byte(`{"actions":[]}`), Place{}); !fault.Is(err, fault.TooLarge) {
		t.Fatal(err)
	}
	put(t, rs, Room, "7", `{"actions":["notify"]}`, Place{})
	big := New(me)
	for i := 0; ; i++ {
		body := `{"actions":[{"set_tweak":"x","value":"` + strings.Repeat("v", 60<<10) + `"}]}`
		if err := big.Put(Room, fmt.Sprint(i), []byte(body), Place{}); err != nil {
			if i != 2 || !fault.Is(err, fault.TooLarge) {
				t.Fatal(i, err)
			}
			break
		}
	}
}

func TestChangesOfDefaults(t *testing.T) {
	rs := New(me)
	msg := target("m.room.message", `{"body":"x"}`, nil)
	if err := rs.SetActions(Underride, ".m.rule.message", []byte(`["notify",{"set_tweak":"highlight"}]`)); err != nil {
		t.Fatal(err)
	}
	if got := spell(rs.Evaluate(msg)); got != "nh" {
		t.Fatal(got)
	}
	put(t, rs, Room, "!r:hub", `{"actions":["dont_notify"]}`, Place{})
	if got := spell(rs.Evaluate(msg)); got != "" {
		t.Fatal(got)
	}
	if err := rs.SetEnabled(Room, "!r:hub", false); err != nil {
		t.Fatal(err)
	}
	put(t, rs, Room, "!r:hub", `{"actions":["dont_notify"]}`, Place{}) // stays off
	if got := spell(rs.Evaluate(msg)); got != "nh" {
		t.Fatal(got)
	}
	put(t, rs, Override, "first", `{"actions":["notify"]}`, Place{})
	if err := rs.SetEnabled(Override, ".m.rule.master", true); err != nil {
		t.Fatal(err)
	}
	if got := spell(rs.Evaluate(msg)); got != "" {
		t.Fatal("master does not silence", got)
	}
	for _, c := range []struct {
		kind Kind
		id   string
		want bool
	}{{Override, ".m.rule.master", true}, {Room, "!r:hub", false}, {Override, "first", true}, {Underride, ".m.rule.call", true}} {
		if on, err := rs.Enabled(c.kind, c.id); err != nil || on != c.want {
			t.Errorf("%s: %v %v", c.id, on, err)
		}
	}
	_, err1 := rs.Enabled(Room, "none")
	_, err2 := rs.AppendRule(nil, Room, "none")
	_, err3 := rs.AppendActions(nil, Underride, ".m.rule.master")
	for i, err := range []error{err1, err2, err3, rs.SetEnabled(Room, "none", true), rs.SetActions(Room, "none", []byte(`[]`)), rs.Delete(Room, "none")} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := rs.Delete(Override, ".m.rule.master"); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// A copy taken before a change is still read while others change the original.
func TestCopiesStayAsTheyWere(t *testing.T) {
	rs := New(me)
	put(t, rs, Room, "a", `{"actions":["notify"]}`, Place{})
	if err := rs.SetEnabled(Override, ".m.rule.reaction", false); err != nil {
		t.Fatal(err)
	}
	old := *rs
	before := old.AppendClient(nil)
	put(t, rs, Room, "a", `{"actions":[]}`, Place{})
	put(t, rs, Room, "b", `{"actions":[]}`, Place{Before: "a"})
	for _, err := range []error{rs.SetEnabled(Room, "a", false), rs.SetEnabled(Override, ".m.rule.reaction", true),
		rs.SetActions(Override, ".m.rule.reaction", []byte(`["notify"]`)), rs.Delete(Room, "b")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if after := old.AppendClient(nil); !bytes.Equal(before, after) {
		t.Fatalf("%s\n%s", before, after)
	}
}

func TestStoredFormComesBack(t *testing.T) {
	rs := New(me)
	put(t, rs, Underride, "u", `{"actions":["notify"],"conditions":[{"kind":"org.unknown","x":[1.5]}]}`, Place{})
	put(t, rs, Override, "o", `{"actions":[{"value":"a","set_tweak":"sound"}]}`, Place{})
	put(t, rs, Content, "c", `{"actions":["dont_notify"],"pattern":"Cake*"}`, Place{})
	put(t, rs, Content, "d", `{"actions":[],"pattern":"tea"}`, Place{})
	for _, err := range []error{rs.SetEnabled(Content, "d", false), rs.SetEnabled(Override, ".m.rule.reaction", false),
		rs.SetActions(Override, ".m.rule.tombstone", []byte(`[]`))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stored := rs.AppendStored(nil)
	if err := cjson.Check(stored); err != nil {
		t.Fatalf("%s: %v", stored, err)
	}
	back, err := Parse(me, stored)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := rs.AppendClient(nil), back.AppendClient(nil); !bytes.Equal(a, b) {
		t.Fatalf("%s\n%s", a, b)
	}
	if again := back.AppendStored(nil); !bytes.Equal(stored, again) {
		t.Fatalf("%s\n%s", stored, again)
	}
	// A store may have put the object in canonical order.
	canon, err := cjson.Canonical(nil, stored, false)
	if err != nil {
		t.Fatal(err)
	}
	if back, err = Parse(me, canon); err != nil || order(back) != "o/o c/d c/c u/u" {
		t.Fatal(order(back), err)
	}
	for _, bad := range []string{`[]`, `{"room":1}`, `{"room":[{"rule_id":"x"}]}`, `{`} {
		if _, err := Parse(me, []byte(bad)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
	if _, err := Parse(me, []byte(`{"changed":[{"rule_id":".m.rule.of_old","enabled":false}],"later":[]}`)); err != nil {
		t.Error(err)
	}
}

func TestClientForm(t *testing.T) {
	rs := New(me)
	put(t, rs, Override, "mine", `{"actions":["notify"],"conditions":[]}`, Place{})
	all := rs.AppendClient(nil)
	if err := cjson.Check(all); err != nil {
		t.Fatalf("%s: %v", all, err)
	}
	list, ok := cjson.LookupPath(all, "global", "override")
	if !ok {
		t.Fatalf("%s", all)
	}
	var ids []string
	if err := cjson.Array(list, func(val []byte) bool {
		id, _ := stringOf(val, "rule_id")
		ids = append(ids, id)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if ids[0] != ".m.rule.master" || ids[1] != "mine" || ids[2] != ".m.rule.suppress_notices" {
		t.Fatal(ids)
	}
	for _, kind := range []string{"room", "sender"} {
		if list, _ := cjson.LookupPath(all, "global", kind); string(list) != "[]" {
			t.Errorf("%s: %s", kind, list)
		}
	}
	mention, err := rs.AppendRule(nil, Override, ".m.rule.is_user_mention")
	want := `{"actions":["notify",{"set_tweak":"sound","value":"default"},{"set_tweak":"highlight"}],"conditions":[{"kind":"event_property_contains",` +
		`"key":"content.m\\.mentions.user_ids","value":"@me:hub"}],"default":true,"enabled":true,"rule_id":".m.rule.is_user_mention"}`
	if err != nil || string(mention) != want {
		t.Fatalf("%s\n%s", mention, want)
	}
	for i := range defaults {
		a, err := parseActions(defaults[i].actions)
		if err != nil || spell(a) != spell(defaults[i].result) {
			t.Errorf("%s: %v %v", defaults[i].id, a, err)
		}
		r, err := rs.AppendRule(nil, defaults[i].kind, defaults[i].id)
		if err != nil || cjson.Check(r) != nil {
			t.Errorf("%s: %v", r, err)
		}
	}
}

func FuzzPut(f *testing.F) {
	f.Add([]byte(`{"actions":["notify"],"conditions":[{"kind":"event_match","key":"content.body","pattern":"a*"}],"pattern":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if cjson.Check(body) != nil {
			return
		}
		for kind := range numKinds {
			rs := New(me)
			if rs.Put(kind, "x", body, Place{}) != nil {
				continue
			}
			back, err := Parse(me, rs.AppendStored(nil))
			if err != nil {
				t.Fatal(err)
			}
			if a, b := rs.AppendClient(nil), back.AppendClient(nil); !bytes.Equal(a, b) || cjson.Check(a) != nil {
				t.Fatalf("%s\n%s", a, b)
			}
			back.Evaluate(target("m.room.message", `{"body":"a"}`, nil))
		}
	})
}
