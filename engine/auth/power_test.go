package auth

import (
	"testing"

	"hearth/engine/event"
	"hearth/engine/mxid"
)

func TestPowerLevelsRule(t *testing.T) {
	// In version 12 @alice:a and @carol:a stand above; the sender here is @mod:a.
	old := `m.room.power_levels||@alice:a|{"ban":50,"events":{"a":50,"b":60},"events_default":0,"kick":70,` +
		`"notifications":{"room":60},"redact":50,"users":{"@bob:b":20,"@mod2:a":50,"@mod:a":50,"@top:a":90},"users_default":0}`
	set := []string{old, `m.room.power_levels||@alice:a|{"events":{"m.room.power_levels":50}}`}[:1]
	by := func(sender, content string) string { return `m.room.power_levels||` + sender + `|` + content }
	with := func(ban, events, kick, notifications, users string) string {
		return by("@mod:a", `{"ban":`+ban+`,"events":`+events+`,"events_default":0,"kick":`+kick+
			`,"notifications":`+notifications+`,"redact":50,"users":`+users+`,"users_default":0}`)
	}
	const ev, no = `{"a":50,"b":60}`, `{"room":60}`
	const us = `{"@bob:b":20,"@mod2:a":50,"@mod:a":50,"@top:a":90}`
	runCases(t, []ruleCase{
		{rule: "10.5", set: []string{"drop|m.room.power_levels|"}, in: "1-11", ev: by("@alice:a", `{"users":{"@alice:a":9999}}`)},
		{rule: "10.5", set: []string{"drop|m.room.power_levels|"}, in: "12", ev: by("@alice:a", `{"users":{"@mod:a":9999}}`)},
		{rule: "10.1", in: "10-", set: set, ev: with(`"50"`, ev, "70", no, us), want: "ban is not an integer"},
		{rule: "10.1", in: "1-9", set: set, ev: with(`"50"`, ev, "70", no, us)},
		{rule: "10.1", in: "1-9", set: set, ev: with(`" +050 "`, ev, "70", no, us)},
		{rule: "10.1", in: "1-9", set: set, ev: with(`50.7`, ev, "70", no, us)},
		{rule: "10.1", in: "1-9", set: set, ev: with(`true`, ev, "70", no, us), want: "not an integer"},
		{rule: "10.2", in: "10-", set: set, ev: with("50", `{"a":"50","b":60}`, "70", no, us), want: "events is not an object"},
		{rule: "10.2", in: "10-", set: set, ev: with("50", `[]`, "70", no, us), want: "events is not an object"},
		{rule: "10.2", in: "10-", set: set, ev: with("50", ev, "70", `{"room":null}`, us), want: "notifications is not an object"},
		{rule: "10.2", in: "1-9", set: set, ev: with("50", `{"a":"50","b":60}`, "70", no, us)},
		{rule: "10.3", set: set, ev: with("50", ev, "70", no, `[]`), want: "users is not an object"},
		{rule: "10.3", set: set, ev: with("50", ev, "70", no, `{"bob":20}`), want: "users is not an object"},
		{rule: "10.3", set: set, ev: with("50", ev, "70", no, `{"@bob:b":"x"}`), want: "users is not an object"},
		{rule: "10.3", in: "10-", set: set, ev: with("50", ev, "70", no, `{"@bob:b":"20"}`), want: "users is not an object"},
		{rule: "10.4", in: "12", set: set, ev: by("@alice:a", `{"users":{"@alice:a":100}}`), want: "names a creator"},
		{rule: "10.4", in: "12", set: set, ev: by("@alice:a", `{"users":{"@carol:a":100}}`), want: "names a creator"},
		{rule: "10.4", in: "12", set: set, ev: by("@alice:a", `{"users":{"@bob:b":100}}`)},
		{rule: "10 same", set: set, ev: with("50", ev, "70", no, us)},
		{rule: "10.6.1", set: set, ev: with("50", ev, "60", no, us), want: "changing the level for kick"},
		{rule: "10.6.1", set: set, ev: with("50", ev, "50", no, us), want: "changing the level for kick"},
		{rule: "10.6.2", set: set, ev: with("51", ev, "70", no, us), want: "setting ban to 51"},
		{rule: "10.6.2", set: set, ev: with("49", ev, "70", no, us)},
		{rule: "10.6 removed", set: set, ev: by("@mod:a", `{"ban":50,"events":`+ev+`,"events_default":0,"notifications":`+no+`,"users":`+us+`}`),
			want: "changing the level for kick"},
		{rule: "10.6 added", set: set, ev: by("@mod:a", `{"ban":50,"events":`+ev+`,"events_default":0,"invite":51,"kick":70,"notifications":`+no+`,"users":`+us+`}`),
			want: "setting invite to 51"},
		{rule: "10.6 removed", set: set, ev: by("@mod:a", `{"events":`+ev+`,"kick":70,"notifications":`+no+`,"users":`+us+`}`)},
		{rule: "10.7", set: set, ev: with("50", `{"a":50,"b":50}`, "70", no, us), want: "changing the level for b"},
		{rule: "10.7 removed", set: set, ev: with("50", `{"a":50}`, "70", no, us), want: "changing the level for b"},
		{rule: "10.7 removed", set: set, ev: with("50", `{"b":60}`, "70", no, us)},
		{rule: "10.8", set: set, ev: with("50", `{"a":51,"b":60}`, "70", no, us), want: "setting a to 51"},
		{rule: "10.8 added", set: set, ev: with("50", `{"a":50,"b":60,"c":51}`, "70", no, us), want: "setting c to 51"},
		{rule: "10.8 added", set: set, ev: with("50", `{"a":50,"b":60,"c":50}`, "70", no, us)},
		{rule: "10.7 notifications", in: "6-", set: set, ev: with("50", ev, "70", `{"room":50}`, us), want: "changing the level for room"},
		{rule: "10.8 notifications", in: "6-", set: set, ev: with("50", ev, "70", `{"room":60,"x":51}`, us), want: "setting x to 51"},
		{rule: "10.7 notifications", in: "1-5", set: set, ev: with("50", ev, "70", `{"room":50,"x":51}`, us)},
		{rule: "10.9", set: set, ev: with("50", ev, "70", no, `{"@bob:b":20,"@mod2:a":49,"@mod:a":50,"@top:a":90}`), want: "no lower power level"},
		{rule: "10.9 removed", set: set, ev: with("50", ev, "70", no, `{"@bob:b":20,"@mod:a":50,"@top:a":90}`), want: "no lower power level"},
		{rule: "10.9 higher", set: set, ev: with("50", ev, "70", no, `{"@bob:b":20,"@mod2:a":50,"@mod:a":50,"@top:a":10}`), want: "no lower power level"},
		{rule: "10.9", set: set, ev: with("50", ev, "70", no, `{"@mod2:a":50,"@mod:a":50,"@top:a":90}`)},
		{rule: "10.9 own", set: set, ev: with("50", ev, "70", no, `{"@bob:b":20,"@mod2:a":50,"@mod:a":10,"@top:a":90}`)},
		{rule: "10.9 own removed", set: set, ev: with("50", ev, "70", no, `{"@bob:b":20,"@mod2:a":50,"@top:a":90}`)},
		{rule: "10.10", set: set, ev: with("50", ev, "70", no, `{"@bob:b":51,"@mod2:a":50,"@mod:a":50,"@top:a":90}`), want: "setting @bob:b to 51"},
		{rule: "10.10", set: set, ev: with("50", ev, "70", no, `{"@bob:b":50,"@mod2:a":50,"@mod:a":50,"@top:a":90}`)},
		{rule: "10.10 own", set: set, ev: with("50", ev, "70", no, `{"@bob:b":20,"@mod2:a":50,"@mod:a":51,"@top:a":90}`), want: "setting @mod:a to 51"},
		{rule: "10.10 added", set: set, ev: with("50", ev, "70", no, `{"@bob:b":20,"@mod2:a":50,"@mod:a":50,"@new:a":60,"@top:a":90}`), want: "setting @new:a to 60"},
	})
}

