package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"

	"hearth/engine/event"
)

func rulesOf(rule string) []string {
	return []string{`m.room.join_rules||@alice:a|{"join_rule":"` + rule + `"}`}
}

func TestMemberShape(t *testing.T) {
	runCases(t, []ruleCase{
		{rule: "5.1", ev: `m.room.member|-|@bob:b|{"membership":"join"}`, want: "state key"},
		{rule: "5.1", ev: `m.room.member|@bob:b|@bob:b|{}`, want: "membership"},
		{rule: "5.1", ev: `m.room.member|bob|@mod:a|{"membership":"invite"}`, want: "not a user id"},
		{rule: "5.2", in: "8-", ev: `m.room.member|@bob:b|@bob:b|{"join_authorised_via_users_server":7,"membership":"join"}`, want: "not a user id"},
		{rule: "5.2", in: "1-7", ev: `m.room.member|@bob:b|@bob:b|{"join_authorised_via_users_server":7,"membership":"join"}`},
		{rule: "5.8", ev: `m.room.member|@bob:b|@bob:b|{"membership":"dance"}`, want: "unknown"},
		{rule: "5.8", ev: `m.room.member|@bob:b|@bob:b|{"membership":null}`, want: "unknown"},
		{rule: "5.8", in: "1-6", set: rulesOf("knock"), ev: `m.room.member|@x:b|@x:b|{"membership":"knock"}`, want: "unknown"},
	})
}

func TestJoin(t *testing.T) {
	via := `m.room.member|@x:b|@x:b|{"join_authorised_via_users_server":"@mod:a","membership":"join"}`
	me := `m.room.member|@x:b|@x:b|{"membership":"join"}`
	in := `m.room.member|@invited:b|@invited:b|{"membership":"join"}`
	again := `m.room.member|@bob:b|@bob:b|{"displayname":"B","membership":"join"}`
	first := []string{"drop|m.room.member|@alice:a", "drop|m.room.power_levels|", "drop|m.room.join_rules|"}
	runCases(t, []ruleCase{
		{rule: "5.3.1", set: first, ev: `m.room.member|@alice:a|@alice:a|{"membership":"join"}|prev=$create`},
		{rule: "5.3.1", set: first, ev: `m.room.member|@alice:a|@alice:a|{"membership":"join"}|prev=$other`, want: "not invited"},
		{rule: "5.3.1", set: first, ev: `m.room.member|@eve:e|@eve:e|{"membership":"join"}|prev=$create`, want: "not invited"},
		{rule: "5.3.2", set: rulesOf("public"), ev: `m.room.member|@x:b|@mod:a|{"membership":"join"}`, want: "another user join"},
		{rule: "5.3.3", set: rulesOf("public"), ev: `m.room.member|@banned:b|@banned:b|{"membership":"join"}`, want: "banned"},
		{rule: "5.3.4", ev: in},
		{rule: "5.3.4", ev: again},
		{rule: "5.3.4", ev: me, want: "not invited"},
		{rule: "5.3.4", ev: `m.room.member|@knocker:b|@knocker:b|{"membership":"join"}`, want: "not invited"},
		{rule: "5.3.4 knock", in: "7-", set: rulesOf("knock"), ev: in},
		{rule: "5.3.4 knock", in: "7-", set: rulesOf("knock"), ev: me, want: "not invited"},
		{rule: "5.3.4 knock", in: "1-6", set: rulesOf("knock"), ev: in, want: "nobody in"},
		{rule: "5.3.5.1", in: "8-", set: rulesOf("restricted"), ev: in},
		{rule: "5.3.5.1", in: "8-", set: rulesOf("restricted"), ev: again},
		{rule: "5.3.5.1", in: "10-", set: rulesOf("knock_restricted"), ev: in},
		{rule: "5.3.5.2", in: "8-", set: rulesOf("restricted"), ev: me, want: "let in by a member"},
		{rule: "5.3.5.2", in: "8-", set: rulesOf("restricted"), ev: strings.Replace(via, "@mod:a", "@left:b", 1), want: "not in the room"},
		{rule: "5.3.5.2", in: "8-", set: rulesOf("restricted"), ev: strings.Replace(via, "@mod:a", "@bob:b", 1), want: "power level"},
		{rule: "5.3.5.3", in: "8-", set: rulesOf("restricted"), ev: via},
		{rule: "5.3.5.3", in: "10-", set: rulesOf("knock_restricted"), ev: via},
		{rule: "5.3.5", in: "8-9", set: rulesOf("knock_restricted"), ev: via, want: "nobody in"},
		{rule: "5.3.5", in: "1-7", set: rulesOf("restricted"), ev: via, want: "nobody in"},
		{rule: "5.3.6", set: rulesOf("public"), ev: me},
		{rule: "5.3.7", set: rulesOf("private"), ev: in, want: "nobody in"},
		{rule: "5.3.7", set: []string{`m.room.join_rules||@alice:a|{"join_rule":5}`}, ev: in, want: "nobody in"},
	})
}

