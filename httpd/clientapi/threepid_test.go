package clientapi

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
)

// mailbox takes the hub's mail.
type mailbox struct {
	to, subject, text string
	n                 int
	fail              bool
}

func (h *hub) mail() *mailbox {
	m := &mailbox{}
	h.api.o.Mail = func(to, subject, text string) error {
		if m.fail {
			return errors.New("no server")
		}
		m.to, m.subject, m.text = to, subject, text
		m.n++
		return nil
	}
	return m
}

var linkIn = regexp.MustCompile(`https://hub\.test(/\S+)`)

// link is the path of the link in the newest mail.
func (m *mailbox) link(t *testing.T) string {
	t.Helper()
	found := linkIn.FindStringSubmatch(m.text)
	if found == nil {
		t.Fatalf("no link in %q", m.text)
	}
	return found[1]
}

// page asks for a page, or sends a form where there are values.
func (h *hub) page(status int, path string, form url.Values) string {
	h.t.Helper()
	var req fasthttp.Request
	req.SetRequestURI(path)
	req.Header.SetHost("hub.test")
	if form != nil {
		req.Header.SetMethod("POST")
		req.Header.SetContentType("application/x-www-form-urlencoded")
		req.SetBodyString(form.Encode())
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	h.mux.Serve(&ctx)
	body := string(ctx.Response.Body())
	csp := string(ctx.Response.Header.Peek("Content-Security-Policy"))
	if ctx.Response.StatusCode() != status || !strings.HasPrefix(body, "<!DOCTYPE html>") || string(ctx.Response.Header.ContentType()) != "text/html; charset=utf-8" ||
		!strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		h.t.Fatalf("%s: %d %q\n%s", path, ctx.Response.StatusCode(), csp, body)
	}
	return body
}

// follow opens the link of a mail and presses its button.
func (h *hub) follow(m *mailbox) {
	h.t.Helper()
	link := m.link(h.t)
	u, err := url.Parse(link)
	if err != nil {
		h.t.Fatal(err)
	}
	if p := h.page(200, link, nil); !strings.Contains(p, `value="`+u.Query().Get("token")+`"`) {
		h.t.Fatal(p)
	}
	h.page(200, u.Path, u.Query())
}

func ask(secret, email string, attempt int) string {
	return fmt.Sprintf(`{"client_secret":%q,"email":%q,"send_attempt":%d}`, secret, email, attempt)
}

func TestNoMail(t *testing.T) {
	h := start(t, Anyone)
	phone := `{"client_secret":"s","country":"GB","phone_number":"07700900001","send_attempt":1}`
	for path, want := range map[string][2]string{
		"/account/3pid": {"400", "M_THREEPID_MEDIUM_NOT_SUPPORTED"}, "/register": {"403", "M_THREEPID_DENIED"}, "/account/password": {"403", "M_THREEPID_DENIED"},
	} {
		for _, base := range []string{v3, "/_matrix/client/r0"} {
			status := 400
			if want[0] == "403" {
				status = 403
			}
			h.want(status, want[1], "POST", base+path+"/email/requestToken", "", ask("s", "b@x.org", 1))
			h.want(status, want[1], "POST", base+path+"/msisdn/requestToken", "", phone)
			h.want(400, "M_MISSING_PARAM", "POST", base+path+"/email/requestToken", "", phone)
			h.want(400, "M_MISSING_PARAM", "POST", base+path+"/msisdn/requestToken", "", ask("s", "b@x.org", 1))
			h.want(400, "M_NOT_JSON", "POST", base+path+"/msisdn/requestToken", "", "{")
		}
	}
	token := h.join("bob")
	h.want(200, `{"threepids":[]}`, "GET", v3+"/account/3pid", token, "")
	creds := `{"sid":"1","client_secret":"s","id_server":"x","id_access_token":"y"}`
	h.want(403, "M_THREEPID_AUTH_FAILED", "POST", v3+"/account/3pid", token, `{"three_pid_creds":`+creds+`}`)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/account/3pid", token, `{}`)
	h.want(401, "", "POST", v3+"/account/3pid/add", token, creds)
	h.want(400, "M_SERVER_NOT_TRUSTED", "POST", v3+"/account/3pid/bind", token, creds)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/account/3pid/bind", token, `{}`)
	for _, op := range []string{"delete", "unbind"} {
		h.want(200, unboundNone, "POST", v3+"/account/3pid/"+op, token, `{"medium":"email","address":"x"}`)
		h.want(400, "M_MISSING_PARAM", "POST", v3+"/account/3pid/"+op, token, `{}`)
		h.want(400, "M_BAD_JSON", "POST", v3+"/account/3pid/"+op, token, `{"medium":[],"address":"x"}`)
	}
}

