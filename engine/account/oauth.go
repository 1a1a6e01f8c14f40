package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
	"hearth/engine/oauth"
	"hearth/engine/store"
)

// Clients register themselves, each at each login, and nobody says when they are
// gone. So their number is bounded, those with the same metadata are one, and
// those without a session go: after clientIdle, or when there is no room, after
// clientGrace, in which a person can sign in.
const (
	maxClients  = 1000 // of at most oauth.MaxMetadata bytes each
	clientIdle  = 7 * 24 * time.Hour
	clientGrace = time.Hour
	clientTouch = time.Hour // how often it is written down that one was used
	clientSweep = 24 * time.Hour
	// newClients bounds the registrations a day that are not known yet: whoever makes
	// one need not have an account, and each is a write to the disk.
	newClients = 2 * maxClients
	// newClientsEach is for one network, which is not to use up what all have.
	newClientsEach = newClients / 10
	// clientsEach is how many one user may be signed in with: those stay, whoever
	// else would need the room.
	clientsEach = maxClients / 10
)

// clients guards the registrations: mu is held while they are swept, and shared
// while a session of one begins, so that none goes that has a session.
type clients struct {
	mu    sync.RWMutex
	n     int              // how many there are; -1: not counted yet
	swept int64            // milliseconds
	day   int64            // milliseconds at which made began to count
	made  int              // new ones since
	from  map[[16]byte]int // of these, by network
}

func clientKey(id string) []byte { return append(store.OAuthClient.Prefix(), id...) }

// parseClient reads the metadata of a row.
func parseClient(row []byte) (*oauth.Metadata, error) {
	r := fields.Open(row)
	r.Uint()
	m, err := oauth.Parse(r.Bytes())
	if err != nil || r.Cut() {
		return nil, fault.E(fault.Corrupt, "account", "the row of an OAuth client cannot be read")
	}
	return m, nil
}

// clientUsed is when a client was last used, in milliseconds.
func clientUsed(row []byte) int64 {
	r := fields.Open(row)
	return int64(r.Uint())
}

func (a *Accounts) putClient(id string, m *oauth.Metadata) error {
	b := a.st.NewBatch()
	row := binary.AppendUvarint(fields.New(), uint64(a.millis()))
	b.Set(clientKey(id), fields.AppendText(row, "{"+string(m.Append(nil))+"}"))
	return a.st.Commit(b)
}

// AddClient registers a client and gives its client_id. The same metadata are
// the same client. from is the network that asks. Errors: Busy where there is room
// for no other. Spec: client-server, client registration.
func (a *Accounts) AddClient(m *oauth.Metadata, from [16]byte) (id string, err error) {
	id = m.ID()
	a.clients.mu.Lock()
	defer a.clients.mu.Unlock()
	now := a.millis()
	val, ok, err := a.st.Get(nil, clientKey(id))
	if err != nil {
		return "", err
	}
	if ok {
		if now-clientUsed(val) < clientTouch.Milliseconds() {
			return id, nil
		}
		return id, a.putClient(id, m)
	}
	if a.clients.n < 0 || a.clients.n >= maxClients || now-a.clients.swept >= clientSweep.Milliseconds() {
		if err := a.sweepClients(now); err != nil {
			return "", err
		}
	}
	if a.clients.from == nil || now-a.clients.day >= (24*time.Hour).Milliseconds() {
		a.clients.day, a.clients.made, a.clients.from = now, 0, map[[16]byte]int{}
	}
	if a.clients.n >= maxClients || a.clients.made >= newClients || a.clients.from[from] >= newClientsEach {
		return "", fault.E(fault.Busy, "account.AddClient", "the hub has no room for another client")
	}
	if err := a.putClient(id, m); err != nil {
		return "", err
	}
	a.clients.n++
	a.clients.made++
	a.clients.from[from]++
	return id, nil
}

