package account

import (
	"encoding/binary"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Types of account data that the hub itself writes or reads.
const (
	TypeFullyRead = "m.fully_read"
	TypePushRules = "m.push_rules" // stored in the form of package pushrule, not the client's
	TypeTag       = "m.tag"
)

// ServerOwned says whether clients may set a type only through requests of its
// own. Spec: client-server, PUT account_data.
func ServerOwned(typ string) bool { return typ == TypeFullyRead || typ == TypePushRules }

func dataKey(user, room uint32, typ string) []byte {
	return append(store.U32(store.U32(store.AccountData.Prefix(), user), room), typ...)
}

func dataAtKey(user uint32, pos stream.Pos) []byte {
	return store.U64(store.U32(store.AccountDataAt.Prefix(), user), uint64(pos))
}

// IsDeleted says whether a piece of account data stands for none: an empty
// object, which is told to clients that are there and to nobody who comes later.
// Push rules have an empty row where nothing is changed. Spec: MSC3391.
func IsDeleted(typ string, content []byte) bool {
	return string(content) == "{}" && typ != TypePushRules
}

// DeleteData deletes a piece of account data, and tells the user's clients.
func (a *Accounts) DeleteData(user, room uint32, typ string) error {
	if room == 0 {
		defer a.forgetContacts(user, typ)
	}
	_, err := a.log.Commit(func(tx *stream.Tx) error { return a.dropData(tx, user, room, typ) })
	return err
}

func (a *Accounts) dropData(tx *stream.Tx, user, room uint32, typ string) error {
	content, ok, err := a.Data(nil, user, room, typ)
	if err != nil || !ok || IsDeleted(typ, content) {
		return err
	}
	return a.PutData(tx, user, room, typ, []byte("{}"))
}

// DropDeviceData deletes, in a batch, the account data that is of one device and
// has no use without it. Spec: MSC3890.
func (a *Accounts) DropDeviceData(tx *stream.Tx, user uint32, device string) error {
	for _, prefix := range [...]string{"m.local_notification_settings.", "org.matrix.msc3890.local_notification_settings."} {
		if len(prefix)+len(device) > maxDataType {
			continue
		}
		if err := a.dropData(tx, user, 0, prefix+device); err != nil {
			return err
		}
	}
	return nil
}

// CheckData judges the type and content of account data that a client sends,
// and gives the content as it is to be stored.
func CheckData(typ string, content []byte) ([]byte, error) {
	const op = "account.CheckData"
	if typ == "" {
		return nil, fault.E(fault.Invalid, op, "account data needs a type")
	}
	if err := checkText(op, "the type", typ, maxDataType); err != nil {
		return nil, err
	}
	if len(content) > maxDataContent {
		return nil, fault.E(fault.TooLarge, op, "account data has at most %d bytes", maxDataContent)
	}
	if cjson.KindOf(content) != cjson.ObjectKind {
		return nil, fault.E(fault.BadJSON, op, "account data must be an object")
	}
	out, err := cjson.Canonical(nil, content, false)
	if err != nil {
		return nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	return out, nil
}

// PutData sets account data to content that CheckData gave. Room 0 is the
// user's own, beside all rooms.
func (a *Accounts) PutData(tx *stream.Tx, user, room uint32, typ string, content []byte) error {
	key := dataKey(user, room, typ)
	var buf [256]byte
	old, ok, err := a.st.Get(buf[:0], key)
	if err != nil {
		return err
	}
	if ok && len(old) >= 8 {
		tx.Delete(dataAtKey(user, stream.Pos(binary.BigEndian.Uint64(old))))
	}
	pos := tx.Put(&stream.Entry{Kind: stream.AccountData, User: user, Room: room})
	tx.Set(key, append(store.U64(nil, uint64(pos)), content...))
	tx.Set(dataAtKey(user, pos), append(store.U32(nil, room), typ...))
	tx.Wake(user)
	return nil
}

// SetData is CheckData and PutData in a batch of its own.
func (a *Accounts) SetData(user, room uint32, typ string, content []byte) (stream.Pos, error) {
	content, err := CheckData(typ, content)
	if err != nil {
		return 0, err
	}
	if err := a.roomForData(user, room, typ); err != nil {
		return 0, err
	}
	if room == 0 {
		defer a.forgetContacts(user, typ)
	}
	return a.log.Commit(func(tx *stream.Tx) error { return a.PutData(tx, user, room, typ, content) })
}

// roomForData refuses one row more than a user may have. Requests at the same
// moment may pass it together, which the bound can bear.
func (a *Accounts) roomForData(user, room uint32, typ string) error {
	if has, err := a.st.Has(dataKey(user, room, typ)); has || err != nil {
		return err
	}
	n := 0
	err := a.st.ScanPrefix(dataAtKey(user, 0)[:5], func(_, _ []byte) (bool, error) {
		n++
		return n < maxDataRows, nil
	})
	if err == nil && n >= maxDataRows {
		err = fault.E(fault.Forbidden, "account.SetData", "a user has at most %d pieces of account data", maxDataRows)
	}
	return err
}

// Data appends the content of one piece of account data to dst.
func (a *Accounts) Data(dst []byte, user, room uint32, typ string) (content []byte, ok bool, err error) {
	if len(typ) > maxDataType {
		return dst, false, nil
	}
	at := len(dst)
	dst, ok, err = a.st.Get(dst, dataKey(user, room, typ))
	if err != nil || !ok {
		return dst[:at], false, err
	}
	if len(dst) < at+8 {
		return dst[:at], false, fault.E(fault.Corrupt, "account.Data", "a row of account data is cut")
	}
	return append(dst[:at], dst[at+8:]...), true, nil
}

// Change is one piece of account data as a reader gets it. Content is valid
// during the call only.
type Change struct {
	Pos     stream.Pos
	Room    uint32 // 0: the user's own
	Type    string
	Content []byte
}

// DataSince calls f for what of a user's account data was last changed after
// the one position and not after the other, in the order of the changes, until
// f returns false. From position 0 that is all there is. What was changed again
// after upto is left out: whoever reads on from upto finds it there.
func (a *Accounts) DataSince(user uint32, after, upto stream.Pos, f func(c *Change) (more bool)) error {
	var buf []byte
	return a.st.Scan(dataAtKey(user, after+1), dataAtKey(user, upto+1), func(key, val []byte) (bool, error) {
		if len(key) != 13 || len(val) < 4 {
			return false, fault.E(fault.Corrupt, "account.DataSince", "a row of changes is cut")
		}
		c := Change{
			Pos:  stream.Pos(binary.BigEndian.Uint64(key[5:])),
			Room: binary.BigEndian.Uint32(val),
			Type: string(val[4:]),
		}
		var ok bool
		var err error
		buf, ok, err = a.Data(buf[:0], user, c.Room, c.Type)
		if err != nil || !ok {
			return true, err // gone or changed since the scan began
		}
		c.Content = buf
		return f(&c), nil
	})
}

// AllData calls f for all account data of a user, until f returns an error. The
// content is valid during the call.
func (a *Accounts) AllData(user uint32, f func(c *Change) error) error {
	return a.st.ScanPrefix(dataAtKey(user, 0)[:5], func(key, val []byte) (bool, error) {
		if len(key) != 13 || len(val) < 4 {
			return false, fault.E(fault.Corrupt, "account.AllData", "a row of changes is cut")
		}
		c := Change{Pos: stream.Pos(binary.BigEndian.Uint64(key[5:])), Room: binary.BigEndian.Uint32(val), Type: string(val[4:])}
		var ok bool
		var err error
		if c.Content, ok, err = a.Data(nil, user, c.Room, c.Type); err != nil || !ok {
			return true, err
		}
		return true, f(&c)
	})
}

// RoomData calls f for all account data that a user has in one room.
func (a *Accounts) RoomData(user, room uint32, f func(typ string, content []byte)) error {
	return a.st.ScanPrefix(dataKey(user, room, ""), func(key, val []byte) (bool, error) {
		if len(val) < 8 {
			return false, fault.E(fault.Corrupt, "account.RoomData", "a row of account data is cut")
		}
		f(string(key[9:]), val[8:])
		return true, nil
	})
}

// DropRoomData deletes all account data and thread subscriptions that a user has
// in one room.
func (a *Accounts) DropRoomData(tx *stream.Tx, user, room uint32) error {
	prefix := dataKey(user, room, "")
	err := a.st.ScanPrefix(prefix, func(_, val []byte) (bool, error) {
		if len(val) >= 8 {
			tx.Delete(dataAtKey(user, stream.Pos(binary.BigEndian.Uint64(val))))
		}
		return true, nil
	})
	tx.Frees()
	tx.DeleteRange(prefix, store.After(prefix))
	threads := subscriptionKey(user, room, "")
	tx.DeleteRange(threads, store.After(threads))
	return err
}