func TestAddAddress(t *testing.T) {
	h := start(t, Anyone)
	m := h.mail()
	token := h.join("bob")
	path := v3 + "/account/3pid/email/requestToken"
	if a := h.want(200, "", "GET", v3+"/capabilities", token, ""); a.get("capabilities", "m.3pid_changes", "enabled") != true {
		t.Fatal(a.body)
	}
	h.want(400, "M_INVALID_PARAM", "POST", path, "", ask("bad secret", "b@x.org", 1))
	h.want(400, "M_INVALID_PARAM", "POST", path, "", ask("s", "nonsense", 1))
	h.want(400, "M_INVALID_PARAM", "POST", path, "", `{"client_secret":"s","email":"b@x.org","send_attempt":1,"next_link":"javascript:alert(1)"}`)
	sid := h.want(200, "", "POST", path, "", ask("s", "B@X.org", 1)).str("sid")
	if m.to != "b@x.org" || m.n != 1 || !strings.Contains(m.subject, "hub.test") {
		t.Fatalf("%+v", m)
	}
	if again := h.want(200, "", "POST", path, "", ask("s", "b@x.org", 1)).str("sid"); again != sid || m.n != 1 {
		t.Fatal("a repeated request sent a mail")
	}
	h.want(200, "", "POST", path, "", ask("s", "b@x.org", 2))
	if m.n != 2 {
		t.Fatal("no second mail")
	}
	creds := fmt.Sprintf(`{"sid":%q,"client_secret":"s",`, sid)
	add := creds + auth("bob", pw) + `}`
	h.want(403, "M_THREEPID_AUTH_FAILED", "POST", v3+"/account/3pid/add", token, add)
	h.page(400, confirmPath, url.Values{"sid": {sid}, "client_secret": {"s"}, "token": {"guess"}})
	h.follow(m)
	h.want(401, "", "POST", v3+"/account/3pid/add", token, creds+`"x":1}`)
	h.want(200, "{}", "POST", v3+"/account/3pid/add", token, add)
	if a := h.want(200, "", "GET", v3+"/account/3pid", token, ""); a.body != `{"threepids":[{"added_at":1700000000000,"address":"b@x.org","medium":"email","validated_at":1700000000000}]}` {
		t.Fatal(a.body)
	}
	h.want(400, "M_THREEPID_IN_USE", "POST", path, "", ask("other", "b@x.org", 1))
	// The address is a name to log in by.
	for _, who := range []string{`"identifier":{"type":"m.id.thirdparty","medium":"email","address":"B@x.org"}`, `"medium":"email","address":"b@x.org"`} {
		h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","password":"correct horse",`+who+`}`)
	}
	h.want(403, "M_FORBIDDEN", "POST", v3+"/login", "", `{"type":"m.login.password","password":"correct horse","medium":"email","address":"c@x.org"}`)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/login", "", `{"type":"m.login.password","password":"x","identifier":{"type":"m.id.thirdparty"}}`)
	h.want(200, unboundNone, "POST", v3+"/account/3pid/delete", token, `{"medium":"email","address":"B@x.org"}`)
	h.want(200, `{"threepids":[]}`, "GET", v3+"/account/3pid", token, "")

	// As older clients do it, with a link that leads somewhere and an answer in JSON.
	sid = h.want(200, "", "POST", path, "", `{"client_secret":"old","email":"b3@x.org","send_attempt":1,"next_link":"https://client.example/?a=1&b=\"2\""}`).str("sid")
	u, _ := url.Parse(m.link(t))
	q := u.Query()
	h.want(200, `{"success":true}`, "POST", confirmPath+"?", "", fmt.Sprintf(`{"sid":%q,"client_secret":"old","token":%q}`, sid, q.Get("token")))
	if p := h.page(200, confirmPath, q); !strings.Contains(p, `content="0;url=https://client.example/?a=1&amp;b=&#34;2&#34;"`) {
		t.Fatal(p)
	}
	h.want(200, "{}", "POST", "/_matrix/client/r0/account/3pid", token, fmt.Sprintf(`{"threePidCreds":{"sid":%q,"client_secret":"old","id_server":"x"},"bind":true}`, sid))
	m.fail = true
	h.want(400, "M_UNKNOWN", "POST", path, "", ask("s", "late@x.org", 1))
	m.fail = false
	h.want(200, "", "POST", path, "", ask("s", "late@x.org", 1)) // the client tries again
	for i := range mailsPerAddress {
		h.want(200, "", "POST", path, "", ask("s", "flood@x.org", i+1))
	}
	h.want(429, "M_LIMIT_EXCEEDED", "POST", path, "", ask("t", "flood@x.org", 1))
}

