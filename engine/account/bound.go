package account

import (
	"strings"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
)

// Bound is an address that a user had bound to them at an identity server.
type Bound struct {
	Medium, Address string
	Server          string // the identity server
}

func boundKey(user uint32, medium, address string) []byte {
	return append(store.U32(store.Bound.Prefix(), user), threepidText(medium, address)...)
}

// AddBound notes which identity server binds an address of a user, so that it can
// be told to forget it. Spec: client-server, POST /account/3pid/bind.
func (a *Accounts) AddBound(user uint32, b Bound) error {
	const op = "account.AddBound"
	if len(b.Medium) > maxMedium || len(b.Address) > maxAddress || len(b.Server) > maxAddress || strings.ContainsRune(b.Medium+b.Address, 0) {
		return fault.E(fault.Invalid, op, "this is no address")
	}
	defer a.Hold(user)()
	list, err := a.AllBound(user)
	if err != nil {
		return err
	}
	if len(list) >= maxThreepids {
		return fault.E(fault.Forbidden, op, "a user has at most %d addresses bound", maxThreepids)
	}
	batch := a.st.NewBatch()
	batch.Set(boundKey(user, b.Medium, b.Address), append(fields.New(), b.Server...))
	return a.st.Commit(batch)
}

// BoundAt gives the identity server that binds an address of a user; empty where
// none is known.
func (a *Accounts) BoundAt(user uint32, medium, address string) (string, error) {
	if len(medium) > maxMedium || len(address) > maxAddress {
		return "", nil
	}
	val, ok, err := a.st.Get(nil, boundKey(user, medium, address))
	if err != nil || !ok || len(val) == 0 {
		return "", err
	}
	return string(val[1:]), nil
}

// AllBound lists what a user has bound.
func (a *Accounts) AllBound(user uint32) (list []Bound, err error) {
	err = a.st.ScanPrefix(boundKey(user, "", "")[:5], func(key, val []byte) (bool, error) {
		medium, address, _ := strings.Cut(string(key[5:]), "\x00")
		if len(val) == 0 {
			return false, fault.E(fault.Corrupt, "account.AllBound", "a row cannot be read")
		}
		list = append(list, Bound{medium, address, string(val[1:])})
		return true, nil
	})
	return list, err
}

// DropBound forgets that an identity server binds an address of a user.
func (a *Accounts) DropBound(user uint32, medium, address string) error {
	if len(medium) > maxMedium || len(address) > maxAddress {
		return nil
	}
	b := a.st.NewBatch()
	b.Frees()
	b.Delete(boundKey(user, medium, address))
	return a.st.Commit(b)
}
