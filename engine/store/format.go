package store

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"hearth/engine/fault"
)

// Format is the version of the rows that this program writes. It reads those from which steps lead to it.
const Format = 2

// forms is what a program knows of formats. Tests have others than the program's.
type forms struct {
	newest uint64
	steps  []step
}

// step brings all rows from one format to the next. It may be cut off at any moment and is begun anew then, so what it
// did is no harm to it.
type step struct {
	from uint64
	run  func(s *Store) error
}

// programForms are the program's. Format 1 is the first, so no step leads to it. Whoever adds one makes the packages that
// own the rows ask Format of an open store which of the two they write.
//
// In format 2 rooms may lack the history that was removed of them (Trimmed, Leftover); no row has another form.
func programForms() forms {
	return forms{newest: Format, steps: []step{{1, func(*Store) error { return nil }}}}
}

var (
	metaFormat      = []byte{byte(Meta), 'f'}
	metaIncarnation = []byte{byte(Meta), 'i'}
)

// Format is the version of the rows in this store. It is lower than the newest one while Options.KeepFormat holds, and
// rows have to be written as it says: the version of Hearth before this one reads them.
func (s *Store) Format() uint64 { return s.format }

// checkFormat writes the format of a new store, brings an older one to the newest unless it is to be kept, and refuses
// that of a newer program.
func (s *Store) checkFormat(opts Options) error {
	f := opts.forms
	val, ok, err := s.Get(nil, metaFormat)
	if err != nil {
		return err
	}
	if ok {
		n, _ := binary.Uvarint(val)
		if n > f.newest || len(f.steps) > 0 && n < f.steps[0].from || len(f.steps) == 0 && n < f.newest {
			return fault.E(fault.Invalid, "store.Open",
				"the data is of format %d, this program reads format %d: use the version of Hearth that wrote it, or a newer one", n, f.newest)
		}
		s.format = n
		if opts.KeepFormat || opts.ReadOnly {
			return nil
		}
		return s.migrate(f)
	}
	if opts.ReadOnly {
		return fault.E(fault.NotFound, "store.Open", "there is no store here")
	}
	s.format = f.newest
	b := s.NewBatch()
	b.Set(metaFormat, binary.AppendUvarint(nil, f.newest))
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

// migrate takes the steps to the newest format. The format is written after the rows of each, so that a power cut
// repeats a step and never leaves one out.
func (s *Store) migrate(f forms) error {
	for _, step := range f.steps {
		if step.from < s.format {
			continue
		}
		if err := step.run(s); err != nil {
			return fmt.Errorf("store: from format %d: %w", step.from, err)
		}
		b := s.NewBatch()
		b.Set(metaFormat, binary.AppendUvarint(nil, step.from+1))
		if err := s.Commit(b); err != nil {
			return err
		}
		s.format = step.from + 1
	}
	return nil
}

// settle fills in the formats. Where the rows are kept as they are, so are Pebble's own files: opts.files is what the
// version before left them in.
func (o *Options) settle() error {
	if o.forms.newest == 0 {
		o.forms = programForms()
	}
	if o.files == 0 {
		o.files = format
	}
	if !o.KeepFormat {
		return nil
	}
	was, err := pebble.Peek(o.Dir, o.FS)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if was.Exists {
		o.files = min(o.files, was.FormatMajorVersion)
	}
	return nil
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