func TestPasswordReset(t *testing.T) {
	h := start(t, Anyone)
	path := v3 + "/account/password"
	h.want(401, "M_MISSING_TOKEN", "POST", path, "", `{"new_password":"battery staple"}`)
	m := h.mail()
	token := h.join("bob")
	num, _ := h.e.Accounts.Find("@bob:hub.test")
	if err := h.e.Accounts.AddThreepid(num, account.Email, "b@x.org", h.clock.Now()); err != nil {
		t.Fatal(err)
	}
	h.want(400, "M_THREEPID_NOT_FOUND", "POST", path+"/email/requestToken", "", ask("s", "none@x.org", 1))
	sid := h.want(200, "", "POST", path+"/email/requestToken", "", ask("s", "b@x.org", 1)).str("sid")
	a := h.want(401, "", "POST", path, "", `{"new_password":"battery staple"}`)
	if !strings.Contains(a.body, `"flows":[{"stages":["m.login.email.identity"]}]`) {
		t.Fatal(a.body)
	}
	body := fmt.Sprintf(`{"new_password":"battery staple","auth":{"type":"m.login.email.identity","session":%q,"threepid_creds":{"sid":%q,"client_secret":"s"}}}`, a.str("session"), sid)
	h.want(401, "M_THREEPID_AUTH_FAILED", "POST", path, "", body)
	// A proof that was for something else does not count.
	other := h.want(200, "", "POST", v3+"/register/email/requestToken", "", ask("r", "new@x.org", 1)).str("sid")
	h.follow(m)
	h.want(401, "M_THREEPID_AUTH_FAILED", "POST", path, "", strings.NewReplacer(sid, other, `"client_secret":"s"`, `"client_secret":"r"`).Replace(body))
	h.want(200, "", "POST", path+"/email/requestToken", "", ask("s", "b@x.org", 2))
	h.follow(m)
	h.want(401, "M_THREEPID_AUTH_FAILED", "POST", path, "", strings.Replace(body, `"client_secret":"s"`, `"client_secret":"x"`, 1))
	h.want(200, "{}", "POST", path, "", body)
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", token, "")
	h.want(200, "", "POST", v3+"/login", "", `{"type":"m.login.password","password":"battery staple","user":"bob"}`)
	a = h.want(401, "", "POST", path, "", `{"new_password":"once more please"}`)
	body = fmt.Sprintf(`{"new_password":"once more please","auth":{"type":"m.login.email.identity","session":%q,"threepid_creds":{"sid":%q,"client_secret":"s"}}}`, a.str("session"), sid)
	h.want(401, "M_THREEPID_AUTH_FAILED", "POST", path, "", body)
}

