package idapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// world is a service that stands alone, with the mails and messages that it sent.
type world struct {
	*testing.T
	mux     *wire.Mux
	mails   []string // recipient, subject, text
	texts   []string
	refuses bool
	later   atomic.Int64 // nanoseconds by which the service's clock is ahead
}

func build(t *testing.T, terms ...Policy) *world {
	w := &world{T: t}
	dir := filepath.Join(t.TempDir(), "data")
	s, err := engine.OpenIdentity(engine.Options{Dir: dir, Server: "id.test", Now: func() time.Time { return time.Now().Add(time.Duration(w.later.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	api := New(Options{
		Records: s.Records, PublicURL: "https://id.test/", Terms: terms,
		Mail: func(to, subject, text string) error {
			if w.refuses {
				return errors.New("refused")
			}
			w.mails = append(w.mails, to+"\n"+subject+"\n"+text)
			return nil
		},
		Text: func(_ netip.Addr, to, text string) error {
			if w.refuses {
				return errors.New("refused")
			}
			w.texts = append(w.texts, to+" "+text)
			return nil
		},
		UserInfo: func(_ context.Context, server mxid.Server, token string) (mxid.UserID, error) {
			if token == "bad" {
				return "", fault.E(fault.Remote, "test", "")
			}
			if token == "liar" {
				return "@alice:elsewhere.test", nil
			}
			return mxid.UserID("@" + token + ":" + string(server)), nil
		},
		Authenticate: func(_ context.Context, s *federation.Signed) (mxid.Server, error) {
			c, err := federation.ParseCredentials(s.Header)
			if err == nil && c.Signature != "good" {
				err = fault.E(fault.Unauthorised, "test", "")
			}
			return c.Origin, err
		},
	})
	w.mux = wire.New(wire.Options{Log: slog.New(slog.DiscardHandler)})
	if err := w.mux.Add(api.Routes()); err != nil {
		t.Fatal(err)
	}
	return w
}

// reply is an answer.
type reply struct {
	status   int
	body     string
	location string
}

func (r reply) str(key string) string {
	var m map[string]any
	_ = json.Unmarshal([]byte(r.body), &m)
	s, _ := m[key].(string)
	return s
}

// ask makes a request; who is a token, or a whole header.
func (w *world) ask(who, method, path, body string) reply {
	w.Helper()
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	if strings.Contains(who, " ") {
		req.Header.Set("Authorization", who)
	} else if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	req.Header.Set("Accept", "text/html")
	if body != "" {
		req.SetBodyString(body)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	w.mux.Serve(&ctx)
	head := &ctx.Response.Header
	if strings.HasPrefix(string(ctx.Response.Body()), "<!DOCTYPE") && (string(head.Peek("X-Frame-Options")) != "DENY" || len(head.Peek("Access-Control-Allow-Origin")) > 0) {
		w.Fatalf("%s: a page may be shown or read by another site: %s", path, head)
	}
	return reply{ctx.Response.StatusCode(), string(ctx.Response.Body()), string(ctx.Response.Header.Peek("Location"))}
}

func (w *world) want(status int, part, who, method, path, body string) reply {
	w.Helper()
	r := w.ask(who, method, path, body)
	if r.status != status || !strings.Contains(r.body, part) {
		w.Fatalf("%s %s %s: got %d %s, want %d %s", method, path, body, r.status, r.body, status, part)
	}
	return r
}

// user gets an access token.
func (w *world) user(name string) string {
	w.Helper()
	return w.want(200, "token", "", "POST", v2+"/account/register",
		`{"access_token":"`+name+`","token_type":"Bearer","matrix_server_name":"a.test","expires_in":60}`).str("token")
}

var linkIn = regexp.MustCompile(`https://id\.test(/\S+)`)

// link is the link in the last mail.
func (w *world) link() string {
	w.Helper()
	if len(w.mails) == 0 {
		w.Fatal("no mail was sent")
	}
	m := linkIn.FindStringSubmatch(w.mails[len(w.mails)-1])
	if m == nil {
		w.Fatal("the mail has no link: " + w.mails[len(w.mails)-1])
	}
	return m[1]
}

// prove proves a mail address by its link, and gives the credentials as members.
func (w *world) prove(token, address string) string {
	w.Helper()
	sid := w.want(200, "sid", token, "POST", v2+"/validate/email/requestToken", `{"client_secret":"sec","email":"`+address+`","send_attempt":1}`).str("sid")
	w.want(200, "Thank you", "", "GET", w.link(), "")
	return `"sid":"` + sid + `","client_secret":"sec"`
}

func TestAccountsAndTerms(t *testing.T) {
	w := build(t, Policy{"tos", "2", "en", "Terms", "https://id.test/tos-2-en"})
	w.want(401, "M_UNAUTHORIZED", "", "GET", v2+"/account", "")
	w.want(401, "M_UNAUTHORIZED", "no", "GET", v2+"/account", "")
	w.want(401, "M_UNKNOWN_TOKEN", "no", "POST", v2+"/account/logout", "")
	for _, bad := range [...]string{"bad", "liar"} {
		w.want(401, "M_UNAUTHORIZED", "", "POST", v2+"/account/register", `{"access_token":"`+bad+`","matrix_server_name":"a.test"}`)
	}
	w.want(400, "M_MISSING_PARAMS", "", "POST", v2+"/account/register", `{}`)
	alice := w.user("alice")
	w.want(200, `{"user_id":"@alice:a.test"}`, alice, "GET", v2+"/account", "")
	w.want(200, "", "", "GET", v2+"/account?access_token="+alice, "")
	w.want(403, "M_TERMS_NOT_SIGNED", alice, "GET", v2+"/hash_details", "")
	w.want(200, `{"policies":{"tos":{"version":"2","en":{"name":"Terms","url":"https://id.test/tos-2-en"}}}}`, "", "GET", v2+"/terms", "")
	w.want(200, "{}", alice, "POST", v2+"/terms", `{"user_accepts":["https://other"]}`)
	w.want(403, "M_TERMS_NOT_SIGNED", alice, "GET", v2+"/hash_details", "")
	w.want(200, "{}", alice, "POST", v2+"/terms", `{"user_accepts":["https://id.test/tos-2-en"]}`)
	w.want(200, "sha256", alice, "GET", v2+"/hash_details", "")
	w.want(200, "{}", alice, "POST", v2+"/account/logout", "")
	w.want(401, "M_UNAUTHORIZED", alice, "GET", v2+"/account", "")
	w.want(200, "v1.1", "", "GET", "/_matrix/identity/versions", "")
	key := w.want(200, "", "", "GET", v2+"/pubkey/ed25519:0", "").str("public_key")
	w.want(200, `{"valid":true}`, "", "GET", v1+"/pubkey/isvalid?public_key="+url.QueryEscape(key), "")
	w.want(200, `{"valid":false}`, "", "GET", v2+"/pubkey/ephemeral/isvalid?public_key="+url.QueryEscape(key), "")
	w.want(404, "M_NOT_FOUND", "", "GET", v2+"/pubkey/ed25519:9", "")
}

func TestBinding(t *testing.T) {
	w := build(t)
	alice, bob := w.user("alice"), w.user("bob")
	w.want(400, "M_INVALID_EMAIL", alice, "POST", v2+"/validate/email/requestToken", `{"client_secret":"s","email":"none","send_attempt":1}`)
	w.want(400, "M_MISSING_PARAMS", alice, "POST", v2+"/validate/email/requestToken", `{"client_secret":"s"}`)
	w.refuses = true
	w.want(400, "M_EMAIL_SEND_ERROR", alice, "POST", v2+"/validate/email/requestToken", `{"client_secret":"s","email":"a@x.test","send_attempt":1}`)
	w.refuses = false
	creds := w.prove(alice, "Alice@Example.com")
	sid := creds[7:23]
	w.want(200, `"address":"alice@example.com"`, alice, "GET", v2+"/3pid/getValidated3pid?client_secret=sec&sid="+sid, "")
	w.want(404, "M_NO_VALID_SESSION", alice, "GET", v2+"/3pid/getValidated3pid?client_secret=wrong&sid="+sid, "")
	w.want(400, "Not confirmed", "", "GET", w.link()+"x", "")
	w.want(403, "M_FORBIDDEN", bob, "POST", v2+"/3pid/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
	w.want(200, `"signatures":{"id.test":{"ed25519:0":`, alice, "POST", v2+"/3pid/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
	w.want(200, `"mxid":"@alice:a.test"`, "", "GET", v1+"/lookup?medium=email&address=alice@example.com", "")
	w.want(200, `{"threepids":[["email","alice@example.com","@alice:a.test"]]}`, "", "POST", v1+"/bulk_lookup", `{"threepids":[["email","alice@example.com"],["email","x"]]}`)
	pepper := w.want(200, "", bob, "GET", v2+"/hash_details", "").str("lookup_pepper")
	w.want(200, `{"mappings":{"alice@example.com email":"@alice:a.test"}}`, bob, "POST", v2+"/lookup",
		`{"algorithm":"none","pepper":"`+pepper+`","addresses":["alice@example.com email","x"]}`)
	w.want(400, "M_INVALID_PEPPER", bob, "POST", v2+"/lookup", `{"algorithm":"none","pepper":"old","addresses":[]}`)

	three := `"mxid":"@alice:a.test","threepid":{"medium":"email","address":"alice@example.com"}`
	w.want(401, "M_UNAUTHORIZED", "", "POST", v2+"/3pid/unbind", `{`+three+`}`)
	w.want(403, "M_FORBIDDEN", bob, "POST", v2+"/3pid/unbind", `{`+three+`,`+creds+`}`)
	w.want(403, "M_FORBIDDEN", alice, "POST", v2+"/3pid/unbind", `{`+three+`}`)
	for _, header := range [...]string{`X-Matrix origin="a.test",key="ed25519:1",sig="bad"`, `X-Matrix origin="b.test",key="ed25519:1",sig="good"`} {
		w.want(403, "M_FORBIDDEN", header, "POST", v2+"/3pid/unbind", `{`+three+`}`)
	}
	w.want(200, "{}", `X-Matrix origin="a.test",key="ed25519:1",sig="good"`, "POST", v2+"/3pid/unbind", `{`+three+`}`)
	w.want(200, "{}", "", "GET", v1+"/lookup?medium=email&address=alice@example.com", "")
	// Version 1 asks for no token, and takes forms.
	w.want(200, "alice", "", "POST", v1+"/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
	w.want(200, "{}", "", "POST", v1+"/3pid/unbind", `{`+three+`,`+creds+`}`)
}

func TestPhone(t *testing.T) {
	w := build(t)
	alice := w.user("alice")
	w.want(400, "M_INVALID_ADDRESS", alice, "POST", v2+"/validate/msisdn/requestToken", `{"client_secret":"s","country":"GB","phone_number":"12","send_attempt":1}`)
	sid := w.want(200, "", alice, "POST", v2+"/validate/msisdn/requestToken", `{"client_secret":"s","country":"GB","phone_number":"07700900001","send_attempt":1}`).str("sid")
	if len(w.texts) != 1 || !strings.HasPrefix(w.texts[0], "447700900001 ") {
		t.Fatal(w.texts)
	}
	w.refuses = true
	w.want(400, "M_SEND_ERROR", alice, "POST", v2+"/validate/msisdn/requestToken", `{"client_secret":"s2","country":"GB","phone_number":"07700900002","send_attempt":1}`)
	w.refuses = false
	code := strings.Fields(w.texts[0])[1]
	creds := `"sid":"` + sid + `","client_secret":"s"`
	w.want(400, "M_TOKEN_INCORRECT", alice, "POST", v2+"/validate/msisdn/submitToken", `{`+creds+`,"token":"x"}`)
	w.want(400, "M_SESSION_NOT_VALIDATED", alice, "POST", v2+"/3pid/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
	w.want(200, `{"success":true}`, alice, "POST", v2+"/validate/msisdn/submitToken", `{`+creds+`,"token":"`+code+`"}`)
	w.want(200, `"medium":"msisdn"`, alice, "POST", v2+"/3pid/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
	// A proof serves for a day, and for another it is known that there was one.
	w.later.Store(int64(25 * time.Hour))
	w.want(400, "M_SESSION_EXPIRED", alice, "POST", v2+"/3pid/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
	w.want(400, "M_SESSION_EXPIRED", alice, "GET", v2+"/3pid/getValidated3pid?client_secret=s&sid="+sid, "")
	w.want(400, "M_SESSION_EXPIRED", "", "POST", v1+"/validate/msisdn/submitToken", `{`+creds+`,"token":"`+code+`"}`)
	w.later.Store(int64(49 * time.Hour))
	w.want(200, "", alice, "POST", v2+"/validate/msisdn/requestToken", `{"client_secret":"s3","country":"GB","phone_number":"07700900003","send_attempt":1}`)
	w.want(404, "M_NO_VALID_SESSION", alice, "POST", v2+"/3pid/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
}

func TestInvites(t *testing.T) {
	w := build(t)
	alice, bob := w.user("alice"), w.user("bob")
	body := func(medium, address string) string {
		return `{"medium":"` + medium + `","address":"` + address + `","room_id":"!r:a.test","sender":"@bob:a.test","room_name":"Garden <http://evil/>","sender_display_name":"Bob\nBcc: x"}`
	}
	w.want(400, "M_UNRECOGNIZED", bob, "POST", v2+"/store-invite", body("msisdn", "44"))
	w.want(400, "M_INVALID_EMAIL", bob, "POST", v2+"/store-invite", body("email", "44"))
	w.want(403, "M_FORBIDDEN", alice, "POST", v2+"/store-invite", body("email", "carol@x.test"))
	got := w.want(200, `"display_name":"c...@x..."`, bob, "POST", v2+"/store-invite", body("email", "Carol@x.test"))
	mail := w.mails[len(w.mails)-1]
	if !strings.HasPrefix(mail, "carol@x.test\nBob Bcc: x has invited") || strings.Contains(mail, "evil/") || !strings.Contains(mail, "@bob:a.test") {
		t.Error(mail)
	}
	link := w.link()
	w.want(200, `"sender":"@bob:a.test"`, "", "POST", link+"&mxid=@carol:a.test", "")
	w.want(404, "M_UNRECOGNIZED", alice, "POST", v2+"/sign-ed25519", `{"mxid":"@c:a.test","token":"`+strings.Repeat("x", 43)+`","private_key":"`+strings.Repeat("A", 43)+`"}`)
	var keys struct {
		Keys []struct {
			Key string `json:"public_key"`
			URL string `json:"key_validity_url"`
		} `json:"public_keys"`
	}
	if err := json.Unmarshal([]byte(got.body), &keys); err != nil || len(keys.Keys) != 2 {
		t.Fatal(got.body)
	}
	for _, k := range keys.Keys {
		w.want(200, `{"valid":true}`, "", "GET", strings.TrimPrefix(k.URL, "https://id.test")+"?public_key="+url.QueryEscape(k.Key), "")
	}
	creds := w.prove(alice, "carol@x.test")
	w.want(200, "", alice, "POST", v2+"/3pid/bind", `{`+creds+`,"mxid":"@alice:a.test"}`)
	w.want(400, `"errcode":"M_THREEPID_IN_USE"`, bob, "POST", v2+"/store-invite", body("email", "carol@x.test"))
	w.want(400, `"mxid":"@alice:a.test"`, bob, "POST", v2+"/store-invite", body("email", "carol@x.test"))
}

func TestNextLink(t *testing.T) {
	w := build(t)
	w.want(400, "M_INVALID_PARAM", "", "POST", v1+"/validate/email/requestToken", `{"client_secret":"s","email":"a@x.test","send_attempt":1,"next_link":"javascript:x"}`)
	w.want(200, "sid", "", "POST", v1+"/validate/email/requestToken", `{"client_secret":"s","email":"a@x.test","send_attempt":1,"next_link":"https://app.test/done"}`)
	if r := w.want(302, "", "", "GET", w.link(), ""); r.location != "https://app.test/done" {
		t.Error(r.location)
	}
}

// A server that makes up users does not look up more than all of one's may.
func TestLookupsOfAServer(t *testing.T) {
	w := build(t)
	asked := `["` + strings.Repeat(`x","`, 998) + `x"]`
	n := 0
	for u := range 10 {
		token := w.user(fmt.Sprint("u", u))
		pepper := w.want(200, "", token, "GET", v2+"/hash_details", "").str("lookup_pepper")
		for range 10 {
			r := w.ask(token, "POST", v2+"/lookup", `{"algorithm":"sha256","pepper":"`+pepper+`","addresses":`+asked+`}`)
			if r.status == 200 {
				n++
			} else if r.status != 429 {
				t.Fatal(r)
			}
		}
	}
	if n != 50 {
		t.Errorf("%d thousand addresses were looked up", n)
	}
}