func TestPowerLevels(t *testing.T) {
	for _, version := range event.Versions() {
		w := newWorld(t, version)
		create := w.get(typeCreate, "")
		pl := w.make(`m.room.power_levels||@alice:a|{"ban":"60","events":{"a":10,"b":"11","c":true},"events_default":5,` +
			`"notifications":{"room":20},"redact":{},"users":{"@bob:b":" -7 ","@mod:a":50},"users_default":3}`)
		parsed := ParsePowerLevels(create, pl)
		var view PowerLevels
		view.read(w.v, create, pl)
		old := !w.v.IntegerPL
		choose := func(a, b int64) int64 {
			if old {
				return a
			}
			return b
		}
		alice := int64(3)
		if w.v.Creators {
			alice = Infinite
		}
		for _, p := range []*PowerLevels{parsed, &view} {
			got := []int64{
				p.UserLevel("@mod:a"), p.UserLevel("@bob:b"), p.UserLevel("@x:b"), p.UserLevel("@alice:a"),
				p.EventLevel("a", true), p.EventLevel("b", false), p.EventLevel("c", true), p.EventLevel("d", false),
				p.Ban(), p.Kick(), p.Invite(), p.Redact(), p.Notification("room"), p.Notification("x"), p.UsersDefault(),
			}
			want := []int64{50, choose(-7, 3), 3, alice, 10, choose(11, 5), 50, 5, choose(60, 50), 50, 0, 50, 20, 50, 3}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("v%s: question %d: %d, want %d", version, i, got[i], want[i])
				}
			}
		}
		absent := ParsePowerLevels(create, nil)
		if w.v.Creators {
			alice = Infinite
		} else {
			alice = 100
		}
		if absent.UserLevel("@alice:a") != alice || absent.UserLevel("@bob:b") != 0 || absent.EventLevel("x", true) != 50 ||
			absent.EventLevel("x", false) != 0 || absent.Invite() != 0 || absent.Kick() != 50 || absent.UsersDefault() != 0 {
			t.Errorf("v%s: defaults %+v", version, absent)
		}
	}
	if p := ParsePowerLevels(nil, nil); p.UserLevel("@alice:a") != 0 || p.UserLevel("") != 0 {
		t.Error("levels of no room")
	}
}

func TestParseLevel(t *testing.T) {
	v1, v10 := event.LookupVersion("1"), event.LookupVersion("10")
	for _, tc := range []struct {
		in      string
		old     int64
		ok, v10 bool
	}{
		{"5", 5, true, true}, {"-5", -5, true, true}, {`"5"`, 5, true, false}, {`" +0050 "`, 50, true, false},
		{`"-100"`, -100, true, false}, {"50.57", 50, true, false}, {"-1.9", -1, true, false}, {"5.114698E4", 51146, true, false},
		{`"99999999999999999999999"`, maxLevel, true, false}, {`"-99999999999999999999999"`, -maxLevel, true, false},
		{"1e300", maxLevel, true, false}, {"1e999", 0, false, false}, {`""`, 0, false, false}, {`"+"`, 0, false, false},
		{`"5.0"`, 0, false, false}, {`"0x5"`, 0, false, false}, {"null", 0, false, false}, {"true", 0, false, false},
		{"[]", 0, false, false}, {"", 0, false, false}, {"9223372036854775807", maxLevel, true, true},
	} {
		n, ok := parseLevel(v1, []byte(tc.in))
		if ok != tc.ok || ok && n != tc.old {
			t.Errorf("v1 %s: %d %v, want %d %v", tc.in, n, ok, tc.old, tc.ok)
		}
		if _, ok := parseLevel(v10, []byte(tc.in)); ok != tc.v10 {
			t.Errorf("v10 %s: %v", tc.in, ok)
		}
	}
}

func TestCreators(t *testing.T) {
	for version, want := range map[string][]mxid.UserID{
		"1": {"@alice:a"}, "11": {"@alice:a"}, "12": {"@alice:a", "@carol:a"},
	} {
		got := Creators(newWorld(t, version).get(typeCreate, ""))
		if len(got) != len(want) {
			t.Errorf("v%s: creators %v", version, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("v%s: creators %v", version, got)
			}
		}
	}
	other := newWorld(t, "1").make(`m.room.create||@alice:a|{"creator":"@bob:b"}`)
	if got := Creators(other); len(got) != 1 || got[0] != "@bob:b" {
		t.Errorf("creators %v", got)
	}
}
