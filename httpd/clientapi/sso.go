package clientapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Provider is an identity provider of the owner's, through which people log in.
type Provider struct {
	ID   string // in paths and rows: it never changes
	Name string // what people know it by
	CAS  bool   // it is offered to the oldest clients as m.login.cas too

	// Begin gives the address to send the browser to; Finish finds out who has
	// come back with what query gives.
	Begin  func(ctx context.Context, l SignOn) (link string, err error)
	Finish func(ctx context.Context, l SignOn, query func(name string) string) (Identity, error)
}

// SignOn is one login at a provider.
type SignOn struct {
	Callback string // where the browser comes back to
	State    string // brought back by it
	Secret   string // of the hub
}

// Identity is who somebody is to a provider. All but Subject may be empty.
type Identity struct {
	Subject  string
	Username string
	Name     string
	Email    string // only where the provider has proved it
}

const (
	stageSSO     = "m.login.sso"
	callbackPath = "/_matrix/client/unstable/sso/callback"
	cookieName   = "hearth_sso"

	maxSignOns = 1024
	signOnLife = 15 * time.Minute
	askTime    = 20 * time.Second // for the provider to answer
)

// signOn is a login at a provider that has not come back yet.
type signOn struct {
	SignOn
	provider *Provider
	browser  [sha256.Size]byte // of the cookie: only the browser that began comes back
	next     string            // where it goes afterwards
	session  string            // of the exchange whose stage it is; empty: it is a login
	back     string            // page of the hub's to which it signs the browser in; empty: it is a client's login
	until    time.Time
}

// signOns keeps them, in memory only. It guards new accounts too: two browsers
// of one person make one account.
type signOns struct {
	mu   sync.Mutex
	open map[string]*signOn // by state

	enrol sync.Mutex
}

func (a *API) provider(id string) *Provider {
	for i := range a.o.Providers {
		if a.o.Providers[i].ID == id {
			return &a.o.Providers[i]
		}
	}
	return nil
}

// signs says whether there are providers to log in at. They have to know where
// the browser is to come back to.
func (a *API) signs() bool { return len(a.o.Providers) > 0 && a.o.PublicURL != "" }

// appendSSOFlows appends the login on the hub's own page, by password or by a
// provider. Clients that know of OAuth, and do not speak it, are to use that
// alone. Spec: client-server, GET /login and OAuth 2.0 aware clients; r0.4.0,
// CAS-based login.
func (a *API) appendSSOFlows(dst []byte) []byte {
	const aware = `"oauth_aware_preferred":true,"org.matrix.msc3824.delegated_oidc_compatibility":true,"type":"m.login.sso"}`
	if !a.signs() {
		return append(dst, `,{`+aware...)
	}
	dst = append(dst, `,{"identity_providers":[`...)
	cas := false
	for i := range a.o.Providers {
		if i > 0 {
			dst = append(dst, ',')
		}
		p := &a.o.Providers[i]
		cas = cas || p.CAS
		dst = cjson.AppendString(append(dst, `{"id":`...), p.ID)
		dst = append(cjson.AppendString(append(dst, `,"name":`...), p.Name), '}')
	}
	dst = append(dst, `],`+aware...)
	if cas {
		dst = append(dst, `,{"type":"m.login.cas"}`...)
	}
	return dst
}

// mayGoTo says whether a browser may be sent to an address with a login token:
// apps have schemes of their own, but none that runs in the page.
func mayGoTo(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	if err != nil || len(s) > 4096 || u.Scheme == "" {
		return nil, false
	}
	switch strings.ToLower(u.Scheme) {
	case "https", "http":
		return u, u.Host != "" // without slashes a browser finds a host where there is none
	case "javascript", "data", "vbscript", "blob", "file", "about":
		return nil, false
	}
	return u, true
}

