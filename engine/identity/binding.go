package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strings"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// binding is the row of an address that belongs to a user.
type binding struct {
	User   mxid.UserID `json:"user"`
	Time   int64       `json:"time"`
	Sealed []byte      `json:"sealed"` // "address medium", as it is hashed
}

// pepper is what the hashes that clients ask by are made with now.
type pepper struct {
	Gen   uint32 `json:"gen"`
	Text  string `json:"text"`
	Since int64  `json:"since"`
}

const metaPepper = "identity/pepper"

// life is how long an association is said to hold. It has no end that is known.
const life = 100 * 365 * 24 * time.Hour

func bindingKey(key []byte) []byte { return append(store.IdentityBinding.Prefix(), key...) }

func hashKey(gen uint32, hash []byte) []byte {
	return append(store.U32(store.IdentityHash.Prefix(), gen), hash...)
}

// query is what is hashed of an address, without the pepper.
func (a Address) query() string { return a.Text + " " + a.Medium }

func (p *pepper) hash(query string) []byte {
	h := sha256.Sum256([]byte(query + " " + p.Text))
	return h[:]
}

func (s *Records) loadPepper() error {
	val, ok, err := s.st.Meta(metaPepper)
	if err != nil || !ok {
		return err // the first question makes one
	}
	if err := json.Unmarshal(val, &s.pepper); err != nil {
		return fault.E(fault.Corrupt, "identity.Open", "the pepper cannot be read: %w", err)
	}
	return nil
}

// HashDetails gives the pepper that addresses are asked for with, a new one where
// the old has served its time. Spec: identity service, GET /hash_details.
func (s *Records) HashDetails() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pepper.Text == "" || s.millis()-s.pepper.Since >= s.o.Pepper.Milliseconds() {
		if err := s.rotate(); err != nil && (s.pepper.Text == "" || !fault.Is(err, fault.Full)) {
			return "", err
		}
	}
	return s.pepper.Text, nil
}

// batchRows is how many hashes are written at once.
const batchRows = 512

// rotate makes a new pepper, and all hashes anew; needs mu. What is left of an
// attempt that was cut short goes first.
func (s *Records) rotate() error {
	next := pepper{Gen: s.pepper.Gen + 1, Text: random(24), Since: s.millis()}
	b := s.st.NewBatch()
	at := hashKey(next.Gen, nil)
	b.DeleteRange(at, store.After(at))
	n := 0
	err := s.st.ScanPrefix(store.IdentityBinding.Prefix(), func(key, val []byte) (bool, error) {
		var row binding
		if err := json.Unmarshal(val, &row); err != nil {
			return false, fault.E(fault.Corrupt, "identity", "a binding cannot be read: %w", err)
		}
		query, err := s.unseal(row.Sealed)
		if err != nil {
			return false, err
		}
		b.Set(hashKey(next.Gen, next.hash(string(query))), key[1:])
		if n++; n%batchRows == 0 {
			err = s.st.Apply(b)
			b = s.st.NewBatch()
		}
		return true, err
	})
	if err != nil {
		b.Drop()
		return err
	}
	text, err := json.Marshal(&next)
	if err != nil {
		b.Drop()
		return fault.E(fault.Internal, "identity", "the pepper cannot be written: %w", err)
	}
	b.SetMeta(metaPepper, text)
	old := hashKey(s.pepper.Gen, nil)
	b.DeleteRange(old, store.After(old))
	if err := s.st.Commit(b); err != nil {
		return err
	}
	s.pepper = next
	return nil
}

// MaxLookup is the most addresses of one question.
const MaxLookup = 1000

// Lookup finds the users of addresses, by their hashes (sha256) or in clear
// (none), and calls found for each that has one.
//
// Errors: Invalid for another algorithm or too many, WrongPepper.
// Spec: identity service, POST /lookup.
func (s *Records) Lookup(algorithm, with string, asked []string, found func(asked string, user mxid.UserID)) error {
	const op = "identity.Lookup"
	if algorithm != "sha256" && algorithm != "none" {
		return fault.E(fault.Invalid, op, "the algorithms are sha256 and none")
	}
	if len(asked) > MaxLookup {
		return fault.E(fault.Invalid, op, "at most %d addresses are looked up at a time", MaxLookup)
	}
	s.mu.Lock()
	now := s.pepper
	s.mu.Unlock()
	if now.Text == "" || now.Text != with {
		return fault.E(fault.WrongPepper, op, "")
	}
	for _, text := range asked {
		var key []byte
		if algorithm == "none" {
			i := strings.LastIndexByte(text, ' ')
			if i < 0 {
				continue
			}
			key = s.key(Address{Medium: text[i+1:], Text: text[:i]})
		} else {
			hash, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil || len(hash) != sha256.Size {
				continue
			}
			var ok bool
			if key, ok, err = s.st.Get(nil, hashKey(now.Gen, hash)); err != nil {
				return err
			} else if !ok {
				continue
			}
		}
		var row binding
		ok, err := s.row(bindingKey(key), &row)
		if err != nil {
			return err
		}
		if ok {
			found(text, row.User)
		}
	}
	return nil
}

