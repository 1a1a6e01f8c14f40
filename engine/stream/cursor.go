package stream

import (
	"encoding/binary"

	"hearth/engine/store"
)

// Cursor reads a reader's stored position; 0 where it has none yet.
func (l *Log) Cursor(name string) (Pos, error) {
	val, ok, err := l.st.Get(nil, append(store.Cursor.Prefix(), name...))
	if err != nil || !ok {
		return 0, err
	}
	pos, _ := binary.Uvarint(val)
	return Pos(pos), nil
}

// SetCursor puts a reader's position into a batch. A cursor may lag behind what
// was done, it never runs ahead: set it in a batch that is applied after the
// deed is on disk, or with it.
func SetCursor(b *store.Batch, name string, pos Pos) {
	b.Set(append(store.Cursor.Prefix(), name...), binary.AppendUvarint(nil, uint64(pos)))
}
