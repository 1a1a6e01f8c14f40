package account

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Session is who a request comes from.
type Session struct {
	User      uint32 // interned number of the user id
	UserID    mxid.UserID
	Device    string
	DeviceNum uint64
	Guest     bool
	Admin     bool
	Suspended bool
	Service   string // id of the application service that speaks for the user; empty: the user's own client
	Unlimited bool   // no rate limit holds for it
	Client    string // client_id of an OAuth session; empty: it is none

	seen *atomic.Int64 // when the device was last written down as seen, milliseconds
}

// cacheSize bounds the sessions in memory: about 200 bytes each.
const cacheSize = 4096

// cache holds sessions by token. gen is raised whenever rows that a session is
// made of have changed: a session read before that is not put in after it.
type cache struct {
	mu  sync.RWMutex
	gen uint64
	m   map[tokenHash]*cached
}

type cached struct {
	s     Session
	until int64 // milliseconds at which the token ends; 0: never
	seen  atomic.Int64
}

func (c *cache) get(h tokenHash) (*cached, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.m[h], c.gen
}

// put keeps a session that was read while the generation was gen. A full cache
// loses half of its entries at random, as the store's names do.
func (c *cache) put(h tokenHash, e *cached, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen != gen {
		return
	}
	if len(c.m) >= cacheSize {
		drop := cacheSize / 2
		for k := range c.m {
			if drop--; drop < 0 {
				break
			}
			delete(c.m, k)
		}
	}
	c.m[h] = e
}

// Purge forgets what is in memory of a user's sessions. It has to be called
// after a batch with DropDevices or Deactivate has been applied.
func (a *Accounts) Purge(user uint32) {
	a.cache.purge(user)
	if f := a.left.Load(); f != nil {
		(*f)(user)
	}
}

// OnPurge has f called with each user of whom a session may have ended, or who may
// have been locked or let in again: who serves them otherwise than by a token with
// each request looks anew. f must not block.
func (a *Accounts) OnPurge(f func(user uint32)) { a.left.Store(&f) }

func (c *cache) purge(user uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	for h, e := range c.m {
		if e.s.User == user {
			delete(c.m, h)
		}
	}
}

// Authenticate finds the session of an access token. Every request comes
// through here: a token that was seen lately is found without allocating. Where
// the account is locked the session comes with the error, for those who log out.
func (a *Accounts) Authenticate(token []byte) (Session, error) {
	if len(token) == 0 {
		return Session{}, fault.E(fault.MissingToken, "account.Authenticate", "an access token is needed")
	}
	if len(token) > maxTokenText {
		return Session{}, unknownToken()
	}
	h := tokenHash(sha256.Sum256(token))
	e, gen := a.cache.get(h)
	if e != nil {
		if e.until != 0 && a.millis() >= e.until {
			return Session{}, softLoggedOut()
		}
		return e.s, nil
	}
	e, err := a.load(h)
	if err != nil {
		if e != nil {
			return e.s, err
		}
		return Session{}, err
	}
	a.cache.put(h, e, gen)
	return e.s, nil
}

// load makes a session from the rows. Of a locked account it gives the session
// and the error.
func (a *Accounts) load(h tokenHash) (*cached, error) {
	t, ok, err := a.tokenRow(&h)
	if err != nil {
		return nil, err
	}
	if !ok || t.kind != tokenAccess {
		return nil, unknownToken()
	}
	row, ok, err := a.row(t.user)
	if err != nil {
		return nil, err
	}
	d, has, err := a.device(t.user, t.device)
	switch {
	case err != nil:
		return nil, err
	case !ok || !has || d.Num != t.num || row.has(flagDeactivated):
		return nil, unknownToken()
	case t.until != 0 && a.millis() >= t.until:
		return nil, softLoggedOut()
	}
	if d.next.access == h {
		if err := a.promote(&t, h); err != nil {
			return nil, err
		}
	}
	e := &cached{until: t.until}
	if e.s, err = a.session(&t, &row); err != nil {
		return nil, err
	}
	e.s.Client = d.Client
	if !d.Seen.IsZero() {
		e.seen.Store(d.Seen.UnixMilli())
	}
	e.s.seen = &e.seen
	if row.has(flagLocked) {
		return e, locked()
	}
	return e, nil
}

func (a *Accounts) session(t *tokenRow, row *userRow) (Session, error) {
	id, err := a.names.Name(store.Users, t.user)
	return Session{
		User: t.user, UserID: mxid.UserID(id), Device: t.device, DeviceNum: t.num,
		Guest: row.has(flagGuest), Admin: row.has(flagAdmin), Suspended: row.has(flagSuspended),
	}, err
}

// assumed is the number, among a user's devices, under which an application
// service sends for the user without naming one: transactions belong to devices.
const assumed = 1<<32 - 1

