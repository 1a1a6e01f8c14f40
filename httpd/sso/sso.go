// Package sso asks the owner's identity provider who somebody is, by OpenID
// Connect or by CAS.
//
// It owns the two protocols as far as a hub needs them: where to send a browser,
// and what to make of what it brings back. It refuses to know users, cookies and
// pages, and it asks only the one server that the owner named.
//
// There are libraries for OpenID Connect. They are mostly about checking the
// signature of a token that came by way of the browser, and bring a family of
// encryption packages along. The hub takes tokens only from the provider itself,
// over TLS, where the connection proves what the signature would.
package sso

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
)

// Question is one request to the provider.
type Question struct {
	Method string
	URL    string
	Type   string // of the body
	Header map[string]string
	Body   []byte
}

// Ask sends a question, and gives the answer's status and body, which it bounds.
type Ask func(ctx context.Context, q *Question) (status int, body []byte, err error)

// Person is who somebody is to the provider. All but Subject may be empty.
type Person struct {
	Subject  string // never changes, never belongs to another
	Username string // what they would be called here
	Name     string // what they are called
	Email    string // only one that the provider has proved
}

// Login is one login under way.
type Login struct {
	Callback string // where the provider sends the browser back to
	State    string // comes back with it
	Secret   string // 43 characters or more that only the hub knows
}

// errAnswer is what the errors about answers wrap.
var errAnswer = errors.New("sso: the identity provider gave no sound answer")

// derive makes values for a login that do not give its secret away.
func derive(secret, what string) string {
	sum := sha256.Sum256([]byte(what + "\x00" + secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// checkServer refuses what is no address of a provider. Without TLS anybody on
// the way could say who somebody is, so that is for this machine only.
func checkServer(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("sso: %q is not a URL such as https://id.example", s)
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && !(u.Scheme == "http" && (ip.IsLoopback() || u.Hostname() == "localhost")) {
		return fmt.Errorf("sso: %q: an identity provider has to be reached by https", s)
	}
	return nil
}
