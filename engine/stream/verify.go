package stream

import (
	"encoding/binary"

	"hearth/engine/store"
)

// Verify reads every entry and cursor, and tells bad what cannot be read and
// which cursors have run ahead of the log. The error is one of reading.
func (l *Log) Verify(bad func(format string, args ...any)) error {
	if err := l.st.ScanPrefix(store.Log.Prefix(), func(key, val []byte) (bool, error) {
		var e Entry
		if len(key) != 9 {
			bad("log: a key of %d bytes", len(key))
		} else if err := e.parse(val); err != nil {
			bad("log %d: %v", binary.BigEndian.Uint64(key[1:]), err)
		}
		return true, nil
	}); err != nil {
		return err
	}
	return l.st.ScanPrefix(store.Cursor.Prefix(), func(key, val []byte) (bool, error) {
		// One that began with an empty log stands at 1, since 0 is where there is no cursor.
		if pos, n := binary.Uvarint(val); n <= 0 || Pos(pos) > max(l.Tip(), 1) {
			bad("cursor %q: it stands at %d, the log ends at %d", key[1:], pos, l.Tip())
		}
		return true, nil
	})
}