func TestInvite(t *testing.T) {
	runCases(t, []ruleCase{
		{rule: "5.4.2", ev: `m.room.member|@x:b|@left:b|{"membership":"invite"}`, want: "not in the room"},
		{rule: "5.4.3", ev: `m.room.member|@bob:b|@mod:a|{"membership":"invite"}`, want: "in the room already"},
		{rule: "5.4.3", ev: `m.room.member|@banned:b|@mod:a|{"membership":"invite"}`, want: "banned"},
		{rule: "5.4.4", ev: `m.room.member|@x:b|@mod:a|{"membership":"invite"}`},
		{rule: "5.4.4", ev: `m.room.member|@left:b|@mod:a|{"membership":"invite"}`},
		{rule: "5.4.4", ev: `m.room.member|@invited:b|@mod:a|{"membership":"invite"}`},
		{rule: "5.4.4", in: "7-", ev: `m.room.member|@knocker:b|@mod:a|{"membership":"invite"}`},
		{rule: "5.4.5", ev: `m.room.member|@x:b|@bob:b|{"membership":"invite"}`, want: "power level 10"},
		{rule: "5.4.4 default", set: []string{`m.room.power_levels||@alice:a|{}`}, ev: `m.room.member|@x:b|@bob:b|{"membership":"invite"}`},
	})
}

