// Package account keeps what belongs to one person or thing of this hub and to
// no room: users, devices, access tokens, passwords, profiles, account data,
// tags, filters, registration tokens, addresses elsewhere, what users report, and
// the OAuth clients that people sign in with.
//
// It owns the keyspaces User to OAuthClient of the store's list, and
// writes nobody else's. It refuses whatever is not bounded: names, devices,
// data and their counts all have a limit here, so that no user can fill the
// disk of a hub they share with others. It knows no room's membership; what
// touches rooms too (leaving them all when an account ends) is composed in
// package engine.
//
// Tokens and devices: a token is 32 random bytes that the store holds only as
// SHA-256, so a stolen disk logs nobody in. Every request is authenticated, so
// sessions are kept in memory, and a hit allocates nothing. People's passwords
// are argon2id, one at a time, since one costs 12 MiB.
//
// Locks: whoever reads a row of a user in order to write it back holds that
// user (Hold); account data alone is changed under the log's lock instead,
// since it needs a position anyway. Hold comes before the log's lock.
package account

import (
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Bounds of what one user may store. They are far above what clients do.
const (
	maxUserID        = 255 // Spec: appendices, user identifiers
	maxPassword      = 512
	maxDeviceID      = 255
	maxDeviceName    = 256
	maxDevices       = 1000
	maxProfile       = 64 << 10 // Spec: client-server, profiles: the total is under 64 KiB
	maxProfileField  = 255
	maxProfileName   = 1024 // displayname and avatar_url travel in every member event
	maxDataType      = 255
	maxDataContent   = 128 << 10
	maxDataRows      = 4096
	maxTag           = 255
	maxTags          = 256
	maxFilter        = 32 << 10
	maxFilters       = 64
	maxTokenText     = 256
	maxRegistrations = 10_000
)

// Options are what the accounts are opened with.
type Options struct {
	Now         func() time.Time // nil: time.Now
	PasswordMin int              // bytes a new password must have; 0: 8
	Cost        Cost             // of a new password's hash; zero: 12 MiB, three passes
	// TokenLife is how long an access token lives whose client can refresh it;
	// 0: an hour. Each refresh costs the disk a write, and access tokens of
	// clients that cannot refresh never end.
	TokenLife time.Duration
	Claim     string // the claim code to make, for an owner who has no screen to read it from; empty: one at random
}

// Accounts is the open record. All methods may be called at the same time.
type Accounts struct {
	st     *store.Store
	log    *stream.Log
	names  *store.Names
	server mxid.Server
	now    func() time.Time
	min    int
	hash   hasher
	cache  cache

	left atomic.Pointer[func(user uint32)] // see OnPurge

	contacts  contactCache
	tokenLife time.Duration
	claim     string // see Options
	tickets   tickets
	clients   clients
	crowned   func() // see OnAdmin

	held [64]sync.Mutex // by user number; see Hold

	reports sync.Mutex     // held while a report is given its number
	regMu   sync.Mutex     // the registration rows and the map below; taken after Hold
	pending map[string]int // registration token → registrations under way
}

// Open reads nothing: rows are read when they are asked for.
func Open(st *store.Store, log *stream.Log, names *store.Names, server mxid.Server, o Options) (*Accounts, error) {
	a := &Accounts{st: st, log: log, names: names, server: server, now: o.Now, min: o.PasswordMin, pending: map[string]int{}, crowned: func() {}}
	if a.now == nil {
		a.now = time.Now
	}
	if a.min == 0 {
		a.min = 8
	}
	a.claim = o.Claim
	if a.tokenLife = o.TokenLife; a.tokenLife == 0 {
		a.tokenLife = time.Hour
	}
	a.cache.m = map[tokenHash]*cached{}
	a.tickets.m = map[tokenHash]ticket{}
	a.clients.n = -1
	return a, a.hash.open(o.Cost)
}

// Server is the name that the hub's users end with.
func (a *Accounts) Server() mxid.Server { return a.server }

// Hold keeps everyone else from changing the user's rows until release is
// called. It is for callers that read before they write, and for package
// engine where other records change in the same batch.
func (a *Accounts) Hold(user uint32) (release func()) {
	mu := &a.held[user%uint32(len(a.held))]
	mu.Lock()
	return mu.Unlock
}

func (a *Accounts) millis() int64 { return a.now().UnixMilli() }

// checkText refuses what is too long or no UTF-8.
func checkText(op, what, s string, limit int) error {
	if len(s) > limit {
		return fault.E(fault.Invalid, op, "%s is longer than %d bytes", what, limit)
	}
	if !utf8.ValidString(s) {
		return fault.E(fault.Invalid, op, "%s is not valid UTF-8", what)
	}
	return nil
}
