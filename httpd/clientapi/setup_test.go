package clientapi

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"hearth/engine/account"
)

func setupValues(code, user, password, again string) url.Values {
	return url.Values{"code": {code}, "user": {user}, "password": {password}, "again": {again}}
}

// TestSetupPage is an owner who errs in every way before the hub is theirs.
func TestSetupPage(t *testing.T) {
	h := start(t, Closed)
	h.api.o.About = About{Version: "v1.2.3", MQTT: []string{"mqtt://:1883", "mqtts://10.0.0.7:8883"}, Addresses: func() []string { return []string{"http://10.0.0.7:8008"} }}
	code, err := h.e.Accounts.ClaimCode()
	if err != nil || code == "" {
		t.Fatal(code, err)
	}
	if p := h.page(200, `/?code=%22%3E%3Cscript%3E`, nil); !strings.Contains(p, "hub.test") || !strings.Contains(p, `value="&#34;&gt;&lt;script&gt;"`) || strings.Contains(p, code) {
		t.Fatal(p)
	}
	const pw = "a long enough password"
	for _, c := range []struct {
		code, user, password, again string
		status                      int
		says                        string
	}{
		{"", "alice", pw, pw, 403, "not the claim code"},
		{code[:4], "alice", pw, pw, 403, "not the claim code"},
		{code + "\xff", "alice", pw, pw, 403, "not the claim code"},
		{code, " ", pw, pw, 400, "needs a user name"},
		{code, "alice", pw, "another", 400, "not the same"},
		{code, "alice", "short", "short", 400, "at least 8"},
		{code, "al<ice", pw, pw, 400, `value="al&lt;ice"`},
		{code, "alice\xff", pw, pw, 400, "bad"},
	} {
		p := h.page(c.status, setupPath, setupValues(c.code, c.user, c.password, c.again))
		if !strings.Contains(p, c.says) || strings.Contains(p, pw) {
			t.Errorf("%q %q: %s", c.code, c.user, p)
		}
	}
	if p := h.page(200, setupPath, setupValues(" "+strings.ToUpper(code)+" ", " @Alice:hub.test", pw, pw)); !strings.Contains(p, "@alice:hub.test") || !strings.Contains(p, "mqtt://hub.test:1883") {
		t.Fatal(p)
	}
	u, err := h.e.Accounts.CheckPassword("@alice:hub.test", pw)
	if err != nil {
		t.Fatal(err)
	}
	if one, err := h.e.Accounts.User(u); err != nil || !one.Admin {
		t.Errorf("the owner is no admin: %+v %v", one, err)
	}
	p := h.page(200, "/", nil)
	if strings.Contains(p, "<form") || !strings.Contains(p, "https://hub.test<") || !strings.Contains(p, "mqtts://10.0.0.7:8883") || !strings.Contains(p, "v1.2.3") {
		t.Fatal(p)
	}
	if strings.Contains(p, "http://10.0.0.7") { // who asks is not on the hub's network
		t.Fatal("a stranger is told how the hub's network is made")
	}
	h.page(409, setupPath, setupValues(code, "eve", pw, pw))
}

// TestSetupTries: somebody who tries codes has to wait, others do not, and after a while neither does he.
func TestSetupTries(t *testing.T) {
	h := start(t, Closed)
	code, err := h.e.Accounts.ClaimCode()
	if err != nil {
		t.Fatal(err)
	}
	wrong, right := setupValues("aaaa-bbbb-cccc-dddd", "eve", "correct horse", "correct horse"), setupValues(code, "alice", "correct horse", "correct horse")
	for range maxTries {
		h.page(403, setupPath, wrong)
	}
	h.page(429, setupPath, wrong)
	h.page(429, setupPath, right)
	h.clock.Pass(triesTime + time.Second)
	h.page(403, setupPath, wrong)
	h.page(200, setupPath, right)
}

// TestSetupHost cuts the host out of what browsers and owners write.
func TestSetupHost(t *testing.T) {
	for base, want := range map[string]string{"http://10.0.0.7:8008": "10.0.0.7", "https://hub.example": "hub.example", "http://[fe80::1]:80": "[fe80::1]", "https://x.example/hub": "x.example"} {
		if got := hostOf(base); got != want {
			t.Errorf("%s: %s", base, got)
		}
	}
}

// TestSetupRace: of many who come with the code one owns the hub.
func TestSetupRace(t *testing.T) {
	h := start(t, Closed)
	code, err := h.e.Accounts.ClaimCode()
	if err != nil {
		t.Fatal(err)
	}
	won := make(chan bool)
	names := []string{"anna", "bert", "carl", "dora"}
	for _, name := range names {
		go func() { won <- h.api.own(setupForm{code, name, "correct horse", "correct horse"}, code) == nil }()
	}
	n := 0
	for range names {
		if <-won {
			n++
		}
	}
	if list, err := h.e.Accounts.Users(0, 10); n != 1 || err != nil || len(list) != 1 {
		t.Errorf("%d own the hub: %v %v", n, list, err)
	}
}

// TestSetupAgain: an owner who lost the password has the hub make a new code, and gets the hub back with what is in it.
func TestSetupAgain(t *testing.T) {
	h := start(t, Closed)
	old, err := h.e.Accounts.ClaimCode()
	if err != nil {
		t.Fatal(err)
	}
	h.page(200, setupPath, setupValues(old, "alice", "correct horse", "correct horse"))
	for _, name := range []string{"bob", "gone"} {
		if _, err := h.e.Accounts.Create(account.NewUser{Localpart: name, Password: "correct horse"}); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := h.e.Accounts.Find("@gone:hub.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.e.Deactivate(gone, "@gone:hub.test", false); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.Accounts.Create(account.NewUser{Hub: true}); err != nil { // what the hub says has its name
		t.Fatal(err)
	}
	login := `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"correct horse"}`
	token := h.want(200, "", "POST", v3+"/login", "", login).str("access_token")
	first, err := h.e.Accounts.Reclaim()
	if err != nil {
		t.Fatal(err)
	}
	code, err := h.e.Accounts.Reclaim()
	if err != nil || code == first {
		t.Fatal(code, err)
	}
	if p := h.page(200, "/", nil); !strings.Contains(p, "a new password") || strings.Contains(p, "Nobody owns") {
		t.Error(p)
	}
	for _, no := range []string{old, first} {
		h.page(403, setupPath, setupValues(no, "alice", "battery staple", "battery staple"))
	}
	h.page(400, setupPath, setupValues(code, "gone", "battery staple", "battery staple"))
	h.page(400, setupPath, setupValues(code, account.HubName, "battery staple", "battery staple"))
	h.page(400, setupPath, setupValues(code, "alice", "short", "short"))
	h.page(200, setupPath, setupValues(code, "alice", "battery staple", "battery staple"))
	h.want(401, "M_UNKNOWN_TOKEN", "GET", v3+"/account/whoami", token, "")
	h.want(403, "M_FORBIDDEN", "POST", v3+"/login", "", login)
	h.want(200, "", "POST", v3+"/login", "", strings.Replace(login, "correct horse", "battery staple", 1))
	h.page(409, setupPath, setupValues(code, "bob", "battery staple", "battery staple"))
	code, err = h.e.Accounts.Reclaim()
	if err != nil {
		t.Fatal(err)
	}
	h.page(200, setupPath, setupValues(code, "bob", "battery staple", "battery staple"))
	if list, err := h.e.Accounts.Users(0, 10); err != nil || len(list) != 4 || !list[0].Admin || !list[1].Admin {
		t.Errorf("%+v %v", list, err)
	}
}
