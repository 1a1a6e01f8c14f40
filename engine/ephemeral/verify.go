package ephemeral

import (
	"encoding/binary"

	"hearth/engine/store"
	"hearth/engine/stream"
)

// Verify reads every receipt and tells bad what does not agree with the index
// of changes or lies past the log's tip. Nobody may be writing meanwhile. The
// error is one of reading.
func (r *Records) Verify(tip stream.Pos, bad func(format string, args ...any)) error {
	if err := r.st.ScanPrefix(store.Receipt.Prefix(), func(key, val []byte) (bool, error) {
		if len(key) < 10 {
			bad("receipt: a key of %d bytes", len(key))
			return true, nil
		}
		rc := Receipt{Room: binary.BigEndian.Uint32(key[1:]), User: binary.BigEndian.Uint32(key[5:]), Type: ReceiptType(key[9]), Thread: string(key[10:])}
		if err := rc.parse(val); err != nil {
			bad("receipt of user %d in room %d: %v", rc.User, rc.Room, err)
			return true, nil
		}
		if rc.Pos > tip || rc.At > tip {
			bad("receipt of user %d in room %d: changed at %d for an event at %d, past the tip %d", rc.User, rc.Room, rc.Pos, rc.At, tip)
		}
		at, ok, err := r.st.Get(nil, receiptAtKey(rc.Room, rc.Pos))
		if err == nil && (!ok || string(at) != string(key[5:])) {
			bad("receipt of user %d in room %d: its change at %d is not indexed", rc.User, rc.Room, rc.Pos)
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	return r.st.ScanPrefix(store.ReceiptAt.Prefix(), func(key, val []byte) (bool, error) {
		if len(key) != 13 || len(val) < 5 {
			bad("change of a receipt: a row of unknown form")
			return true, nil
		}
		row, ok, err := r.st.Get(nil, append(append(store.Receipt.Prefix(), key[1:5]...), val...))
		if err == nil && (!ok || len(row) < 8 || string(row[:8]) != string(key[5:])) {
			bad("change of a receipt at %d in room %d: the receipt moved elsewhere", binary.BigEndian.Uint64(key[5:]), binary.BigEndian.Uint32(key[1:]))
		}
		return err == nil, err
	})
}
