package clientapi

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/oauth"
	"hearth/httpd/wire"
)

// The OAuth 2.0 API: the hub is its own authorisation server. What clients call
// is in the files oauth_*.go, the pages that people see in page_*.go. The rules
// are in engine/oauth, what outlives a restart in engine/account.
//
// A hub on a local network may be reached over plain HTTP only, under several
// names. It says of itself the address that the client came by, or public_url
// where the owner has set that, and offers the same there: RFC 8414 wants https,
// and a hub that offered nothing would send people back to typing their password
// into each client, over the same wire.
const (
	oauthBase     = "/_hearth/oauth"
	authorizePath = oauthBase + "/authorize"
	tokenPath     = oauthBase + "/token"
	revokePath    = oauthBase + "/revoke"
	clientPath    = oauthBase + "/register"
	startPath     = oauthBase + "/device"
	signOnPath    = oauthBase + "/sso"
	providerPath  = oauthBase + "/provider"
	linkPath      = "/_hearth/link"
	accountPath   = "/_hearth/account"
)

// maxQuestion bounds the bodies that clients send.
const maxQuestion = 16 << 10

func (a *API) oauthRoutes() []wire.Route {
	routes := []wire.Route{
		{Method: "GET", Pattern: v1 + "/auth_metadata", Handle: a.authMetadata},
		{Method: "GET", Pattern: unstable + "/org.matrix.msc2965/auth_metadata", Handle: a.authMetadata},
		{Method: "GET", Pattern: "/.well-known/oauth-authorization-server", Handle: a.authMetadata},
		{Method: "POST", Pattern: clientPath, Handle: answered(a.registerClient), Body: maxQuestion},
		{Method: "POST", Pattern: tokenPath, Handle: answered(a.token), Body: maxQuestion},
		{Method: "POST", Pattern: revokePath, Handle: answered(a.revoke), Body: maxQuestion},
		{Method: "POST", Pattern: startPath, Handle: answered(a.beginDevice), Body: maxQuestion},
		{Method: "GET", Pattern: providerPath, Handle: paged(wire.Login, a.toProvider)},
	}
	for path, p := range map[string]view{authorizePath: a.authorize, signOnPath: a.signOnPage, linkPath: a.link, accountPath: a.accountPage} {
		routes = append(routes,
			wire.Route{Method: "GET", Pattern: path, Handle: paged(wire.Read, a.visited(p))},
			wire.Route{Method: "POST", Pattern: path, Handle: paged(wire.Login, a.visited(p)), Body: maxForm})
	}
	return routes
}

// The actions of the account page, as they are called and, behind the bar, as
// they were called before they were in the specification.
// Spec: client-server, account management URL actions.
const (
	toProfile    = "org.matrix.profile"
	toDevices    = "org.matrix.devices_list"
	toDevice     = "org.matrix.device_view"
	toDelete     = "org.matrix.device_delete"
	toDeactivate = "org.matrix.account_deactivate"
	toReset      = "org.matrix.cross_signing_reset"

	toDevicesOld = "org.matrix.sessions_list"
	toDeviceOld  = "org.matrix.session_view"
	toDeleteOld  = "org.matrix.session_end"
)

// Spec: client-server, GET /auth_metadata. Clients that ask by the path from
// before the specification look for the actions by the names of then.
func (a *API) authMetadata(r *wire.Req) error {
	base := a.base(r)
	dst := append(r.Out(), '{')
	for i, e := range [...][2]string{
		{"issuer", "/"}, {"authorization_endpoint", authorizePath}, {"token_endpoint", tokenPath}, {"registration_endpoint", clientPath},
		{"revocation_endpoint", revokePath}, {"device_authorization_endpoint", startPath}, {"account_management_uri", accountPath},
	} {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(append(cjson.AppendString(dst, e[0]), ':'), base+e[1])
	}
	actions := []string{toProfile, toDevices, toDevice, toDelete, toDeactivate, toReset}
	if string(r.Ctx.Path()) == unstable+"/org.matrix.msc2965/auth_metadata" {
		actions = append(actions, toDevicesOld, toDeviceOld, toDeleteOld)
	}
	dst = cjson.AppendStrings(append(dst, `,"account_management_actions_supported":`...), actions)
	dst = cjson.AppendStrings(append(dst, `,"grant_types_supported":`...), []string{oauth.GrantCode, oauth.GrantRefresh, oauth.GrantDevice})
	dst = append(dst, `,"authorization_response_iss_parameter_supported":true,"code_challenge_methods_supported":["S256"],`+
		`"prompt_values_supported":["create"],"response_modes_supported":["query","fragment"],"response_types_supported":["code"],`+
		`"revocation_endpoint_auth_methods_supported":["none"],"token_endpoint_auth_methods_supported":["none"]}`...)
	r.Ctx.Response.Header.Set("Cache-Control", "private, max-age=600")
	return r.OK(dst)
}

