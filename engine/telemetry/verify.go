package telemetry

import (
	"encoding/binary"

	"hearth/engine/store"
)

// Verify reads all samples and tells bad of the chunks that cannot be read, or that
// are of no topic.
func (l *Log) Verify(bad func(format string, args ...any)) error {
	named := map[uint32]bool{}
	for _, name := range l.names.all() {
		named[l.names.find(name)] = true
	}
	return l.st.ScanPrefix(store.Chunk.Prefix(), func(key, val []byte) (bool, error) {
		if len(key) < 9 {
			bad("telemetry: a row of unknown form: %x", key)
			return true, nil
		}
		num := binary.BigEndian.Uint32(key[5:])
		if num == 0 {
			return true, nil // the bytes of the day
		}
		if !named[num] {
			bad("telemetry: chunk %x is of no topic", key)
		}
		if _, err := parseChunk(val); err != nil {
			bad("telemetry: chunk %x: %v", key, err)
		}
		return true, nil
	})
}
