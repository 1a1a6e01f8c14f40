// Package clientapi is the client-server API: one table of routes, and thin
// handlers that read a request, ask package engine, and append the answer.
//
// It owns what exists only between a client and the hub: the exchanges of
// user-interactive authentication, who may register, and how things are spelt
// in JSON. It refuses to know a rule: whether something is allowed is for the
// engine to say, and which status and errcode an error has for package wire.
package clientapi

import (
	"crypto/rand"
	"encoding/json"
	"time"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Mode says who may make an account.
type Mode uint8

// The modes of registration. The claim code of a fresh hub works in each.
const (
	Closed    Mode = iota // nobody
	WithToken             // who has a registration token
	Anyone
)

// Options are what the API is made with.
type Options struct {
	Engine       *engine.Engine
	Registration Mode
	Guests       bool                         // whether anybody may come as a guest, with few rights and no password
	Secret       []byte                       // by which a program may make accounts; empty: none
	Terms        []Policy                     // what new users have to accept
	Mail         Mail                         // sends an e-mail; nil: the hub sends none. It needs PublicURL
	Text         Text                         // sends a text message; nil: the hub sends none. It needs PublicURL
	NeedEmail    bool                         // with Mail: no account without an address
	Providers    []Provider                   // where people log in besides; they need PublicURL
	Failed       func(what string, err error) // told what went wrong elsewhere; may be nil
	TURN         TURN                         // what relays calls
	PublicURL    string                       // where clients reach the hub; empty: not told
	IdentityAt   string                       // base URL of the identity server that clients are told; empty: none
	ServerAt     mxid.Server                  // where other servers are to look for the hub; empty: not told
	Support      json.RawMessage              // body of /.well-known/matrix/support; empty: none
	Now          func() time.Time             // nil: time.Now
	About        About                        // what the page at the root tells
}

// API is the handlers and what they share.
type API struct {
	engine   *engine.Engine
	accounts *account.Accounts
	o        Options
	uia      interactive
	proofs   *validations
	sso      signOns
	terms    string        // parameters of the stage; empty: there are no terms
	accepted []byte        // account data of who has accepted them
	shared   *sharedSecret // nil: none
	tries    tries         // of the claim code, on the page

	grants    grants   // what OAuth clients have not fetched yet
	renewals  renewals // who may replace their keys
	codeTries tries    // of the codes that devices show
	markKey   [32]byte // of the marks in forms; new at each start
}

// New makes the API over an open engine.
func New(o Options) *API {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &API{engine: o.Engine, accounts: o.Engine.Accounts, o: o}
	a.proofs = &validations{now: o.Now, open: map[string]*validation{}}
	a.uia = interactive{accounts: a.accounts, now: o.Now, proofs: a.proofs, open: map[string]*exchange{}}
	a.terms, a.accepted = policies(o.Terms)
	a.sso.open = map[string]*signOn{}
	a.shared = newSharedSecret(o.Secret)
	_, _ = rand.Read(a.markKey[:]) // never fails
	a.uia.renewals = &a.renewals
	return a
}

// Authenticate finds the session of a request, for wire.Options.
func (a *API) Authenticate(r *wire.Req) (account.Session, error) {
	if s, ok, err := a.byService(r); ok {
		return s, err
	}
	s, err := a.accounts.Authenticate(r.Token())
	if err != nil {
		return s, err // with the session, where the account is locked
	}
	return s, a.accounts.Seen(&s, r.Remote())
}
