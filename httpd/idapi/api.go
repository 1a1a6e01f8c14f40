// Package idapi is the identity service API as clients and homeservers ask it,
// in both versions: one table of routes, and thin handlers over package identity.
//
// It owns who is asking (an access token of the service, got for an OpenID token
// of a homeserver, or a homeserver's signature), the messages that prove an
// address, and how much anybody may ask. It refuses to know where mails, text
// messages and homeservers are: the ways to them are given to it.
//
// Version 1 is for clients from before 2019. It asks for no token, so what it
// gives away is limited by network address alone.
//
// Spec: identity service; r0.3.0 for version 1.
package idapi

import (
	"context"
	"encoding/json"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/identity"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Policy is terms that users have to accept.
type Policy struct{ ID, Version, Language, Name, URL string }

// Options are what the API is made with.
type Options struct {
	Records   *identity.Records
	PublicURL string // under which the service is reached; links in mails need it

	Mail func(to, subject, text string) error         // nil: no address is proved by mail
	Text func(from netip.Addr, to, text string) error // nil: none is proved by text message
	// UserInfo asks a homeserver whose OpenID token it is.
	UserInfo func(ctx context.Context, server mxid.Server, token string) (mxid.UserID, error)
	// Authenticate finds out which homeserver made a request; nil: none can.
	Authenticate func(ctx context.Context, s *federation.Signed) (mxid.Server, error)

	Terms []Policy
	Now   func() time.Time // nil: time.Now
}

// API is the handlers and what they share.
type API struct {
	o       Options
	records *identity.Records
	lookups allowance // addresses that a user looks up
	servers allowance // and all users of a server, which can make up as many as it likes
	invites allowance // mails of invites that a user has sent
}

// New makes the API.
func New(o Options) *API {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &API{o: o, records: o.Records, lookups: allowance{now: o.Now, most: 10_000}, servers: allowance{now: o.Now, most: 50_000}, invites: allowance{now: o.Now, most: 50}}
}

const (
	v1 = "/_matrix/identity/api/v1"
	v2 = "/_matrix/identity/v2"
)

// Routes is the whole table.
func (a *API) Routes() []wire.Route {
	all := []wire.Route{
		{Method: "GET", Pattern: "/_matrix/identity/versions", Handle: a.versions},
		{Method: "GET", Pattern: v2, Handle: (*wire.Req).Empty},
		{Method: "GET", Pattern: v1, Handle: (*wire.Req).Empty},

		{Method: "POST", Pattern: v2 + "/account/register", Handle: a.register, Class: wire.Login},
		{Method: "GET", Pattern: v2 + "/account", Handle: a.token(a.account)},
		{Method: "GET", Pattern: v2 + "/terms", Handle: a.terms},
		{Method: "POST", Pattern: v2 + "/terms", Handle: a.token(a.accept)},
		{Method: "GET", Pattern: v2 + "/hash_details", Handle: a.signedIn(a.hashDetails)},
		{Method: "POST", Pattern: v2 + "/lookup", Handle: a.signedIn(a.lookup), Class: wire.Read},

		{Method: "GET", Pattern: v1 + "/lookup", Handle: a.lookupOne, Class: wire.Read},
		{Method: "POST", Pattern: v1 + "/bulk_lookup", Handle: a.lookupMany, Class: wire.Create},
		{Method: "POST", Pattern: v1 + "/bind", Handle: a.anybody(a.bind), Class: wire.Create},
	}
	for _, v := range [...]struct {
		base string
		who  func(handler) wire.Handler
	}{{v1, a.anybody}, {v2, a.signedIn}} {
		all = append(all, []wire.Route{
			{Method: "GET", Pattern: v.base + "/pubkey/isvalid", Handle: a.valid},
			{Method: "GET", Pattern: v.base + "/pubkey/ephemeral/isvalid", Handle: a.validEphemeral},
			{Method: "GET", Pattern: v.base + "/pubkey/{keyId}", Handle: a.publicKey},

			{Method: "POST", Pattern: v.base + "/validate/email/requestToken", Handle: v.who(a.requestEmail), Class: wire.Register},
			{Method: "POST", Pattern: v.base + "/validate/msisdn/requestToken", Handle: v.who(a.requestPhone), Class: wire.Register},
			{Method: "POST", Pattern: v.base + "/validate/email/submitToken", Handle: v.who(a.submit), Class: wire.Login},
			{Method: "POST", Pattern: v.base + "/validate/msisdn/submitToken", Handle: v.who(a.submit), Class: wire.Login},
			{Method: "GET", Pattern: v.base + "/validate/email/submitToken", Handle: v.who(a.submitPage), Class: wire.Login},
			{Method: "GET", Pattern: v.base + "/validate/msisdn/submitToken", Handle: v.who(a.submitPage), Class: wire.Login},
			{Method: "GET", Pattern: v.base + "/3pid/getValidated3pid", Handle: v.who(a.proved), Class: wire.Read},
			{Method: "POST", Pattern: v.base + "/3pid/bind", Handle: v.who(a.bind), Class: wire.Create},
			{Method: "POST", Pattern: v.base + "/3pid/unbind", Handle: a.unbind(v.who), Class: wire.Create},
			{Method: "POST", Pattern: v.base + "/store-invite", Handle: v.who(a.storeInvite), Class: wire.Create},
			{Method: "POST", Pattern: v.base + "/sign-ed25519", Handle: v.who(a.sign), Class: wire.Create},
		}...)
	}
	for i := range all {
		all[i].Flags |= wire.Identity
	}
	// An unknown token has its own name here, and here alone.
	return append(all, wire.Route{Method: "POST", Pattern: v2 + "/account/logout", Handle: a.logout})
}

// handler is told who asks; empty for those of version 1.
type handler func(r *wire.Req, user mxid.UserID) error

// anybody is a handler of version 1.
func (a *API) anybody(h handler) wire.Handler {
	return func(r *wire.Req) error { return h(r, "") }
}

// token is a handler that needs an access token.
func (a *API) token(h handler) wire.Handler {
	return func(r *wire.Req) error {
		user, err := a.who(r)
		if err != nil {
			return err
		}
		return h(r, user)
	}
}

func (a *API) who(r *wire.Req) (mxid.UserID, error) {
	token := r.Token()
	if len(token) == 0 {
		return "", fault.E(fault.MissingToken, "idapi.who", "")
	}
	return a.records.Account(string(token))
}

// signedIn is a handler that needs an access token of who has accepted the terms.
// Spec: identity service, terms of service.
func (a *API) signedIn(h handler) wire.Handler {
	return a.token(func(r *wire.Req, user mxid.UserID) error {
		for _, p := range a.o.Terms {
			ok, err := a.records.Accepted(user, p.URL)
			if err == nil && !ok {
				err = fault.E(fault.TermsNotSigned, "idapi.who", "")
			}
			if err != nil {
				return err
			}
		}
		return h(r, user)
	})
}

// body reads a body, of JSON, or of a form as clients of old send it, into v.
func body(r *wire.Req, v any) error {
	if !strings.Contains(string(r.Ctx.Request.Header.ContentType()), "form") {
		return r.Decode(v)
	}
	raw, err := r.Body(0)
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return fault.E(fault.Invalid, "idapi.body", "the form cannot be read")
	}
	fields := map[string]any{}
	for k := range form {
		fields[k] = form.Get(k)
		if n, err := strconv.ParseInt(form.Get(k), 10, 64); err == nil && k == "send_attempt" {
			fields[k] = n
		}
	}
	obj, err := json.Marshal(fields)
	if err != nil {
		return fault.E(fault.Invalid, "idapi.body", "the form cannot be read")
	}
	return wire.Decode(obj, v)
}

