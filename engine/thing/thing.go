// Package thing keeps the things of a hub: what speaks MQTT. A thing is a Matrix
// user of this hub with one device; this record holds what is a thing's own:
// its credential, the topics it may use, its certificates, and those that knock
// and are not let in yet.
//
// It refuses passwords that people think up: a secret is 24 random bytes made by
// the hub and kept as SHA-256, because a thousand things come back at once after
// a power cut and a slow hash for each would keep them out for minutes. The one
// exception is what a knocking thing brought along, kept with a salt, so that a
// thing that cannot be set up anew can be let in as it is. It knows no rooms:
// what a thing may do on topics that are tied to rooms is for package bridge.
//
// All rows are in memory; their number is bounded. Who changes a thing reads it,
// makes a changed copy and puts that, under Hold.
package thing

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/topic"
)

// Bounds of the record.
const (
	maxThings = 10_000
	maxGrants = 32
	maxCerts  = 8
	maxName   = 64 // it is the first level of the thing's topics, and part of its user id
	maxSecret = 256
	// DeviceID is the id of a thing's one Matrix device.
	DeviceID = "MQTT"
)

// Access is what a grant lets a thing do.
type Access uint8

// The accesses.
const (
	Read  Access = 1 << iota // subscribe and receive
	Write                    // publish
)

// Grant lets a thing use topics beside its own.
type Grant struct {
	Filter string `json:"filter"`
	Access Access `json:"access"`
}

// ParseGrant reads a grant as it is typed: a filter, perhaps behind "read:" or
// "write:".
func ParseGrant(text string) (Grant, error) {
	g := Grant{Filter: text, Access: Read | Write}
	if f, ok := strings.CutPrefix(text, "read:"); ok {
		g = Grant{f, Read}
	} else if f, ok := strings.CutPrefix(text, "write:"); ok {
		g = Grant{f, Write}
	}
	if err := topic.CheckFilter(g.Filter); err != nil {
		return g, fault.E(fault.Invalid, "thing.ParseGrant", "%q is no topic filter: %w", g.Filter, err)
	}
	return g, nil
}

func (g Grant) String() string {
	switch g.Access {
	case Read:
		return "read:" + g.Filter
	case Write:
		return "write:" + g.Filter
	}
	return g.Filter
}

// Thing is one thing. Shared and never written to: see Clone.
type Thing struct {
	Name      string    `json:"name"`
	User      uint32    `json:"-"`
	DeviceNum uint64    `json:"device"`           // 0: it has none, because it was revoked
	Secret    []byte    `json:"secret,omitempty"` // SHA-256 of salt and secret
	Salt      []byte    `json:"salt,omitempty"`
	Made      time.Time `json:"made"`
	Revoked   bool      `json:"revoked,omitempty"`
	Allow     []Grant   `json:"allow,omitempty"`
	Certs     []Cert    `json:"certs,omitempty"`
}

// Cert is a client certificate that the hub gave a thing.
type Cert struct {
	Serial string    `json:"serial"` // hexadecimal
	Made   time.Time `json:"made"`
}

// Clone is a copy that may be changed.
func (t *Thing) Clone() *Thing {
	c := *t
	c.Allow, c.Certs = slices.Clone(t.Allow), slices.Clone(t.Certs)
	return &c
}

// May says whether the thing's own subtree or its grants let it use a topic or
// filter.
func (t *Thing) May(asked string, access Access) bool {
	if own, _, _ := strings.Cut(asked, "/"); own == t.Name {
		return true
	}
	for _, g := range t.Allow {
		if g.Access&access == access && topic.Covers(g.Filter, asked) {
			return true
		}
	}
	return false
}

// Grant adds a grant. Errors: Invalid where there are too many.
func (t *Thing) Grant(g Grant) error {
	for i := range t.Allow {
		if t.Allow[i].Filter == g.Filter {
			t.Allow[i].Access |= g.Access
			return nil
		}
	}
	if len(t.Allow) >= maxGrants {
		return fault.E(fault.Invalid, "thing.Grant", "a thing has at most %d filters beside its own", maxGrants)
	}
	t.Allow = append(t.Allow, g)
	return nil
}

// NewSecret gives the thing another secret, and tells it this once.
func (t *Thing) NewSecret() (string, error) {
	var raw [24]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fault.E(fault.Internal, "thing.NewSecret", "no randomness: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(raw[:])
	t.Salt, t.Secret = nil, hash(nil, text)
	return text, nil
}

// hash is what is kept of a secret.
func hash(salt []byte, secret string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(secret))
	return h.Sum(nil)
}

func (t *Thing) knows(secret string) bool {
	return len(t.Secret) == sha256.Size && len(secret) <= maxSecret && subtle.ConstantTimeCompare(hash(t.Salt, secret), t.Secret) == 1
}

// Options are what the record is opened with.
type Options struct {
	Dir string   // the data folder, which holds the CA's key
	FS  store.FS // its disk
	Now func() time.Time
}