// sweepClients drops registrations that are no longer used. Where there are too
// many, a tenth goes at once: the sweep reads all devices. It needs clients.mu.
func (a *Accounts) sweepClients(now int64) error {
	inUse := map[string]bool{}
	err := a.st.ScanPrefix(store.Device.Prefix(), func(key, val []byte) (bool, error) {
		d, err := parseDevice("", val)
		if d.Client != "" {
			inUse[d.Client] = true
		}
		return true, err
	})
	if err != nil {
		return err
	}
	type idle struct {
		key  []byte
		used int64
	}
	var list []idle
	n := 0
	err = a.st.ScanPrefix(store.OAuthClient.Prefix(), func(key, val []byte) (bool, error) {
		n++
		if !inUse[string(key[1:])] {
			list = append(list, idle{slices.Clone(key), clientUsed(val)})
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(x, y idle) int { return int(min(max(x.used-y.used, -1), 1)) })
	b := a.st.NewBatch()
	b.Frees()
	for i := range list {
		age := time.Duration(now-list[i].used) * time.Millisecond
		if age < clientIdle && (n < maxClients*9/10 || age < clientGrace && n < maxClients) {
			break // those that follow were used later still
		}
		b.Delete(list[i].key)
		n--
	}
	if err := a.st.Commit(b); err != nil {
		return err
	}
	a.clients.n, a.clients.swept = n, now
	return nil
}

// Client reads what a client said of itself; nil where there is no such client.
func (a *Accounts) Client(id string) (*oauth.Metadata, error) {
	if id == "" || len(id) > 64 {
		return nil, nil
	}
	val, ok, err := a.st.Get(nil, clientKey(id))
	if err != nil || !ok {
		return nil, err
	}
	return parseClient(val)
}

// LoginOAuth is Login for a client that a user let in, as the device that the
// scope names: what that was logged in as before ends. Errors: NotFound where
// the client is no longer registered, Forbidden where the user has too many.
// Spec: client-server, device id allocation.
func (a *Accounts) LoginOAuth(user uint32, client string, scope oauth.Scope, n NewSession) (Tokens, Session, error) {
	a.clients.mu.RLock()
	defer a.clients.mu.RUnlock()
	known, err := a.st.Has(clientKey(client))
	if err != nil {
		return Tokens{}, Session{}, err
	}
	if !known || client == "" {
		return Tokens{}, Session{}, fault.E(fault.NotFound, "account.LoginOAuth", "the client is not registered")
	}
	if err := a.roomForClient(user, client); err != nil {
		return Tokens{}, Session{}, err
	}
	n.Device, n.Refresh, n.Life, n.client, n.forms = scope.Device, true, 0, client, scope.Forms
	return a.Login(user, n)
}

// roomForClient refuses one client more than a user may be signed in with.
func (a *Accounts) roomForClient(user uint32, client string) error {
	list, err := a.Devices(user)
	if err != nil {
		return err
	}
	mine := map[string]bool{"": true}
	for i := range list {
		mine[list[i].Client] = true
	}
	if !mine[client] && len(mine) > clientsEach {
		return fault.E(fault.Forbidden, "account.LoginOAuth", "a user is signed in with at most %d clients: log some out first", clientsEach)
	}
	return nil
}

// familyBytes are the random bytes that all refresh tokens of an OAuth session
// begin with. By these a token that was used up is known for what it is.
const familyBytes = 24

// newFamily makes them for a device.
func (a *Accounts) newFamily(b *store.Batch, user uint32, d *Device) (string, error) {
	var raw [familyBytes]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("account: %w", err)
	}
	d.family = sha256.Sum256(raw[:])
	row := tokenRow{kind: tokenFamily, user: user, num: d.Num, device: d.ID}
	b.Set(tokenKey(&d.family), row.append(fields.New()))
	return string(raw[:]), nil
}

// newRefresh makes a refresh token that begins with the family.
func newRefresh(family string) (text string, h tokenHash, err error) {
	if text, h, err = newToken(); err != nil || family == "" {
		return text, h, err
	}
	text = tokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(family)) + strings.TrimPrefix(text, tokenPrefix)
	return text, sha256.Sum256([]byte(text)), nil
}

// familyOf gives the family of a refresh token; empty where it has none.
func familyOf(token string) string {
	text, ok := strings.CutPrefix(token, tokenPrefix)
	head := base64.RawURLEncoding.EncodedLen(familyBytes)
	if !ok || len(text) != head+base64.RawURLEncoding.EncodedLen(32) {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[:head])
	if err != nil {
		return ""
	}
	return string(raw)
}

// Held is the session that a token belongs to, as far as ending it needs.
type Held struct {
	User   uint32
	UserID mxid.UserID
	Device uint64 // its number
	Client string
	Spent  bool // the token is a refresh token that was used up
}

// Holder finds the session of an access or refresh token, whether or not the
// token is still good; ok is false where there is none.
// Spec: client-server, token revocation; refresh token grant.
func (a *Accounts) Holder(token string) (s Held, ok bool, err error) {
	if token == "" || len(token) > maxTokenText {
		return s, false, nil
	}
	h := tokenHash(sha256.Sum256([]byte(token)))
	row, ok, err := a.tokenRow(&h)
	if err != nil {
		return s, false, err
	}
	if !ok {
		family := familyOf(token)
		if family == "" {
			return s, false, nil
		}
		h = sha256.Sum256([]byte(family))
		if row, ok, err = a.tokenRow(&h); err != nil || !ok || row.kind != tokenFamily {
			return s, false, err
		}
		s.Spent = true
	} else if row.kind == tokenFamily {
		return s, false, nil
	}
	d, ok, err := a.device(row.user, row.device)
	if err != nil || !ok || d.Num != row.num {
		return s, false, err
	}
	id, err := a.names.Name(store.Users, row.user)
	s.User, s.UserID, s.Device, s.Client = row.user, mxid.UserID(id), d.Num, d.Client
	return s, err == nil, err
}

// RefreshOAuth is Refresh for a client's session: the client must be the one that
// the session was given to. It gives the scope too.
// Spec: client-server, refresh token grant.
func (a *Accounts) RefreshOAuth(token, client string) (Tokens, oauth.Scope, error) {
	if client == "" {
		return Tokens{}, oauth.Scope{}, unknownToken()
	}
	t, s, err := a.refresh(token, client)
	return t, s.device.Scope(), err
}
