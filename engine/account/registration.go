package account

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
)

// RegistrationToken lets people register where registration is not open.
// Spec: client-server, token-authenticated registration.
type RegistrationToken struct {
	Token     string
	Uses      uint32 // how many accounts it may make; 0: any number
	Pending   uint32 // registrations under way; kept in memory only
	Completed uint32
	Expires   time.Time // zero: never
	Claim     bool      // the claim code: it makes the hub's first admin, once
}

// metaClaim names the claim code in the Meta table: the code, or nothing once
// the hub has an admin.
const metaClaim = "claim"

func registrationKey(token string) []byte {
	return append(store.RegistrationToken.Prefix(), token...)
}

func setRegistration(b *store.Batch, t *RegistrationToken) {
	row := binary.AppendUvarint(fields.New(), uint64(t.Uses))
	row = binary.AppendUvarint(row, uint64(t.Completed))
	var expires, claim uint64
	if !t.Expires.IsZero() {
		expires = uint64(t.Expires.UnixMilli())
	}
	if t.Claim {
		claim = 1
	}
	row = binary.AppendUvarint(row, expires)
	b.Set(registrationKey(t.Token), binary.AppendUvarint(row, claim))
}

func parseRegistration(token string, row []byte) (RegistrationToken, error) {
	r := fields.Open(row)
	t := RegistrationToken{Token: token, Uses: uint32(r.Uint()), Completed: uint32(r.Uint())}
	if ms := r.Uint(); ms != 0 {
		t.Expires = time.UnixMilli(int64(ms))
	}
	t.Claim = r.Uint() == 1
	return t, rowErr(&r, "a registration token")
}

// isRegistrationToken holds a token to the grammar.
// Spec: client-server, m.login.registration_token.
func isRegistrationToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '~', c == '-':
		default:
			return false
		}
	}
	return true
}

// registration reads a token's row; nil where there is none. It needs regMu.
func (a *Accounts) registration(token string) (*RegistrationToken, error) {
	if !isRegistrationToken(token) {
		return nil, nil
	}
	val, ok, err := a.st.Get(nil, registrationKey(token))
	if err != nil || !ok {
		return nil, err
	}
	t, err := parseRegistration(token, val)
	t.Pending = uint32(a.pending[token])
	return &t, err
}

func (t *RegistrationToken) expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// usable is registration for a token that may make one account now, without
// regard to others under way. It needs regMu.
func (a *Accounts) usable(token string) (*RegistrationToken, error) {
	t, err := a.registration(token)
	if err != nil {
		return nil, err
	}
	if t == nil || t.expired(a.now()) || t.Uses != 0 && t.Completed >= t.Uses {
		return nil, fault.E(fault.Unauthorised, "account.Registration", "the registration token is not valid")
	}
	return t, nil
}

// RegistrationValid says whether a token could be used now.
// Spec: client-server, GET /register/m.login.registration_token/validity.
func (a *Accounts) RegistrationValid(token string) (bool, error) {
	a.regMu.Lock()
	defer a.regMu.Unlock()
	t, err := a.registration(token)
	if err != nil || t == nil {
		return false, err
	}
	return !t.expired(a.now()) && (t.Uses == 0 || t.Completed+t.Pending < t.Uses), nil
}

// Reserve keeps one use of a token for a registration that is under way. Free
// has to follow, after Create too.
func (a *Accounts) Reserve(token string) error {
	a.regMu.Lock()
	defer a.regMu.Unlock()
	t, err := a.usable(token)
	if err != nil {
		return err
	}
	if t.Uses != 0 && t.Completed+t.Pending >= t.Uses {
		return fault.E(fault.Unauthorised, "account.Reserve", "the registration token is not valid")
	}
	a.pending[token]++
	return nil
}

// Free ends what Reserve began. A use that is pending is in memory only: after
// a restart nobody is registering any more.
func (a *Accounts) Free(token string) {
	a.regMu.Lock()
	defer a.regMu.Unlock()
	if a.pending[token]--; a.pending[token] <= 0 {
		delete(a.pending, token)
	}
}

// AddRegistration stores a new token, or replaces the limits of one that is
// there. An empty Token gets a random one.
func (a *Accounts) AddRegistration(t RegistrationToken) (RegistrationToken, error) {
	const op = "account.AddRegistration"
	if t.Token == "" {
		var err error
		if t.Token, err = newCode(); err != nil {
			return t, err
		}
	}
	if !isRegistrationToken(t.Token) {
		return t, fault.E(fault.Invalid, op, "a registration token has 1 to 64 characters of A-Z, a-z, 0-9 and ._~-")
	}
	a.regMu.Lock()
	defer a.regMu.Unlock()
	old, err := a.registration(t.Token)
	if err != nil {
		return t, err
	}
	t.Claim, t.Completed, t.Pending = false, 0, 0
	if old != nil {
		t.Claim, t.Completed, t.Pending = old.Claim, old.Completed, old.Pending
	}
	b := a.st.NewBatch()
	setRegistration(b, &t)
	return t, a.st.Commit(b)
}