// Things is the open record. All methods may be called at the same time.
type Things struct {
	st     *store.Store
	server mxid.Server
	o      Options

	hold sync.Mutex // whoever reads a row in order to write it back

	mu     sync.RWMutex // the maps below
	byName map[string]*Thing
	byUser map[uint32]*Thing

	knocks  knocks
	guesses guesses
	ca      authority
}

// Open reads all things and those that knock.
func Open(st *store.Store, server mxid.Server, o Options) (*Things, error) {
	t := &Things{st: st, server: server, o: o, byName: map[string]*Thing{}, byUser: map[uint32]*Thing{}}
	err := st.ScanPrefix(store.Thing.Prefix(), func(key, val []byte) (bool, error) {
		one := &Thing{}
		if err := json.Unmarshal(val, one); err != nil || len(key) != 5 {
			return false, fault.E(fault.Corrupt, "thing.Open", "the row of a thing cannot be read: %w", err)
		}
		one.User = binary.BigEndian.Uint32(key[1:])
		t.byName[one.Name], t.byUser[one.User] = one, one
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return t, t.knocks.load(st)
}

// CheckName says why a name cannot be a thing's: it is part of a user id and the
// first level of the thing's topics.
func CheckName(name string) error {
	const op = "thing.CheckName"
	switch err := mxid.CheckLocalpart(name); {
	case err != nil:
		return fault.E(fault.BadUsername, op, "%w", err)
	case len(name) > maxName:
		return fault.E(fault.BadUsername, op, "the name of a thing has at most %d bytes", maxName)
	case strings.ContainsAny(name, "/+") || name[0] == '_':
		return fault.E(fault.BadUsername, op, "the name of a thing holds no / and no +, and does not begin with _")
	}
	return nil
}

// Short is the name of a thing that may be named as people and devices do: in
// capitals, or with its whole user id.
func (t *Things) Short(name string) string {
	if id, ok := strings.CutPrefix(name, "@"); ok {
		name = strings.TrimSuffix(id, ":"+string(t.server))
	}
	return mxid.LowerLocalpart(name)
}

// Hold keeps everyone else from changing things until release is called. It
// comes before the locks of accounts and log.
func (t *Things) Hold() (release func()) {
	t.hold.Lock()
	return t.hold.Unlock
}

// Find gives a thing by its name, revoked or not. Errors: NotFound.
func (t *Things) Find(name string) (*Thing, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if one := t.byName[t.Short(name)]; one != nil {
		return one, nil
	}
	return nil, fault.E(fault.NotFound, "thing.Find", "there is no thing %s", name)
}

// Of gives the thing that is a user; nil where the user is none.
func (t *Things) Of(user uint32) *Thing {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byUser[user]
}

// List gives all things in the order of their names.
func (t *Things) List() []*Thing {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*Thing, 0, len(t.byName))
	for _, one := range t.byName {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b *Thing) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Room refuses one thing more than there may be.
func (t *Things) Room() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.byName) >= maxThings {
		return fault.E(fault.Forbidden, "thing.Room", "a hub has at most %d things", maxThings)
	}
	return nil
}

// Put writes a thing into a batch. The caller holds the things, and calls Learn
// when the batch is on disk.
func (t *Things) Put(b *store.Batch, one *Thing) error {
	row, err := json.Marshal(one)
	if err != nil {
		return fault.E(fault.Internal, "thing.Put", "%w", err)
	}
	b.Set(store.U32(store.Thing.Prefix(), one.User), row)
	return nil
}

// Learn has a thing known as it was put.
func (t *Things) Learn(one *Thing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byName[one.Name], t.byUser[one.User] = one, one
}

// Save is Put and Learn in a batch of its own.
func (t *Things) Save(one *Thing) error {
	b := t.st.NewBatch()
	if err := t.Put(b, one); err != nil {
		b.Drop()
		return err
	}
	if err := t.st.Commit(b); err != nil {
		return err
	}
	t.Learn(one)
	return nil
}

// Authenticate finds the thing of a name and a secret.
//
// Errors: NotFound for a name that is no thing's, which may knock; Forbidden for
// a wrong secret and for a thing that was revoked; Limit where too many wrong ones
// came from the address.
func (t *Things) Authenticate(name, secret string, from netip.Addr) (*Thing, error) {
	one, err := t.Find(name)
	switch {
	case err != nil:
		return nil, err
	case one.Revoked:
		return nil, fault.E(fault.Forbidden, "thing.Authenticate", "the thing %s was revoked", one.Name)
	}
	guess := one.guess(from)
	if err := t.guesses.admit(guess, t.o.Now()); err != nil {
		return nil, err
	}
	if !one.knows(secret) {
		t.guesses.wrong(guess, t.o.Now())
		return nil, fault.E(fault.Forbidden, "thing.Authenticate", "wrong secret for the thing %s", one.Name)
	}
	return one, nil
}
