package identity

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Bounds of invites that wait.
const (
	maxInvites = 50 // of one address
	inviteLife = 180 * 24 * time.Hour
)

// tokenLength is that of 32 bytes in base64.
const tokenLength = 43

// invite is the row of an invite that waits for its address to be bound. It does
// not hold the address: who binds it brings that along.
type invite struct {
	Key    []byte      `json:"key"` // of the address
	Room   mxid.RoomID `json:"room"`
	Sender mxid.UserID `json:"sender"`
	Public []byte      `json:"public"` // the key of this invite
	Time   int64       `json:"time"`
}

func inviteKey(token string) []byte { return append(store.IdentityInvite.Prefix(), token...) }

func invitedKey(key []byte, token string) []byte {
	return append(append(store.IdentityInvited.Prefix(), key...), token...)
}

func ephemeralKey(public []byte) []byte { return append(store.IdentityKey.Prefix(), public...) }

// Stored is what an inviter's server is told of an invite that waits, and the
// private key, which only the invited is told.
type Stored struct {
	Token, Display      string
	LongTerm, Ephemeral string // public keys in base64
	Private             string
}

// Store keeps an invite until its address is bound.
//
// Errors: ThreepidInUse where it is, Limit where too many wait for the address.
// Spec: identity service, POST /store-invite.
func (s *Records) Store(a Address, room mxid.RoomID, sender mxid.UserID) (*Stored, error) {
	const op = "identity.Store"
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.key(a)
	if bound, err := s.st.Has(bindingKey(key)); err != nil {
		return nil, err
	} else if bound {
		return nil, fault.E(fault.ThreepidInUse, op, "the address belongs to a user")
	}
	waiting, err := s.waiting(key)
	if err != nil {
		return nil, err
	}
	if len(waiting) >= maxInvites {
		return nil, fault.Wait(op, time.Hour)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fault.E(fault.Internal, op, "%w", err)
	}
	token := random(32)
	b := s.st.NewBatch()
	if err := put(b, inviteKey(token), &invite{Key: key, Room: room, Sender: sender, Public: public, Time: s.millis()}); err != nil {
		b.Drop()
		return nil, err
	}
	b.Set(invitedKey(key, token), nil)
	b.Set(ephemeralKey(public), []byte(token))
	if err := s.st.Commit(b); err != nil {
		return nil, err
	}
	enc := base64.RawStdEncoding
	return &Stored{
		Token: token, Display: Redact(a), LongTerm: s.public(), Ephemeral: enc.EncodeToString(public), Private: enc.EncodeToString(private.Seed()),
	}, nil
}

// waiting lists the tokens of the invites of an address.
func (s *Records) waiting(key []byte) (tokens []string, err error) {
	prefix := invitedKey(key, "")
	err = s.st.ScanPrefix(prefix, func(k, _ []byte) (bool, error) {
		tokens = append(tokens, string(k[len(prefix):]))
		return true, nil
	})
	return tokens, err
}

// Redact gives an address as all members of a room may see it.
func Redact(a Address) string {
	first := func(s string) string {
		for _, c := range s {
			return string(c) + "..."
		}
		return "..."
	}
	if name, host, ok := strings.Cut(a.Text, "@"); ok {
		return first(name) + "@" + first(host)
	}
	return first(a.Text)
}

// ValidEphemeral says whether a key is that of an invite that waits.
// Spec: identity service, GET /pubkey/ephemeral/isvalid.
func (s *Records) ValidEphemeral(public string) (bool, error) {
	raw, ok := publicKey(public)
	if !ok {
		return false, nil
	}
	return s.st.Has(ephemeralKey(raw))
}

// Sign signs that a user accepts an invite, by the private key that the invited
// was told. Errors: Unrecognised for a token that is not known, Invalid.
// Spec: identity service, POST /sign-ed25519.
func (s *Records) Sign(user mxid.UserID, token, private string) ([]byte, error) {
	const op = "identity.Sign"
	seed, ok := publicKey(private) // as long as a public key, and written as one
	if !ok {
		return nil, fault.E(fault.Invalid, op, "private_key is no key")
	}
	if len(token) != tokenLength {
		return nil, fault.E(fault.Invalid, op, "this is no token of an invite")
	}
	var row invite
	ok, err := s.row(inviteKey(token), &row)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.E(fault.Unrecognised, op, "no invite has this token")
	}
	obj, err := json.Marshal(struct {
		User   mxid.UserID `json:"mxid"`
		Sender mxid.UserID `json:"sender"`
		Token  string      `json:"token"`
	}{user, row.Sender, token})
	if err != nil {
		return nil, fault.E(fault.Internal, op, "%w", err)
	}
	return event.SignJSON(nil, obj, &event.Signer{Server: s.o.Name, KeyID: KeyID, Key: ed25519.NewKeyFromSeed(seed)})
}

// Claim gives a user the invites that wait for an address, which the user's server
// has seen proved. The address stays unbound: nobody finds the user by it.
// Spec: identity service, invitation storage.
func (s *Records) Claim(a Address, user mxid.UserID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.key(a)
	tokens, err := s.waiting(key)
	if err != nil || len(tokens) == 0 {
		return err
	}
	b := s.st.NewBatch()
	if err := s.deliver(b, key, a, user); err != nil {
		b.Drop()
		return err
	}
	if err := s.st.Commit(b); err != nil {
		return err
	}
	s.nudge()
	return nil
}

// deliver turns the invites of an address that is bound now into a notice to its
// user's server, in the batch of the binding; needs mu.
// Spec: identity service, invitation storage; server-server, PUT /3pid/onbind.
func (s *Records) deliver(b *store.Batch, key []byte, a Address, user mxid.UserID) error {
	tokens, err := s.waiting(key)
	if err != nil {
		return err
	}
	type told struct {
		Medium  string          `json:"medium"`
		Address string          `json:"address"`
		User    mxid.UserID     `json:"mxid"`
		Room    mxid.RoomID     `json:"room_id"`
		Sender  mxid.UserID     `json:"sender"`
		Signed  json.RawMessage `json:"signed"`
	}
	invites := []told{}
	for _, token := range tokens {
		var row invite
		ok, err := s.row(inviteKey(token), &row)
		if err != nil {
			return err
		}
		b.Delete(invitedKey(key, token))
		if !ok {
			continue
		}
		b.Delete(inviteKey(token))
		b.Delete(ephemeralKey(row.Public))
		obj, err := json.Marshal(struct {
			User  mxid.UserID `json:"mxid"`
			Token string      `json:"token"`
		}{user, token})
		if err != nil {
			return fault.E(fault.Internal, "identity.Bind", "%w", err)
		}
		signed, err := event.SignJSON(nil, obj, &s.signer)
		if err != nil {
			return err
		}
		invites = append(invites, told{a.Medium, a.Text, user, row.Room, row.Sender, signed})
	}
	body, err := json.Marshal(struct {
		Medium  string      `json:"medium"`
		Address string      `json:"address"`
		User    mxid.UserID `json:"mxid"`
		Invites []told      `json:"invites"`
	}{a.Medium, a.Text, user, invites})
	if err != nil {
		return fault.E(fault.Internal, "identity.Bind", "%w", err)
	}
	return s.notify(b, user.Server(), body)
}