// Spec: client-server, GET /login/sso/redirect and /login/sso/redirect/{idpId}.
// Without a provider people choose on the hub's page, where their password is
// good as well, and where they may make an account: action says what for.
func (a *API) ssoRedirect(r *wire.Req) error {
	next, err := whereTo(r)
	if err != nil {
		return err
	}
	q := url.Values{"redirectUrl": {next}}
	if action := r.QueryOr("action", ""); action == "login" || action == "register" {
		q.Set("action", action)
	}
	return goTo(r, signOnPath+"?"+q.Encode())
}

func (a *API) ssoRedirectTo(r *wire.Req) error { return a.redirectTo(r, r.Path("idpId")) }

// Spec: r0.4.0, GET /login/cas/redirect.
func (a *API) casRedirect(r *wire.Req) error {
	p, err := a.cas()
	if err != nil {
		return err
	}
	return a.redirectTo(r, p.ID)
}

// Spec: r0.4.0, GET /login/cas/ticket.
func (a *API) casTicket(r *wire.Req) error {
	if _, err := a.cas(); err != nil {
		return err
	}
	return a.ssoCallback(r)
}

// cas is the CAS server among the providers.
func (a *API) cas() (*Provider, error) {
	for i := range a.o.Providers {
		if a.o.Providers[i].CAS {
			return &a.o.Providers[i], nil
		}
	}
	return nil, fault.E(fault.NotFound, "clientapi.sso", "the hub knows no CAS server")
}

func (a *API) redirectTo(r *wire.Req, id string) error {
	const op = "clientapi.sso"
	if !a.signs() {
		return fault.E(fault.NotFound, op, "the hub knows no identity provider")
	}
	next, err := whereTo(r)
	if err != nil {
		return err
	}
	p := a.provider(id)
	if p == nil {
		return fault.E(fault.NotFound, op, "there is no such identity provider")
	}
	return a.sendAway(r, &signOn{provider: p, next: next})
}

// whereTo is where a client wants its login token to be brought.
func whereTo(r *wire.Req) (string, error) {
	const op = "clientapi.sso"
	next, ok := r.Query("redirectUrl")
	if !ok {
		return "", fault.E(fault.Missing, op, "which redirectUrl?")
	}
	if _, ok := mayGoTo(next); !ok {
		return "", fault.E(fault.Invalid, op, "the redirectUrl is no address to go to")
	}
	return next, nil
}

// elsewhereFirst is where a browser is to begin that found the hub by another name
// than that by which the provider sends it back: cookies belong to a name. It does
// so once, since a proxy may hide by what name the browser came. Empty: here.
func (a *API) elsewhereFirst(r *wire.Req) string {
	base := strings.TrimSuffix(a.o.PublicURL, "/")
	if mode(r) == goOn || strings.EqualFold(hostOf("http://"+string(r.Ctx.Host())), hostOf(base)) {
		return ""
	}
	return base + self(r, goOn)
}

// sendAway sends the browser to the provider. It is asked by GET only.
func (a *API) sendAway(r *wire.Req, s *signOn) error {
	if at := a.elsewhereFirst(r); at != "" {
		return goTo(r, at)
	}
	var b [96]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("clientapi: %w", err)
	}
	enc := base64.RawURLEncoding
	s.State, s.Secret = enc.EncodeToString(b[:24]), enc.EncodeToString(b[24:72])
	cookie := string(r.Ctx.Request.Header.Cookie(cookieName)) // that of another tab stays good
	if raw, err := enc.DecodeString(cookie); err != nil || len(raw) != 24 {
		cookie = enc.EncodeToString(b[72:])
	}
	s.browser = sha256.Sum256([]byte(cookie))
	s.Callback = strings.TrimSuffix(a.o.PublicURL, "/") + callbackPath
	s.until = a.o.Now().Add(signOnLife)
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	link, err := s.provider.Begin(ctx, s.SignOn)
	if err != nil {
		return a.ssoFailed(r, err)
	}
	a.sso.put(s, a.o.Now())
	var c fasthttp.Cookie
	c.SetKey(cookieName)
	c.SetValue(cookie)
	c.SetPath("/_matrix/client")
	c.SetHTTPOnly(true)
	c.SetSecure(strings.HasPrefix(a.o.PublicURL, "https:"))
	c.SetSameSite(fasthttp.CookieSameSiteLaxMode)
	c.SetMaxAge(int(signOnLife / time.Second))
	r.Ctx.Response.Header.SetCookie(&c)
	return goTo(r, link)
}

