package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"hearth/engine/cjson"
)

// Bounds of what a client says of itself. MaxMetadata is of the canonical form,
// and so of what the store keeps.
const (
	MaxMetadata  = 8 << 10
	maxRedirects = 16
	maxLocalized = 32
	maxName      = 128
)

// The grants that the hub knows.
const (
	GrantCode    = "authorization_code"
	GrantRefresh = "refresh_token"
	GrantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
)

// Metadata is what a client has said of itself.
// Spec: client-server, client registration, client metadata.
type Metadata struct {
	URI       string // client_uri
	Native    bool   // application_type
	Redirects []string
	Grants    []string
	texts     []text // human-readable members, sorted by key
}

// text is a member that may be told in several languages: "client_name" or
// "client_name#fr".
type text struct{ key, value string }

// Parse judges a registration. Errors are *Error.
func Parse(body []byte) (*Metadata, error) {
	if err := cjson.Check(body); err != nil || cjson.KindOf(body) != cjson.ObjectKind {
		return nil, E(InvalidMetadata, "the body must be a JSON object")
	}
	p := parser{m: &Metadata{}, seen: map[string]bool{}}
	// An error of the walk can only be one that Check would have found.
	_ = cjson.Object(body, func(key, val []byte) bool {
		p.member(string(key), val)
		return p.err == nil
	})
	if p.err != nil {
		return nil, p.err
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	if len(p.m.Append(nil)) > MaxMetadata {
		return nil, E(InvalidMetadata, "the metadata are longer than %d bytes", MaxMetadata)
	}
	return p.m, nil
}

// parser collects members. Those that are judged against client_uri wait for it.
type parser struct {
	m         *Metadata
	seen      map[string]bool
	responses []string
	types     bool // response_types was there
	grants    bool // grant_types was there
	err       *Error
}

// member takes one. What is not known is left out, as RFC 7591 wants it.
func (p *parser) member(key string, val []byte) {
	name, tag, localized := strings.Cut(key, "#")
	switch name {
	case "client_name", "logo_uri", "tos_uri", "policy_uri":
	case "client_uri", "application_type", "token_endpoint_auth_method", "redirect_uris", "grant_types", "response_types":
		if localized {
			return
		}
	default:
		return
	}
	if p.seen[key] {
		p.err = E(InvalidMetadata, "%s is there twice", Show(key))
		return
	}
	p.seen[key] = true
	if cjson.KindOf(val) == cjson.NullKind {
		return
	}
	switch name {
	case "redirect_uris":
		p.m.Redirects = p.list(key, val)
		return
	case "grant_types":
		p.m.Grants, p.grants = p.list(key, val), true
		return
	case "response_types":
		p.responses, p.types = p.list(key, val), true
		return
	}
	s, ok := cjson.String(val)
	if !ok || len(s) > maxURI {
		p.err = E(InvalidMetadata, "%s must be a string of at most %d bytes", Show(key), maxURI)
		return
	}
	switch name {
	case "client_uri":
		p.m.URI = s
	case "application_type":
		if p.m.Native = s == "native"; !p.m.Native && s != "web" {
			p.err = E(InvalidMetadata, "application_type must be web or native")
		}
	case "token_endpoint_auth_method":
		if s != "none" {
			p.err = E(InvalidMetadata, "the one token_endpoint_auth_method here is none")
		}
	default:
		p.text(key, tag, localized, s)
	}
}

// text takes a member that people read. A tag that is no language is left out.
func (p *parser) text(key, tag string, localized bool, s string) {
	if localized && (tag == "" || len(tag) > 35 || strings.Trim(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "") {
		return
	}
	if len(p.m.texts) >= maxLocalized {
		p.err = E(InvalidMetadata, "there are more than %d names and addresses", maxLocalized)
		return
	}
	p.m.texts = append(p.m.texts, text{key, s})
}

func (p *parser) list(key string, val []byte) (list []string) {
	bad := E(InvalidMetadata, "%s must be a list of at most %d strings", Show(key), maxRedirects)
	if cjson.KindOf(val) != cjson.ArrayKind {
		p.err = bad
		return nil
	}
	_ = cjson.Array(val, func(val []byte) bool {
		s, ok := cjson.String(val)
		if !ok || len(list) >= maxRedirects || len(s) > maxURI {
			p.err = bad
			return false
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
		return true
	})
	return list
}

// finish judges what needs the whole.
func (p *parser) finish() error {
	m := p.m
	_, base, ok := httpsURI(m.URI)
	if !ok {
		return E(InvalidMetadata, "client_uri must be an https address without user and password")
	}
	for i := range m.texts {
		t := &m.texts[i]
		if name, _, _ := strings.Cut(t.key, "#"); name == "client_name" {
			t.value = clean(t.value)
			continue
		}
		if _, host, ok := httpsURI(t.value); !ok || !within(host, base) {
			return E(InvalidMetadata, "%s must be an https address at the host of client_uri, or below it", Show(t.key))
		}
	}
	slices.SortFunc(m.texts, func(a, b text) int { return strings.Compare(a.key, b.key) })
	for _, s := range m.Redirects {
		if !checkRedirect(s, base, m.Native) {
			return E(InvalidRedirect, "%s may not be a redirect URI of this client", Show(s))
		}
	}
	if !p.grants {
		m.Grants = []string{GrantCode, GrantRefresh}
	}
	known := []string{GrantCode, GrantRefresh, GrantDevice}
	m.Grants = slices.DeleteFunc(m.Grants, func(s string) bool { return !slices.Contains(known, s) })
	slices.SortFunc(m.Grants, func(a, b string) int { return slices.Index(known, a) - slices.Index(known, b) })
	if p.types && !slices.Contains(p.responses, "code") {
		m.Grants = slices.DeleteFunc(m.Grants, func(s string) bool { return s == GrantCode })
	}
	switch {
	case m.Allows(GrantCode) && len(m.Redirects) == 0:
		return E(InvalidRedirect, "the authorization_code grant needs a redirect URI")
	case !m.Allows(GrantCode) && !m.Allows(GrantDevice):
		return E(InvalidMetadata, "the client asks for no grant by which it could sign in")
	}
	return nil
}

// clean makes a name fit to be shown in a line: what is not printed, or turns
// the direction of what follows, goes.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case r == utf8.RuneError, unicode.Is(unicode.Cf, r), unicode.IsControl(r):
			continue
		}
		if b.Len()+utf8.RuneLen(r) > maxName {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// Append appends the metadata as canonical JSON without braces: what the answer
// to a registration holds, and the store. Parse reads it back.
func (m *Metadata) Append(dst []byte) []byte {
	dst = append(dst, `"application_type":`...)
	if m.Native {
		dst = append(dst, `"native"`...)
	} else {
		dst = append(dst, `"web"`...)
	}
	for _, t := range m.texts { // client_name sorts before client_uri, the others between the rest: order does not matter to JSON
		dst = append(cjson.AppendString(append(dst, ','), t.key), ':')
		dst = cjson.AppendString(dst, t.value)
	}
	dst = cjson.AppendString(append(dst, `,"client_uri":`...), m.URI)
	dst = cjson.AppendStrings(append(dst, `,"grant_types":`...), m.Grants)
	dst = cjson.AppendStrings(append(dst, `,"redirect_uris":`...), m.Redirects)
	dst = append(dst, `,"response_types":[`...)
	if m.Allows(GrantCode) {
		dst = append(dst, `"code"`...)
	}
	return append(dst, `],"token_endpoint_auth_method":"none"`...)
}

// ID is the client_id of the metadata. Those who say the same of themselves are
// one client: each browser registers anew at each login, and the id is no secret.
func (m *Metadata) ID() string {
	sum := sha256.Sum256(m.Append(nil))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

// Allows says whether the client may use a grant.
func (m *Metadata) Allows(grant string) bool { return slices.Contains(m.Grants, grant) }

// Redirect says whether a browser may be sent to the address for the client.
func (m *Metadata) Redirect(asked string) bool {
	return slices.ContainsFunc(m.Redirects, func(r string) bool { return sameRedirect(r, asked) })
}

// Text gives a human-readable member in the first of the languages that it is
// told in; accept is an Accept-Language header. Empty: the client told none.
func (m *Metadata) Text(name, accept string) string {
	if len(accept) > 256 {
		accept = accept[:256]
	}
	for lang := range strings.SplitSeq(accept, ",") {
		lang, _, _ = strings.Cut(strings.TrimSpace(lang), ";")
		primary, _, _ := strings.Cut(lang, "-")
		for _, want := range [...]string{lang, primary} {
			if s := m.text(name + "#" + want); s != "" && want != "" {
				return s
			}
		}
		if primary == "en" {
			break // what has no tag is told in the client's own words; English readers get that
		}
	}
	return m.text(name)
}

func (m *Metadata) text(key string) string {
	for _, t := range m.texts {
		if strings.EqualFold(t.key, key) {
			return t.value
		}
	}
	return ""
}

// Name is what the client is called; where it gave no name, its host.
func (m *Metadata) Name(accept string) string {
	if s := m.Text("client_name", accept); s != "" {
		return s
	}
	return m.Host()
}

// Host is the host of client_uri, which the redirect URIs are held to.
func (m *Metadata) Host() string {
	_, host, _ := httpsURI(m.URI)
	return host
}
