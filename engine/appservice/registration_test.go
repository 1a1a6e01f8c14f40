package appservice

import (
	"strings"
	"testing"

	"hearth/engine/mxid"
)

const bridge = `
id: "IRC bridge"
url: "http://127.0.0.1:1234/"
as_token: as-token-of-the-bridge
hs_token: hs-token-of-the-bridge
sender_localpart: _irc_bot
rate_limited: false
de.sorunome.msc2409.push_ephemeral: true
org.matrix.msc3202: true
some.other.software: [1, 2]
protocols: [irc]
namespaces:
  users:
    - {exclusive: true, regex: "@_irc_.*"}
    - {exclusive: false, regex: "@guest[0-9]+:hub"}
  aliases:
    - {exclusive: true, regex: "#_irc_.*"}
  rooms:
    - {regex: "!abc:hub"}
`

func TestParse(t *testing.T) {
	s, err := Parse([]byte(bridge), "hub")
	if err != nil {
		t.Fatal(err)
	}
	if s.URL != "http://127.0.0.1:1234" || s.Sender != "@_irc_bot:hub" || s.RateLimited || !s.Ephemeral || !s.Encrypted {
		t.Errorf("%+v", s)
	}
	for name, want := range map[mxid.UserID]bool{
		"@_irc_bot:hub": true, "@_irc_alice:hub": true, "@_irc_alice:other": false, "@guest7:hub": true, "@guest:hub": false, "@a_irc_b:hub": false,
	} {
		if s.User(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if !s.Alias("#_irc_x:hub") || s.Alias("#x:hub") || !s.Room("!abc:hub") || s.Room("!xyz:hub") {
		t.Error("aliases and rooms")
	}
	other, err := Parse([]byte(strings.NewReplacer("IRC bridge", "two", "as-token", "as-other", "_irc_bot", "two").Replace(bridge)), "hub")
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet([]*Service{s, other})
	if err != nil {
		t.Fatal(err)
	}
	if set.ByToken([]byte("as-token-of-the-bridge")) != s || set.ByToken([]byte("hs-token-of-the-bridge")) != nil || set.ByID("two") != other {
		t.Error("services are not found")
	}
	if set.Owner("@_irc_x:hub") != s || set.Owner("@guest1:hub") != nil || set.Owner("@two:hub") != other || set.AliasOwner("#_irc_x:hub") != s {
		t.Error("owners are not found")
	}
	if len(set.Speaks("@guest1:hub")) != 2 || len(set.Protocols()) != 1 {
		t.Error("users and protocols")
	}
	if _, err := NewSet([]*Service{s, s}); err == nil {
		t.Error("two services of one id")
	}
}

func TestParseRefuses(t *testing.T) {
	for what, text := range map[string]string{
		"no YAML":         "\tid: [",
		"nothing":         "{}",
		"no sender":       strings.Replace(bridge, "sender_localpart", "sender", 1),
		"a short token":   strings.Replace(bridge, "as-token-of-the-bridge", "short", 1),
		"a bad sender":    strings.Replace(bridge, "_irc_bot", "a:b", 1),
		"a bad address":   strings.Replace(bridge, "http://", "ftp://", 1),
		"a look-ahead":    strings.Replace(bridge, "@_irc_.*", "@(?!x).*", 1),
		"an empty regex":  strings.Replace(bridge, "@_irc_.*", "", 1),
		"a list of texts": strings.Replace(bridge, `{regex: "!abc:hub"}`, "abc", 1),
	} {
		if _, err := Parse([]byte(text), "hub"); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(bridge))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := Parse(text, "hub"); err == nil && (s.ID == "" || s.Sender.Server() != "hub") {
			t.Errorf("%q", text)
		}
	})
}
