package clientapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// sharedPath is where programs that set a server up expect this; the specification has nothing of its kind.
const sharedPath = "/_synapse/admin/v1/register"

// nonceLife is how long a program has from its nonce to its registration.
const nonceLife = time.Minute

// sharedSecret makes accounts for whoever knows a secret, in every mode of registration.
//
// A nonce carries its own time and seal, so that nothing is kept for those who only ask for one. It could be used
// twice within its life, but the proof fixes the user's name, which can be taken only once.
type sharedSecret struct {
	secret []byte
	seal   [sha256.Size]byte // key of the nonces, new at each start
}

func newSharedSecret(secret []byte) *sharedSecret {
	if len(secret) == 0 {
		return nil
	}
	s := &sharedSecret{secret: secret}
	rand.Read(s.seal[:]) // never fails
	return s
}

// nonceSize is a time in milliseconds, random bytes, and the first half of their seal.
const nonceSize = 8 + 8 + sha256.Size/2

func (s *sharedSecret) sum(head []byte) []byte {
	h := hmac.New(sha256.New, s.seal[:])
	h.Write(head)
	return h.Sum(nil)[:sha256.Size/2]
}

func (s *sharedSecret) nonce(now time.Time) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceSize), uint64(now.UnixMilli()))
	b = b[:16]
	rand.Read(b[8:]) // never fails
	return hex.EncodeToString(append(b, s.sum(b)...))
}

func (s *sharedSecret) fresh(nonce string, now time.Time) bool {
	b, err := hex.DecodeString(nonce)
	if err != nil || len(b) != nonceSize || !hmac.Equal(b[16:], s.sum(b[:16])) {
		return false
	}
	age := now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b))))
	return age >= 0 && age < nonceLife
}

// sharedRegistration is the body of the request. The members are pointers where their absence is an error.
type sharedRegistration struct {
	newDevice
	Nonce    *string `json:"nonce"`
	Username *string `json:"username"`
	Password *string `json:"password"`
	MAC      *string `json:"mac"`
	Admin    bool    `json:"admin"`
	UserType *string `json:"user_type"`
}

// proof is what the secret makes of the request: the parts as they came, a zero byte between them.
func (q *sharedRegistration) proof(secret []byte) []byte {
	admin := "notadmin"
	if q.Admin {
		admin = "admin"
	}
	h := hmac.New(sha1.New, secret)
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s", *q.Nonce, *q.Username, *q.Password, admin)
	if q.UserType != nil {
		fmt.Fprintf(h, "\x00%s", *q.UserType)
	}
	return h.Sum(nil)
}

func (a *API) sharedNonce(r *wire.Req) error {
	dst := cjson.AppendString(append(r.Out(), `{"nonce":`...), a.shared.nonce(a.o.Now()))
	return r.OK(append(dst, '}'))
}

func (a *API) sharedRegister(r *wire.Req) error {
	const op = "clientapi.sharedRegister"
	body, err := r.Object()
	if err != nil {
		return err
	}
	var q sharedRegistration
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	if q.Nonce == nil || q.Username == nil || q.Password == nil || q.MAC == nil {
		return fault.E(fault.Missing, op, "nonce, username, password and mac are needed")
	}
	if !a.shared.fresh(*q.Nonce, a.o.Now()) {
		return fault.E(fault.Invalid, op, "the nonce is unknown or too old; GET a new one")
	}
	mac, err := hex.DecodeString(*q.MAC)
	if err != nil || !hmac.Equal(mac, q.proof(a.shared.secret)) {
		return fault.E(fault.Forbidden, op, "the mac is not right")
	}
	name := mxid.LowerLocalpart(*q.Username)
	if err := a.accounts.CheckName(name); err != nil {
		return err
	}
	if err := a.accounts.CheckNewPassword(*q.Password); err != nil {
		return err
	}
	num, err := a.accounts.Create(account.NewUser{Localpart: name, Password: *q.Password, Admin: q.Admin})
	if err != nil {
		return err
	}
	return a.enter(r, num, q.newDevice)
}