// answered makes errors of a handler those of OAuth. Spec: RFC 6749, 5.2.
func answered(h wire.Handler) wire.Handler {
	return func(r *wire.Req) error {
		r.Ctx.Response.Header.Set("Cache-Control", "no-store")
		r.Ctx.Response.Header.Set("Pragma", "no-cache")
		err := h(r)
		if err == nil {
			return nil
		}
		var e *oauth.Error
		if !errors.As(err, &e) {
			if e = asOAuth(err); e == nil {
				return err
			}
		}
		status := fasthttp.StatusBadRequest
		switch e.Code {
		case oauth.InvalidClient:
			status = fasthttp.StatusUnauthorized
		case oauth.Unavailable:
			status = fasthttp.StatusServiceUnavailable
			r.Ctx.Response.Header.Set("Retry-After", strconv.Itoa(wait(err)))
		}
		dst := cjson.AppendString(append(r.Out(), `{"error":`...), e.Code)
		dst = cjson.AppendString(append(dst, `,"error_description":`...), e.Text)
		return r.Reply(status, append(dst, '}'))
	}
}

// asOAuth is what an error of the engine is to a client; nil where it is no
// answer but a fault of the hub's. A client takes each refusal of its refresh
// token for the end of its session, so that what will pass is none.
func asOAuth(err error) *oauth.Error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return nil
	}
	switch {
	case f.Kind == fault.Full || f.Kind == fault.Busy || f.Kind == fault.Limit:
		return oauth.E(oauth.Unavailable, "try again later")
	case f.Kind < fault.NotFound:
		return nil
	case f.Kind == fault.UnknownToken:
		return oauth.E(oauth.InvalidGrant, "the token is not valid, or no longer")
	case f.Kind == fault.TooLarge:
		return oauth.E(oauth.InvalidRequest, "the request is too large")
	}
	return oauth.E(oauth.InvalidGrant, "%s", oauth.Show(f.Text))
}

// wait is after how many seconds a client is to ask again.
func wait(err error) int {
	var f *fault.Error
	if !errors.As(err, &f) {
		return 1
	}
	return max(1, int((f.Retry+time.Second-1)/time.Second))
}

// passing says whether an error is the hub's own, so that the client is to ask once more.
func passing(err error) bool {
	if err == nil {
		return false
	}
	var e *oauth.Error
	if !errors.As(err, &e) {
		e = asOAuth(err)
	}
	return e == nil || e.Code == oauth.Unavailable
}

// askedFor are the parameters of a request, of which none may come twice.
// Spec: RFC 6749, 3.1 and 3.2.
type askedFor struct {
	args *fasthttp.Args
	err  *oauth.Error
}

// get is a parameter; empty where it is missing, which is the same.
func (q *askedFor) get(name string) string {
	n := 0
	for key := range q.args.All() {
		if string(key) == name {
			n++
		}
	}
	if n > 1 && q.err == nil {
		q.err = oauth.E(oauth.InvalidRequest, "%s is there twice", name)
	}
	return string(q.args.Peek(name))
}

// need is a parameter that has to be there.
func (q *askedFor) need(name string) string {
	s := q.get(name)
	if s == "" && q.err == nil {
		q.err = oauth.E(oauth.InvalidRequest, "%s is missing", name)
	}
	return s
}

// formOf reads a body of application/x-www-form-urlencoded. What it counts towards
// the limits is told here, since clients take other words than OAuth's for the end
// of their session.
func formOf(r *wire.Req) (*askedFor, error) {
	if err := r.Spend(wire.Read); err != nil {
		return nil, err
	}
	body, err := r.Body(maxQuestion)
	if err != nil {
		return nil, err
	}
	q := &askedFor{args: &fasthttp.Args{}}
	q.args.ParseBytes(body)
	return q, nil
}

