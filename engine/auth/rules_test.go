package auth

import (
	"strconv"
	"strings"
	"testing"

	"hearth/engine/event"
	"hearth/engine/fault"
)

// ruleCase is one event against the state of newWorld, changed by set.
type ruleCase struct {
	rule string   // what is tried, by its number in the newest version that has it
	in   string   // versions, "3-" or "1-5"
	set  []string // changes to the state
	ev   string
	want string // part of the refusal; "" where it is allowed
}

func (rc *ruleCase) holdsIn(v int) bool {
	from, to, isRange := strings.Cut(rc.in, "-")
	lo, hi := 1, 12
	if from != "" {
		lo, _ = strconv.Atoi(from)
	}
	if to != "" {
		hi, _ = strconv.Atoi(to)
	}
	if !isRange && from != "" {
		hi = lo
	}
	return lo <= v && v <= hi
}

func runCases(t *testing.T, cases []ruleCase) {
	for _, rc := range cases {
		for i, version := range event.Versions() {
			if !rc.holdsIn(i + 1) {
				continue
			}
			w := newWorld(t, version)
			for _, line := range rc.set {
				w.set(line)
			}
			e := w.make(rc.ev)
			err := Check(e, w.get)
			pl := ParsePowerLevels(w.get(typeCreate, ""), w.get(typePowerLevels, ""))
			again := CheckWith(e, w.get, pl)
			if (err == nil) != (again == nil) {
				t.Errorf("v%s %s: %s: %v with levels read, %v with levels parsed", version, rc.rule, rc.ev, err, again)
			}
			switch {
			case rc.want == "" && err != nil:
				t.Errorf("v%s %s: %s: %v", version, rc.rule, rc.ev, err)
			case rc.want != "" && err == nil:
				t.Errorf("v%s %s: %s: allowed, want %q", version, rc.rule, rc.ev, rc.want)
			case rc.want != "" && !strings.Contains(err.Error(), rc.want):
				t.Errorf("v%s %s: %s: %v, want %q", version, rc.rule, rc.ev, err, rc.want)
			}
			if err != nil && !fault.Is(err, fault.Forbidden) && !fault.Is(err, fault.BadJSON) {
				t.Errorf("v%s %s: error of kind %v", version, rc.rule, fault.KindOf(err))
			}
		}
	}
}

func TestCreate(t *testing.T) {
	runCases(t, []ruleCase{
		{rule: "1", in: "1-10", ev: `m.room.create||@alice:a|{"creator":"@alice:a"}`},
		{rule: "1", in: "11-", ev: `m.room.create||@alice:a|{}`},
		{rule: "1.1", ev: `m.room.create||@alice:a|{"creator":"@alice:a"}|prev=$x`, want: "no event before"},
		{rule: "1.2 old", in: "1-11", ev: `m.room.create||@eve:e|{"creator":"@eve:e"}`, want: "another server"},
		{rule: "1.2", in: "12", ev: `m.room.create||@alice:a|{}|json={"room_id":"!create"}`, want: "no room_id"},
		{rule: "1.2", in: "12", ev: `m.room.create||@alice:a|{}|room=!other`, want: "room id"},
		{rule: "1.2", in: "12", ev: `m.room.create||@eve:e|{}`},
		{rule: "1.3", ev: `m.room.create||@alice:a|{"creator":"@alice:a","room_version":"6"}`},
		{rule: "1.3", ev: `m.room.create||@alice:a|{"creator":"@alice:a","room_version":"x"}`, want: "room_version"},
		{rule: "1.3", ev: `m.room.create||@alice:a|{"creator":"@alice:a","room_version":6}`, want: "room_version"},
		{rule: "1.4 old", in: "1-10", ev: `m.room.create||@alice:a|{}`, want: "names its creator"},
		{rule: "1.4", in: "12", ev: `m.room.create||@alice:a|{"additional_creators":["@x:y"]}`},
		{rule: "1.4", in: "12", ev: `m.room.create||@alice:a|{"additional_creators":[]}`},
		{rule: "1.4", in: "12", ev: `m.room.create||@alice:a|{"additional_creators":"@x:y"}`, want: "additional_creators"},
		{rule: "1.4", in: "12", ev: `m.room.create||@alice:a|{"additional_creators":["@x:y",3]}`, want: "additional_creators"},
		{rule: "1.4", in: "12", ev: `m.room.create||@alice:a|{"additional_creators":["@x:y","x"]}`, want: "additional_creators"},
		{rule: "1.4", in: "12", ev: `m.room.create||@alice:a|{"additional_creators":["@x:dom$ain$.com"]}`, want: "additional_creators"},
		{rule: "1.4", in: "11", ev: `m.room.create||@alice:a|{"additional_creators":"@x:y"}`},
	})
}