func TestLeaveBanKnock(t *testing.T) {
	runCases(t, []ruleCase{
		{rule: "5.5.1", ev: `m.room.member|@bob:b|@bob:b|{"membership":"leave"}`},
		{rule: "5.5.1", ev: `m.room.member|@invited:b|@invited:b|{"membership":"leave"}`},
		{rule: "5.5.1", in: "7-", ev: `m.room.member|@knocker:b|@knocker:b|{"membership":"leave"}`},
		{rule: "5.5.1", in: "1-6", ev: `m.room.member|@knocker:b|@knocker:b|{"membership":"leave"}`, want: "not in the room"},
		{rule: "5.5.1", ev: `m.room.member|@left:b|@left:b|{"membership":"leave"}`, want: "not in the room"},
		{rule: "5.5.1", ev: `m.room.member|@banned:b|@banned:b|{"membership":"leave"}`, want: "not in the room"},
		{rule: "5.5.1", ev: `m.room.member|@x:b|@x:b|{"membership":"leave"}`, want: "not in the room"},
		{rule: "5.5.2", ev: `m.room.member|@bob:b|@left:b|{"membership":"leave"}`, want: "not in the room"},
		{rule: "5.5.3", ev: `m.room.member|@banned:b|@mod:a|{"membership":"leave"}`},
		{rule: "5.5.3", set: []string{`m.room.power_levels||@alice:a|{"ban":70,"users":{"@mod:a":60}}`},
			ev: `m.room.member|@banned:b|@mod:a|{"membership":"leave"}`, want: "lifting a ban"},
		{rule: "5.5.4", ev: `m.room.member|@bob:b|@mod:a|{"membership":"leave"}`},
		{rule: "5.5.4", ev: `m.room.member|@invited:b|@mod:a|{"membership":"leave"}`},
		{rule: "5.5.4", ev: `m.room.member|@mod2:a|@mod:a|{"membership":"leave"}`, want: "no lower power level"},
		{rule: "5.5.4", ev: `m.room.member|@alice:a|@mod:a|{"membership":"leave"}`, want: "no lower power level"},
		{rule: "5.5.4", ev: `m.room.member|@mod:a|@alice:a|{"membership":"leave"}`},
		{rule: "5.5.4", in: "12", ev: `m.room.member|@carol:a|@alice:a|{"membership":"leave"}`, want: "no lower power level"},
		{rule: "5.5.5", ev: `m.room.member|@bill:b|@bob:b|{"membership":"leave"}`, want: "power level 50"},
		{rule: "5.6.1", ev: `m.room.member|@bob:b|@left:b|{"membership":"ban"}`, want: "not in the room"},
		{rule: "5.6.2", ev: `m.room.member|@bob:b|@mod:a|{"membership":"ban"}`},
		{rule: "5.6.2", ev: `m.room.member|@x:b|@mod:a|{"membership":"ban"}`},
		{rule: "5.6.2", ev: `m.room.member|@mod2:a|@mod:a|{"membership":"ban"}`, want: "no lower power level"},
		{rule: "5.6.2", in: "12", ev: `m.room.member|@alice:a|@carol:a|{"membership":"ban"}`, want: "no lower power level"},
		{rule: "5.6.3", ev: `m.room.member|@bill:b|@bob:b|{"membership":"ban"}`, want: "power level 50"},
		{rule: "5.7.1", in: "7-", ev: `m.room.member|@x:b|@x:b|{"membership":"knock"}`, want: "no knocks"},
		{rule: "5.7.1", in: "7-9", set: rulesOf("knock_restricted"), ev: `m.room.member|@x:b|@x:b|{"membership":"knock"}`, want: "no knocks"},
		{rule: "5.7.1", in: "10-", set: rulesOf("knock_restricted"), ev: `m.room.member|@x:b|@x:b|{"membership":"knock"}`},
		{rule: "5.7.2", in: "7-", set: rulesOf("knock"), ev: `m.room.member|@x:b|@mod:a|{"membership":"knock"}`, want: "another user"},
		{rule: "5.7.3", in: "7-", set: rulesOf("knock"), ev: `m.room.member|@x:b|@x:b|{"membership":"knock"}`},
		{rule: "5.7.3", in: "7-", set: rulesOf("knock"), ev: `m.room.member|@left:b|@left:b|{"membership":"knock"}`},
		{rule: "5.7.3", in: "7-", set: rulesOf("knock"), ev: `m.room.member|@knocker:b|@knocker:b|{"membership":"knock"}`},
		{rule: "5.7.4", in: "7-", set: rulesOf("knock"), ev: `m.room.member|@banned:b|@banned:b|{"membership":"knock"}`, want: "banned"},
		{rule: "5.7.4", in: "7-", set: rulesOf("knock"), ev: `m.room.member|@invited:b|@invited:b|{"membership":"knock"}`, want: "invited already"},
		{rule: "5.7.4", in: "7-", set: rulesOf("knock"), ev: `m.room.member|@bob:b|@bob:b|{"membership":"knock"}`, want: "in the room already"},
	})
}

