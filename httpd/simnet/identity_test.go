package simnet

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"hearth/httpd/mail"
	"hearth/httpd/wire"
)

// sink is a mail server on this machine that keeps what it is given.
type sink struct {
	t     *testing.T
	ln    net.Listener
	mails chan string
}

func newSink(t *testing.T) *sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{t: t, ln: ln, mails: make(chan string, 16)}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *sink) serve(c net.Conn) {
	defer c.Close()
	say := func(text string) { c.Write([]byte(text + "\r\n")) }
	say("220 sink")
	var text strings.Builder
	in := bufio.NewScanner(c)
	for data := false; in.Scan(); {
		line := in.Text()
		switch {
		case data && line == ".":
			data = false
			s.mails <- text.String()
			text.Reset()
			say("250 kept")
		case data:
			if cut, ok := strings.CutSuffix(line, "="); ok { // a soft line break
				text.WriteString(cut)
			} else {
				text.WriteString(line + "\n")
			}
		case strings.HasPrefix(line, "DATA"):
			data = true
			say("354 go on")
		case strings.HasPrefix(line, "QUIT"):
			say("221 bye")
			return
		default:
			if strings.HasPrefix(line, "RCPT") {
				text.WriteString(line + "\n")
			}
			say("250 yes")
		}
	}
}

// send is a way to the sink.
func (s *sink) send(to, subject, text string) error {
	m, err := mail.New(mail.Options{Server: s.ln.Addr().String(), Security: mail.Clear, From: "id@a.test"})
	if err != nil {
		return err
	}
	return m.Send(to, subject, text)
}

var mailed = regexp.MustCompile(`https://[ab]\.test(/\S+)`)

// link is the link in the next mail, which has to be for an address.
func (s *sink) link(to string) string {
	s.t.Helper()
	text := strings.ReplaceAll(<-s.mails, "=3D", "=")
	m := mailed.FindAllStringSubmatch(text, -1)
	if m == nil || !strings.Contains(text, "RCPT TO:<"+to+">") {
		s.t.Fatalf("a mail for %s: %s", to, text)
	}
	return m[len(m)-1][1]
}

const id2 = "/_matrix/identity/v2"

// identify gets a user an access token to the identity server of the first hub.
func (u *User) identify() string { return u.identifyAt(u.Hub.net.Hubs[0]) }

// identifyAt is identify for any hub.
func (u *User) identifyAt(h *Hub) string {
	t := u.Hub.net.T
	t.Helper()
	proof := u.Want(200, "", "POST", v3+"/user/"+url.PathEscape(string(u.ID))+"/openid/request_token", "{}")
	a := h.lookUp("POST", id2+"/account/register", "", proof.Body)
	if a.Status != 200 {
		t.Fatalf("%s: %d %s", u.ID, a.Status, a.Body)
	}
	return a.Str("token")
}

// lookUp asks the identity server of a hub.
func (h *Hub) lookUp(method, path, token, body string) Reply {
	q := wire.Question{Method: method, Path: path}
	if token != "" {
		q.Authorization = "Bearer " + token
	}
	if body != "" {
		q.Body = []byte(body)
	}
	status, answer := h.mux.Ask(&q)
	return Reply{status, string(answer)}
}

// bind proves an address by the mail that comes, and has the user's own hub bind it.
func (u *User) bind(s *sink, address, token string) {
	n := u.Hub.net
	n.T.Helper()
	sid := n.Hubs[0].lookUp("POST", id2+"/validate/email/requestToken", token, `{"client_secret":"s","email":"`+address+`","send_attempt":1}`).Str("sid")
	if a := n.Hubs[0].lookUp("GET", s.link(address), "", ""); a.Status != 200 {
		n.T.Fatal(a)
	}
	u.Want(200, "", "POST", v3+"/account/3pid/bind", `{"sid":"`+sid+`","client_secret":"s","id_server":"a.test","id_access_token":"`+token+`"}`)
}