// randomText is n random bytes as text.
func randomText(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("clientapi: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// Spec: client-server, dynamic client registration flow; RFC 7591.
func (a *API) registerClient(r *wire.Req) error {
	if err := r.Spend(wire.Register); err != nil {
		return err
	}
	body, err := r.Body(maxQuestion)
	if err != nil {
		if fault.Is(err, fault.TooLarge) {
			return oauth.E(oauth.InvalidMetadata, "the metadata are too long")
		}
		return err
	}
	m, err := oauth.Parse(body)
	if err != nil {
		return err
	}
	id, err := a.accounts.AddClient(m, wire.Network(r.Remote()))
	if err != nil {
		return err
	}
	dst := m.Append(append(r.Out(), '{'))
	dst = cjson.AppendString(append(dst, `,"client_id":`...), id)
	return r.Reply(fasthttp.StatusCreated, append(dst, '}'))
}

// Spec: client-server, login flows, token request, token polling, token refresh flow.
func (a *API) token(r *wire.Req) error {
	q, err := formOf(r)
	if err != nil {
		return err
	}
	grant, client := q.need("grant_type"), q.need("client_id")
	if q.err != nil {
		return q.err
	}
	var tokens account.Tokens
	var scope oauth.Scope
	switch grant {
	case oauth.GrantCode:
		tokens, scope, err = a.byCode(r, q, client)
	case oauth.GrantRefresh:
		refresh := q.need("refresh_token")
		if q.err != nil {
			return q.err
		}
		tokens, scope, err = a.engine.RefreshOAuth(refresh, client)
	case oauth.GrantDevice:
		tokens, scope, err = a.byDeviceCode(r, q, client)
	default:
		return oauth.E(oauth.UnsupportedGrant, "the hub knows no grant_type %s", oauth.Show(grant))
	}
	if err != nil {
		return err
	}
	dst := cjson.AppendString(append(r.Out(), `{"access_token":`...), tokens.Access)
	dst = strconv.AppendInt(append(dst, `,"expires_in":`...), int64(tokens.Life.Seconds()), 10)
	dst = cjson.AppendString(append(dst, `,"refresh_token":`...), tokens.Refresh)
	dst = cjson.AppendString(append(dst, `,"scope":`...), scope.String())
	return r.OK(append(dst, `,"token_type":"Bearer"}`...))
}

// byCode trades the code of an authorisation. One that comes a second time is in
// the hands of two: what it gave is taken back. Spec: RFC 6749, 4.1.2 and 10.5.
func (a *API) byCode(r *wire.Req, q *askedFor, client string) (t account.Tokens, scope oauth.Scope, err error) {
	code, redirect, verifier := q.need("code"), q.need("redirect_uri"), q.need("code_verifier")
	if q.err != nil {
		return t, scope, q.err
	}
	g, again := a.grants.takeCode(code, func(g *codeGrant) bool {
		return g.client == client && g.redirect == redirect && oauth.Verifies(verifier, g.challenge)
	}, a.o.Now())
	bad := oauth.E(oauth.InvalidGrant, "the code is not valid, or not for this client, redirect_uri and code_verifier")
	switch {
	case again:
		if user, device := a.grants.burn(code); device != 0 {
			return t, scope, errors.Join(a.endDevice(user, device), bad)
		}
		return t, scope, bad
	case g == nil:
		return t, scope, bad
	}
	t, s, err := a.letIn(r, client, &g.agreed)
	if err != nil {
		if passing(err) {
			a.grants.giveBack(g)
		}
		return t, scope, err
	}
	if a.grants.gave(g, s.DeviceNum) { // it came a second time meanwhile
		return account.Tokens{}, scope, errors.Join(a.endDevice(g.user, s.DeviceNum), bad)
	}
	return t, g.scope, nil
}

func (a *API) endDevice(user uint32, num uint64) error {
	return a.engine.DeleteDevices(user, func(d *account.Device) bool { return d.Num == num })
}

// agreed is what a user let a client have.
type agreed struct {
	user   uint32
	cookie string // of the browser in which they did: what ends that ends this
	scope  oauth.Scope
}

// letIn makes the session that a user agreed to, while they are still signed in.
func (a *API) letIn(r *wire.Req, client string, g *agreed) (t account.Tokens, s account.Session, err error) {
	b, in, err := a.accounts.Browser(g.cookie)
	if err != nil {
		return t, s, err
	}
	if !in || b.User.Num != g.user {
		return t, s, oauth.E(oauth.InvalidGrant, "the user has signed out since")
	}
	m, err := a.accounts.Client(client)
	if err != nil {
		return t, s, err
	}
	if m == nil {
		return t, s, oauth.E(oauth.InvalidClient, "the client is not registered")
	}
	t, s, err = a.accounts.LoginOAuth(g.user, client, g.scope, account.NewSession{Name: m.Name(""), From: r.Remote()})
	if fault.Is(err, fault.NotFound) {
		err = oauth.E(oauth.InvalidClient, "the client is not registered")
	}
	return t, s, err
}

// Spec: client-server, token revocation; RFC 7009. Whoever has a token may end
// what it is good for, whichever client they are.
func (a *API) revoke(r *wire.Req) error {
	q, err := formOf(r)
	if err != nil {
		return err
	}
	token, hint := q.need("token"), q.get("token_type_hint")
	if q.err != nil {
		return q.err
	}
	if hint != "" && !slices.Contains([]string{"access_token", "refresh_token"}, hint) {
		return oauth.E("unsupported_token_type", "token_type_hint is access_token or refresh_token")
	}
	if err := a.engine.Revoke(token); err != nil {
		return err
	}
	return r.Empty()
}

// renewals are the users who said on their account page that they want to replace
// their cross-signing keys, and until when they may.
// Spec: client-server, user-interactive authentication, OAuth authentication.
type renewals struct {
	mu    sync.Mutex
	until map[uint32]int64 // milliseconds
}

const maxRenewals = 1024

func (s *renewals) allow(user uint32, now, until int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u, t := range s.until {
		if t <= now || len(s.until) >= maxRenewals {
			delete(s.until, u)
		}
	}
	if s.until == nil {
		s.until = map[uint32]int64{}
	}
	s.until[user] = until
}

func (s *renewals) allowed(user uint32, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until[user] > now
}

func (s *renewals) used(user uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, user)
}

// sumOf is under what a secret is kept.
func sumOf(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }
