package auth

import (
	"fmt"
	"strings"
	"testing"

	"hearth/engine/event"
)

func TestNeeded(t *testing.T) {
	for _, tc := range []struct{ in, ev, want string }{
		{"-", `m.room.create||@alice:a|{}`, ``},
		{"1-11", `m.room.message|-|@bob:b|{}`, `create power @bob:b`},
		{"12", `m.room.message|-|@bob:b|{}`, `power @bob:b`},
		{"1-11", `m.room.member|@bob:b|@bob:b|{"membership":"leave"}`, `create power @bob:b`},
		{"1-11", `m.room.member|@x:b|@mod:a|{"membership":"ban"}`, `create power @mod:a @x:b`},
		{"1-11", `m.room.member|@x:b|@mod:a|{"membership":"invite"}`, `create power @mod:a @x:b rules`},
		{"1-11", `m.room.member|@bob:b|@bob:b|{"membership":"knock"}`, `create power @bob:b rules`},
		{"1-11", `m.room.member|@x:b|@mod:a|{"membership":"invite","third_party_invite":{"signed":{"token":"t"}}}`, `create power @mod:a @x:b rules third:t`},
		{"1-7", `m.room.member|@x:b|@x:b|{"join_authorised_via_users_server":"@mod:a","membership":"join"}`, `create power @x:b rules`},
		{"8-11", `m.room.member|@x:b|@x:b|{"join_authorised_via_users_server":"@mod:a","membership":"join"}`, `create power @x:b rules @mod:a`},
		{"8-11", `m.room.member|@x:b|@x:b|{"join_authorised_via_users_server":"@x:b","membership":"join"}`, `create power @x:b rules`},
		{"8-11", `m.room.member|@x:b|@x:b|{"join_authorised_via_users_server":"@mod:a","membership":"leave"}`, `create power @x:b`},
		{"12", `m.room.member|@x:b|@x:b|{"join_authorised_via_users_server":"@mod:a","membership":"join"}`, `power @x:b rules @mod:a`},
		{"1-11", `m.room.member|-|@x:b|{"membership":"join"}`, `create power @x:b rules`},
	} {
		rc := ruleCase{in: tc.in}
		for i, version := range event.Versions() {
			if !rc.holdsIn(i + 1) {
				continue
			}
			var got []string
			for _, key := range NeededFor(newWorld(t, version).make(tc.ev)) {
				switch key.Type {
				case typeCreate:
					got = append(got, "create")
				case typePowerLevels:
					got = append(got, "power")
				case typeJoinRules:
					got = append(got, "rules")
				case typeThirdParty:
					got = append(got, "third:"+key.StateKey)
				case typeMember:
					got = append(got, key.StateKey)
				}
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("v%s: %s: %v, want %s", version, tc.ev, got, tc.want)
			}
		}
	}
}

func TestCheckAuthEvents(t *testing.T) {
	message := `m.room.message|-|@bob:b|{}`
	create, levels := `m.room.create||@alice:a|{}`, `m.room.power_levels||@alice:a|{}`
	bob := `m.room.member|@bob:b|@bob:b|{}`
	for _, tc := range []struct {
		rule, in, ev string
		auth         []string
		want         string
	}{
		{"3", "1-11", message, []string{create, levels, bob}, ""},
		{"3", "12", message, []string{levels, bob}, ""},
		{"3 none", "12", message, nil, ""},
		{"3.1", "1-11", message, []string{create, bob, bob}, "two auth events"},
		{"3.2", "1-11", message, []string{create, `m.room.member|@mod:a|@mod:a|{}`}, "not one to select"},
		{"3.2", "1-11", message, []string{create, `m.room.join_rules||@mod:a|{}`}, "not one to select"},
		{"3.2", "1-11", message, []string{create, `m.room.member|-|@bob:b|{}`}, "not one to select"},
		{"3.2", "12", message, []string{create, bob}, "not one to select"},
		{"3.3", "-", message, []string{create, "nil"}, "unknown or rejected"},
		{"2.4 old", "1-11", message, []string{levels, bob}, "no create event"},
		{"3.5", "1-11", message, []string{create, bob + "|room=!other:a"}, "another room"},
		{"1", "-", create, nil, ""},
		{"1", "-", create, []string{bob}, "no auth events"},
	} {
		if tc.rule == "3.3" {
			tc.in = "1-11"
		}
		rc := ruleCase{in: tc.in}
		for i, version := range event.Versions() {
			if !rc.holdsIn(i + 1) {
				continue
			}
			w := newWorld(t, version)
			var list []*event.Event
			for _, line := range tc.auth {
				if line == "nil" {
					list = append(list, nil)
					continue
				}
				list = append(list, w.make(line))
			}
			err := CheckAuthEvents(w.make(tc.ev), list)
			if got := fmt.Sprint(err); (tc.want == "") != (err == nil) || tc.want != "" && !strings.Contains(got, tc.want) {
				t.Errorf("v%s %s: %v, want %q", version, tc.rule, err, tc.want)
			}
		}
	}
}

func TestStateOf(t *testing.T) {
	w := newWorld(t, "10")
	state := StateOf([]*event.Event{nil, w.get(typeCreate, ""), w.get(typeMember, "@bob:b")})
	if err := Check(w.make(`m.room.message|-|@bob:b|{}`), state); err != nil {
		t.Error(err)
	}
	if Check(w.make(`m.room.message|-|@mod:a|{}`), state) == nil {
		t.Error("allowed a sender whose membership is not among the events")
	}
}

// TestAllocations holds the budget of the hot path: nothing for a message, whether
// the power levels are parsed or not.
func TestAllocations(t *testing.T) {
	for _, version := range []string{"1", "10", "12"} {
		w := newWorld(t, version)
		e := w.make(`m.room.message|-|@bob:b|{"body":"x"}`)
		create, levels, bob := w.get(typeCreate, ""), w.get(typePowerLevels, ""), w.get(typeMember, "@bob:b")
		state := func(typ, _ string) *event.Event {
			switch typ {
			case typeCreate:
				return create
			case typePowerLevels:
				return levels
			}
			return bob
		}
		pl := ParsePowerLevels(create, levels)
		if n := testing.AllocsPerRun(100, func() {
			if Check(e, state) != nil {
				t.Fatal("refused")
			}
		}); n > 0 {
			t.Errorf("v%s: Check of a message allocates %v times", version, n)
		}
		if n := testing.AllocsPerRun(100, func() {
			if CheckWith(e, state, pl) != nil {
				t.Fatal("refused")
			}
		}); n > 0 {
			t.Errorf("v%s: CheckWith of a message allocates %v times", version, n)
		}
	}
}

func BenchmarkCheckMessage(b *testing.B) {
	w := newWorld(b, "12")
	e := w.make(`m.room.message|-|@bob:b|{"body":"x"}`)
	b.ReportAllocs()
	for b.Loop() {
		if Check(e, w.get) != nil {
			b.Fatal("refused")
		}
	}
}
