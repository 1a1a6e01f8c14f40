package e2ee

import (
	"encoding/binary"

	"hearth/engine/store"
	"hearth/engine/stream"
)

func deviceListKey(user uint32) []byte {
	return store.U32(store.DeviceList.Prefix(), user)
}

func deviceListAtKey(pos stream.Pos) []byte {
	return store.U64(store.DeviceListAt.Prefix(), uint64(pos))
}

// Changed is what a change makes different of what others see of a user.
type Changed struct {
	Devices []string // that came, went or have other keys
	Cross   bool     // the cross-signing keys that others see
}

// Any says whether there is anything to tell.
func (c *Changed) Any() bool { return c.Cross || len(c.Devices) > 0 }

// Update is what an entry of kind Devices tells other servers.
type Update struct {
	Cross  bool       // the cross-signing keys changed; if not, a device did:
	Device string     // its id
	Prev   stream.Pos // of the change of a device of that user before it; 0: none
}

const (
	updateDevice = 1
	updateCross  = 2
)

func (u *Update) appendTo(dst []byte) []byte {
	if u.Cross {
		return append(dst, updateCross)
	}
	return append(binary.AppendUvarint(append(dst, updateDevice), uint64(u.Prev)), u.Device...)
}

// ParseUpdate reads what an entry tells; ok is false where it tells nobody else.
func ParseUpdate(diff []byte) (u Update, ok bool) {
	switch {
	case len(diff) > 1 && diff[0] == updateDevice:
		prev, n := binary.Uvarint(diff[1:])
		u.Prev, u.Device = stream.Pos(prev), string(diff[1+max(n, 0):])
		return u, n > 0
	case len(diff) == 1 && diff[0] == updateCross:
		return Update{Cross: true}, true
	}
	return u, false
}

// Tell writes what others are told of a change of a user's keys into the log: an
// entry for each device and one for the cross-signing keys, since other servers
// are told so. Whom to wake is for the caller.
func (r *Records) Tell(tx *stream.Tx, user uint32, c *Changed) error {
	row, err := r.listRow(user)
	if err != nil {
		return err
	}
	var pos stream.Pos
	for _, id := range c.Devices {
		u := Update{Device: id, Prev: row.device}
		pos = tx.Put(&stream.Entry{Kind: stream.Devices, User: user, Diff: u.appendTo(nil)})
		row.device = pos
	}
	if c.Cross || pos == 0 {
		u := Update{Cross: true}
		pos = tx.Put(&stream.Entry{Kind: stream.Devices, User: user, Diff: u.appendTo(nil)})
	}
	r.mark(tx, user, row, pos)
	return nil
}

// listRow is when what others see of a user changed last.
type listRow struct {
	pos    stream.Pos // in all
	device stream.Pos // of a device; 0: none, or before it was kept
}

func (r *Records) listRow(user uint32) (l listRow, err error) {
	val, ok, err := r.st.Get(nil, deviceListKey(user))
	if err != nil || !ok {
		return l, err
	}
	pos, n := binary.Uvarint(val)
	device, _ := binary.Uvarint(val[max(n, 0):])
	return listRow{stream.Pos(pos), stream.Pos(device)}, nil
}

// mark moves a user in the index of changes.
func (r *Records) mark(tx *stream.Tx, user uint32, l listRow, pos stream.Pos) {
	if l.pos != 0 {
		tx.Delete(deviceListAtKey(l.pos))
	}
	tx.Set(deviceListKey(user), binary.AppendUvarint(binary.AppendUvarint(nil, uint64(pos)), uint64(l.device)))
	tx.Set(deviceListAtKey(pos), store.U32(nil, user))
}

// MarkChanged notes that what others see of a user's devices and keys has changed,
// where that is for this hub's users alone. pos is the position of an entry of
// kind Devices in the same batch.
func (r *Records) MarkChanged(tx *stream.Tx, user uint32, pos stream.Pos) error {
	row, err := r.listRow(user)
	if err == nil {
		r.mark(tx, user, row, pos)
	}
	return err
}

// LastDevice is the position of the last change of a device of a user, as other
// servers are told it; 0 where there was none.
func (r *Records) LastDevice(user uint32) (stream.Pos, error) {
	l, err := r.listRow(user)
	return l.device, err
}

// LastChange is the position of the last change of what others see of a user's
// devices; 0 where there was none.
func (r *Records) LastChange(user uint32) (stream.Pos, error) {
	l, err := r.listRow(user)
	return l.pos, err
}

// ChangedSince calls f for the users whose last change was after the one position
// and not after the other. Who is told up to upto finds those that changed again
// since in the next step.
func (r *Records) ChangedSince(after, upto stream.Pos, f func(user uint32)) error {
	return r.st.Scan(deviceListAtKey(after+1), deviceListAtKey(upto+1), func(_, val []byte) (bool, error) {
		if len(val) != 4 {
			return false, corrupt("a changed device list")
		}
		f(binary.BigEndian.Uint32(val))
		return true, nil
	})
}

// DropDevice removes all that is kept of a device. hadKeys says whether others
// saw it: then the caller calls Tell.
func (r *Records) DropDevice(tx *stream.Tx, user uint32, id string, num uint64) (hadKeys bool, err error) {
	for _, t := range [...]store.Table{store.OneTimeKey, store.FallbackKey, store.ToDevice} {
		prefix := store.U64(t.Prefix(), num)
		tx.DeleteRange(prefix, store.After(prefix))
	}
	if d, ok, err := r.dehydrated(user); err != nil {
		return false, err
	} else if ok && d.Num == num {
		tx.Delete(dehydratedKey(user))
	}
	k, ok, err := r.deviceKeys(user, id)
	if err != nil || !ok || k.num != num {
		return false, err
	}
	tx.Delete(deviceKeysKey(user, id))
	dropSignatures(tx.Batch, user, id)
	return true, nil
}

// DropUser removes all that is kept of a user whose account ends, but for
// signatures on the keys of others, which only the user could see.
func (r *Records) DropUser(tx *stream.Tx, user uint32) (c Changed, err error) {
	for _, t := range [...]store.Table{store.DeviceKeys, store.CrossKey} {
		err := r.st.ScanPrefix(store.U32(t.Prefix(), user), func(key, _ []byte) (bool, error) {
			if t == store.DeviceKeys {
				c.Devices = append(c.Devices, string(key[5:]))
			}
			c.Cross = c.Cross || t == store.CrossKey
			return true, nil
		})
		if err != nil {
			return c, err
		}
	}
	// A device's number begins with its user's.
	for _, t := range [...]store.Table{
		store.DeviceKeys, store.OneTimeKey, store.FallbackKey, store.CrossKey, store.KeySignature, store.SignedAt,
		store.Backup, store.BackupKey, store.ToDevice, store.Dehydrated,
	} {
		prefix := store.U32(t.Prefix(), user)
		tx.DeleteRange(prefix, store.After(prefix))
	}
	return c, nil
}
