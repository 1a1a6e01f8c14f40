package event

import (
	"strings"
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

func TestReceiveRefuses(t *testing.T) {
	old, now := LookupVersion("1"), LookupVersion("12")
	oldJSON := string(build(t, old, draft(old, `{"body":"x"}`)).JSON)
	nowJSON := string(build(t, now, draft(now, `{"body":"x"}`)).JSON)
	refs := func(n int) string { return `[` + strings.TrimSuffix(strings.Repeat(`"$a",`, n), ",") + `]` }
	for _, c := range []struct {
		name, from, to string
		v              *Version
		kind           fault.Kind
	}{
		{"float", `"x"`, `1.5`, now, fault.BadJSON},
		{"large", `"x"`, `9007199254740992`, now, fault.BadJSON},
		{"broken", `"x"`, `x`, now, fault.NotJSON},
		{"content", `{"body":"x"}`, `[]`, now, fault.BadJSON},
		{"sender", `"@a:domain"`, `"a:domain"`, now, fault.BadJSON},
		{"sender kind", `"@a:domain"`, `1`, now, fault.BadJSON},
		{"long sender", `"@a:domain"`, `"@` + strings.Repeat("a", 255) + `:domain"`, now, fault.TooLarge},
		{"room", hashRoom, "!r:domain", now, fault.BadJSON},
		{"no room", `"room_id"`, `"room"`, now, fault.BadJSON},
		{"room of a late version", "!r:domain", hashRoom, old, fault.BadJSON},
		{"depth", `"depth":7`, `"depth":"7"`, now, fault.BadJSON},
		{"negative depth", `"depth":7`, `"depth":-7`, now, fault.BadJSON},
		{"no depth", `"depth":7`, `"death":7`, now, fault.BadJSON},
		{"time", `1000000`, `true`, now, fault.BadJSON},
		{"type", `"m.room.message"`, `null`, now, fault.BadJSON},
		{"state key", `"type"`, `"state_key":1,"type"`, now, fault.BadJSON},
		{"hashes", `"sha256"`, `"md5"`, now, fault.BadJSON},
		{"signatures", `"signatures":{`, `"signatures":[],"x":{`, now, fault.BadJSON},
		{"21 parents", `["$one","$two"]`, refs(21), now, fault.BadJSON},
		{"11 auth events", `["$three"]`, refs(11), now, fault.BadJSON},
		{"parent kind", `["$one","$two"]`, `[1]`, now, fault.BadJSON},
		{"parents kind", `["$one","$two"]`, `{}`, now, fault.BadJSON},
		{"parent name", `"$one"`, `"one"`, now, fault.BadJSON},
		{"pairs in a late version", `"$one"`, `["$one",{}]`, now, fault.BadJSON},
		{"create with a room", `m.room.message`, `m.room.create`, now, fault.BadJSON},
		{"string in an old version", `["$one",{"sha256":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]`, `"$one"`, old, fault.BadJSON},
		{"triple", `["$one",{`, `["$one",{},{`, old, fault.BadJSON},
		{"no id", `"event_id"`, `"eventid"`, old, fault.BadJSON},
		{"id without domain", `"$x:domain"`, `"$x"`, old, fault.BadJSON},
		{"too large", `"x"`, `"` + strings.Repeat("x", MaxSize) + `"`, now, fault.TooLarge},
		{"far too large", `{`, strings.Repeat(" ", maxRaw) + `{`, now, fault.TooLarge},
	} {
		json := nowJSON
		if c.v == old {
			json = oldJSON
		}
		raw := strings.Replace(json, c.from, c.to, 1)
		if raw == json {
			t.Fatalf("%s: nothing changed in %s", c.name, json)
		}
		if _, _, err := Receive(c.v, []byte(raw)); err == nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReceiveTampered(t *testing.T) {
	s := testSigner(t)
	for i := range versions {
		v := &versions[i]
		e := build(t, v, draft(v, `{"body":"true"}`))
		raw := strings.Replace(string(e.JSON), "true", "false", 1)
		got, redacted, err := Receive(v, []byte(raw))
		if err != nil || !redacted || string(got.Content) != `{}` || got.ID != e.ID {
			t.Errorf("version %s: %v %v", v.ID, redacted, err)
			continue
		}
		if err := got.Verify("domain", s.KeyID, public(s)); err != nil {
			t.Errorf("version %s: %v", v.ID, err)
		}
		// The redacted form is taken as redacted again, not as broken.
		again, redacted, err := Receive(v, got.JSON)
		if err != nil || !redacted {
			t.Errorf("version %s: %v %v", v.ID, redacted, err)
			continue
		}
		sameEvent(t, got, again)
	}
}

// TestReceiveLenient takes what rooms before version 6 hold.
func TestReceiveLenient(t *testing.T) {
	v := LookupVersion("5")
	e := build(t, v, draft(v, `{"a":1.5,"b":123456789012345678901234567890,"c":1e-7}`))
	got, redacted, err := Receive(v, e.JSON)
	if err != nil || redacted || string(got.Content) != `{"a":1.5,"b":123456789012345678901234567890,"c":1e-07}` {
		t.Fatal(redacted, err, string(got.Content))
	}
	// An id in the event is dropped where the hash is the id, and so is unsigned.
	raw := `{"event_id":"$lie","unsigned":{"age":1},` + string(e.JSON[1:])
	if got, redacted, err = Receive(v, []byte(raw)); err != nil || redacted || got.ID != e.ID || string(got.JSON) != string(e.JSON) {
		t.Errorf("%v %v %s", redacted, err, got.JSON)
	}
	// A padded hash is the same hash.
	sum, _ := cjson.LookupPath(e.JSON, "hashes", "sha256")
	padded := strings.Replace(string(e.JSON), string(sum), strings.TrimSuffix(string(sum), `"`)+`="`, 1)
	if _, redacted, err = Receive(v, []byte(padded)); err != nil || redacted {
		t.Error(redacted, err)
	}
	// state_key null is no state.
	d := draft(v, `{}`)
	e, err = Complete(v, []byte(strings.Replace(string(build(t, v, d).JSON), `"type"`, `"state_key":null,"type"`, 1)), testSigner(t))
	if err != nil || e.IsState {
		t.Error(err)
	}
}

func TestSignTwice(t *testing.T) {
	v := LookupVersion("12")
	first, second := testSigner(t), testSigner(t)
	second.Server, second.KeyID = "other.example", "ed25519:k"
	e := build(t, v, draft(v, `{"body":"x"}`))
	both, err := e.Sign(second)
	if err != nil || both.ID != e.ID {
		t.Fatal(err)
	}
	for _, s := range []*Signer{first, second} {
		if err := both.Verify(s.Server, s.KeyID, public(s)); err != nil {
			t.Error(err)
		}
		if list := Signatures(both.JSON, string(s.Server)); len(list) != 1 || list[0].KeyID != s.KeyID ||
			VerifyBytes(both.SigningBytes(nil), list[0].Sig, public(s)) != nil {
			t.Errorf("%s: %v", s.Server, list)
		}
	}
	if again, err := both.Sign(second); err != nil || string(again.JSON) != string(both.JSON) {
		t.Errorf("%v %s", err, again.JSON)
	}
	for name, err := range map[string]error{
		"no server": both.Verify("nobody", first.KeyID, public(first)),
		"no key":    both.Verify("domain", "ed25519:2", public(first)),
		"short key": both.Verify("domain", first.KeyID, public(first)[:31]),
		"wrong key": both.Verify("domain", first.KeyID, make([]byte, 32)),
	} {
		if err == nil {
			t.Errorf("%s passed", name)
		}
	}
	forged, err := Parse(v, []byte(strings.Replace(string(both.JSON), `"depth":7`, `"depth":8`, 1)))
	if err != nil || forged.ID == e.ID || forged.Verify("domain", first.KeyID, public(first)) == nil {
		t.Error("a forged event passed", err)
	}
}

func TestVerifyJSON(t *testing.T) {
	s := testSigner(t)
	signed, err := SignJSON([]byte("head"), []byte(`{"unsigned":{"a":1},"signatures":{"x":{"ed25519:y":"z","other:1":2}},"b":{"d":1,"c":2}}`), s)
	if err != nil || !strings.HasPrefix(string(signed), `head{"b":{"c":2,"d":1},"signatures":{"domain":{"ed25519:1":"`) ||
		!strings.HasSuffix(string(signed), `"},"x":{"ed25519:y":"z","other:1":2}},"unsigned":{"a":1}}`) {
		t.Fatalf("%v %s", err, signed)
	}
	obj := string(signed[4:])
	if err := VerifyJSON([]byte(obj), "domain", s.KeyID, public(s)); err != nil {
		t.Error(err)
	}
	if err := VerifyJSON([]byte(strings.Replace(obj, `{"a":1}`, `{"a":2}`, 1)), "domain", s.KeyID, public(s)); err != nil {
		t.Errorf("unsigned is covered: %v", err)
	}
	for name, bad := range map[string]string{
		"changed":       strings.Replace(obj, `"d":1`, `"d":2`, 1),
		"no signatures": `{}`, "array": `[]`, "broken": `{`, "odd": `{"signatures":[]}`,
		"not base64": `{"signatures":{"domain":{"ed25519:1":"!"}}}`,
		"not text":   `{"signatures":{"domain":{"ed25519:1":1}}}`,
		"short":      `{"signatures":{"domain":{"ed25519:1":"AAAA"}}}`,
	} {
		if VerifyJSON([]byte(bad), "domain", s.KeyID, public(s)) == nil {
			t.Errorf("%s passed", name)
		}
	}
	if list := Signatures([]byte(obj), "x"); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

func TestClientForms(t *testing.T) {
	v, key := LookupVersion("12"), ""
	d := draft(v, `{"name":"A \" B"}`)
	d.Type, d.StateKey = "m.room.name", &key
	e := build(t, v, d)
	want := `{"content":{"name":"A \" B"},"event_id":"` + string(e.ID) + `","origin_server_ts":1000000,"room_id":"` + hashRoom +
		`","sender":"@a:domain","state_key":"","type":"m.room.name","unsigned":{"age":1}}`
	if got := string(AppendClient(nil, e, ClientOptions{Unsigned: []byte(`{"age":1}`)})); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	want = strings.Replace(strings.Replace(want, `,"room_id":"`+hashRoom+`"`, "", 1), `,"unsigned":{"age":1}`, "", 1)
	if got := string(AppendClient([]byte("x"), e, ClientOptions{OmitRoom: true})); got != "x"+want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	want = `{"content":{"name":"A \" B"},"sender":"@a:domain","state_key":"","type":"m.room.name"}`
	if got := string(AppendStripped(nil, e)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestParseCorrupt(t *testing.T) {
	for _, bad := range []string{``, `{}`, `[]`, `{"content":{}}`, `{"content":{},"depth":1,"origin_server_ts":1}`} {
		if _, err := Parse(LookupVersion("12"), []byte(bad)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestVersions(t *testing.T) {
	if len(Versions()) != 12 || LookupVersion(DefaultVersion) == nil || LookupVersion("13") != nil || LookupVersion("") != nil {
		t.Error("version table")
	}
	e := &Event{IsState: true, Type: "a", StateKey: "b"}
	if !e.Is("a", "b") || e.Is("a", "") || e.Is("b", "b") || (&Event{Type: "a"}).Is("a", "") {
		t.Error("Is")
	}
	if roomOf(mxid.EventID("$x")) != "!x" {
		t.Error("roomOf")
	}
}
