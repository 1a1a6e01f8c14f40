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

// FuzzReceived puts bytes from outside through event.Receive and checks what comes
// of them against the state of a room, and against itself as every part of a state.
func FuzzReceived(f *testing.F) {
	empty := ""
	for i, version := range event.Versions() {
		v := event.LookupVersion(version)
		for _, typ := range []string{typeCreate, typeMember, typePowerLevels, typeRedaction} {
			d := event.Draft{Room: "!room:a", Type: typ, StateKey: &empty, Sender: "@alice:a", Redacts: "$x:a",
				Content: []byte(`{"creator":"@alice:a","membership":"join","users":{"@alice:a":100}}`)}
			if v.RoomIDIsCreate && typ == typeCreate {
				d.Room = ""
			}
			if v.IDs == event.IDInEvent {
				d.ID = "$e:a"
			}
			e, err := event.Build(v, &d, nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(i), e.JSON)
		}
	}
	f.Fuzz(func(t *testing.T, version byte, raw []byte) {
		versions := event.Versions()
		w := newWorld(t, versions[int(version)%len(versions)])
		e, _, err := event.Receive(w.v, raw)
		if err != nil {
			return
		}
		_ = Check(e, w.get)
		_ = Check(e, func(string, string) *event.Event { return e })
		_ = CheckAuthEvents(e, []*event.Event{e, nil})
		pl := ParsePowerLevels(e, e)
		if got, want := pl.UserLevel(e.Sender), UserLevel(e, e, e.Sender); got != want {
			t.Fatalf("level %d parsed, %d read", got, want)
		}
		if got := pl.EventLevel(e.Type, e.IsState); got > Infinite-1 {
			t.Fatalf("level %d for an event", got)
		}
		NeededFor(e)
		Membership(e)
		JoinRule(e)
		AllowedRooms(e)
		Creators(e)
		AuthorisedVia(e)
	})
}
