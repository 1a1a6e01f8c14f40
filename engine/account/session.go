package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
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

	seen *atomic.Int64 // when the device was last written down as seen, milliseconds
}

// tokenHash is what the store keeps of a token.
type tokenHash [sha256.Size]byte

// Kinds of token row.
const tokenAccess = 1

// tokenPrefix marks our tokens, for those who search leaked text for secrets.
const tokenPrefix = "hearth_"

// tokenRow is the row of table Token.
type tokenRow struct {
	kind   uint64
	user   uint32
	num    uint64 // the device's number: a row that outlived its device is void
	device string
}

func (t *tokenRow) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, t.kind)
	dst = binary.AppendUvarint(dst, uint64(t.user))
	dst = binary.AppendUvarint(dst, t.num)
	return appendText(dst, t.device)
}

func parseTokenRow(row []byte) (t tokenRow, err error) {
	r := readRow(row)
	t.kind, t.user, t.num, t.device = r.num(), uint32(r.num()), r.num(), r.text()
	return t, r.err("a token")
}

func tokenKey(h *tokenHash) []byte { return append(store.Token.Prefix(), h[:]...) }

func newToken() (text string, h tokenHash, err error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", h, fmt.Errorf("account: %w", err)
	}
	text = tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return text, sha256.Sum256([]byte(text)), nil
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
	s    Session
	seen atomic.Int64
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
	c := &a.cache
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
// through here: a token that was seen lately is found without allocating.
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
		return e.s, nil
	}
	e, err := a.load(h)
	if err != nil {
		return Session{}, err
	}
	a.cache.put(h, e, gen)
	return e.s, nil
}

func unknownToken() error {
	return fault.E(fault.UnknownToken, "account.Authenticate", "the access token is unknown or was logged out")
}

// load makes a session from the rows.
func (a *Accounts) load(h tokenHash) (*cached, error) {
	var buf [128]byte
	val, ok, err := a.st.Get(buf[:0], tokenKey(&h))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, unknownToken()
	}
	t, err := parseTokenRow(val)
	if err != nil {
		return nil, err
	}
	row, ok, err := a.row(t.user)
	if err != nil {
		return nil, err
	}
	d, has, err := a.device(t.user, t.device)
	switch {
	case err != nil:
		return nil, err
	case !ok || !has || d.Num != t.num || t.kind != tokenAccess || row.has(flagDeactivated):
		return nil, unknownToken()
	case row.has(flagLocked):
		return nil, fault.E(fault.Locked, "account.Authenticate", "this account is locked")
	}
	id, err := a.names.Name(store.Users, t.user)
	if err != nil {
		return nil, err
	}
	e := &cached{s: Session{
		User: t.user, UserID: mxid.UserID(id), Device: t.device, DeviceNum: t.num,
		Guest: row.has(flagGuest), Admin: row.has(flagAdmin), Suspended: row.has(flagSuspended),
	}}
	if !d.Seen.IsZero() {
		e.seen.Store(d.Seen.UnixMilli())
	}
	e.s.seen = &e.seen
	return e, nil
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
	return a.st.Apply(b) // worth no sync: the next one carries it
}

// NewSession is what a login asks for.
type NewSession struct {
	Device string     // empty: the hub picks an id
	Name   string     // display name of a device that is new
	From   netip.Addr // where the login came from
}

// Login gives a user a device and a token for it, whatever it was that proved
// who they are. The device's older token ends. Spec: client-server, POST /login.
func (a *Accounts) Login(user uint32, n NewSession) (token string, s Session, err error) {
	const op = "account.Login"
	if err := checkText(op, "the device id", n.Device, maxDeviceID); err != nil {
		return "", s, err
	}
	if err := checkText(op, "the display name", n.Name, maxDeviceName); err != nil {
		return "", s, err
	}
	if n.Device == "" {
		if n.Device, err = newDeviceID(); err != nil {
			return "", s, err
		}
	}
	defer a.Hold(user)()
	row, err := a.mustRow(op, user)
	switch {
	case err != nil:
		return "", s, err
	case row.has(flagDeactivated):
		return "", s, fault.E(fault.Deactivated, op, "this account has been deactivated")
	case row.has(flagLocked):
		return "", s, fault.E(fault.Locked, op, "this account is locked")
	}
	d, known, err := a.device(user, n.Device)
	if err != nil {
		return "", s, err
	}
	b := a.st.NewBatch()
	if !known {
		if err := a.roomForDevice(user); err != nil {
			b.Drop()
			return "", s, err
		}
		row.devices++
		setUserRow(b, user, &row)
		d = Device{ID: n.Device, Num: deviceNum(user, row.devices), Name: n.Name}
	} else if d.token != (tokenHash{}) {
		b.Delete(tokenKey(&d.token))
	}
	token, d.token, err = newToken()
	if err != nil {
		b.Drop()
		return "", s, err
	}
	d.Seen, d.SeenFrom = a.now(), n.From.Unmap()
	setDevice(b, user, &d)
	t := tokenRow{kind: tokenAccess, user: user, num: d.Num, device: d.ID}
	b.Set(tokenKey(&d.token), t.append(newRow()))
	if err := a.st.Commit(b); err != nil {
		return "", s, err
	}
	if known {
		a.Purge(user)
	}
	s, err = a.Authenticate([]byte(token))
	return token, s, err
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
