package sso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// ask does it with the standard library.
func ask(ctx context.Context, q *Question) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, q.Method, q.URL, bytes.NewReader(q.Body))
	if err != nil {
		return 0, nil, err
	}
	for k, v := range q.Header {
		req.Header.Set(k, v)
	}
	if q.Type != "" {
		req.Header.Set("Content-Type", q.Type)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// provider is an OpenID provider whose tokens a test may spoil.
type provider struct {
	*httptest.Server
	challenge, nonce string
	auth             string // how the hub proved itself
	spoil            func(claims map[string]any)
	userinfo         map[string]any
	status           int
}

func newProvider(t *testing.T) *provider {
	p := &provider{status: 200}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/auth?x=1", "token_endpoint": p.URL + "/token", "userinfo_endpoint": p.URL + "/me"})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		p.auth = r.Header.Get("Authorization")
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if r.PostFormValue("code") != "good" || base64.RawURLEncoding.EncodeToString(sum[:]) != p.challenge || r.PostFormValue("redirect_uri") != "https://hub/cb" {
			w.WriteHeader(400)
			return
		}
		c := map[string]any{"iss": p.URL, "sub": "42", "aud": "hub", "exp": time.Now().Add(time.Minute).Unix(), "nonce": p.nonce, "preferred_username": "bob", "name": "Bob", "email": "b@x.org", "email_verified": true}
		if p.spoil != nil {
			p.spoil(c)
		}
		body, err := json.Marshal(c)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(p.status)
		answer(w, map[string]any{"access_token": "at", "id_token": "e30." + base64.RawURLEncoding.EncodeToString(body) + ".sig"})
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) { answer(w, p.userinfo) })
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// login walks through one login.
func (p *provider) login(t *testing.T, o *OIDC, code string) (Person, error) {
	t.Helper()
	l := Login{Callback: "https://hub/cb", State: "st", Secret: strings.Repeat("s", 43)}
	link, err := o.Begin(context.Background(), l)
	if err != nil {
		return Person{}, err
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Path != "/auth" || q.Get("x") != "1" || q.Get("state") != "st" || q.Get("client_id") != "hub" || strings.Contains(link, l.Secret) {
		t.Fatal(link)
	}
	p.challenge, p.nonce = q.Get("code_challenge"), q.Get("nonce")
	return o.Finish(context.Background(), l, func(name string) string {
		return map[string]string{"code": code, "state": "st"}[name]
	})
}

func TestOIDC(t *testing.T) {
	p := newProvider(t)
	o, err := NewOIDC(OIDCOptions{Issuer: p.URL, Client: "hub", Secret: "se:cret", Ask: ask})
	if err != nil {
		t.Fatal(err)
	}
	who, err := p.login(t, o, "good")
	if err != nil || who != (Person{"42", "bob", "Bob", "b@x.org"}) {
		t.Fatal(who, err)
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("hub:se%3Acret")); p.auth != want {
		t.Fatal(p.auth)
	}
	p.spoil = func(c map[string]any) { delete(c, "preferred_username"); delete(c, "email_verified") }
	p.userinfo = map[string]any{"sub": "42", "preferred_username": "bobby", "email": "c@x.org"}
	if who, err = p.login(t, o, "good"); err != nil || who.Username != "bobby" || who.Email != "" {
		t.Fatal(who, err)
	}
	p.userinfo = map[string]any{"sub": "43", "preferred_username": "eve"}
	if _, err := p.login(t, o, "good"); !errors.Is(err, errAnswer) {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(c map[string]any){
		"another issuer":  func(c map[string]any) { c["iss"] = "https://evil" },
		"another client":  func(c map[string]any) { c["aud"] = "other" },
		"several clients": func(c map[string]any) { c["aud"] = []string{"hub", "other"} },
		"another party":   func(c map[string]any) { c["azp"] = "other" },
		"expired":         func(c map[string]any) { c["exp"] = 1 },
		"no end":          func(c map[string]any) { delete(c, "exp") },
		"another login":   func(c map[string]any) { c["nonce"] = "x" },
		"nobody":          func(c map[string]any) { c["sub"] = "" },
		"no JSON":         func(c map[string]any) { c["sub"] = 7 },
		"refused":         func(map[string]any) { p.status = 403 },
	} {
		p.spoil, p.status = spoil, 200
		if who, err := p.login(t, o, "good"); !errors.Is(err, errAnswer) {
			t.Errorf("%s: %v, %v", name, who, err)
		}
	}
	p.spoil, p.status = func(c map[string]any) { c["aud"], c["azp"] = []string{"hub", "other"}, "hub" }, 200
	if _, err := p.login(t, o, "good"); err != nil {
		t.Error(err)
	}
	for _, code := range []string{"bad", ""} {
		if _, err := p.login(t, o, code); !errors.Is(err, errAnswer) {
			t.Errorf("code %q: %v", code, err)
		}
	}
	p.Close()
	late, err := NewOIDC(OIDCOptions{Issuer: p.URL, Client: "hub", Ask: ask})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Begin(context.Background(), Login{}); err == nil {
		t.Error("a provider that is gone was believed")
	}
}

func TestServers(t *testing.T) {
	for s, ok := range map[string]bool{
		"https://id.example/realms/x": true, "http://127.0.0.1:8080": true, "http://localhost": true,
		"http://id.example": false, "id.example": false, "https://u@id.example": false, "https://id.example?x=1": false, "": false, "ftp://x": false,
	} {
		_, err := NewOIDC(OIDCOptions{Issuer: s, Client: "hub"})
		_, err2 := NewCAS(s, ask)
		if (err == nil) != ok || (err2 == nil) != ok {
			t.Errorf("%q: %v, %v", s, err, err2)
		}
	}
	if _, err := NewOIDC(OIDCOptions{Issuer: "https://id.example"}); err == nil {
		t.Error("a hub without a name there")
	}
}

func TestCAS(t *testing.T) {
	var body string
	var asked url.Values
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query()
		fmt.Fprint(w, body)
	}))
	defer srv.Close()
	c, err := NewCAS(srv.URL+"/", ask)
	if err != nil {
		t.Fatal(err)
	}
	l := Login{Callback: "https://hub/cb", State: "st"}
	link, err := c.Begin(context.Background(), l)
	if err != nil || link != srv.URL+"/login?service=https%3A%2F%2Fhub%2Fcb%3Fstate%3Dst" {
		t.Fatal(link, err)
	}
	finish := func(ticket string) (Person, error) {
		return c.Finish(context.Background(), l, func(name string) string { return map[string]string{"ticket": ticket}[name] })
	}
	const ns = `<cas:serviceResponse xmlns:cas='http://www.yale.edu/tp/cas'>`
	body = ns + `<cas:authenticationSuccess><cas:user>bob</cas:user><cas:attributes><cas:displayName>Bob</cas:displayName></cas:attributes></cas:authenticationSuccess></cas:serviceResponse>`
	who, err := finish("ST-1")
	if err != nil || who != (Person{Subject: "bob", Username: "bob", Name: "Bob"}) || asked.Get("ticket") != "ST-1" || asked.Get("service") != "https://hub/cb?state=st" {
		t.Fatal(who, err, asked)
	}
	for _, body = range []string{"", "x", "<a/>", ns + `<cas:authenticationFailure code="INVALID_TICKET">no</cas:authenticationFailure></cas:serviceResponse>`, ns + `<cas:authenticationSuccess/></cas:serviceResponse>`} {
		if who, err := finish("ST-1"); !errors.Is(err, errAnswer) {
			t.Errorf("%q: %v, %v", body, who, err)
		}
	}
	if _, err := finish(""); !errors.Is(err, errAnswer) {
		t.Error(err)
	}
}
