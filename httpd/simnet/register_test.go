package simnet

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"hearth/engine/mxid"
)

const secret = "correct horse battery"

// register makes an account with what else the body has, by the client API; the
// address, where there is one, is proved by the mail that comes.
func (h *Hub) register(s *sink, name, address, more string) *User {
	t := h.net.T
	t.Helper()
	auth := `"type":"m.login.dummy"`
	if address != "" {
		auth = `"type":"m.login.email.identity","threepid_creds":` + h.prove(s, "/register", address)
	}
	body := fmt.Sprintf(`{"username":%q,"password":%q,"device_id":"DEV"%s,"auth":{"session":%%q,%s}}`, name, secret, more, auth)
	begun := h.lookUp("POST", v3+"/register", "", strings.Replace(body, `"session":%q,`+auth, "", 1))
	a := h.lookUp("POST", v3+"/register", "", fmt.Sprintf(body, begun.Str("session")))
	if a.Status != 200 {
		t.Fatalf("%s: %d %s", name, a.Status, a.Body)
	}
	num, err := h.Accounts.Find(h.Accounts.ID(name))
	if err != nil {
		t.Fatal(err)
	}
	return &User{Hub: h, ID: h.Accounts.ID(name), Num: num, Token: a.Str("access_token")}
}

// prove proves an address to the hub, and gives the credentials of that.
func (h *Hub) prove(s *sink, what, address string) string {
	h.net.T.Helper()
	a := h.lookUp("POST", v3+what+"/email/requestToken", "", `{"client_secret":"c","email":"`+address+`","send_attempt":1}`)
	u, err := url.Parse(s.link(strings.ToLower(address)))
	if err != nil {
		h.net.T.Fatal(err)
	}
	done := h.lookUp("POST", u.Path, "", fmt.Sprintf(`{"sid":%q,"client_secret":"c","token":%q}`, a.Str("sid"), u.Query().Get("token")))
	if done.Status != 200 {
		h.net.T.Fatal(a, done)
	}
	return fmt.Sprintf(`{"sid":%q,"client_secret":"c"}`, a.Str("sid"))
}

// find looks an address up by its hash, at the identity server of a hub.
func (u *User) find(at *Hub, address string) mxid.UserID {
	token := u.identifyAt(at)
	pepper := at.lookUp("GET", id2+"/hash_details", token, "").Str("lookup_pepper")
	sum := sha256.Sum256([]byte(address + " email " + pepper))
	hash := base64.RawURLEncoding.EncodeToString(sum[:])
	a := at.lookUp("POST", id2+"/lookup", token, `{"algorithm":"sha256","pepper":"`+pepper+`","addresses":["`+hash+`"]}`)
	if a.Status != 200 {
		u.Hub.net.T.Fatal(a)
	}
	return mxid.UserID(a.Str("mappings", hash))
}

// invite invites an address that nobody has, by the identity server of a hub, and
// gives the room and the link of the mail.
func (u *User) invite(s *sink, at *Hub, address string) (in, link string) {
	u.Hub.net.T.Helper()
	if who := u.find(at, address); who != "" {
		u.Hub.net.T.Fatalf("%s is %s already", address, who)
	}
	in = u.create(`{"preset":"private_chat"}`)
	u.Want(200, "", "POST", v3+"/rooms/"+in+"/invite",
		fmt.Sprintf(`{"medium":"email","address":%q,"id_server":%q,"id_access_token":%q}`, address, at.Name, u.identifyAt(at)))
	return in, s.link(address)
}

// enters waits until the user is invited, and joins. The inviter's hub has the
// invite a moment later than the user's, who signs it first.
func (u *User) enters(in string) {
	u.Hub.net.T.Helper()
	u.Hub.net.Until(string(u.ID)+" is invited", func() bool {
		return strings.Contains(u.Want(200, "", "GET", v3+"/sync", "").Body, `"invite":{"`+in)
	})
	u.Hub.net.Until(string(u.ID)+" joins", func() bool { return u.Ask("POST", v3+"/join/"+url.PathEscape(in), "{}").Status == 200 })
}

