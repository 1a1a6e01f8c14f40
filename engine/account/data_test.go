package account

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/engine/fault"
	"hearth/engine/stream"
)

func since(t *testing.T, h *hub, user uint32, after, upto stream.Pos) string {
	t.Helper()
	var got []string
	must(t, h.DataSince(user, after, upto, func(c *Change) bool {
		got = append(got, fmt.Sprintf("%d:%s=%s", c.Room, c.Type, c.Content))
		return true
	}))
	return strings.Join(got, " ")
}

func TestAccountData(t *testing.T) {
	h := fresh(t)
	bob, eve := h.user(t, "bob"), h.user(t, "eve")
	woken := 0
	defer h.log.Park(bob, func() { woken++ }).Leave()
	set := func(user, room uint32, typ, content string) stream.Pos {
		t.Helper()
		pos, err := h.SetData(user, room, typ, []byte(content))
		must(t, err)
		return pos
	}
	start := h.log.Tip()
	set(bob, 0, "a", `{"v":1}`)
	if woken != 1 {
		t.Fatal(woken)
	}
	p2 := set(bob, 7, "a", `{"v":2}`)
	set(eve, 0, "a", `{"v":9}`)
	set(bob, 0, "b", `{"v":3}`)
	p5 := set(bob, 0, "a", `{ "v" : 4.5 }`)
	if got := since(t, h, bob, 0, h.log.Tip()); got != `7:a={"v":2} 0:b={"v":3} 0:a={"v":4.5}` {
		t.Fatal(got)
	}
	if got := since(t, h, bob, p2, h.log.Tip()); got != `0:b={"v":3} 0:a={"v":4.5}` {
		t.Fatal(got)
	}
	if got := since(t, h, bob, start, p5-1); got != `7:a={"v":2} 0:b={"v":3}` {
		t.Fatal("what changed later stands in an earlier window:", got)
	}
	if got, ok, err := h.Data([]byte("x"), bob, 0, "a"); string(got) != `x{"v":4.5}` || !ok || err != nil {
		t.Fatalf("%s %v %v", got, ok, err)
	}
	if got, ok, err := h.Data([]byte("x"), bob, 0, "none"); string(got) != "x" || ok || err != nil {
		t.Fatalf("%s %v %v", got, ok, err)
	}
	_, err := h.log.Commit(func(tx *stream.Tx) error { return h.DropRoomData(tx, bob, 7) })
	must(t, err)
	if got := since(t, h, bob, 0, h.log.Tip()); got != `0:b={"v":3} 0:a={"v":4.5}` {
		t.Fatal(got)
	}
	for _, c := range []struct {
		typ, content string
		kind         fault.Kind
	}{
		{"", `{}`, fault.Invalid}, {strings.Repeat("t", 300), `{}`, fault.Invalid}, {"\xff", `{}`, fault.Invalid},
		{"a", `[]`, fault.BadJSON}, {"a", `{"x":"` + "\xff" + `"}`, fault.BadJSON}, {"a", `{"x":"` + strings.Repeat("x", 1<<20) + `"}`, fault.TooLarge},
	} {
		_, err := h.SetData(bob, 0, c.typ, []byte(c.content))
		wants(t, err, c.kind)
	}
}

