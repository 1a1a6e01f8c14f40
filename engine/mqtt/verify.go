package mqtt

import (
	"encoding/binary"

	"hearth/engine/store"
)

// Verify reads all that the broker keeps and tells bad of what it could not serve.
// It is for a store that no broker has open.
func Verify(st *store.Store, bad func(format string, args ...any)) error {
	kept := map[uint32]bool{}
	err := st.ScanPrefix(store.ThingSession.Prefix(), func(key, val []byte) (bool, error) {
		if _, err := readSession(val); err != nil || len(key) != 5 {
			bad("mqtt: session %x cannot be read", key)
			return true, nil
		}
		kept[binary.BigEndian.Uint32(key[1:])] = true
		return true, nil
	})
	if err != nil {
		return err
	}
	b := Broker{st: st}
	for _, step := range [...]struct {
		table store.Table
		check func(key, val []byte) error
	}{
		{store.ThingFilter, func(key, val []byte) error {
			_, err := readFilter(string(key[5:]), val)
			return err
		}},
		{store.ThingQueue, func(key, val []byte) error {
			e, err := readEntry(val)
			if err == nil && !e.released && kept[binary.BigEndian.Uint32(key[1:])] {
				_, err = b.message(&e)
			}
			return err
		}},
		{store.Retained, func(key, val []byte) error {
			_, err := readMessage(string(key[1:]), val)
			return err
		}},
	} {
		err := st.ScanPrefix(step.table.Prefix(), func(key, val []byte) (bool, error) {
			if step.table != store.Retained && len(key) < 5 {
				bad("mqtt: a row of unknown form: %x", key)
			} else if err := step.check(key, val); err != nil {
				bad("mqtt: row %x: %v", key, err)
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
