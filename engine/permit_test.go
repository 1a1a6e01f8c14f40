package engine

import (
	"fmt"
	"testing"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

func TestInvitePermission(t *testing.T) {
	h := open(t)
	set := func(typ, content string) {
		t.Helper()
		_, err := h.Accounts.SetData(h.nums[b], 0, typ, []byte(content))
		h.ok(err)
	}
	invite := func(want fault.Kind) {
		t.Helper()
		num := h.create(NewRoom{})
		h.is(h.Invite(num, a, b, ""), want)
		key := string(b)
		num = h.create(NewRoom{})
		_, err := h.State(num, &room.Draft{Type: "m.room.member", StateKey: &key, Sender: a, Content: []byte(`{"membership":"invite"}`)})
		h.is(err, want)
		_, err = h.CreateRoom(&NewRoom{Creator: a, Invite: []mxid.UserID{b}})
		h.is(err, want)
	}
	const old = "org.matrix.msc4155.invite_permission_config"
	for _, x := range []struct {
		typ, content string
		want         fault.Kind
	}{
		{account.TypeInvites, `{"default_action":"block"}`, fault.InviteBlocked},
		{account.TypeInvites, `{"default_action":"other"}`, 0},
		{account.TypeInvites, `{"default_action":7}`, 0},
		{account.TypeInvites, `{}`, 0},
		{old, `{"blocked_users":["@a:hub"]}`, fault.InviteBlocked},
		{old, `{"blocked_users":["@?:h*"]}`, fault.InviteBlocked},
		{old, `{"blocked_users":["@b:hub",1,null]}`, 0},
		{old, `{"blocked_servers":["hub"]}`, fault.InviteBlocked},
		{old, `{"blocked_servers":["hub"],"allowed_users":["@a:*"]}`, 0},
		{old, `{"blocked_users":["@a:hub"],"ignored_users":["@a:hub"]}`, 0},
		{old, `{"blocked_users":null,"allowed_servers":{}}`, 0},
		{old, `{}`, 0},
		{account.TypeIgnored, `{"ignored_users":{"@a:hub":{}}}`, 0},
		{account.TypeIgnored, `{"ignored_users":["@a:hub"]}`, 0},
	} {
		t.Run(x.content, func(t *testing.T) {
			h.t = t
			set(x.typ, x.content)
			invite(x.want)
		})
	}
	h.t = t
	set(account.TypeIgnored, `{"ignored_users":{"@a:hub":{}}}`)
	if got, err := h.Accounts.InvitesFrom(h.nums[b], a); got != account.HideInvites || err != nil {
		t.Fatal(got, err)
	}
	if got, err := h.Accounts.Ignored(h.nums[b]); len(got) != 1 || err != nil {
		t.Fatal(got, err)
	}
	if got, err := h.Accounts.Ignored(h.nums[a]); len(got) != 0 || err != nil {
		t.Fatal(got, err)
	}
}

func TestGuestAccess(t *testing.T) {
	h := open(t)
	guest, err := h.Accounts.Create(account.NewUser{Localpart: "g", Guest: true})
	h.ok(err)
	const g = mxid.UserID("@g:hub")
	num := h.create(NewRoom{Preset: "public_chat"}) // says nothing, which is as forbidden
	h.is(h.Join(num, g, nil), fault.GuestAccess)
	key := ""
	access := func(value string) {
		t.Helper()
		_, err := h.State(num, &room.Draft{Type: typeGuestAccess, StateKey: &key, Sender: a, Content: []byte(fmt.Sprintf(`{"guest_access":%q}`, value))})
		h.ok(err)
	}
	access("can_join")
	h.ok(h.Join(num, g, nil))
	h.ok(h.Join(num, b, nil))
	access("can_join")
	if got := h.membership(num, string(g)); got != "join" {
		t.Fatal(got)
	}
	access("forbidden")
	if got := h.membership(num, string(g)); got != "leave" {
		t.Fatal(got)
	}
	if got := h.membership(num, string(b)); got != "join" {
		t.Fatal(got)
	}
	self := string(g)
	_, err = h.State(num, &room.Draft{Type: "m.room.member", StateKey: &self, Sender: g, Content: []byte(`{"membership":"join"}`)})
	h.is(err, fault.GuestAccess)
	h.ok(h.Accounts.Upgrade(guest, account.NewUser{Password: "correct horse"}))
	h.ok(h.Join(num, g, nil))
}