// missing is the error for what is not there.
func missing(what string) error {
	return fault.E(fault.Missing, "idapi", "%s is needed", what)
}

// versionList is what is spoken here.
const versionList = `{"versions":["r0.1.0","r0.2.0","r0.2.1","r0.3.0","v1.1","v1.2","v1.3","v1.4","v1.5","v1.6","v1.7","v1.8","v1.9",` +
	`"v1.10","v1.11","v1.12","v1.13","v1.14","v1.15","v1.16","v1.17","v1.18","v1.19"]}`

// Spec: identity service, GET /versions.
func (a *API) versions(r *wire.Req) error { return r.OK(append(r.Out(), versionList...)) }

// register takes the proof of a homeserver that somebody is its user.
// Spec: identity service, POST /account/register.
func (a *API) register(r *wire.Req) error {
	const op = "idapi.register"
	var q struct {
		Token  *string `json:"access_token"`
		Server *string `json:"matrix_server_name"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Token == nil || q.Server == nil {
		return missing("access_token and matrix_server_name, as POST /openid/request_token gives them,")
	}
	server, err := mxid.ParseServer(*q.Server)
	if err != nil || len(*q.Token) > 1024 {
		return fault.E(fault.Invalid, op, "matrix_server_name is no server name")
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	user, err := a.o.UserInfo(ctx, server, *q.Token)
	if err != nil {
		return fault.E(fault.UnknownToken, op, "%s does not know the OpenID token: %w", server, err)
	}
	if user.Server() != server {
		return fault.E(fault.UnknownToken, op, "%s says that the token is of a user of another server", server)
	}
	token, err := a.records.Register(user)
	if err != nil {
		return err
	}
	// Some clients of old read access_token.
	dst := cjson.AppendString(append(r.Out(), `{"token":`...), token)
	return r.OK(append(cjson.AppendString(append(dst, `,"access_token":`...), token), '}'))
}

// askTime is how long a homeserver may take to answer.
const askTime = 20 * time.Second

// Spec: identity service, GET /account.
func (a *API) account(r *wire.Req, user mxid.UserID) error {
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"user_id":`...), user), '}'))
}

