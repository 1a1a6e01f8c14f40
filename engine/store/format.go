package store

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"hearth/engine/fault"
)

// Format is the version of the rows that this program reads and writes.
const Format = 1

var (
	metaFormat      = []byte{byte(Meta), 'f'}
	metaIncarnation = []byte{byte(Meta), 'i'}
)

// checkFormat writes the format of a new store and refuses that of a newer one.
func (s *Store) checkFormat(readOnly bool) error {
	val, ok, err := s.Get(nil, metaFormat)
	if err != nil {
		return err
	}
	if ok {
		if n, _ := binary.Uvarint(val); n != Format {
			return fault.E(fault.Invalid, "store.Open",
				"the data is of format %d, this program reads format %d: use the version of Hearth that wrote it, or a newer one", n, Format)
		}
		return nil
	}
	if readOnly {
		return fault.E(fault.NotFound, "store.Open", "there is no store here")
	}
	b := s.NewBatch()
	b.Set(metaFormat, binary.AppendUvarint(nil, Format))
	var inc [8]byte
	if _, err := rand.Read(inc[:]); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	b.Set(metaIncarnation, inc[:])
	if err := s.Commit(b); err != nil {
		return err
	}
	// The first log was begun before the format was raised, without the offsets
	// that tell damage from the end of what was written. This begins the next.
	return s.db.Flush()
}

// Incarnation is a random number made with the store and anew after each
// restore from a backup. It stands in what others keep (sync tokens,
// transaction ids), so that a position that happens twice is never taken for
// the same.
func (s *Store) Incarnation() (uint64, error) {
	val, ok, err := s.Get(nil, metaIncarnation)
	if err != nil {
		return 0, err
	}
	if !ok || len(val) != 8 {
		return 0, fault.E(fault.Corrupt, "store.Incarnation", "the store has lost its incarnation")
	}
	return binary.BigEndian.Uint64(val), nil
}

// Meta reads one value of the Meta table by its name.
func (s *Store) Meta(name string) (val []byte, ok bool, err error) {
	return s.Get(nil, append(Meta.Prefix(), name...))
}

// SetMeta puts one value of the Meta table into a batch. Names are longer than
// one byte; those of one byte are the store's own.
func (b *Batch) SetMeta(name string, val []byte) {
	b.Set(append(Meta.Prefix(), name...), val)
}

// DropMeta removes a value of the Meta table.
func (b *Batch) DropMeta(name string) { b.Delete(append(Meta.Prefix(), name...)) }
