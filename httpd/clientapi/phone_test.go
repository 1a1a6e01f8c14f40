package clientapi

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"hearth/engine/fault"
)

// phone takes the hub's text messages.
type phone struct {
	to, text string
	n        int
	err      error
}

func (h *hub) phone() *phone {
	p := &phone{}
	h.api.o.Text = func(from netip.Addr, to, text string) error {
		if p.err != nil {
			return p.err
		}
		if from != netip.MustParseAddr("192.0.2.1") {
			h.t.Errorf("at the wish of %s", from)
		}
		p.to, p.text = to, text
		p.n++
		return nil
	}
	return p
}

var codeIn = regexp.MustCompile(`^\d{6} `)

func (p *phone) code() string { return strings.TrimSpace(codeIn.FindString(p.text)) }

func call(secret, number string, attempt int) string {
	return fmt.Sprintf(`{"client_secret":%q,"country":"GB","phone_number":%q,"send_attempt":%d}`, secret, number, attempt)
}

// A phone is proved by a code, and then logs in and sets a new password.
func TestPhone(t *testing.T) {
	h := start(t, Anyone)
	p := h.phone()
	bob := h.join("bob")
	ask := v3 + "/account/3pid/msisdn/requestToken"
	h.want(400, "M_INVALID_PARAM", "POST", ask, bob, call("s", "call me", 1))
	h.want(400, "M_INVALID_PARAM", "POST", ask, bob, `{"client_secret":"s","country":"XX","phone_number":"07700900001","send_attempt":1}`)
	a := h.want(200, "", "POST", ask, bob, call("s", "07700 900001", 1))
	sid := a.str("sid")
	if a.str("msisdn") != "447700900001" || a.str("intl_fmt") != "+447700900001" || a.str("submit_url") != "https://hub.test"+confirmPath || p.to != "447700900001" {
		t.Fatal(a.body, p.to)
	}
	if again := h.want(200, "", "POST", ask, bob, call("s", "07700 900001", 1)); again.str("sid") != sid || p.n != 1 {
		t.Fatal(again.body, p.n)
	}
	creds := fmt.Sprintf(`{"sid":%q,"client_secret":"s"`, sid)
	h.want(401, "", "POST", v3+"/account/3pid/add", bob, creds+"}")
	h.want(403, "M_THREEPID_AUTH_FAILED", "POST", v3+"/account/3pid/add", bob, creds+","+auth("bob", pw)+"}")
	submit := func(code string) string { return fmt.Sprintf(`{"sid":%q,"client_secret":"s","token":%q}`, sid, code) }
	for range 3 {
		h.want(403, "M_THREEPID_AUTH_FAILED", "POST", confirmPath, "", submit("x"))
	}
	h.want(200, `{"success":true}`, "POST", confirmPath, "", submit(p.code()))
	h.want(200, "{}", "POST", v3+"/account/3pid/add", bob, creds+","+auth("bob", pw)+"}")
	if a := h.want(200, "", "GET", v3+"/account/3pid", bob, ""); !strings.Contains(a.body, `"address":"447700900001","medium":"msisdn"`) {
		t.Fatal(a.body)
	}
	for _, ident := range []string{`"m.id.phone","country":"GB","phone":"07700900001"`, `"m.id.thirdparty","medium":"msisdn","address":"447700900001"`} {
		h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","password":"`+pw+`","identifier":{"type":`+ident+`}}`)
	}
	h.want(403, "M_FORBIDDEN", "POST", v3+"/login", "", `{"type":"m.login.password","password":"`+pw+`","identifier":{"type":"m.id.phone","country":"GB","phone":"07700900002"}}`)
	h.want(400, "M_THREEPID_IN_USE", "POST", ask, bob, call("s2", "07700900001", 1))
	h.want(400, "M_THREEPID_NOT_FOUND", "POST", v3+"/account/password/msisdn/requestToken", "", call("s", "07700900002", 1))

	sid = h.want(200, "", "POST", v3+"/account/password/msisdn/requestToken", "", call("s", "07700900001", 1)).str("sid")
	h.want(200, `{"success":true}`, "POST", confirmPath, "", submit(p.code()))
	change := `{"new_password":"another horse","auth":{"type":"%s","threepid_creds":{"sid":"` + sid + `","client_secret":"s"}}}`
	h.want(401, "", "POST", v3+"/account/password", "", fmt.Sprintf(change, stageEmail))
	h.want(200, "{}", "POST", v3+"/account/password", "", fmt.Sprintf(change, stagePhone))
	h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","user":"bob","password":"another horse"}`)
	h.want(200, "", "POST", v3+"/account/3pid/delete", h.loginWith("bob", "another horse"), `{"medium":"msisdn","address":"447700900001"}`)
}

// loginWith logs in by a password of one's own.
func (h *hub) loginWith(user, password string) string {
	h.t.Helper()
	return h.want(200, "", "POST", v3+"/login", "", fmt.Sprintf(`{"type":"m.login.password","user":%q,"password":%q}`, user, password)).str("access_token")
}

// A code is short, and cannot be guessed all the same.
func TestCodeIsNotGuessed(t *testing.T) {
	h := start(t, Anyone)
	p := h.phone()
	sid := h.want(200, "", "POST", v3+"/register/msisdn/requestToken", "", call("s", "07700900001", 1)).str("sid")
	for range codeTries {
		h.want(403, "M_THREEPID_AUTH_FAILED", "POST", confirmPath, "", fmt.Sprintf(`{"sid":%q,"client_secret":"s","token":"1"}`, sid))
	}
	h.want(403, "M_THREEPID_AUTH_FAILED", "POST", confirmPath, "", fmt.Sprintf(`{"sid":%q,"client_secret":"s","token":%q}`, sid, p.code()))
	p.err = fault.Wait("t", 1e9)
	h.want(429, "M_LIMIT_EXCEEDED", "POST", v3+"/register/msisdn/requestToken", "", call("s", "07700900002", 1))
}

// Who registers may prove a phone on the page of the stage.
func TestPhonePage(t *testing.T) {
	h := start(t, Anyone)
	p := h.phone()
	body := `{"username":"eve","password":"` + pw + `"`
	a := h.want(401, "", "POST", v3+"/register", "", body+"}")
	if !strings.Contains(a.body, stagePhone) {
		t.Fatal(a.body)
	}
	session := a.str("session")
	path := v3 + "/auth/" + stagePhone + "/fallback/web?session=" + session
	h.page(200, path, nil)
	h.page(400, path, url.Values{"session": {session}, "phone": {"nonsense"}})
	asked := h.page(200, path, url.Values{"session": {session}, "phone": {"+44 7700 900001"}})
	sid := regexp.MustCompile(`name="sid" value="([^"]+)"`).FindStringSubmatch(asked)
	if sid == nil {
		t.Fatal(asked)
	}
	if again := h.page(200, path, url.Values{"session": {session}, "sid": {sid[1]}, "code": {"1"}}); !strings.Contains(again, "not the code") {
		t.Fatal(again)
	}
	if done := h.page(200, path, url.Values{"session": {session}, "sid": {sid[1]}, "code": {p.code()}}); !strings.Contains(done, "authDone") {
		t.Fatal(done)
	}
	a = h.want(200, "", "POST", v3+"/register", "", body+`,"auth":{"session":"`+session+`"}}`)
	if got := h.want(200, "", "GET", v3+"/account/3pid", a.str("access_token"), ""); !strings.Contains(got.body, "447700900001") {
		t.Fatal(got.body)
	}
}