// Registrations lists the tokens.
func (a *Accounts) Registrations() ([]RegistrationToken, error) {
	a.regMu.Lock()
	defer a.regMu.Unlock()
	var list []RegistrationToken
	err := a.st.ScanPrefix(store.RegistrationToken.Prefix(), func(key, val []byte) (bool, error) {
		t, err := parseRegistration(string(key[1:]), val)
		t.Pending = uint32(a.pending[t.Token])
		list = append(list, t)
		return len(list) < maxRegistrations, err
	})
	return list, err
}

// DropRegistration deletes a token.
func (a *Accounts) DropRegistration(token string) error {
	a.regMu.Lock()
	defer a.regMu.Unlock()
	t, err := a.registration(token)
	if err != nil {
		return err
	}
	if t == nil {
		return fault.E(fault.NotFound, "account.DropRegistration", "there is no such registration token")
	}
	b := a.st.NewBatch()
	b.Delete(registrationKey(token))
	return a.st.Commit(b)
}

// ClaimCode gives the code that makes the hub's first admin: made on a fresh
// store, the same at each start until somebody has used it, and empty from then
// on. It is a registration token, good in every mode of registration. One that
// Options.Claim gives takes the place of one that nobody has used.
func (a *Accounts) ClaimCode() (string, error) {
	a.regMu.Lock()
	defer a.regMu.Unlock()
	val, ok, err := a.st.Meta(metaClaim)
	if err != nil || ok && (len(val) == 0 || a.claim == "" || string(val) == a.claim) {
		return string(val), err
	}
	any, err := a.Any()
	if err != nil || any && !ok {
		return "", err
	}
	code, err := a.newClaim()
	if err != nil {
		return "", err
	}
	b := a.st.NewBatch()
	if err := a.voidClaim(b); err != nil {
		return "", err
	}
	b.SetMeta(metaClaim, []byte(code))
	setRegistration(b, &RegistrationToken{Token: code, Uses: 1, Claim: true})
	return code, a.st.Commit(b)
}

// Reclaim makes a new claim code, whoever owns the hub: for an owner who has lost
// the password and has the machine in hand. The code before it is good no more.
func (a *Accounts) Reclaim() (string, error) {
	code, err := a.newClaim()
	if err != nil {
		return "", err
	}
	a.regMu.Lock()
	defer a.regMu.Unlock()
	b := a.st.NewBatch()
	if err := a.voidClaim(b); err != nil {
		return "", err
	}
	b.SetMeta(metaClaim, []byte(code))
	setRegistration(b, &RegistrationToken{Token: code, Uses: 1, Claim: true})
	return code, a.st.Commit(b)
}

// Regain makes a user who is there an admin by the claim code, and undoes what kept
// them from using the hub.
func (a *Accounts) Regain(user uint32, code string) error {
	const op = "account.Regain"
	defer a.Hold(user)()
	defer a.Purge(user)
	row, err := a.mustRow(op, user)
	switch {
	case err != nil:
		return err
	case row.has(flagDeactivated) || row.has(flagGuest):
		return fault.E(fault.UserInUse, op, "the user name is taken by an account that is none any more")
	}
	a.regMu.Lock()
	t, err := a.usable(code)
	a.regMu.Unlock()
	if err != nil {
		return err
	}
	if !t.Claim {
		return fault.E(fault.Unauthorised, op, "the token is not the claim code")
	}
	row.set(flagAdmin, true)
	row.set(flagLocked, false)
	row.set(flagSuspended, false)
	return a.admit(user, &row, &NewUser{Token: code})
}

// voidClaim ends the claim code, since the hub has an admin now. It needs regMu.
func (a *Accounts) voidClaim(b *store.Batch) error {
	val, ok, err := a.st.Meta(metaClaim)
	if err != nil || ok && len(val) == 0 {
		return err
	}
	b.SetMeta(metaClaim, nil)
	if ok {
		b.Delete(registrationKey(string(val)))
	}
	return nil
}

// newClaim gives the claim code that Options.Claim wants, or a new one.
func (a *Accounts) newClaim() (string, error) {
	if a.claim == "" {
		return newCode()
	}
	if !isRegistrationToken(a.claim) {
		return "", fault.E(fault.Invalid, "account.ClaimCode", "the claim code that was given is not 1 to 64 characters of A-Z, a-z, 0-9 and ._~-")
	}
	return a.claim, nil
}

// newCode makes eighty random bits that people can type: four groups of four.
func newCode() (string, error) {
	var b [10]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("account: %w", err)
	}
	s := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:], nil
}
