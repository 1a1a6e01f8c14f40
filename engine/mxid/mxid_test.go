package mxid

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestUser(t *testing.T) {
	for _, c := range []struct {
		id, local string
		server    Server
		compliant bool
	}{
		{"@alice:example.org", "alice", "example.org", true},
		{"@a.b_c=d-e/f+1:h:8448", "a.b_c=d-e/f+1", "h:8448", true},
		{"@ALICE:[::1]:1", "ALICE", "[::1]:1", true},
		{"@:example.org", "", "example.org", false},
		{"@jürgen und\x01:example.org", "jürgen und\x01", "example.org", false},
	} {
		u, err := ParseUser(c.id)
		if err != nil || u.Localpart() != c.local || u.Server() != c.server || u.Compliant() != c.compliant {
			t.Errorf("%q: %v %q %q %v", c.id, err, u.Localpart(), u.Server(), u.Compliant())
		}
	}
	for _, bad := range []string{"", "@", "alice", "@alice", "@alice:", "#alice:h", "@a\x00:h", "@\xff:h", "@a:h:x", "@a:h:123456",
		"@a:b c", "@a:b:1:2", "@a:h/", "@" + strings.Repeat("a", 252) + ":hh"} {
		if _, err := ParseUser(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	if _, err := ParseUser("@" + strings.Repeat("a", 252) + ":h"); err != nil {
		t.Errorf("255 bytes: %v", err)
	}
}

func TestServer(t *testing.T) {
	for _, good := range []string{"matrix.org", "matrix.org:8888", "1.2.3.4", "1.2.3.4:1234", "[1234:5678::abcd]", "[::1]:5678",
		"localhost", "UPPER.case", "xn--a", "1.2.3", "host:0", strings.Repeat("a", 255)} {
		if s, err := ParseServer(good); err != nil || string(s) != good {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ":", ":80", "a:", "a:b", "a:65536", "1.2.3.256", "[1.2.3.4]", "[::1", "::1", "[]", "[::1]x",
		"[::1%eth0]", "a_b", "a b", "ä.de", "a/b", "a:-1", strings.Repeat("a", 256), "user@host"} {
		if _, err := ParseServer(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestRoomAliasEvent(t *testing.T) {
	const hash = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"
	for id, isHash := range map[string]bool{"!a:h": false, hash: true, "!x": false, hash[:43] + "/": false, hash + "x": false, "!ü\n:h": false} {
		if r, err := ParseRoom(id); err != nil || r.IsHash() != isHash {
			t.Errorf("%q: %v %v", id, err, r.IsHash())
		}
	}
	for _, bad := range []string{"", "!", "!a:", "#a:b", "!a\x00b", "!\xff", "!a:b c", "!" + strings.Repeat("a", 255)} {
		if _, err := ParseRoom(bad); err == nil {
			t.Errorf("room %q passed", bad)
		}
	}
	if a, err := ParseAlias("#ro om/ü:h:1"); err != nil || a.Localpart() != "ro om/ü" || a.Server() != "h:1" {
		t.Errorf("alias: %v %q %q", err, a.Localpart(), a.Server())
	}
	for _, bad := range []string{"#a", "!a:b", "#a\x00:b", "#a:b:c"} {
		if _, err := ParseAlias(bad); err == nil {
			t.Errorf("alias %q passed", bad)
		}
	}
	if e, err := ParseEvent("$a:h"); err != nil || e.Server() != "h" {
		t.Errorf("event: %v", err)
	}
	if _, err := ParseEvent("$"); err == nil {
		t.Error("event id without anything passed")
	}
	if RoomID("").Server() != "" || UserID("").Localpart() != "" {
		t.Error("empty ids have parts")
	}
}

func TestLocalpart(t *testing.T) {
	for _, good := range []string{"a", "bob.b_=-/+9"} {
		if err := CheckLocalpart(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "Bob", "a b", "ü", "a:b", "a@b", "é", "a\x00"} {
		if CheckLocalpart(bad) == nil {
			t.Errorf("%q passed", bad)
		}
		if m := MapLocalpart(bad); bad != "" && CheckLocalpart(m) != nil {
			t.Errorf("%q maps to %q", bad, m)
		}
	}
	if got := LowerLocalpart("BobÜ"); got != "bobÜ" {
		t.Error(got)
	}
	if got := MapLocalpart("A#á=_"); got != "a=23=c3=a1=3d_" {
		t.Error(got)
	}
	if u, err := NewUser("bob", "h:1"); err != nil || u != "@bob:h:1" {
		t.Error(u, err)
	}
	if _, err := NewUser("Bob", "h"); err == nil {
		t.Error("capital passed")
	}
	if a, err := NewAlias("r", "h"); err != nil || a != "#r:h" {
		t.Error(a, err)
	}
	if _, err := NewAlias("a:b", "h"); err == nil {
		t.Error("colon passed")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"@a:b", "!a:[::1]:2", "#x:1.2.3.4", "$y", "@:x", "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUser(s); err == nil {
			if again := "@" + u.Localpart() + ":" + string(u.Server()); again != s || !utf8.ValidString(s) || len(s) > 255 {
				t.Fatalf("user %q prints as %q", s, again)
			}
			if _, err := ParseServer(string(u.Server())); err != nil {
				t.Fatalf("server of %q: %v", s, err)
			}
		}
		if a, err := ParseAlias(s); err == nil && "#"+a.Localpart()+":"+string(a.Server()) != s {
			t.Fatalf("alias %q", s)
		}
		if r, err := ParseRoom(s); err == nil && (string(r) != s || r.IsHash() && r.Server() != "") {
			t.Fatalf("room %q", s)
		}
		if m := MapLocalpart(s); s != "" && CheckLocalpart(m) != nil {
			t.Fatalf("%q maps to %q", s, m)
		}
	})
}
