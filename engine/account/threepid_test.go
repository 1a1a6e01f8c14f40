package account

import (
	"fmt"
	"strings"
	"testing"

	"hearth/engine/fault"
)

func TestThreepids(t *testing.T) {
	h := fresh(t)
	bob, eve := h.user(t, "bob"), h.user(t, "eve")
	must(t, h.AddThreepid(bob, Email, "b@x.org", h.at))
	must(t, h.AddThreepid(bob, Email, "b@x.org", h.at))
	must(t, h.AddThreepid(bob, Email, "b2@x.org", h.at))
	wants(t, h.AddThreepid(eve, Email, "b@x.org", h.at), fault.ThreepidInUse)
	wants(t, h.AddThreepid(eve, Email, "b\x00@x.org", h.at), fault.Invalid)
	if user, err := h.FindThreepid(Email, "b@x.org"); user != bob || err != nil {
		t.Fatal(user, err)
	}
	list, err := h.Threepids(bob)
	must(t, err)
	if len(list) != 2 || list[1] != (Threepid{Email, "b@x.org", list[1].Validated, list[1].Added}) || !list[1].Added.Equal(h.at) {
		t.Fatalf("%+v", list)
	}
	must(t, h.DropThreepid(eve, Email, "b@x.org"))
	must(t, h.DropThreepid(bob, Email, "b@x.org"))
	must(t, h.AddThreepid(eve, Email, "b@x.org", h.at))
	must(t, h.LinkExternal(bob, "oidc", "42"))
	wants(t, h.LinkExternal(eve, "oidc", "42"), fault.ThreepidInUse)
	if list, err := h.Externals(bob); len(list) != 1 || list[0].Medium != "oidc" || list[0].Address != "42" || err != nil {
		t.Fatalf("%+v %v", list, err)
	}
	if list, err := h.Threepids(bob); len(list) != 1 || err != nil {
		t.Fatalf("%+v %v", list, err)
	}
	must(t, h.End(bob, false))
	if user, err := h.FindExternal("oidc", "42"); user != bob || err != nil {
		t.Fatal("whom a provider knows was forgotten", user, err)
	}
	if user, err := h.FindThreepid(Email, "b2@x.org"); user != 0 || err != nil {
		t.Fatal("an address outlived its user", user, err)
	}
	wants(t, h.AddThreepid(bob, Email, "b3@x.org", h.at), fault.Deactivated)
	for i := range maxThreepids - 1 {
		must(t, h.AddThreepid(eve, Email, fmt.Sprintf("e%d@x.org", i), h.at))
	}
	wants(t, h.AddThreepid(eve, Email, "more@x.org", h.at), fault.Forbidden)
	must(t, h.AddReport(Report{Kind: UserReport, By: eve, User: "@bob:hub.test"}))
	must(t, h.Verify(t.Errorf))
}

func TestCanonicalEmail(t *testing.T) {
	for in, want := range map[string]string{
		"Bob@X.Org": "bob@x.org", "ä+1@x.org": "ä+1@x.org", "a@b": "a@b",
		"": "", "bob": "", "@x": "", "a@": "", "a@b@c": "", "a b@c": "", "a@b\n": "", "a@b\r\nBcc: c@d": "", "<a@b>": "", "a@.b": "", "a@b.": "", "a@b..c": "", "a@-b": "",
		"a@b\xff": "", strings.Repeat("x", 65) + "@x.org": "", "a@" + strings.Repeat("x", 260): "", `"a"@b`: "", "a,b@c": "",
	} {
		got, err := CanonicalEmail(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}
