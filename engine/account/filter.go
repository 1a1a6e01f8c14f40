package account

import (
	"bytes"
	"encoding/binary"

	"hearth/engine/fault"
	"hearth/engine/store"
)

func filterKey(user, num uint32) []byte {
	return store.U32(store.U32(store.Filter.Prefix(), user), num)
}

// AddFilter stores a filter and gives its number. content has been checked by
// package filter and is canonical, so that the same filter gets the number it
// had before: clients define theirs anew at each start. The oldest filter goes
// when there are too many.
func (a *Accounts) AddFilter(user uint32, content []byte) (uint32, error) {
	if len(content) > maxFilter {
		return 0, fault.E(fault.TooLarge, "account.AddFilter", "a filter has at most %d bytes", maxFilter)
	}
	defer a.Hold(user)()
	var same, oldest, last uint32
	n := 0
	prefix := filterKey(user, 0)[:5]
	err := a.st.ScanPrefix(prefix, func(key, val []byte) (bool, error) {
		last = binary.BigEndian.Uint32(key[5:])
		if n++; n == 1 {
			oldest = last
		}
		if bytes.Equal(val, content) {
			same = last
		}
		return same == 0, nil
	})
	if err != nil || same != 0 {
		return same, err
	}
	b := a.st.NewBatch()
	if n >= maxFilters {
		b.Delete(filterKey(user, oldest))
	}
	b.Set(filterKey(user, last+1), content)
	return last + 1, a.st.Commit(b)
}

// Filter reads a stored filter.
func (a *Accounts) Filter(user, num uint32) ([]byte, error) {
	val, ok, err := a.st.Get(nil, filterKey(user, num))
	if err == nil && !ok {
		err = fault.E(fault.NotFound, "account.Filter", "there is no such filter")
	}
	return val, err
}
