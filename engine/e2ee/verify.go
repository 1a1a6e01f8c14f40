package e2ee

import (
	"encoding/binary"

	"hearth/engine/fields"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Verify reads all rows and says what they tell against each other. What is left
// of a device that is gone is no fault: nobody finds it.
func (r *Records) Verify(bad func(format string, args ...any)) error {
	for _, step := range [...]func(bad func(format string, args ...any)) error{
		r.verifyKeys, r.verifyLists, r.verifyBackups, r.verifyQueues, r.verifyAway,
	} {
		if err := step(bad); err != nil {
			return err
		}
	}
	return nil
}

// each calls f for all rows of a table.
func (r *Records) each(t store.Table, f func(key, row []byte) error) error {
	return r.st.ScanPrefix(t.Prefix(), func(key, row []byte) (bool, error) { return true, f(key[1:], row) })
}

func (r *Records) verifyKeys(bad func(format string, args ...any)) error {
	err := r.each(store.DeviceKeys, func(key, row []byte) error {
		d := fields.Open(row)
		num, o := d.Uint(), objectOf(&d)
		if len(key) < 4 || d.Cut() || len(o.core) < 2 || len(o.sigs) < 2 {
			bad("the keys of device %x cannot be read", key)
		} else if user := binary.BigEndian.Uint32(key); num>>32 != uint64(user) {
			bad("the keys of device %q of user %d are those of device %x", key[4:], user, num)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = r.each(store.CrossKey, func(key, row []byte) error {
		if len(key) != 5 || key[4] < byte(Master) || key[4] > byte(UserSigning) {
			bad("a cross-signing key of key %x", key)
			return nil
		}
		user := binary.BigEndian.Uint32(key)
		if _, err := r.crossKey(user, Usage(key[4])); err != nil {
			bad("the %s key of user %d: %v", Usage(key[4]), user, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.each(store.OneTimeKey, func(key, row []byte) error {
		d := fields.Open(row)
		d.Bytes()
		if d.Bytes(); d.Cut() {
			bad("the one-time key %x cannot be read", key)
		}
		return nil
	})
}

// verifyLists holds the index of changed device lists against its other half.
func (r *Records) verifyLists(bad func(format string, args ...any)) error {
	users, marks := 0, 0
	err := r.each(store.DeviceList, func(key, row []byte) error {
		users++
		pos, _ := binary.Uvarint(row)
		at, ok, err := r.st.Get(nil, deviceListAtKey(stream.Pos(pos)))
		if err == nil && (!ok || string(at) != string(key)) {
			bad("the keys of user %x changed at %d, where the index has %x", key, pos, at)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = r.each(store.DeviceListAt, func(_, _ []byte) error { marks++; return nil })
	if err == nil && users != marks {
		bad("the keys of %d users changed, the index has %d", users, marks)
	}
	return err
}

func (r *Records) verifyBackups(bad func(format string, args ...any)) error {
	return r.each(store.Backup, func(key, row []byte) error {
		if len(key) != 8 {
			bad("a key backup of key %x", key)
			return nil
		}
		user, version := binary.BigEndian.Uint32(key), binary.BigEndian.Uint32(key[4:])
		v, err := parseBackup(version, row)
		if err != nil {
			bad("key backup %d of user %d: %v", version, user, err)
			return nil
		}
		var n uint64
		err = r.st.ScanPrefix(sessionPrefix(user, version), func(key, row []byte) (bool, error) {
			n++
			var k SessionKey
			if err := k.parse(row); err != nil {
				bad("key %x of key backup %d of user %d: %v", key[9:], version, user, err)
			}
			return true, nil
		})
		if n != v.Count {
			bad("key backup %d of user %d has %d keys and counts %d", version, user, n, v.Count)
		}
		return err
	})
}

func (r *Records) verifyQueues(bad func(format string, args ...any)) error {
	tip := uint64(r.log.Tip())
	return r.each(store.ToDevice, func(key, _ []byte) error {
		if len(key) != 16 {
			bad("a message of key %x", key)
		} else if pos := binary.BigEndian.Uint64(key[8:]); pos == 0 || pos > tip {
			bad("a message for device %x is at %d, the log ends at %d", key[:8], pos, tip)
		}
		return nil
	})
}
