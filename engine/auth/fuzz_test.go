package auth

import (
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
)

// FuzzCheck puts hostile content into an event and into the state it is checked
// against. Nothing may panic, every refusal has one of the two kinds, and levels
// read on the way agree with levels parsed before.
func FuzzCheck(f *testing.F) {
	types := []string{typeCreate, typeMember, typePowerLevels, typeJoinRules, typeThirdParty, typeAliases, typeRedaction, "m.room.message"}
	f.Add(byte(0), byte(2), `{"users":{"@alice:a":"100"}}`, `{"users":{"@mod:a":1e2},"ban":"x"}`, `{"creator":"@mod:a"}`, `{"join_rule":"public"}`)
	f.Add(byte(11), byte(1), `{"membership":"join","join_authorised_via_users_server":"@mod:a"}`, `{}`, `{"additional_creators":["@mod:a",1]}`,
		`{"join_rule":"restricted","allow":[{}]}`)
	f.Add(byte(9), byte(1), `{"membership":"invite","third_party_invite":{"signed":{"mxid":"@bob:b","token":"t","signatures":{"x":{"ed25519:1":"AA"}}}}}`,
		`{"events":[]}`, `{"m.federate":false}`, `{"public_key":"AA","public_keys":[{"public_key":"AA"}]}`)
	f.Fuzz(func(t *testing.T, version, typ byte, content, levels, create, rules string) {
		versions := event.Versions()
		w := newWorld(t, versions[int(version)%len(versions)])
		canonical := func(text string) []byte {
			out, err := cjson.Canonical(nil, []byte(text), w.v.StrictJSON)
			if err != nil || cjson.KindOf(out) != cjson.ObjectKind {
				t.Skip()
			}
			return out
		}
		w.get(typePowerLevels, "").Content = canonical(levels)
		w.get(typeCreate, "").Content = canonical(create)
		w.get(typeJoinRules, "").Content = canonical(rules)
		w.set(`m.room.third_party_invite|t|@mod:a|{}`)
		w.get(typeThirdParty, "t").Content = canonical(rules)
		e := w.make(types[int(typ)%len(types)] + `|@bob:b|@mod:a|{}`)
		e.Content = canonical(content)
		pl := ParsePowerLevels(w.get(typeCreate, ""), w.get(typePowerLevels, ""))
		for _, isState := range []bool{true, false} {
			e.IsState = isState
			err, again := Check(e, w.get), CheckWith(e, w.get, pl)
			if (err == nil) != (again == nil) {
				t.Fatalf("%v with levels read, %v with levels parsed", err, again)
			}
			if err != nil && !fault.Is(err, fault.Forbidden) && !fault.Is(err, fault.BadJSON) {
				t.Fatalf("kind %v", fault.KindOf(err))
			}
			_ = CheckAuthEvents(e, []*event.Event{e, w.get(typeCreate, "")})
		}
		Membership(e)
		JoinRule(e)
		AllowedRooms(e)
		Creators(w.get(typeCreate, ""))
	})
}
