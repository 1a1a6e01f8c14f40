package clientapi

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/oauth"
	"hearth/httpd/wire"
)

// What clients wait for is in memory only: after a restart they begin anew.
const (
	maxCodes   = 512
	codesEach  = 16 // of one user, who is not to push out those of others
	codeLife   = 2 * time.Minute
	codeMemory = 10 * time.Minute // a code that comes a second time is known so long

	maxDeviceGrants  = 256
	deviceGrantsEach = 16 // from one network
	deviceLife       = 15 * time.Minute
	pollEvery        = 5 * time.Second
)

// grants are the authorisations that clients have not fetched yet.
type grants struct {
	mu      sync.Mutex
	codes   map[[sha256.Size]byte]*codeGrant   // by the code's sum
	devices map[[sha256.Size]byte]*deviceGrant // by the device code's sum
}

// codeGrant is what a code is good for.
type codeGrant struct {
	agreed
	client, redirect, challenge string
	until                       time.Time // when it can no longer be traded
	used                        bool
	again                       bool   // it was used twice
	device                      uint64 // number of the device it gave; 0: not yet
}

// newCode keeps what a user agreed to and gives the code for it.
func (g *grants) newCode(c *codeGrant, now time.Time) (string, error) {
	code, err := randomText(32)
	if err != nil {
		return "", err
	}
	c.until = now.Add(codeLife)
	g.mu.Lock()
	defer g.mu.Unlock()
	var first, mine [sha256.Size]byte
	n := 0
	for sum, o := range g.codes {
		if now.After(o.until.Add(codeMemory)) {
			delete(g.codes, sum)
			continue
		}
		if f := g.codes[first]; f == nil || o.until.Before(f.until) {
			first = sum
		}
		if o.user == c.user {
			if m := g.codes[mine]; m == nil || o.until.Before(m.until) {
				mine = sum
			}
			n++
		}
	}
	switch {
	case n >= codesEach:
		delete(g.codes, mine)
	case len(g.codes) >= maxCodes:
		delete(g.codes, first)
	}
	if g.codes == nil {
		g.codes = map[[sha256.Size]byte]*codeGrant{}
	}
	g.codes[sumOf(code)] = c
	return code, nil
}

// takeCode uses up a code that fits. again says that it was used up before.
func (g *grants) takeCode(code string, fits func(*codeGrant) bool, now time.Time) (c *codeGrant, again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c = g.codes[sumOf(code)]
	switch {
	case c == nil:
		return nil, false
	case c.used:
		c.again = true
		return nil, true
	case now.After(c.until) || !fits(c):
		return nil, false
	}
	c.used = true
	return c, false
}

// giveBack makes a code good again that the hub could not do its part for.
func (g *grants) giveBack(c *codeGrant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.used = c.again // it is burnt all the same where it came twice meanwhile
}

// burn forgets a code that was used twice and gives the device that it gave; 0
// where that is only being made: see gave.
func (g *grants) burn(code string) (user uint32, device uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.codes[sumOf(code)]
	if c == nil || c.device == 0 {
		return 0, 0
	}
	delete(g.codes, sumOf(code))
	return c.user, c.device
}

// gave notes what device a code gave, and says whether it was used twice.
func (g *grants) gave(c *codeGrant, device uint64) (again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.device = device
	return c.again
}

// deviceGrant is a login of a device that has no browser.
// Spec: client-server, device authorisation flow; RFC 8628.
type deviceGrant struct {
	agreed
	client string
	code   string // what the person types
	from   netip.Addr
	until  time.Time
	every  time.Duration // between two polls
	polled time.Time
	said   bool // the person has answered
	yes    bool
}