func TestRegisterWithAddressAndTerms(t *testing.T) {
	h := start(t, Anyone)
	m := h.mail()
	register := v3 + "/register"
	h.join("owner") // the flows of a hub that has an admin
	h.boss("owner")
	flows := func(want string) string {
		t.Helper()
		a := h.want(401, "", "POST", register, "", `{"username":"bob","password":"correct horse"}`)
		if !strings.Contains(a.body, `"flows":[`+want+`]`) {
			t.Fatal(a.body)
		}
		return a.str("session")
	}
	flows(`{"stages":["m.login.dummy"]},{"stages":["m.login.email.identity"]},{"stages":["m.login.registration_token"]},{"stages":["m.login.registration_token","m.login.email.identity"]}`)
	h.api.o.NeedEmail = true
	flows(`{"stages":["m.login.email.identity"]},{"stages":["m.login.registration_token","m.login.email.identity"]}`)
	h.api.o.Terms = []Policy{{"privacy", "1.2", "en", "Privacy", "https://x.org/p"}, {"privacy", "1.2", "de", "Datenschutz", "https://x.org/d"}}
	h.api.terms, h.api.accepted = policies(h.api.o.Terms)
	session := flows(`{"stages":["m.login.terms","m.login.email.identity"]},{"stages":["m.login.registration_token","m.login.terms","m.login.email.identity"]}`)
	step := func(status int, code, auth string) answer {
		t.Helper()
		return h.want(status, code, "POST", register, "", fmt.Sprintf(`{"username":"bob","password":"correct horse","auth":{"session":%q%s}}`, session, auth))
	}
	a := step(401, "", `,"type":"m.login.terms"`)
	if a.get("completed").([]any)[0] != "m.login.terms" || a.get("params", "m.login.terms", "policies", "privacy", "de", "url") != "https://x.org/d" ||
		a.get("params", "m.login.terms", "policies", "privacy", "version") != "1.2" {
		t.Fatal(a.body)
	}
	sid := h.want(200, "", "POST", register+"/email/requestToken", "", ask("s", "b@x.org", 1)).str("sid")
	creds := fmt.Sprintf(`,"type":"m.login.email.identity","threepidCreds":{"sid":%q,"client_secret":"s"}`, sid)
	step(401, "M_THREEPID_AUTH_FAILED", creds)
	step(400, "M_MISSING_PARAM", `,"type":"m.login.email.identity"`)
	step(400, "M_BAD_JSON", `,"type":"m.login.email.identity","threepid_creds":7`)
	h.follow(m)
	token := step(200, "", creds).str("access_token")
	if a := h.want(200, "", "GET", v3+"/account/3pid", token, ""); !strings.Contains(a.body, "b@x.org") {
		t.Fatal(a.body)
	}
	h.want(200, `{"accepted":["https://x.org/p","https://x.org/d"]}`, "GET", v3+"/user/@bob:hub.test/account_data/m.accepted_terms", token, "")
	h.want(400, "M_THREEPID_IN_USE", "POST", register+"/email/requestToken", "", ask("z", "b@x.org", 1))
}

func TestProofsAreBounded(t *testing.T) {
	now := time.UnixMilli(1)
	vs := &validations{now: func() time.Time { return now }, open: map[string]*validation{}}
	for i := range maxValidations + 20 {
		if _, _, err := vs.begin(want{forAccount, "s", account.Email, fmt.Sprint(i), 1, ""}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Millisecond)
	}
	if len(vs.open) > maxValidations {
		t.Fatal(len(vs.open))
	}
	now = now.Add(validationLife)
	if _, _, err := vs.begin(want{forAccount, "s", account.Email, "x", 1, ""}); err != nil || len(vs.open) > 2 {
		t.Fatal(err, len(vs.open))
	}
}