// Whoever is invited by an address before they have an account finds the invite
// when they have registered with that address, or have added it later, on another
// hub than the inviter's; without being found by the address, if they do not want that.
func TestInvitedBeforeTheyExist(t *testing.T) {
	s := newSink(t)
	n := NewWith(t, 2, Options{Change: func(_ int, h *Hub) { h.Mail = s.send }})
	a, b := n.Hubs[0], n.Hubs[1]
	amy := a.User("amy")

	in, _ := amy.invite(s, b, "zoe@x.test")
	zoe := b.register(s, "zoe", "Zoe@x.test", "")
	zoe.enters(in)
	if who := amy.find(b, "zoe@x.test"); who != "" {
		t.Errorf("%s is found by an address that she only registered with", who)
	}

	yan := b.register(s, "yan", "", "")
	in, _ = amy.invite(s, b, "yan@x.test")
	b.Restart()
	add := b.prove(s, "/account/3pid", "yan@x.test")
	add = strings.Replace(add, "{", fmt.Sprintf(`{"auth":{"type":"m.login.password","identifier":{"type":"m.id.user","user":"yan"},"password":%q},`, secret), 1)
	yan.Want(200, "", "POST", v3+"/account/3pid/add", add)
	yan.enters(in)

	// As clients of r0.4.0 ask for it, others find the user too; until they go.
	in, _ = amy.invite(s, b, "xia@x.test")
	xia := b.register(s, "xia", "xia@x.test", `,"bind_email":true`)
	xia.enters(in)
	if who := amy.find(b, "xia@x.test"); who != "@xia:b.test" {
		t.Errorf("%q is found", who)
	}
	creds := strings.Replace(b.prove(s, "/account/3pid", "xia2@x.test"), "{", `{"id_server":"b.test",`, 1)
	xia.Want(200, "", "POST", "/_matrix/client/r0/account/3pid", `{"threePidCreds":`+creds+`,"bind":true}`)
	if who := amy.find(b, "xia2@x.test"); who != "@xia:b.test" {
		t.Errorf("%q is found", who)
	}
	if unbound, err := b.Retire(xia.Num, xia.ID, false); err != nil || !unbound {
		t.Error(unbound, err)
	}
	for _, address := range []string{"xia@x.test", "xia2@x.test"} {
		if who := amy.find(b, address); who != "" {
			t.Errorf("%s is found though gone", who)
		}
	}
}

// The mail of an invite has what an app needs to accept it for a user who never
// binds the address: at the inviter's identity server, from another hub.
func TestInviteAcceptedByMail(t *testing.T) {
	s := newSink(t)
	n := NewWith(t, 2, Options{Change: func(_ int, h *Hub) { h.Mail = s.send }})
	a, b := n.Hubs[0], n.Hubs[1]
	amy := a.User("amy")
	in, link := amy.invite(s, a, "zoe@x.test")
	zoe, eve := b.register(s, "zoe", "zoe@x.test", ""), b.User("eve")
	signed := a.lookUp("POST", link+"&mxid="+url.QueryEscape(string(zoe.ID)), "", "")
	if signed.Status != 200 {
		t.Fatal(signed)
	}
	join := v3 + "/join/" + url.PathEscape(in) + "?via=a.test"
	with := func(signed string) string { return `{"third_party_signed":` + signed + `}` }
	zoe.Want(403, "", "POST", join, "{}")
	eve.Want(403, "M_FORBIDDEN", "POST", join, with(signed.Body))
	eve.Want(403, "", "POST", join, with(strings.Replace(signed.Body, "@zoe:", "@eve:", 1)))
	for _, bad := range []string{"7", "{}", `{"sender":"x","mxid":"@zoe:b.test"}`} {
		zoe.Want(400, "M_INVALID_PARAM", "POST", join, with(bad))
	}
	zoe.Want(200, "", "POST", join, with(signed.Body))
	zoe.Want(200, "", "POST", join, with(signed.Body)) // again, though the invite is used up

	// Within one hub; and not when the key has been taken back meanwhile, since
	// somebody else has bound the address.
	in, link = amy.invite(s, a, "dan@x.test")
	dan := a.User("dan")
	signed = a.lookUp("POST", link+"&mxid="+url.QueryEscape(string(dan.ID)), "", "")
	dan.Want(200, "", "POST", v3+"/join/"+in, with(signed.Body))
	in, link = amy.invite(s, a, "eva@x.test")
	signed = a.lookUp("POST", link+"&mxid="+url.QueryEscape(string(eve.ID)), "", "")
	zoe.bind(s, "eva@x.test", zoe.identify())
	eve.Want(403, "M_FORBIDDEN", "POST", v3+"/join/"+url.PathEscape(in)+"?via=a.test", with(signed.Body))
	zoe.enters(in)
}
