package engine

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/identity"
	"hearth/engine/mxid"
)

// What the hub asks identity servers, its own among them, on behalf of its users.

// IdentityQuestion is one request to an identity server.
type IdentityQuestion struct {
	Server string // a server name, perhaps this hub's
	Method string
	Path   string // below /_matrix/identity/v2
	Token  string // the user's access token there; empty: the hub signs the request
	Body   []byte
}

// IdentityWays are the ways to identity servers. They bound time and answer, and
// judge addresses: users of any server choose them.
type IdentityWays struct {
	// Ask asks an identity server and gives its answer, whatever the status; nil:
	// none is asked.
	Ask func(ctx context.Context, q *IdentityQuestion) (status int, answer []byte, err error)
	// Get asks for what stands at a URL; nil: no URL is asked for.
	Get func(ctx context.Context, link string) (status int, answer []byte, err error)
}

// IdentityTime is how long identity servers may take in all for what one request
// of a user's needs of them.
const IdentityTime = 30 * time.Second

// AskIdentity asks an identity server. Error: Untrusted where none is ever asked.
func (e *Engine) AskIdentity(ctx context.Context, q *IdentityQuestion) (status int, answer []byte, err error) {
	if !e.AsksIdentity() {
		return 0, nil, fault.E(fault.Untrusted, "engine.AskIdentity", "the hub speaks to no identity server")
	}
	return e.lookups.Ask(ctx, q)
}

// AsksIdentity says whether there is a way to identity servers.
func (e *Engine) AsksIdentity() bool { return e.lookups.Ask != nil }

// Unbinding is the question that has an identity server forget an address of a user.
// Spec: identity service, POST /3pid/unbind.
func Unbinding(user mxid.UserID, b account.Bound) (*IdentityQuestion, error) {
	type threepid struct {
		Medium  string `json:"medium"`
		Address string `json:"address"`
	}
	body, err := json.Marshal(struct {
		User     mxid.UserID `json:"mxid"`
		Threepid threepid    `json:"threepid"`
	}{user, threepid{b.Medium, b.Address}})
	return &IdentityQuestion{Server: b.Server, Method: "POST", Path: "/3pid/unbind", Body: body}, err
}

// Retire is Deactivate that first has the identity servers forget the user.
// unbound is false where one of them did not: what is bound there stays noted.
// Spec: client-server, POST /account/deactivate.
func (e *Engine) Retire(user uint32, id mxid.UserID, erase bool) (unbound bool, err error) {
	list, err := e.Accounts.AllBound(user)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(e.life, IdentityTime)
	defer cancel()
	unbound = true
	for _, b := range list {
		q, err := Unbinding(id, b)
		status := 0
		if err == nil {
			status, _, err = e.AskIdentity(ctx, q)
		}
		if err == nil && status == 200 {
			err = e.Accounts.DropBound(user, b.Medium, b.Address)
		}
		if err != nil || status != 200 {
			e.say("the identity server %s keeps an address of %s, who is deactivated: status %d, %v", b.Server, id, status, err)
			unbound = false
		}
	}
	return unbound, e.Deactivate(user, id, erase)
}

// Proved says that a user of this hub has proved an address, and got it. Where the
// hub is an identity service too, the invites that wait there for the address are
// the user's now; with bind the address itself is, for everybody to find.
//
// What goes wrong is only said: the address is the user's all the same.
// Spec: identity service, invitation storage; client-server r0.4.0, POST /register
// (bind_email) and POST /account/3pid (bind).
func (e *Engine) Proved(user uint32, t account.Threepid, bind bool) {
	s := e.hears.Load()
	if s == nil {
		return
	}
	u, err := e.Accounts.User(user)
	a, id := identity.Address{Medium: t.Medium, Text: t.Address}, u.ID
	switch {
	case err != nil:
	case bind:
		if _, err = s.Records.Bind(a, id); err == nil {
			err = e.Accounts.AddBound(user, account.Bound{Medium: t.Medium, Address: t.Address, Server: string(e.Server)})
		}
	default:
		err = s.Records.Claim(a, id)
	}
	if err != nil {
		e.say("the invites that wait for an address of %s are not theirs yet: %v", id, err)
	}
}

// keyIsGood asks the identity server whether the key that has signed is still
// good, as whoever makes the invite has to. A room's offer without a URL has keys
// that are good for ever. Errors: Forbidden; Remote where nobody answers.
// Spec: client-server, third-party invites, server behaviour.
func (e *Engine) keyIsGood(ctx context.Context, key, link string) error {
	const op = "engine.Exchange"
	if link == "" || e.lookups.Get == nil {
		return nil
	}
	sep := "?"
	if strings.Contains(link, "?") {
		sep = "&"
	}
	ctx, cancel := context.WithTimeout(ctx, IdentityTime)
	defer cancel()
	status, answer, err := e.lookups.Get(ctx, link+sep+"public_key="+url.QueryEscape(key))
	if err == nil && (status != 200 || cjson.Check(answer) != nil) {
		err = fault.E(fault.Remote, op, "it answers %d", status)
	}
	if err != nil {
		return fault.E(fault.Remote, op, "the identity server does not say whether its key is still good: %w", err)
	}
	if valid, _ := cjson.Lookup(answer, "valid"); string(valid) != "true" {
		return fault.E(fault.Forbidden, op, "the identity server has taken the key of this invite back")
	}
	return nil
}