// An address is invited before anybody has it. Who proves it to the identity
// server, from whatever hub, is invited then, and found by it from then on.
func TestInviteByAddress(t *testing.T) {
	s := newSink(t)
	n := NewWith(t, 2, Options{Change: func(i int, h *Hub) {
		if i == 0 {
			h.Mail = s.send
		}
	}})
	const address = "carol@x.test"
	bob := n.Hubs[0].User("bob")
	bobs := bob.identify()
	in := bob.create(`{"preset":"private_chat","name":"Garden"}`)
	body := `{"medium":"email","address":"Carol@X.test","id_server":"a.test","id_access_token":"` + bobs + `"}`
	bob.Want(200, "", "POST", v3+"/rooms/"+in+"/invite", body)
	s.link(address)
	state := bob.Want(200, "", "GET", v3+"/rooms/"+in+"/state", "").Body
	if !strings.Contains(state, `"m.room.third_party_invite"`) || !strings.Contains(state, `"display_name":"c...@x..."`) {
		t.Fatal(state)
	}

	carol := n.Hubs[1].User("carol")
	carols := carol.identify()
	carol.bind(s, address, carols)
	n.Until("the invite is carol's", func() bool {
		return strings.Contains(carol.Want(200, "", "GET", v3+"/sync", "").Body, `"invite":{"`+in)
	})
	n.Until("carol joins", func() bool { // the inviter's hub has the invite a moment later than hers
		return carol.Ask("POST", v3+"/join/"+url.PathEscape(in)+"?via=a.test", "{}").Status == 200
	})
	for _, u := range []*User{bob, carol} {
		if state := u.Want(200, "", "GET", v3+"/rooms/"+in+"/state", "").Body; strings.Contains(state, "arol@") && strings.Contains(state, address) {
			t.Errorf("the room learns the address: %s", state)
		}
	}

	// Found by the hash of the address, and invited as who she is.
	pepper := n.Hubs[0].lookUp("GET", id2+"/hash_details", bobs, "").Str("lookup_pepper")
	sum := sha256.Sum256([]byte(address + " email " + pepper))
	hash := base64.RawURLEncoding.EncodeToString(sum[:])
	if a := n.Hubs[0].lookUp("POST", id2+"/lookup", bobs, `{"algorithm":"sha256","pepper":"`+pepper+`","addresses":["`+hash+`"]}`); a.Str("mappings", hash) != "@carol:b.test" {
		t.Fatal(a)
	}
	second := bob.create(`{"preset":"private_chat","invite_3pid":[` + body + `]}`)
	n.Until("carol is invited by her address", func() bool {
		return strings.Contains(carol.Want(200, "", "GET", v3+"/sync", "").Body, `"invite":{"`+second)
	})
	bob.Want(403, "M_UNAUTHORIZED", "POST", v3+"/rooms/"+in+"/invite", strings.Replace(body, bobs, "nonsense", 1))

	// Her hub has it forgotten, by its signature; another's does not.
	if a := bob.Want(200, "", "POST", v3+"/account/3pid/unbind", `{"medium":"email","address":"`+address+`","id_server":"b.test"}`); a.Str("id_server_unbind_result") != "no-support" {
		t.Error(a)
	}
	bob.Want(200, "", "POST", v3+"/account/3pid/unbind", `{"medium":"email","address":"`+address+`","id_server":"a.test"}`)
	if a := n.Hubs[0].lookUp("POST", id2+"/lookup", bobs, `{"algorithm":"none","pepper":"`+pepper+`","addresses":["`+address+` email"]}`); a.Body == `{"mappings":{}}` {
		t.Error("another's hub had the address forgotten")
	}
	a := carol.Want(200, "", "POST", v3+"/account/3pid/unbind", `{"medium":"email","address":"`+address+`"}`)
	if a.Str("id_server_unbind_result") != "success" {
		t.Error(a)
	}
	if a := n.Hubs[0].lookUp("POST", id2+"/lookup", bobs, `{"algorithm":"none","pepper":"`+pepper+`","addresses":["`+address+` email"]}`); a.Body != `{"mappings":{}}` {
		t.Error(a)
	}
}

// The same within one hub, where the notice takes no way over the network; and
// the hub is restarted between the invite and the binding.
func TestInviteByAddressHere(t *testing.T) {
	s := newSink(t)
	n := NewWith(t, 1, Options{Change: func(_ int, h *Hub) { h.Mail = s.send }})
	bob := n.Hubs[0].User("bob")
	in := bob.create(`{"preset":"private_chat"}`)
	bob.Want(200, "", "POST", v3+"/rooms/"+in+"/invite", `{"medium":"email","address":"dan@x.test","id_server":"a.test","id_access_token":"`+bob.identify()+`"}`)
	s.link("dan@x.test")
	n.Hubs[0].Restart()
	dan := n.Hubs[0].User("dan")
	dan.bind(s, "dan@x.test", dan.identify())
	n.Until("the invite is dan's", func() bool {
		return strings.Contains(dan.Want(200, "", "GET", v3+"/sync", "").Body, `"invite":{"`+in)
	})
}

// An identity server is told to come again where the inviter's server is away,
// and not where that refuses.
func TestBoundWhileAway(t *testing.T) {
	n := New(t, 2)
	n.Hubs[0].User("amy")
	tell := func(sender string) Reply {
		return n.Hubs[0].lookUp("PUT", "/_matrix/federation/v1/3pid/onbind", "", `{"medium":"email","address":"a@x.test","mxid":"@amy:a.test","invites":[`+
			`{"medium":"email","address":"a@x.test","mxid":"@amy:a.test","room_id":"!r:b.test","sender":"`+sender+`","signed":{"mxid":"@amy:a.test","token":"t","signatures":{}}}]}`)
	}
	if a := tell("@bob:b.test"); a.Status != 200 {
		t.Error(a)
	}
	n.Cut("a.test", "b.test")
	if a := tell("@bob:b.test"); a.Status != 503 {
		t.Error(a)
	}
	if a := tell("nonsense"); a.Status != 200 {
		t.Error(a)
	}
}
