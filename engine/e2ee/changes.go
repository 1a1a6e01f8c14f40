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

// MarkChanged notes that what others see of a user's devices and keys has
// changed. pos is the position of an entry of kind Devices in the same batch.
func (r *Records) MarkChanged(tx *stream.Tx, user uint32, pos stream.Pos) error {
	key := deviceListKey(user)
	old, ok, err := r.st.Get(nil, key)
	if err != nil {
		return err
	}
	if ok {
		was, _ := binary.Uvarint(old)
		tx.Delete(deviceListAtKey(stream.Pos(was)))
	}
	tx.Set(key, binary.AppendUvarint(nil, uint64(pos)))
	tx.Set(deviceListAtKey(pos), store.U32(nil, user))
	return nil
}

// LastChange is the position of the last change of what others see of a user's
// devices; 0 where there was none.
func (r *Records) LastChange(user uint32) (stream.Pos, error) {
	val, ok, err := r.st.Get(nil, deviceListKey(user))
	if err != nil || !ok {
		return 0, err
	}
	pos, _ := binary.Uvarint(val)
	return stream.Pos(pos), nil
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
// saw it: then the caller writes an entry of kind Devices and calls MarkChanged.
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
func (r *Records) DropUser(tx *stream.Tx, user uint32) (hadKeys bool, err error) {
	for _, t := range [...]store.Table{store.DeviceKeys, store.CrossKey} {
		err := r.st.ScanPrefix(store.U32(t.Prefix(), user), func(_, _ []byte) (bool, error) {
			hadKeys = true
			return false, nil
		})
		if err != nil {
			return false, err
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
	return hadKeys, nil
}
