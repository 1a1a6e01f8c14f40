package account

import (
	"crypto/sha256"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// A ticket is a token that proves one thing for a short while: that its bearer
// may log in as a user, or that they are that user to another service. Tickets
// are in memory only, since a hub that restarts takes longer than most live.
type ticket struct {
	kind  ticketKind
	user  uint32
	until int64 // milliseconds
	since int64 // milliseconds at which it was made
}

type ticketKind uint8

const (
	loginTicket ticketKind = iota
	openIDTicket
	browserTicket
)

// The lives of tickets.
const (
	LoginTokenLife = 2 * time.Minute
	OpenIDLife     = time.Hour
	BrowserLife    = 12 * time.Hour
)

// maxTickets bounds the tickets of all users: 60 bytes each. ticketsEach is for one
// user, who is not to push out those of others.
const (
	maxTickets  = 4096
	ticketsEach = 32
)

type tickets struct {
	mu sync.Mutex
	m  map[tokenHash]ticket
}

// put keeps a ticket. Those that have ended go; when there are too many of a kind
// that the user has, or of all, the one of them that would end first.
func (t *tickets) put(h tokenHash, k ticket, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var first, mine tokenHash
	var until, mineUntil int64
	n := 0
	for o, old := range t.m {
		if old.until <= now {
			delete(t.m, o)
			continue
		}
		if until == 0 || old.until < until {
			first, until = o, old.until
		}
		if old.user != k.user || old.kind != k.kind {
			continue
		}
		if n++; mineUntil == 0 || old.until < mineUntil {
			mine, mineUntil = o, old.until
		}
	}
	switch {
	case n >= ticketsEach:
		delete(t.m, mine)
	case len(t.m) >= maxTickets:
		delete(t.m, first)
	}
	t.m[h] = k
}

// drop ends the tickets of a kind that a user has.
func (t *tickets) drop(user uint32, kind ticketKind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for h, k := range t.m {
		if k.user == user && k.kind == kind {
			delete(t.m, h)
		}
	}
}

// get finds a ticket that is good now; take ends it.
func (t *tickets) get(token string, kind ticketKind, now int64, take bool) (user uint32) {
	return t.find(token, kind, now, take).user
}

// find is get for all that the ticket says.
func (t *tickets) find(token string, kind ticketKind, now int64, take bool) ticket {
	if len(token) > maxTokenText {
		return ticket{}
	}
	h := tokenHash(sha256.Sum256([]byte(token)))
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.m[h]
	if !ok || k.kind != kind {
		return ticket{}
	}
	if take || k.until <= now {
		delete(t.m, h)
	}
	if k.until <= now {
		return ticket{}
	}
	return k
}

func (a *Accounts) newTicket(kind ticketKind, user uint32, life time.Duration) (string, error) {
	token, h, err := newToken()
	if err == nil {
		now := a.millis()
		a.tickets.put(h, ticket{kind, user, now + life.Milliseconds(), now}, now)
	}
	return token, err
}

// LoginToken makes a token that lets its bearer log in as the user once, within
// LoginTokenLife. Spec: client-server, POST /login/get_token and single sign-on.
func (a *Accounts) LoginToken(user uint32) (string, error) {
	return a.newTicket(loginTicket, user, LoginTokenLife)
}

// UseLoginToken finds the user of a login token, and ends the token.
func (a *Accounts) UseLoginToken(token string) (uint32, error) {
	user := a.tickets.get(token, loginTicket, a.millis(), true)
	if user == 0 {
		return 0, fault.E(fault.Forbidden, "account.UseLoginToken", "the login token is not valid, or no longer")
	}
	return user, nil
}

// OpenIDToken makes a token by which other services learn who its bearer is,
// for OpenIDLife. Spec: client-server, OpenID.
func (a *Accounts) OpenIDToken(user uint32) (string, error) {
	return a.newTicket(openIDTicket, user, OpenIDLife)
}

// OpenIDUser says whose OpenID token this is.
// Spec: server-server, GET /openid/userinfo.
func (a *Accounts) OpenIDUser(token string) (mxid.UserID, error) {
	user := a.tickets.get(token, openIDTicket, a.millis(), false)
	if user == 0 {
		return "", fault.E(fault.UnknownToken, "account.OpenIDUser", "the token is unknown or has expired")
	}
	id, err := a.names.Name(store.Users, user)
	return mxid.UserID(id), err
}