// goTo answers with a redirect.
func goTo(r *wire.Req, link string) error {
	r.Ctx.Response.Header.Set("Location", link)
	r.Ctx.Response.Header.Set("Cache-Control", "no-store")
	return r.Reply(fasthttp.StatusFound, append(r.Out(), '{', '}'))
}

// ssoFailed tells a person that the provider did not do its part; why is for
// the owner.
func (a *API) ssoFailed(r *wire.Req, err error) error {
	if a.o.Failed != nil {
		a.o.Failed("single sign-on", err)
	}
	return show(r, page{status: 400, title: "The login did not work", body: paragraph("The identity provider gave no good answer. Please begin again in your Matrix client.")})
}

func (s *signOns) put(one *signOn, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first *signOn
	for state, o := range s.open {
		if now.After(o.until) {
			delete(s.open, state)
		} else if first == nil || o.until.Before(first.until) {
			first = o
		}
	}
	if len(s.open) >= maxSignOns {
		delete(s.open, first.State)
	}
	s.open[one.State] = one
}

// take ends a sign-on whose browser has come back.
func (s *signOns) take(state, cookie string, now time.Time) *signOn {
	browser := sha256.Sum256([]byte(cookie))
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[state]
	if o == nil || now.After(o.until) || subtle.ConstantTimeCompare(browser[:], o.browser[:]) == 0 {
		return nil
	}
	delete(s.open, state)
	return o
}

