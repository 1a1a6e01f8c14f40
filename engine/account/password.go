package account

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Cost is what hashing a password takes. Lanes are always 1: a hub has few
// cores, and the others have work to do.
type Cost struct {
	KiB    uint32
	Passes uint32
}

const (
	// A hub of 256 MiB can spare 12 MiB for the moment of a login; three passes
	// make up for the little memory.
	defaultKiB    = 12 << 10
	defaultPasses = 3

	saltBytes = 16
	keyBytes  = 32
	// A stored hash of another program is computed up to these; beyond them it
	// is taken for damage, since it would stop the hub.
	mostKiB    = 64 << 10
	mostPasses = 16
	// returnKiB is the arena from which on the memory goes back to the system
	// at once. That takes a few milliseconds, a small part of the hash.
	returnKiB = 4 << 10
	// hashQueue is how many logins may wait for their turn. At the tenth of a
	// second that one takes on a small board the last waits a few seconds.
	hashQueue = 32
)

// hasher computes one argon2id at a time, so that logins never take more than
// one arena of memory. The arena cannot be kept: x/crypto makes a new one for
// each call and offers no way to hand one in. Since one is returned to the
// system before the next is made, only one lives at a time and none stays.
type hasher struct {
	cost    Cost
	turn    chan struct{}
	waiting atomic.Int32
	decoy   string // the hash of no password, for users that do not exist
}

func (h *hasher) open(c Cost) error {
	if c == (Cost{}) {
		c = Cost{KiB: defaultKiB, Passes: defaultPasses}
	}
	h.cost, h.turn = c, make(chan struct{}, 1)
	var salt [saltBytes]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	// No password has a key of zeros, so this costs nothing to make.
	h.decoy = phc(c, salt[:], make([]byte, keyBytes))
	return nil
}

// derive waits for its turn and computes.
func (h *hasher) derive(password string, salt []byte, c Cost) ([]byte, error) {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > hashQueue {
		return nil, fault.Wait("account.password", 2*time.Second)
	}
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	key := argon2.IDKey([]byte(password), salt, c.Passes, c.KiB, 1, keyBytes)
	if c.KiB >= returnKiB {
		// Before the next may begin: two arenas at once are what the hub is
		// sized not to hold, and an idle one keeps none.
		debug.FreeOSMemory()
	}
	return key, nil
}

// make hashes a new password.
func (h *hasher) make(password string) (string, error) {
	var salt [saltBytes]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return "", fmt.Errorf("account: %w", err)
	}
	key, err := h.derive(password, salt[:], h.cost)
	if err != nil {
		return "", err
	}
	return phc(h.cost, salt[:], key), nil
}

// verify says whether the password is the hash's. An empty hash is compared
// with the decoy, which takes as long and never matches.
func (h *hasher) verify(password, hash string) (bool, error) {
	matchable := hash != ""
	if !matchable {
		hash = h.decoy
	}
	c, salt, want, err := parsePHC(hash)
	if err != nil {
		return false, err
	}
	got, err := h.derive(password, salt, c)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && matchable, nil
}

// phc writes a hash in the password hashing competition's text form.
func phc(c Cost, salt, key []byte) string {
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, c.KiB, c.Passes, enc.EncodeToString(salt), enc.EncodeToString(key))
}

func parsePHC(s string) (c Cost, salt, key []byte, err error) {
	bad := fault.E(fault.Corrupt, "account.password", "a password hash cannot be read")
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=1", &c.KiB, &c.Passes); n != 2 || err != nil {
		return c, nil, nil, bad
	}
	if c.KiB < 8 || c.KiB > mostKiB || c.Passes < 1 || c.Passes > mostPasses {
		return c, nil, nil, bad
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(key) != keyBytes {
		return c, nil, nil, bad
	}
	return c, salt, key, nil
}

// CheckNewPassword says why a password cannot be a user's new one.
func (a *Accounts) CheckNewPassword(password string) error {
	const op = "account.CheckNewPassword"
	if err := checkText(op, "the password", password, maxPassword); err != nil {
		return err
	}
	if len(password) < a.min {
		return fault.E(fault.WeakPassword, op, "a password has at least %d bytes", a.min)
	}
	return nil
}

// PasswordMin is the length of the shortest new password, in bytes.
func (a *Accounts) PasswordMin() int { return a.min }

// CheckPassword finds the user who has this password. A user that does not
// exist takes as long as a wrong password and gives the same error.
func (a *Accounts) CheckPassword(id mxid.UserID, password string) (uint32, error) {
	const op = "account.CheckPassword"
	if len(password) > maxPassword || len(id) > maxUserID {
		return 0, fault.E(fault.Forbidden, op, "wrong user name or password")
	}
	user, err := a.names.Find(store.Users, string(id))
	if err != nil {
		return 0, err
	}
	row, _, err := a.row(user)
	if err != nil {
		return 0, err
	}
	match, err := a.hash.verify(password, row.password)
	if err != nil {
		return 0, err
	}
	// The hash took its turn, which may be seconds: a password that was changed
	// meanwhile, because somebody else has the old one, lets nobody in.
	now, ok, err := a.row(user)
	match = match && now.password == row.password
	row = now
	switch {
	case err != nil:
		return 0, err
	case ok && row.has(flagDeactivated):
		return 0, fault.E(fault.Deactivated, op, "this account has been deactivated")
	case !match:
		return 0, fault.E(fault.Forbidden, op, "wrong user name or password")
	}
	return user, nil
}

// HashPassword checks a user's new password and hashes it, for PutPassword.
func (a *Accounts) HashPassword(password string) (string, error) {
	if err := a.CheckNewPassword(password); err != nil {
		return "", err
	}
	return a.hash.make(password)
}

// PutPassword gives a user a new password that HashPassword has hashed. The
// caller holds the user.
func (a *Accounts) PutPassword(tx *stream.Tx, user uint32, hashed string) error {
	const op = "account.PutPassword"
	row, err := a.mustRow(op, user)
	if err != nil {
		return err
	}
	if row.has(flagDeactivated) {
		return fault.E(fault.Deactivated, op, "this account has been deactivated")
	}
	row.password = hashed
	setUserRow(tx.Batch, user, &row)
	a.SignOutAll(user)
	return nil
}

// SetPassword gives a user a new password. Where logout is set all devices go,
// but for the one with the id keep; see engine.SetPassword, which drops their keys
// too.
func (a *Accounts) SetPassword(user uint32, password string, logout bool, keep string) error {
	hashed, err := a.HashPassword(password)
	if err != nil {
		return err
	}
	defer a.Hold(user)()
	defer a.Purge(user)
	_, err = a.log.Commit(func(tx *stream.Tx) error {
		if err := a.PutPassword(tx, user, hashed); err != nil || !logout {
			return err
		}
		return a.DropDevices(tx, user, func(d *Device) bool { return d.ID != keep })
	})
	return err
}