// Spec: client-server, device authorisation request and response.
func (a *API) beginDevice(r *wire.Req) error {
	if err := r.Spend(wire.Register); err != nil {
		return err
	}
	q, err := formOf(r)
	if err != nil {
		return err
	}
	id, asked := q.need("client_id"), q.need("scope")
	if q.err != nil {
		return q.err
	}
	m, err := a.accounts.Client(id)
	if err != nil {
		return err
	}
	switch {
	case m == nil:
		return oauth.E(oauth.InvalidClient, "the client is not registered")
	case !m.Allows(oauth.GrantDevice):
		return oauth.E(oauth.UnauthorisedClient, "the client is not registered for this grant")
	}
	scope, err := oauth.ParseScope(asked)
	if err != nil {
		return err
	}
	secret, err := randomText(32)
	if err != nil {
		return err
	}
	g := &deviceGrant{agreed: agreed{scope: scope}, client: id, from: r.Remote(), until: a.o.Now().Add(deviceLife), every: pollEvery}
	if err := a.grants.addDevice(secret, g, a.o.Now()); err != nil {
		return err
	}
	at := a.base(r) + linkPath
	dst := cjson.AppendString(append(r.Out(), `{"device_code":`...), secret)
	dst = strconv.AppendInt(append(dst, `,"expires_in":`...), int64(deviceLife/time.Second), 10)
	dst = strconv.AppendInt(append(dst, `,"interval":`...), int64(pollEvery/time.Second), 10)
	dst = cjson.AppendString(append(dst, `,"user_code":`...), g.code)
	dst = cjson.AppendString(append(dst, `,"verification_uri":`...), at)
	dst = cjson.AppendString(append(dst, `,"verification_uri_complete":`...), at+"?user_code="+g.code)
	return r.OK(append(dst, '}'))
}

// addDevice keeps a grant and gives it its user code. A network that has too many
// open loses its oldest, and so does the hub.
func (g *grants) addDevice(secret string, d *deviceGrant, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var first, mine [sha256.Size]byte
	n := 0
	codes := map[string]bool{}
	net := wire.Network(d.from)
	for sum, o := range g.devices {
		if now.After(o.until.Add(codeMemory)) {
			delete(g.devices, sum)
			continue
		}
		codes[o.code] = true
		if f := g.devices[first]; f == nil || o.until.Before(f.until) {
			first = sum
		}
		if wire.Network(o.from) == net {
			if m := g.devices[mine]; m == nil || o.until.Before(m.until) {
				mine = sum
			}
			n++
		}
	}
	switch {
	case n >= deviceGrantsEach:
		delete(g.devices, mine)
	case len(g.devices) >= maxDeviceGrants:
		delete(g.devices, first)
	}
	for d.code == "" || codes[d.code] {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return fmt.Errorf("clientapi: %w", err)
		}
		d.code, _ = oauth.NewUserCode(b)
	}
	if g.devices == nil {
		g.devices = map[[sha256.Size]byte]*deviceGrant{}
	}
	g.devices[sumOf(secret)] = d
	return nil
}

// waiting finds the grant that a user code is for, while nobody has answered.
func (g *grants) waiting(code string, now time.Time) *deviceGrant {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.devices {
		if d.code == code && !d.said && !now.After(d.until) {
			return d
		}
	}
	return nil
}

// say answers a grant; false where it no longer waits.
func (g *grants) say(d *deviceGrant, yes bool, who agreed, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d.said || now.After(d.until) {
		return false
	}
	d.said, d.yes = true, yes
	d.user, d.cookie = who.user, who.cookie
	return true
}

// poll is one question of the device. The grant comes once; until then it is an
// error what there is to say. Spec: RFC 8628, 3.5.
func (g *grants) poll(secret, client string, now time.Time) (*deviceGrant, *oauth.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := sumOf(secret)
	d := g.devices[sum]
	switch {
	case d == nil || d.client != client:
		return nil, oauth.E(oauth.InvalidGrant, "the device_code is not valid")
	case d.said && !d.yes:
		return nil, oauth.E(oauth.AccessDenied, "the user has refused")
	case now.After(d.until):
		return nil, oauth.E(oauth.Expired, "the device_code has expired")
	case d.said:
		delete(g.devices, sum)
		return d, nil
	case !d.polled.IsZero() && now.Sub(d.polled) < d.every:
		d.polled = now
		d.every = min(d.every+pollEvery, time.Minute)
		return nil, oauth.E(oauth.SlowDown, "wait %d seconds between two polls", d.every/time.Second)
	}
	d.polled = now
	return nil, oauth.E(oauth.Pending, "the user has not answered yet")
}

// byDeviceCode trades a device code.
func (a *API) byDeviceCode(r *wire.Req, q *askedFor, client string) (t account.Tokens, scope oauth.Scope, err error) {
	secret := q.need("device_code")
	if q.err != nil {
		return t, scope, q.err
	}
	g, no := a.grants.poll(secret, client, a.o.Now())
	if no != nil {
		return t, scope, no
	}
	if t, _, err = a.letIn(r, client, &g.agreed); passing(err) {
		a.grants.mu.Lock()
		defer a.grants.mu.Unlock()
		a.grants.devices[sumOf(secret)] = g
	}
	return t, g.scope, err
}
