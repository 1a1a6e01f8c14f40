// Package identity is the records of an identity service: which address belongs
// to which Matrix user, who was invited by an address before it did, and the
// proofs of addresses that are under way.
//
// It owns what is said in its name, and the key that it is signed with. It
// refuses to keep an address in clear: an address is known by a keyed hash, and
// where it is needed again (the hashes that clients ask by are made anew with
// each pepper) it is sealed. The key lies in a file beside the store, so that who
// gets hold of the store alone, or of a copy of it, learns no address and cannot
// try them out. Proofs are in memory only, and lost with the process: they name
// addresses of people who have agreed to nothing yet.
//
// It sends nothing by itself: it says what is to be sent, and what a homeserver
// has to be told waits on disk until Run has brought it there.
//
// Spec: identity service.
package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Options are what the records are opened with.
type Options struct {
	Name   mxid.Server                      // in whose name associations are signed
	Dir    string                           // where the key lies
	FS     store.FS                         // nil: the real disk
	Pepper time.Duration                    // how long one serves; 0: a week
	Now    func() time.Time                 // nil: time.Now
	Log    func(format string, args ...any) // nil: dropped
}

// Address is an address elsewhere, in its canonical form.
// Spec: appendices, 3PID types.
type Address struct{ Medium, Text string }

// Records are the open records. All methods may be called at the same time.
type Records struct {
	st     *store.Store
	o      Options
	signer event.Signer
	index  []byte // key of the hashes of addresses
	sealer cipher.AEAD

	mu     sync.Mutex // held while bindings, invites or the pepper change
	pepper pepper     // guarded by mu
	next   uint64     // number of the next notice; guarded by mu

	untold atomic.Int64 // notices on disk, at most about
	tokens atomic.Int64 // access tokens on disk, at most about
	proofs proofs
	wake   chan struct{} // holds one when there is a notice
}

// KeyID names the one key that associations are signed with.
const KeyID = "ed25519:0"

// keyFile is the file of the secret.
const keyFile = "identity.key"

// Open opens the records of a store. Error: Corrupt where there are bindings and
// the key is gone.
func Open(st *store.Store, o Options) (*Records, error) {
	if o.FS == nil {
		o.FS = store.Disk()
	}
	if o.Pepper == 0 {
		o.Pepper = 7 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	s := &Records{st: st, o: o, wake: make(chan struct{}, 1)}
	s.proofs = proofs{now: o.Now, open: map[string]*proof{}}
	secret, err := s.secret()
	if err != nil {
		return nil, err
	}
	if err := s.derive(secret); err != nil {
		return nil, err
	}
	if err := s.loadPepper(); err != nil {
		return nil, err
	}
	if err := s.sweep(); err != nil && !fault.Is(err, fault.Full) {
		return nil, err
	}
	last, err := st.Last(store.IdentityNotice.Prefix(), store.After(store.IdentityNotice.Prefix()))
	if err == nil && len(last) == 9 {
		s.next = numberOf(last) + 1
	}
	return s, err
}

// secret reads the key file, or makes it for a store without bindings.
func (s *Records) secret() ([]byte, error) {
	const op = "identity.Open"
	name := s.o.FS.PathJoin(s.o.Dir, keyFile)
	text, err := store.ReadFile(s.o.FS, name)
	if err == nil {
		secret, err := base64.RawStdEncoding.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(secret) != 32 {
			return nil, fault.E(fault.Corrupt, op, "%s does not hold 32 bytes in base64", name)
		}
		return secret, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	last, err := s.st.Last(store.IdentityBinding.Prefix(), store.After(store.IdentityBinding.Prefix()))
	if err != nil {
		return nil, err
	}
	if last != nil {
		return nil, fault.E(fault.Corrupt, op, "the key of the identity service, %s, is gone, and its addresses cannot be read without it; "+
			"bring it back from a backup", name)
	}
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return secret, store.WriteFile(s.o.FS, name, []byte(base64.RawStdEncoding.EncodeToString(secret)+"\n"))
}

// derive makes the keys of the secret.
func (s *Records) derive(secret []byte) error {
	var part [3][]byte
	for i, what := range [...]string{"sign", "seal", "index"} {
		var err error
		if part[i], err = hkdf.Key(sha256.New, secret, nil, "hearth identity "+what, 32); err != nil {
			return fault.E(fault.Internal, "identity.Open", "%w", err)
		}
	}
	s.signer = event.Signer{Server: s.o.Name, KeyID: KeyID, Key: ed25519.NewKeyFromSeed(part[0])}
	s.index = part[2]
	block, err := aes.NewCipher(part[1])
	if err == nil {
		s.sealer, err = cipher.NewGCM(block)
	}
	if err != nil {
		return fault.E(fault.Internal, "identity.Open", "%w", err)
	}
	return nil
}

// key is what an address is known by in the store.
func (s *Records) key(a Address) []byte {
	h := hmac.New(sha256.New, s.index)
	h.Write([]byte(a.Medium + "\x00" + a.Text)) // never fails
	return h.Sum(nil)
}

func (s *Records) seal(plain []byte) []byte {
	nonce := make([]byte, s.sealer.NonceSize())
	rand.Read(nonce) // never fails
	return s.sealer.Seal(nonce, nonce, plain, nil)
}

func (s *Records) unseal(sealed []byte) ([]byte, error) {
	n := s.sealer.NonceSize()
	if len(sealed) < n {
		return nil, fault.E(fault.Corrupt, "identity", "a sealed row is cut short")
	}
	plain, err := s.sealer.Open(nil, sealed[:n], sealed[n:], nil)
	if err != nil {
		return nil, fault.E(fault.Corrupt, "identity", "a sealed row does not fit the key: %w", err)
	}
	return plain, nil
}

// row reads a row of JSON; ok says whether it is there.
func (s *Records) row(key []byte, v any) (ok bool, err error) {
	val, ok, err := s.st.Get(nil, key)
	if err != nil || !ok {
		return false, err
	}
	if err := json.Unmarshal(val, v); err != nil {
		return false, fault.E(fault.Corrupt, "identity", "a row cannot be read: %w", err)
	}
	return true, nil
}

// put adds a row of JSON to a batch.
func put(b *store.Batch, key []byte, v any) error {
	val, err := json.Marshal(v)
	if err != nil {
		return fault.E(fault.Internal, "identity", "a row cannot be written: %w", err)
	}
	b.Set(key, val)
	return nil
}

func (s *Records) millis() int64 { return s.o.Now().UnixMilli() }

// random is n random bytes in URL-safe base64.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Name is in whose name associations are signed.
func (s *Records) Name() mxid.Server { return s.o.Name }

// PublicKey gives a long-term key by its id. Error: NotFound.
// Spec: identity service, GET /pubkey/{keyId}.
func (s *Records) PublicKey(id string) (string, error) {
	if id != KeyID {
		return "", fault.E(fault.NotFound, "identity.PublicKey", "there is no such key")
	}
	return s.public(), nil
}

func (s *Records) public() string {
	return base64.RawStdEncoding.EncodeToString(s.signer.Key.Public().(ed25519.PublicKey))
}

// Valid says whether a key is the long-term one.
// Spec: identity service, GET /pubkey/isvalid.
func (s *Records) Valid(public string) bool {
	raw, ok := publicKey(public)
	return ok && s.signer.Key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(raw))
}

// publicKey reads a key in either alphabet of base64, as other servers write it.
func publicKey(text string) ([]byte, bool) {
	text = strings.TrimRight(text, "=")
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		raw, err = base64.RawURLEncoding.DecodeString(text)
	}
	return raw, err == nil && len(raw) == ed25519.PublicKeySize
}
