package clientapi

import (
	"testing"

	"hearth/engine/account"
)

// boss makes a user an admin.
func (h *hub) boss(name string) {
	h.t.Helper()
	num, err := h.e.Accounts.Find(h.e.Accounts.ID(name))
	if err == nil {
		err = h.e.Accounts.SetAdmin(num, true)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestAdministration(t *testing.T) {
	h := start(t, Anyone)
	root, bob := h.join("root"), h.join("bob")
	h.boss("root")
	h.want(200, `{"devices":{"DEV":{"sessions":[{"connections":[{"ip":"192.0.2.1","last_seen":1700000000000}]}]}},"user_id":"@bob:hub.test"}`,
		"GET", v3+"/admin/whois/@bob:hub.test", root, "")
	h.want(200, "", "GET", v3+"/admin/whois/@bob:hub.test", bob, "")
	h.want(403, "M_FORBIDDEN", "GET", v3+"/admin/whois/@root:hub.test", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/admin/whois/@none:hub.test", root, "")
	if a := h.want(200, "", "GET", v3+"/capabilities", root, ""); a.get("capabilities", "m.account_moderation", "lock") != true {
		t.Fatal(a.body)
	}
	if a := h.want(200, "", "GET", v3+"/capabilities", bob, ""); a.get("capabilities", "m.account_moderation") != nil {
		t.Fatal(a.body)
	}
	if _, err := h.e.Accounts.Create(account.NewUser{Localpart: "gone"}); err != nil {
		t.Fatal(err)
	}
	num, _ := h.e.Accounts.Find("@gone:hub.test")
	if err := h.e.Accounts.End(num, false); err != nil {
		t.Fatal(err)
	}
	for word, path := range map[string]string{"locked": v1 + "/admin/lock/", "suspended": v1 + "/admin/suspend/"} {
		on, off := `{"`+word+`":true}`, `{"`+word+`":false}`
		for who, want := range map[string]struct {
			status int
			code   string
		}{
			"@root:hub.test": {403, "M_FORBIDDEN"}, "@gone:hub.test": {404, "M_NOT_FOUND"}, "@none:hub.test": {404, "M_NOT_FOUND"},
			"@bob:elsewhere": {400, "M_INVALID_PARAM"}, "bob": {400, "M_INVALID_PARAM"},
		} {
			h.want(want.status, want.code, "PUT", path+who, root, on)
			h.want(want.status, want.code, "GET", path+who, root, "")
		}
		h.want(403, "M_FORBIDDEN", "GET", path+"@none:hub.test", bob, "")
		h.want(403, "M_FORBIDDEN", "PUT", path+"@bob:hub.test", bob, on)
		h.want(400, "M_NOT_JSON", "PUT", path+"@bob:hub.test", bob, "{")
		h.want(400, "M_MISSING_PARAM", "PUT", path+"@bob:hub.test", root, "{}")
		h.want(400, "M_BAD_JSON", "PUT", path+"@bob:hub.test", root, `{"`+word+`":1}`)
		h.want(200, off, "GET", path+"@bob:hub.test", root, "")
		h.want(200, on, "PUT", path+"@bob:hub.test", root, on)
		h.want(200, on, "GET", path+"@bob:hub.test", root, "")
		h.want(200, off, "PUT", path+"@bob:hub.test", root, off)
	}
	h.want(200, "", "GET", v3+"/account/whoami", bob, "")
}

// A suspended user takes back what is theirs and nothing of others.
func TestSuspendedRedacts(t *testing.T) {
	h := start(t, Anyone)
	root, bob := h.join("root"), h.join("bob")
	h.boss("root")
	room := h.want(200, "", "POST", v3+"/createRoom", bob, `{"preset":"public_chat"}`).str("room_id")
	h.want(200, "", "POST", v3+"/rooms/"+room+"/join", root, "")
	send := func(token, txn string) string {
		return h.want(200, "", "PUT", v3+"/rooms/"+room+"/send/m.room.message/"+txn, token, `{"body":"x","msgtype":"m.text"}`).str("event_id")
	}
	mine, theirs := send(bob, "1"), send(root, "2")
	h.want(200, "", "PUT", v1+"/admin/suspend/@bob:hub.test", root, `{"suspended":true}`)
	h.want(403, "M_USER_SUSPENDED", "PUT", v3+"/rooms/"+room+"/send/m.room.message/3", bob, `{"body":"x","msgtype":"m.text"}`)
	h.want(403, "M_USER_SUSPENDED", "PUT", v3+"/rooms/"+room+"/redact/"+theirs+"/4", bob, `{}`)
	h.want(200, "", "PUT", v3+"/rooms/"+room+"/redact/"+mine+"/5", bob, `{}`)
	h.want(200, "", "POST", v3+"/rooms/"+room+"/leave", bob, `{}`)
}