func TestThirdPartyInvite(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	pub := base64.RawStdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	other := base64.RawURLEncoding.EncodeToString(ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32))).Public().(ed25519.PublicKey))
	sign := func(user, token string) string {
		body := `"mxid":"` + user + `",`
		sig := ed25519.Sign(key, []byte(`{`+body+`"token":"`+token+`"}`))
		return `{` + body + `"signatures":{"id.example":{"ed25519:0":"` + base64.RawStdEncoding.EncodeToString(sig) +
			`"}},"token":"` + token + `"}`
	}
	offer := []string{`m.room.third_party_invite|tok|@mod:a|{"public_key":"` + pub + `"}`}
	offerList := []string{`m.room.third_party_invite|tok|@mod:a|{"public_key":"` + other +
		`","public_keys":[{"public_key":"` + other + `"},{"public_key":"` + pub + `"}]}`}
	badOffer := []string{`m.room.third_party_invite|tok|@mod:a|{"public_key":"` + other + `"}`}
	ev := func(user, sender, third string) string {
		return `m.room.member|` + user + `|` + sender + `|{"membership":"invite","third_party_invite":` + third + `}`
	}
	good := `{"signed":` + sign("@x:b", "tok") + `}`
	runCases(t, []ruleCase{
		{rule: "5.4.1.1", set: offer, ev: ev("@banned:b", "@mod:a", `{"signed":`+sign("@banned:b", "tok")+`}`), want: "banned"},
		{rule: "5.4.1.2", set: offer, ev: ev("@x:b", "@mod:a", `{}`), want: "no signed"},
		{rule: "5.4.1.2", set: offer, ev: ev("@x:b", "@mod:a", `null`), want: "no signed"},
		{rule: "5.4.1.3", set: offer, ev: ev("@x:b", "@mod:a", `{"signed":{"mxid":"@x:b"}}`), want: "no mxid and token"},
		{rule: "5.4.1.3", set: offer, ev: ev("@x:b", "@mod:a", `{"signed":{"token":"tok"}}`), want: "no mxid and token"},
		{rule: "5.4.1.4", set: offer, ev: ev("@y:b", "@mod:a", good), want: "another user"},
		{rule: "5.4.1.5", ev: ev("@x:b", "@mod:a", good), want: "not known"},
		{rule: "5.4.1.6", set: offer, ev: ev("@x:b", "@mod2:a", good), want: "another sender"},
		{rule: "5.4.1.7", set: offer, ev: ev("@x:b", "@mod:a", good)},
		{rule: "5.4.1.7", set: offerList, ev: ev("@x:b", "@mod:a", good)},
		{rule: "5.4.1.8", set: badOffer, ev: ev("@x:b", "@mod:a", good), want: "not signed"},
		{rule: "5.4.1.8", set: offer, ev: ev("@x:b", "@mod:a", strings.Replace(good, `"mxid"`, `"a":1,"mxid"`, 1)), want: "not signed"},
	})
}

// TestThirdPartyBound tries an invite made to cost a million verifications: the one
// good pair stands behind the bound and is not reached.
func TestThirdPartyBound(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	pub := key.Public().(ed25519.PublicKey)
	keys := make([]ed25519.PublicKey, 100)
	for i := range keys {
		keys[i] = pub
	}
	bad := base64.RawStdEncoding.EncodeToString(make([]byte, 64))
	good := base64.RawStdEncoding.EncodeToString(ed25519.Sign(key, []byte("{}")))
	object := func(before int) []byte {
		return []byte(`{"signatures":{"s":{` + strings.Repeat(`"ed25519:0":"`+bad+`",`, before) + `"ed25519:1":"` + good + `"}}}`)
	}
	if !signedByAny(object(2), keys) {
		t.Error("the third signature is good and was not found")
	}
	if signedByAny(object(10000), keys) {
		t.Error("a million verifications were done")
	}
}

func TestMembershipHelpers(t *testing.T) {
	w := newWorld(t, "10")
	for user, want := range map[string]string{
		"@alice:a": "join", "@invited:b": "invite", "@banned:b": "ban", "@left:b": "leave", "@knocker:b": "knock", "@nobody:b": "",
	} {
		if got := Membership(w.get(typeMember, user)); got != want {
			t.Errorf("%s: %q, want %q", user, got, want)
		}
	}
	if got := Membership(w.make(`m.room.member|@x:b|@x:b|{"membership":"dance"}`)); got != "dance" {
		t.Errorf("other membership %q", got)
	}
	allow := w.make(`m.room.join_rules||@alice:a|{"allow":[{"room_id":"!x:a","type":"m.room_membership"},{"room_id":"!y:a","type":"z"},3,{"type":"m.room_membership"}],"join_rule":"restricted"}`)
	if got := AllowedRooms(allow); len(got) != 1 || got[0] != "!x:a" {
		t.Errorf("allowed rooms %v", got)
	}
	if JoinRule(allow) != "restricted" || JoinRule(nil) != "invite" || len(AllowedRooms(nil)) != 0 {
		t.Error("join rules")
	}
	for version, want := range map[string]bool{"7": false, "8": true, "12": true} {
		e := newWorld(t, version).make(`m.room.member|@x:b|@x:b|{"join_authorised_via_users_server":"@mod:a","membership":"join"}`)
		if user, ok := AuthorisedVia(e); ok != want || ok && user != "@mod:a" {
			t.Errorf("v%s: authorised via %q %v", version, user, ok)
		}
	}
	if Federates(nil) != true || len(Creators(nil)) != 0 || creatorOf((*event.Event)(nil)) != "" {
		t.Error("helpers of a nil create event")
	}
}