// Assume makes the session of a user for whom an application service speaks, as
// one of the user's devices where it names one. Errors: Forbidden where there is
// no such user, UnknownDevice. Spec: application-service, identity assertion.
func (a *Accounts) Assume(id mxid.UserID, device string) (Session, error) {
	const op = "account.Assume"
	if id == a.ID(HubName) {
		return Session{}, fault.E(fault.Forbidden, op, "nobody speaks for the hub's own user")
	}
	user, err := a.Find(id)
	if err != nil {
		return Session{}, err
	}
	row, ok, err := a.row(user)
	if err != nil {
		return Session{}, err
	}
	if user == 0 || !ok || row.has(flagDeactivated) {
		return Session{}, fault.E(fault.Forbidden, op, "the user %s is not registered", id)
	}
	t := tokenRow{user: user, device: device, num: deviceNum(user, assumed)}
	if device != "" {
		d, has, err := a.device(user, device)
		if err != nil {
			return Session{}, err
		}
		if !has {
			return Session{}, fault.E(fault.UnknownDevice, op, "%s has no device %s", id, device)
		}
		t.num = d.Num
	}
	return a.session(&t, &row)
}

// seenEvery is how often a device is written down as seen. Oftener would wear
// the disk for a number that people only glance at.
const seenEvery = time.Hour

// Seen notes that a device was there. Nearly always it does nothing.
func (a *Accounts) Seen(s *Session, from netip.Addr) error {
	now := a.millis()
	last := s.seen.Load()
	if now-last < int64(seenEvery/time.Millisecond) || !s.seen.CompareAndSwap(last, now) {
		return nil
	}
	defer a.Hold(s.User)()
	d, ok, err := a.device(s.User, s.Device)
	if err != nil || !ok || d.Num != s.DeviceNum {
		return err
	}
	d.Seen, d.SeenFrom = time.UnixMilli(now), from.Unmap()
	b := a.st.NewBatch()
	setDevice(b, s.User, &d)
	err = a.st.Apply(b) // worth no sync: the next one carries it
	if fault.Is(err, fault.Full) {
		return nil // nor worth an error
	}
	return err
}

// NewSession is what a login asks for.
type NewSession struct {
	Device  string        // empty: the hub picks an id
	Name    string        // display name of a device that is new
	From    netip.Addr    // where the login came from
	Refresh bool          // the client knows refresh tokens
	Life    time.Duration // of the access token; 0: as usual

	client string // client_id of an OAuth login
	forms  uint8
}

// Login gives a user a device and tokens for it, whatever it was that proved
// who they are. The device's older tokens end. Spec: client-server, POST /login.
func (a *Accounts) Login(user uint32, n NewSession) (tokens Tokens, s Session, err error) {
	const op = "account.Login"
	if err := checkText(op, "the device id", n.Device, maxDeviceID); err != nil {
		return tokens, s, err
	}
	if err := checkText(op, "the display name", n.Name, maxDeviceName); err != nil {
		return tokens, s, err
	}
	if n.Device == "" {
		if n.Device, err = newDeviceID(); err != nil {
			return tokens, s, err
		}
	}
	defer a.Hold(user)()
	row, err := a.mustRow(op, user)
	switch {
	case err != nil:
		return tokens, s, err
	case row.has(flagDeactivated):
		return tokens, s, fault.E(fault.Deactivated, op, "this account has been deactivated")
	case row.has(flagLocked):
		return tokens, s, locked()
	}
	d, known, err := a.device(user, n.Device)
	if err != nil {
		return tokens, s, err
	}
	b := a.st.NewBatch()
	if !known {
		if err := a.roomForDevice(user); err != nil {
			b.Drop()
			return tokens, s, err
		}
		row.devices++
		setUserRow(b, user, &row)
		d = Device{ID: n.Device, Num: deviceNum(user, row.devices), Name: n.Name}
	}
	d.dropTokens(b)
	d.Client, d.forms = n.client, n.forms
	want := ask{refresh: n.Refresh, life: n.Life}
	if d.Client != "" {
		if want.family, err = a.newFamily(b, user, &d); err != nil {
			b.Drop()
			return tokens, s, err
		}
	}
	if tokens, d.now, err = a.issue(b, user, &d, want); err != nil {
		b.Drop()
		return tokens, s, err
	}
	d.Seen, d.SeenFrom = a.now(), n.From.Unmap()
	setDevice(b, user, &d)
	if err := a.st.Commit(b); err != nil {
		return tokens, s, err
	}
	if known {
		a.Purge(user)
	}
	s, err = a.Authenticate([]byte(tokens.Access))
	return tokens, s, err
}

// roomForDevice refuses one device more than a user may have.
func (a *Accounts) roomForDevice(user uint32) error {
	n := 0
	err := a.st.ScanPrefix(deviceKey(user, ""), func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	if err == nil && n >= maxDevices {
		err = fault.E(fault.Forbidden, "account.Login", "a user has at most %d devices: log some out first", maxDevices)
	}
	return err
}

// Logout ends a session and its device.
func (a *Accounts) Logout(s *Session) error {
	return a.DeleteDevices(s.User, func(d *Device) bool { return d.Num == s.DeviceNum })
}

// LogoutAll ends all sessions of a user and their devices.
func (a *Accounts) LogoutAll(user uint32) error {
	return a.DeleteDevices(user, func(*Device) bool { return true })
}