func TestRoom(t *testing.T) {
	message := `m.room.message|-|@bob:b|{"body":"x"}`
	closed := `m.room.create||@alice:a|{"creator":"@alice:a","m.federate":false}`
	runCases(t, []ruleCase{
		{rule: "2", ev: message},
		{rule: "2", set: []string{"drop|m.room.create|"}, ev: message, want: "no create event"},
		{rule: "2", in: "12", ev: message + "|room=!other", want: "room id"},
		{rule: "2", in: "12", ev: message + "|room=", want: "room id"},
		{rule: "4", set: []string{closed}, ev: message, want: "does not federate"},
		{rule: "4", set: []string{closed}, ev: `m.room.message|-|@mod:a|{}`},
		{rule: "4", set: []string{`m.room.create||@alice:a|{"creator":"@alice:a","m.federate":true}`}, ev: message},
		{rule: "4", set: []string{closed}, ev: `m.room.member|@x:b|@x:b|{"membership":"join"}`, want: "does not federate"},
		{rule: "4.1 old", in: "1-5", ev: `m.room.aliases|-|@bob:b|{}`, want: "state key"},
		{rule: "4.2 old", in: "1-5", ev: `m.room.aliases|a|@bob:b|{}`, want: "another server"},
		{rule: "4.3 old", in: "1-5", ev: `m.room.aliases|b|@bob:b|{}`},
		{rule: "4.3 old", in: "1-5", ev: `m.room.aliases|b|@nobody:b|{}`},
		{rule: "8", in: "6-", ev: `m.room.aliases|b|@bob:b|{}`, want: "power level 50"},
		{rule: "6", ev: `m.room.message|-|@left:b|{}`, want: "not in the room"},
		{rule: "6", ev: `m.room.message|-|@invited:b|{}`, want: "not in the room"},
		{rule: "6", ev: `m.room.message|-|@nobody:b|{}`, want: "not in the room"},
		{rule: "7.1", ev: `m.room.third_party_invite|tok|@mod:a|{}`},
		{rule: "7.1", ev: `m.room.third_party_invite|tok|@bob:b|{}`, want: "power level 10"},
		{rule: "8", ev: `m.room.name||@mod:a|{}`, want: "power level 60"},
		{rule: "8", ev: `m.room.name||@alice:a|{}`},
		{rule: "8", ev: `m.room.topic||@mod:a|{}`},
		{rule: "8", ev: `m.room.topic||@bob:b|{}`, want: "power level 50"},
		{rule: "8", ev: `m.special|-|@bob:b|{}`, want: "power level 30"},
		{rule: "8", ev: `m.special|-|@mod:a|{}`},
		{rule: "8 no levels", set: []string{"drop|m.room.power_levels|"}, ev: `m.room.topic||@alice:a|{}`},
		{rule: "8 no levels", set: []string{"drop|m.room.power_levels|"}, ev: `m.room.topic||@bob:b|{}`, want: "power level 50"},
		{rule: "8 no levels", set: []string{"drop|m.room.power_levels|"}, ev: `m.room.message|-|@bob:b|{}`},
		{rule: "8 no levels", in: "12", set: []string{"drop|m.room.power_levels|"}, ev: `m.room.topic||@carol:a|{}`},
		{rule: "8 no levels", in: "1-11", set: []string{"drop|m.room.power_levels|"}, ev: `m.room.topic||@carol:a|{}`, want: "power level 50"},
		{rule: "8 creator", in: "1-10", set: []string{"drop|m.room.power_levels|", `m.room.create||@alice:a|{"creator":"@bob:b"}`},
			ev: `m.room.topic||@bob:b|{}`},
		{rule: "9", ev: `m.thing|@mod:a|@mod:a|{}`},
		{rule: "9", ev: `m.thing|@mod2:a|@mod:a|{}`, want: "another user's id"},
		{rule: "9", ev: `m.thing|@|@mod:a|{}`, want: "another user's id"},
		{rule: "9", ev: `m.thing|x@mod2:a|@mod:a|{}`},
	})
}

func TestRedaction(t *testing.T) {
	runCases(t, []ruleCase{
		{rule: "11.1 old", in: "1-2", ev: `m.room.redaction|-|@mod:a|{}|redacts=$x:z|id=$r:a`},
		{rule: "11.2 old", in: "1-2", ev: `m.room.redaction|-|@bob:b|{}|redacts=$x:b|id=$r:b`},
		{rule: "11.3 old", in: "1-2", ev: `m.room.redaction|-|@bob:b|{}|redacts=$x:a|id=$r:b`, want: "power level 50"},
		{rule: "11.3 old", in: "1-2", ev: `m.room.redaction|-|@bob:b|{}|redacts=|id=$r`, want: "power level 50"},
		{rule: "11", in: "3-", ev: `m.room.redaction|-|@bob:b|{}|redacts=$x`},
		{rule: "8", in: "3-", set: []string{`m.room.power_levels||@alice:a|{"events":{"m.room.redaction":5}}`},
			ev: `m.room.redaction|-|@bob:b|{}|redacts=$x`, want: "power level 5"},
	})
}

func TestMayRedact(t *testing.T) {
	for _, version := range event.Versions() {
		w := newWorld(t, version)
		pl := ParsePowerLevels(w.get(typeCreate, ""), w.get(typePowerLevels, ""))
		for _, tc := range []struct {
			by, of string
			want   bool
		}{
			{"@mod:a", "@bob:b", true}, {"@bob:b", "@bill:b", true}, {"@bob:b", "@mod:a", w.v.RedactByDomain},
		} {
			r, target := w.make("m.room.redaction|-|"+tc.by+"|{}"), w.make("m.room.message|-|"+tc.of+"|{}")
			if got := MayRedact(r, target, pl); got != tc.want {
				t.Errorf("v%s: %s redacts %s: %v", version, tc.by, tc.of, got)
			}
		}
	}
}