// Spec: identity service, POST /account/logout.
func (a *API) logout(r *wire.Req) error {
	if _, err := a.who(r); err != nil {
		return err
	}
	if err := a.records.Logout(string(r.Token())); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: identity service, GET /terms.
func (a *API) terms(r *wire.Req) error {
	dst := append(r.Out(), `{"policies":{`...)
	for i, p := range a.o.Terms {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(append(cjson.AppendString(dst, p.ID), `:{"version":`...), p.Version)
		dst = append(cjson.AppendString(append(dst, ','), p.Language), `:{"name":`...)
		dst = cjson.AppendString(append(cjson.AppendString(dst, p.Name), `,"url":`...), p.URL)
		dst = append(dst, `}}`...)
	}
	return r.OK(append(dst, `}}`...))
}

// Spec: identity service, POST /terms.
func (a *API) accept(r *wire.Req, user mxid.UserID) error {
	var q struct {
		Accepts []string `json:"user_accepts"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Accepts == nil {
		return missing("user_accepts")
	}
	var ours []string // nothing else is worth a row
	for _, p := range a.o.Terms {
		for _, u := range q.Accepts {
			if u == p.URL {
				ours = append(ours, u)
			}
		}
	}
	if len(ours) > 0 {
		if err := a.records.Accept(user, ours); err != nil {
			return err
		}
	}
	return r.Empty()
}

// Spec: identity service, GET /pubkey/{keyId}.
func (a *API) publicKey(r *wire.Req) error {
	key, err := a.records.PublicKey(r.Path("keyId"))
	if err != nil {
		return err
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"public_key":`...), key), '}'))
}

// Spec: identity service, GET /pubkey/isvalid.
func (a *API) valid(r *wire.Req) error {
	key, ok := r.Query("public_key")
	if !ok {
		return missing("public_key")
	}
	return sayValid(r, a.records.Valid(key))
}

// Spec: identity service, GET /pubkey/ephemeral/isvalid.
func (a *API) validEphemeral(r *wire.Req) error {
	key, ok := r.Query("public_key")
	if !ok {
		return missing("public_key")
	}
	good, err := a.records.ValidEphemeral(key)
	if err != nil {
		return err
	}
	return sayValid(r, good)
}

func sayValid(r *wire.Req, good bool) error {
	return r.OK(append(strconv.AppendBool(append(r.Out(), `{"valid":`...), good), '}'))
}

// allowance is how much each user may do in an hour.
type allowance struct {
	now  func() time.Time
	most int

	mu   sync.Mutex
	hour int64          // which one the counts are of
	used map[string]int // by user
}

// maxUsers bounds the users that are counted; those beyond are one.
const maxUsers = 4096

// take counts n. Error: Limit.
func (w *allowance) take(who string, n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now().Unix()
	if hour := now / 3600; hour != w.hour || w.used == nil {
		w.hour, w.used = hour, map[string]int{}
	}
	if _, known := w.used[who]; !known && len(w.used) >= maxUsers {
		who = ""
	}
	if w.used[who]+n > w.most {
		return fault.Wait("idapi", time.Duration((w.hour+1)*3600-now)*time.Second)
	}
	w.used[who] += n
	return nil
}

// asker is how a request is counted: by its user, or else by its address.
func asker(r *wire.Req, user mxid.UserID) string {
	if user != "" {
		return string(user)
	}
	at := r.Remote()
	if at.Is6() {
		if p, err := at.Prefix(64); err == nil {
			return p.String()
		}
	}
	return at.String()
}