// Find gives the signed association of an address; nil where there is none.
// Spec: identity service r0.3.0, GET /lookup.
func (s *Records) Find(a Address) ([]byte, error) {
	var row binding
	ok, err := s.row(bindingKey(s.key(a)), &row)
	if err != nil || !ok {
		return nil, err
	}
	return s.association(a, &row)
}

// User is who has an address; empty where nobody has.
func (s *Records) User(a Address) (mxid.UserID, error) {
	var row binding
	_, err := s.row(bindingKey(s.key(a)), &row)
	return row.User, err
}

// association signs that an address belongs to a user.
func (s *Records) association(a Address, row *binding) ([]byte, error) {
	obj, err := json.Marshal(struct {
		Address string      `json:"address"`
		Medium  string      `json:"medium"`
		User    mxid.UserID `json:"mxid"`
		From    int64       `json:"not_before"`
		To      int64       `json:"not_after"`
		Time    int64       `json:"ts"`
	}{a.Text, a.Medium, row.User, row.Time, row.Time + life.Milliseconds(), row.Time})
	if err != nil {
		return nil, fault.E(fault.Internal, "identity.Bind", "%w", err)
	}
	return event.SignJSON(nil, obj, &s.signer)
}

// maxBindings bounds what all users together may bind: each costs the disk 300
// bytes, and some work at each new pepper.
const maxBindings = 200_000

// Bind says that an address belongs to a user, who has proved that; whose it was
// before is forgotten. It gives the signed association. The user's server will be
// told, by Run, together with the invites that waited for the address.
// Spec: identity service, POST /3pid/bind.
func (s *Records) Bind(a Address, user mxid.UserID) ([]byte, error) {
	if _, err := s.HashDetails(); err != nil { // there has to be a pepper
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.key(a)
	var old binding
	if had, err := s.row(bindingKey(key), &old); err != nil {
		return nil, err
	} else if had && old.User == user { // it is said already, and so is what waited for it
		return s.association(a, &old)
	}
	if s.untold.Load() >= maxNotices {
		return nil, fault.Wait("identity.Bind", time.Hour)
	}
	row := binding{User: user, Time: s.millis(), Sealed: s.seal([]byte(a.query()))}
	b := s.st.NewBatch()
	if err := s.bind(b, key, a, &row); err != nil {
		b.Drop()
		return nil, err
	}
	if err := s.st.Commit(b); err != nil {
		return nil, err
	}
	s.nudge()
	return s.association(a, &row)
}

// bind adds to a batch all that a binding changes; needs mu.
func (s *Records) bind(b *store.Batch, key []byte, a Address, row *binding) error {
	had, err := s.st.Has(bindingKey(key))
	if err != nil {
		return err
	}
	if err := s.count(b, !had, false); err != nil {
		return err
	}
	if err := put(b, bindingKey(key), row); err != nil {
		return err
	}
	b.Set(hashKey(s.pepper.Gen, s.pepper.hash(a.query())), key)
	return s.deliver(b, key, a, row.User)
}

// count keeps how many bindings there are.
func (s *Records) count(b *store.Batch, more, less bool) error {
	const name = "identity/bindings"
	val, _, err := s.st.Meta(name)
	if err != nil {
		return err
	}
	n, _ := binary.Uvarint(val)
	switch {
	case more && n >= maxBindings:
		return fault.E(fault.Forbidden, "identity.Bind", "the identity service takes no more addresses")
	case more:
		n++
	case less && n > 0:
		n--
	default:
		return nil
	}
	b.SetMeta(name, binary.AppendUvarint(nil, n))
	return nil
}

// Unbind forgets that an address belongs to a user. One that does not is no
// error. Spec: identity service, POST /3pid/unbind.
func (s *Records) Unbind(a Address, user mxid.UserID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.key(a)
	var row binding
	ok, err := s.row(bindingKey(key), &row)
	if err != nil || !ok || row.User != user {
		return err
	}
	b := s.st.NewBatch()
	b.Frees()
	b.Delete(bindingKey(key))
	b.Delete(hashKey(s.pepper.Gen, s.pepper.hash(a.query())))
	if err := s.count(b, false, true); err != nil {
		b.Drop()
		return err
	}
	return s.st.Commit(b)
}