// ssoCallback is where the browser comes back to.
func (a *API) ssoCallback(r *wire.Req) error {
	s := a.sso.take(r.QueryOr("state", ""), string(r.Ctx.Request.Header.Cookie(cookieName)), a.o.Now())
	if s == nil {
		return show(r, page{status: 400, title: "This login has expired", body: paragraph("Please begin again in your Matrix client.")})
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	who, err := s.provider.Finish(ctx, s.SignOn, func(name string) string { return r.QueryOr(name, "") })
	if err != nil {
		return a.ssoFailed(r, err)
	}
	if s.session != "" {
		return a.passSSO(r, s, who)
	}
	num, err := a.person(s.provider, who)
	if err != nil {
		text, known := reason(err)
		if !known {
			return err
		}
		return show(r, page{status: 403, title: "The login did not work", body: warning(text)})
	}
	if s.back != "" {
		return a.cameBack(r, s, num)
	}
	return a.handOver(r, s, num, "")
}

// passSSO passes the stage of an exchange.
func (a *API) passSSO(r *wire.Req, s *signOn, who Identity) error {
	num, err := a.accounts.FindExternal(s.provider.ID, who.Subject)
	if err != nil {
		return err
	}
	x := a.uia.session(s.session)
	code, ok := "", false
	if x != nil && num != 0 {
		code, ok = a.uia.asks(x, num)
	}
	if !ok {
		return show(r, page{status: 403, title: "The login did not work", body: paragraph("This is not the account that the step is for, or it took too long.")})
	}
	// Providers log people in without a word; what for is said here, for who has
	// stolen a token may have sent them. Spec: client-server, single sign-on,
	// confirming the operation.
	return show(r, page{
		status: 200, title: "Is this what you want?",
		body: paragraph("A Matrix client wants to "+deed(x.q.op)+". If you did not expect this, close this page: somebody may have got into your account.") +
			`<form method="post" action="` + v3 + `/auth/` + stageSSO + `/fallback/web"><input type="hidden" name="session" value="` + html.EscapeString(x.id) +
			`"><input type="hidden" name="agree" value="` + code + `"><button>Yes, go on</button></form>`,
	})
}

// deed says what an exchange is for.
func deed(op string) string {
	if id, ok := strings.CutPrefix(op, "delete device "); ok {
		return "log out the device " + id
	}
	return map[string]string{
		"delete devices": "log out devices of yours", "cross-signing keys": "replace the keys of your account", "login token": "log in another client",
		"password": "change your password", "deactivate": "end your account for good", "add address": "give your account another address",
	}[op]
}

// handOver gives the client its login token, when the person has seen whom it goes
// to. That holds for the hub's own page too, which logs in by itself: a link to it
// can name a device of the person's, which would be logged out by it. other is HTML
// for who does not want that.
func (a *API) handOver(r *wire.Req, s *signOn, num uint32, other string) error {
	token, err := a.accounts.LoginToken(num)
	if err != nil {
		return err
	}
	u, _ := mayGoTo(s.next) // looked at when it came
	q := u.Query()
	q.Set("loginToken", token)
	u.RawQuery = q.Encode()
	link := u.String()
	where := u.Host
	if u.Scheme != "https" && u.Scheme != "http" || where == "" {
		where = u.Scheme
	}
	user, err := a.accounts.User(num)
	if err != nil {
		return err
	}
	return show(r, page{
		status: 200, title: "Log in to " + short(where) + "?",
		body: `<p>You are about to give <b>` + html.EscapeString(where) + `</b> access to your account ` + html.EscapeString(string(user.ID)) + `.</p>` +
			paragraph("Go on only if this is the client that you have come from.") + `<a class="go" rel="noreferrer" href="` + html.EscapeString(link) + `">Go on</a>` + other,
	})
}

// person finds the user whom a provider speaks of, or makes them: who the owner's
// provider lets in needs no other leave.
func (a *API) person(p *Provider, who Identity) (uint32, error) {
	a.sso.enrol.Lock()
	defer a.sso.enrol.Unlock()
	num, err := a.accounts.FindExternal(p.ID, who.Subject)
	if err != nil || num != 0 {
		return num, err
	}
	if num, err = a.enrolAs(p, who); err != nil {
		return 0, err
	}
	u, err := a.accounts.User(num)
	if err != nil {
		return 0, err
	}
	if who.Name != "" {
		if err := a.engine.SetProfile(num, u.ID, account.DisplayName, cjson.AppendString(nil, who.Name)); err != nil && fault.KindOf(err) < fault.NotFound {
			return 0, err // a name that cannot be one is no reason to keep somebody out
		}
	}
	if email, err := account.CanonicalEmail(who.Email); err == nil {
		if err := a.accounts.AddThreepid(num, account.Email, email, a.o.Now()); err != nil && !fault.Is(err, fault.ThreepidInUse) {
			return 0, err
		}
	}
	return num, nil
}

// enrolAs makes a user of that name, or of one near it: an account that is there
// already may be another person's.
func (a *API) enrolAs(p *Provider, who Identity) (uint32, error) {
	name := localpart(who)
	for n := 1; ; n++ {
		try := name
		if n > 1 {
			try += strconv.Itoa(n)
		}
		var num uint32
		err := a.engine.Exclusive(a.accounts.ID(try), "")
		if err == nil {
			num, err = a.accounts.Create(account.NewUser{Localpart: try, Provider: p.ID, Subject: who.Subject})
		}
		if err == nil || n == 100 || !fault.Is(err, fault.UserInUse) && !fault.Is(err, fault.Exclusive) {
			return num, err
		}
	}
}

// localpart makes a user name of what the provider calls somebody.
// Spec: appendices, mapping from other character sets.
func localpart(who Identity) string {
	name := who.Username
	if name == "" {
		name, _, _ = strings.Cut(who.Email, "@")
	}
	if name == "" {
		name = who.Subject
	}
	name, _, _ = strings.Cut(name, "@") // some call people by their address
	var b strings.Builder
	for i, c := range []byte(mxid.LowerLocalpart(name)) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '-', c == '_' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
		if b.Len() > 100 {
			break
		}
	}
	if b.Len() == 0 {
		return "user"
	}
	return b.String()
}
