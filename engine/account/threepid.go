package account

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Email is the one medium of third-party identifiers that the hub can prove.
const Email = "email"

// Bounds of third-party identifiers.
const (
	maxThreepids = 32
	maxMedium    = 64
	maxAddress   = 255
)

// Threepid is an address elsewhere that a user has proved to be theirs.
// Spec: client-server, adding account administrative contact information.
type Threepid struct {
	Medium, Address  string
	Validated, Added time.Time
}

func threepidText(medium, address string) string { return medium + "\x00" + address }

func threepidKey(user uint32, medium, address string) []byte {
	return append(store.U32(store.Threepid.Prefix(), user), threepidText(medium, address)...)
}

func threepidUserKey(medium, address string) []byte {
	return append(store.ThreepidUser.Prefix(), threepidText(medium, address)...)
}

// CanonicalEmail gives the one form of an address in which it is stored and
// compared; Invalid for what is no address. Spec: appendices, 3PID types.
func CanonicalEmail(address string) (string, error) {
	bad := fault.E(fault.Invalid, "account.CanonicalEmail", "this is no e-mail address")
	name, host, ok := strings.Cut(address, "@")
	if !ok || name == "" || host == "" || len(name) > 64 || len(address) > 254 || strings.Contains(host, "@") {
		return "", bad
	}
	for _, c := range address {
		if c == unicode.ReplacementChar || unicode.IsSpace(c) || unicode.IsControl(c) || strings.ContainsRune(`<>()[]\,;:"`, c) {
			return "", bad
		}
	}
	if strings.HasPrefix(host, ".") || strings.HasSuffix(host, ".") || strings.Contains(host, "..") || strings.HasPrefix(host, "-") {
		return "", bad
	}
	return strings.ToLower(address), nil
}

// Threepids lists the addresses of a user.
func (a *Accounts) Threepids(user uint32) ([]Threepid, error) {
	list, err := a.allThreepids(user)
	return slices.DeleteFunc(list, Threepid.external), err
}

// externalPrefix marks media that are no addresses but who the user is to an
// identity provider, whose name follows. Those stay when an account is
// deactivated: its user would otherwise come back as another.
const externalPrefix = "sso/"

func (t Threepid) external() bool { return strings.HasPrefix(t.Medium, externalPrefix) }

// Externals lists who a user is to identity providers, whose names stand in
// place of media.
func (a *Accounts) Externals(user uint32) ([]Threepid, error) {
	list, err := a.allThreepids(user)
	list = slices.DeleteFunc(list, func(t Threepid) bool { return !t.external() })
	for i := range list {
		list[i].Medium = strings.TrimPrefix(list[i].Medium, externalPrefix)
	}
	return list, err
}

// FindExternal gives the user whom an identity provider calls so; 0 where there
// is none.
func (a *Accounts) FindExternal(provider, subject string) (uint32, error) {
	return a.FindThreepid(externalPrefix+provider, subject)
}

// LinkExternal notes what an identity provider calls a user.
//
// Errors: ThreepidInUse where that is another's.
func (a *Accounts) LinkExternal(user uint32, provider, subject string) error {
	return a.AddThreepid(user, externalPrefix+provider, subject, a.now())
}

func (a *Accounts) allThreepids(user uint32) ([]Threepid, error) {
	var list []Threepid
	err := a.st.ScanPrefix(threepidKey(user, "", "")[:5], func(key, val []byte) (bool, error) {
		medium, address, _ := strings.Cut(string(key[5:]), "\x00")
		r := fields.Open(val)
		list = append(list, Threepid{medium, address, time.UnixMilli(int64(r.Uint())), time.UnixMilli(int64(r.Uint()))})
		return true, rowErr(&r, "an address")
	})
	return list, err
}

// FindThreepid gives the user who has an address; 0 where nobody has.
func (a *Accounts) FindThreepid(medium, address string) (uint32, error) {
	if len(medium) > maxMedium || len(address) > maxAddress {
		return 0, nil
	}
	val, ok, err := a.st.Get(nil, threepidUserKey(medium, address))
	if err != nil || !ok || len(val) != 4 {
		return 0, err
	}
	return binary.BigEndian.Uint32(val), nil
}

// AddThreepid gives a user an address that was proved at that time.
//
// Errors: ThreepidInUse where it is another's.
func (a *Accounts) AddThreepid(user uint32, medium, address string, validated time.Time) error {
	const op = "account.AddThreepid"
	if err := checkThreepid(op, medium, address); err != nil {
		return err
	}
	defer a.Hold(user)()
	row, err := a.mustRow(op, user)
	if err != nil {
		return err
	}
	if row.has(flagDeactivated) {
		return fault.E(fault.Deactivated, op, "this account has been deactivated")
	}
	list, err := a.allThreepids(user)
	if err != nil {
		return err
	}
	if len(list) >= maxThreepids {
		return fault.E(fault.Forbidden, op, "a user has at most %d addresses", maxThreepids)
	}
	_, err = a.log.Commit(func(tx *stream.Tx) error {
		return a.putThreepid(tx, user, Threepid{Medium: medium, Address: address, Validated: validated})
	})
	return err
}

// putThreepid writes an address. The log's lock, which is held meanwhile, keeps two
// users from taking one.
func (a *Accounts) putThreepid(tx *stream.Tx, user uint32, t Threepid) error {
	const op = "account.AddThreepid"
	if err := checkThreepid(op, t.Medium, t.Address); err != nil {
		return err
	}
	other, err := a.FindThreepid(t.Medium, t.Address)
	if err != nil {
		return err
	}
	if other != 0 && other != user {
		return fault.E(fault.ThreepidInUse, op, "the address belongs to another user")
	}
	val := binary.AppendUvarint(fields.New(), uint64(t.Validated.UnixMilli()))
	tx.Set(threepidKey(user, t.Medium, t.Address), binary.AppendUvarint(val, uint64(a.millis())))
	tx.Set(threepidUserKey(t.Medium, t.Address), store.U32(nil, user))
	return nil
}

func checkThreepid(op, medium, address string) error {
	if len(medium) > maxMedium || len(address) > maxAddress || strings.ContainsRune(medium+address, 0) {
		return fault.E(fault.Invalid, op, "this is no address")
	}
	return nil
}

// DropThreepid takes an address from a user. One that is not theirs is no error.
func (a *Accounts) DropThreepid(user uint32, medium, address string) error {
	if len(medium) > maxMedium || len(address) > maxAddress {
		return nil
	}
	defer a.Hold(user)()
	has, err := a.st.Has(threepidKey(user, medium, address))
	if err != nil || !has {
		return err
	}
	b := a.st.NewBatch()
	b.Delete(threepidKey(user, medium, address))
	b.Delete(threepidUserKey(medium, address))
	return a.st.Commit(b)
}

// dropThreepids takes all addresses from a user who goes.
func (a *Accounts) dropThreepids(tx *stream.Tx, user uint32) error {
	list, err := a.Threepids(user)
	for i := range list {
		tx.Delete(threepidKey(user, list[i].Medium, list[i].Address))
		tx.Delete(threepidUserKey(list[i].Medium, list[i].Address))
	}
	return err
}