func TestAccountDataIsBounded(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	_, err := h.log.Commit(func(tx *stream.Tx) error {
		for i := range maxDataRows {
			if err := h.PutData(tx, bob, uint32(i), "a", []byte(`{}`)); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	_, err = h.SetData(bob, 0, "b", []byte(`{}`))
	wants(t, err, fault.Forbidden)
	_, err = h.SetData(bob, 0, "a", []byte(`{"still":1}`))
	must(t, err)
}

func TestTags(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	tags := func(want string) {
		t.Helper()
		if got, err := h.AppendTags(nil, bob, 3); string(got) != want || err != nil {
			t.Fatalf("%s %v, want %s", got, err, want)
		}
	}
	tags(`{"tags":{}}`)
	tag := func(name, content string) {
		t.Helper()
		var c []byte
		if content != "" {
			c = []byte(content)
		}
		_, err := h.SetTag(bob, 3, name, c)
		must(t, err)
	}
	tag("u.x", `{"order":0.5}`)
	tag("m.\"q", `{}`)
	tag("u.x", `{"order":1}`)
	tags(`{"tags":{"m.\"q":{},"u.x":{"order":1}}}`)
	before := h.log.Tip()
	tag("none", "")
	if h.log.Tip() != before {
		t.Fatal("taking away what is not there was told to somebody")
	}
	_, err := h.SetData(bob, 3, TypeTag, []byte(`{"tags":{"u.x":{}},"more":1}`))
	must(t, err)
	tag("u.x", "")
	tags(`{"tags":{},"more":1}`)
	_, err = h.SetTag(bob, 3, "", []byte(`{}`))
	wants(t, err, fault.Invalid)
	_, err = h.SetTag(bob, 3, "x", []byte(`{"order":"first"}`))
	wants(t, err, fault.BadJSON)
	_, err = h.SetTag(bob, 3, "x", []byte(`7`))
	wants(t, err, fault.BadJSON)
	for i := range maxTags {
		tag(fmt.Sprint("t", i), `{}`)
	}
	_, err = h.SetTag(bob, 3, "more", []byte(`{}`))
	wants(t, err, fault.Forbidden)
}

func TestProfile(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	must(t, h.SetProfile(bob, DisplayName, []byte(`"Bob \u00e4"`)))
	must(t, h.SetProfile(bob, AvatarURL, []byte(`"mxc://hub.test/x"`)))
	must(t, h.SetProfile(bob, "org.example.n", []byte(`[1, 2.5, null]`)))
	if got, err := h.AppendProfile(nil, bob); err != nil || string(got) != `{"avatar_url":"mxc://hub.test/x","displayname":"Bob ä","org.example.n":[1,2.5,null]}` {
		t.Fatalf("%s %v", got, err)
	}
	name, avatar, err := h.NameAndAvatar(bob)
	if name != "Bob ä" || avatar != "mxc://hub.test/x" || err != nil {
		t.Fatal(name, avatar, err)
	}
	must(t, h.SetProfile(bob, AvatarURL, nil))
	if _, ok, err := h.ProfileField(nil, bob, AvatarURL); ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, c := range []struct {
		field, value string
		kind         fault.Kind
	}{
		{"", `1`, fault.Invalid}, {"Bad", `1`, fault.Invalid}, {"a/b", `1`, fault.Invalid},
		{strings.Repeat("a", 256), `1`, fault.KeyTooLarge}, {DisplayName, `7`, fault.BadJSON},
		{DisplayName, `"` + strings.Repeat("x", 2000) + `"`, fault.Invalid}, {"m.tz", `{}`, fault.BadJSON},
		{"a.b", `"` + strings.Repeat("x", 70<<10) + `"`, fault.ProfileTooLarge}, {"a.b", `{`, fault.BadJSON},
	} {
		wants(t, h.SetProfile(bob, c.field, []byte(c.value)), c.kind)
	}
	big := []byte(`"` + strings.Repeat("x", 40<<10) + `"`)
	must(t, h.SetProfile(bob, "a.b", big))
	must(t, h.SetProfile(bob, "a.b", big))
	wants(t, h.SetProfile(bob, "a.c", big), fault.ProfileTooLarge)
}

func TestFilters(t *testing.T) {
	h := fresh(t)
	bob, eve := h.user(t, "bob"), h.user(t, "eve")
	add := func(user uint32, content string) uint32 {
		t.Helper()
		n, err := h.AddFilter(user, []byte(content))
		must(t, err)
		return n
	}
	a, b := add(bob, `{"a":1}`), add(bob, `{"b":1}`)
	if again := add(bob, `{"a":1}`); again != a || a == b {
		t.Fatal(a, b, again)
	}
	if _, err := h.Filter(eve, a); !fault.Is(err, fault.NotFound) {
		t.Fatal("somebody else's filter was read", err)
	}
	for i := range maxFilters {
		add(bob, fmt.Sprintf(`{"n":%d}`, i))
	}
	_, err := h.Filter(bob, a)
	wants(t, err, fault.NotFound)
	if again := add(bob, `{"a":1}`); again <= b {
		t.Fatal("a number was given again", again)
	}
	_, err = h.AddFilter(bob, make([]byte, maxFilter+1))
	wants(t, err, fault.TooLarge)
}

func TestRegistrationTokens(t *testing.T) {
	h := fresh(t)
	valid := func(token string, want bool) {
		t.Helper()
		if got, err := h.RegistrationValid(token); got != want || err != nil {
			t.Fatalf("%s: %v %v", token, got, err)
		}
	}
	_, err := h.AddRegistration(RegistrationToken{Token: "twice", Uses: 2, Expires: h.at.Add(time.Hour)})
	must(t, err)
	_, err = h.AddRegistration(RegistrationToken{Token: "no/slash"})
	wants(t, err, fault.Invalid)
	valid("twice", true)
	valid("none", false)
	valid("\xff", false)
	valid("", false)
	must(t, h.Reserve("twice"))
	must(t, h.Reserve("twice"))
	valid("twice", false)
	wants(t, h.Reserve("twice"), fault.Unauthorised)
	user, err := h.Create(NewUser{Localpart: "one", Token: "twice"})
	must(t, err)
	if u, err := h.User(user); u.Admin || err != nil {
		t.Fatal("an ordinary token made an admin", err)
	}
	h.Free("twice")
	h.Free("twice")
	valid("twice", true)
	list, err := h.Registrations()
	if err != nil || len(list) != 1 || list[0].Completed != 1 || list[0].Pending != 0 {
		t.Fatalf("%+v %v", list, err)
	}
	h.at = h.at.Add(time.Hour)
	valid("twice", false)
	_, err = h.Create(NewUser{Localpart: "two", Token: "twice"})
	wants(t, err, fault.Unauthorised)
	must(t, h.DropRegistration("twice"))
	wants(t, h.DropRegistration("twice"), fault.NotFound)
}

func TestClaimCodeMakesOneAdmin(t *testing.T) {
	h := fresh(t)
	code, err := h.ClaimCode()
	must(t, err)
	if again, err := h.ClaimCode(); again != code || len(code) != 19 || err != nil {
		t.Fatal(code, again, err)
	}
	h.user(t, "ordinary")
	admin, err := h.Create(NewUser{Localpart: "owner", Token: code})
	must(t, err)
	if u, err := h.User(admin); !u.Admin || err != nil {
		t.Fatal(u, err)
	}
	_, err = h.Create(NewUser{Localpart: "thief", Token: code})
	wants(t, err, fault.Unauthorised)
	if again, err := h.ClaimCode(); again != "" || err != nil {
		t.Fatal("there is still a code", again, err)
	}
}

// TestClaimCodeGiven: an owner without a screen says which code it is, also of a hub that has made one already.
func TestClaimCodeGiven(t *testing.T) {
	h := fresh(t)
	random, err := h.ClaimCode()
	must(t, err)
	h.claim = "nobody-else-knows"
	for range 2 {
		if code, err := h.ClaimCode(); code != h.claim || err != nil {
			t.Fatal(code, err)
		}
	}
	if ok, err := h.RegistrationValid(random); ok || err != nil {
		t.Fatal("the code before is good", err)
	}
	_, err = h.Create(NewUser{Localpart: "owner", Token: h.claim})
	must(t, err)
	if code, err := h.ClaimCode(); code != "" || err != nil {
		t.Fatal("a hub with an owner has a code", code, err)
	}
	if code, err := h.Reclaim(); code != h.claim || err != nil {
		t.Fatal(code, err)
	}
	if ok, err := h.RegistrationValid(h.claim); !ok || err != nil {
		t.Fatal("the code that was asked for anew is not good", err)
	}
	h.claim = "no code"
	if _, err := h.Reclaim(); err == nil {
		t.Fatal("a code with a blank was taken")
	}
}

// An admin made by the owner's own hand closes the open door too.
func TestAdminVoidsClaimCode(t *testing.T) {
	h := fresh(t)
	code, err := h.ClaimCode()
	must(t, err)
	_, err = h.Create(NewUser{Localpart: "owner", Admin: true})
	must(t, err)
	if ok, err := h.RegistrationValid(code); ok || err != nil {
		t.Fatal(ok, err)
	}
	if again, err := h.ClaimCode(); again != "" || err != nil {
		t.Fatal(again, err)
	}
}
