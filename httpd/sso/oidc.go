package sso

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// OIDCOptions are what an OIDC is made with.
type OIDCOptions struct {
	Issuer string // its address; the rest is found from there
	Client string // what the hub is called there
	Secret string // by which it proves that; empty: it is a public client
	Ask    Ask
	Now    func() time.Time // nil: time.Now
}

// OIDC is a provider that speaks OpenID Connect: the authorization code flow
// with PKCE.
type OIDC struct {
	o OIDCOptions

	mu    sync.Mutex
	found discovery // guarded by mu
	until time.Time // when it is to be asked for anew
}

// discovery is what the provider says of itself.
type discovery struct {
	Issuer   string   `json:"issuer"`
	Login    string   `json:"authorization_endpoint"`
	Token    string   `json:"token_endpoint"`
	UserInfo string   `json:"userinfo_endpoint"`
	Methods  []string `json:"token_endpoint_auth_methods_supported"`
}

// discoveryLife is how long it is believed.
const discoveryLife = time.Hour

// NewOIDC checks the options. It asks nobody.
func NewOIDC(o OIDCOptions) (*OIDC, error) {
	if err := checkServer(o.Issuer); err != nil {
		return nil, err
	}
	if o.Client == "" {
		return nil, fmt.Errorf("sso: what is the hub called at %s?", o.Issuer)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &OIDC{o: o}, nil
}

func (p *OIDC) discover(ctx context.Context) (discovery, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.o.Now().Before(p.until) {
		return p.found, nil
	}
	var d discovery
	err := p.get(ctx, &Question{Method: "GET", URL: strings.TrimSuffix(p.o.Issuer, "/") + "/.well-known/openid-configuration"}, &d)
	if err != nil {
		return d, err
	}
	if d.Issuer != p.o.Issuer {
		return d, fmt.Errorf("%w: it is called %q, not %q", errAnswer, d.Issuer, p.o.Issuer)
	}
	for _, s := range [...]string{d.Login, d.Token} {
		if err := checkServer(strings.SplitN(s, "?", 2)[0]); err != nil {
			return d, err
		}
	}
	p.found, p.until = d, p.o.Now().Add(discoveryLife)
	return d, nil
}

// get asks for JSON.
func (p *OIDC) get(ctx context.Context, q *Question, v any) error {
	status, body, err := p.o.Ask(ctx, q)
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("%w: status %d: %.200q", errAnswer, status, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %v", errAnswer, err)
	}
	return nil
}

// Begin gives the address to send the browser to.
func (p *OIDC) Begin(ctx context.Context, l Login) (string, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(d.Login)
	if err != nil {
		return "", fmt.Errorf("%w: %v", errAnswer, err)
	}
	q := u.Query()
	for key, val := range map[string]string{
		"response_type": "code", "scope": "openid profile email", "client_id": p.o.Client, "redirect_uri": l.Callback, "state": l.State,
		"nonce": derive(l.Secret, "nonce"), "code_challenge": pkce(l.Secret), "code_challenge_method": "S256",
	} {
		q.Set(key, val)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Finish finds out who has come back. query gives what they brought along.
func (p *OIDC) Finish(ctx context.Context, l Login, query func(name string) string) (who Person, err error) {
	if e := query("error"); e != "" {
		return who, fmt.Errorf("%w: %.100q %.200q", errAnswer, e, query("error_description"))
	}
	code := query("code")
	if code == "" {
		return who, fmt.Errorf("%w: no code", errAnswer)
	}
	d, err := p.discover(ctx)
	if err != nil {
		return who, err
	}
	var t struct {
		ID     string `json:"id_token"`
		Access string `json:"access_token"`
	}
	if err := p.get(ctx, p.exchange(&d, l, code), &t); err != nil {
		return who, err
	}
	c, err := p.claims(t.ID, derive(l.Secret, "nonce"))
	if err != nil {
		return who, err
	}
	if c.Username == "" && d.UserInfo != "" && t.Access != "" {
		var more claims
		q := &Question{Method: "GET", URL: d.UserInfo, Header: map[string]string{"Authorization": "Bearer " + t.Access}}
		if err := p.get(ctx, q, &more); err != nil {
			return who, err
		}
		if more.Subject != c.Subject {
			return who, fmt.Errorf("%w: it speaks of two people", errAnswer)
		}
		c.Username, c.Name, c.Email, c.Proved = more.Username, more.Name, more.Email, more.Proved
	}
	who = Person{Subject: c.Subject, Username: c.Username, Name: c.Name}
	if c.Proved == true || c.Proved == "true" {
		who.Email = c.Email
	}
	return who, nil
}

// exchange asks for the tokens of a code.
func (p *OIDC) exchange(d *discovery, l Login, code string) *Question {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {l.Callback}, "code_verifier": {verifier(l.Secret)}, "client_id": {p.o.Client},
	}
	q := &Question{Method: "POST", URL: d.Token, Type: "application/x-www-form-urlencoded", Header: map[string]string{"Accept": "application/json"}}
	switch {
	case p.o.Secret == "":
	case len(d.Methods) > 0 && !slices.Contains(d.Methods, "client_secret_basic") && slices.Contains(d.Methods, "client_secret_post"):
		form.Set("client_secret", p.o.Secret)
	default:
		pair := url.QueryEscape(p.o.Client) + ":" + url.QueryEscape(p.o.Secret)
		q.Header["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	}
	q.Body = []byte(form.Encode())
	return q
}

// verifier is what proves to the provider that it is the same hub that comes
// for the tokens; pkce is what it is told of that before (RFC 7636).
func verifier(secret string) string { return derive(secret, "verifier") }

func pkce(secret string) string {
	sum := sha256.Sum256([]byte(verifier(secret)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// claims is what a token says.
type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Party    string   `json:"azp"`
	Expires  float64  `json:"exp"`
	Nonce    string   `json:"nonce"`
	Username string   `json:"preferred_username"`
	Name     string   `json:"name"`
	Email    string   `json:"email"`
	Proved   any      `json:"email_verified"` // some say "true"
}

// audience is one name or a list of them.
type audience []string

// UnmarshalJSON reads either.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// skew is how far the provider's clock may be from ours.
const skew = 2 * time.Minute

// claims reads an ID token that the provider gave to the hub itself, and holds it
// to what a login is (OpenID Connect Core 1.0, 3.1.3.7).
func (p *OIDC) claims(token, nonce string) (c claims, err error) {
	bad := func(what string) (claims, error) { return c, fmt.Errorf("%w: %s", errAnswer, what) }
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return bad("no ID token")
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return bad("no ID token")
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return bad("an ID token that cannot be read")
	}
	switch {
	case c.Issuer != p.o.Issuer:
		return bad("the ID token is of another issuer")
	case !slices.Contains(c.Audience, p.o.Client), c.Party != "" && c.Party != p.o.Client, len(c.Audience) > 1 && c.Party == "":
		return bad("the ID token is for another client")
	case p.o.Now().Add(-skew).After(time.Unix(int64(c.Expires), 0)):
		return bad("the ID token has expired")
	case c.Nonce != nonce:
		return bad("the ID token is of another login")
	case c.Subject == "" || len(c.Subject) > 255:
		return bad("the ID token names nobody")
	}
	return c, nil
}
