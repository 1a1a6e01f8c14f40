package directory

import (
	"encoding/binary"
	"errors"

	"hearth/engine/store"
)

// Verify reads every row of the directory and tells bad what does not agree.
// known says whether there is a room of that number. Nobody may be writing
// meanwhile. The error is one of reading.
func (d *Directory) Verify(known func(room uint32) (bool, error), bad func(format string, args ...any)) error {
	rooms := func(room uint32, what string) error {
		ok, err := known(room)
		if err == nil && !ok {
			bad("%s: room %d has no row", what, room)
		}
		return err
	}
	if err := d.st.ScanPrefix(store.Alias.Prefix(), func(key, val []byte) (bool, error) {
		if len(val) != 8 {
			bad("alias %q: a row of %d bytes", key[1:], len(val))
			return true, nil
		}
		room := binary.BigEndian.Uint32(val)
		ok, err := d.st.Has(append(store.U32(store.RoomAlias.Prefix(), room), key[1:]...))
		if err == nil && !ok {
			bad("alias %q: room %d does not list it", key[1:], room)
		}
		if err != nil {
			return false, err
		}
		return true, rooms(room, "alias "+string(key[1:]))
	}); err != nil {
		return err
	}
	if err := d.st.ScanPrefix(store.RoomAlias.Prefix(), func(key, _ []byte) (bool, error) {
		if len(key) < 5 {
			bad("room alias: a key of %d bytes", len(key))
			return true, nil
		}
		val, ok, err := d.st.Get(nil, append(store.Alias.Prefix(), key[5:]...))
		if err == nil && (!ok || len(val) != 8 || string(val[:4]) != string(key[1:5])) {
			bad("room %d lists alias %q, which is not its own", binary.BigEndian.Uint32(key[1:]), key[5:])
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	var stop error
	err := d.Published(0, func(room uint32) bool {
		stop = rooms(room, "public list")
		return stop == nil
	})
	return errors.Join(err, stop)
}
