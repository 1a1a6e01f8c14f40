package account

import (
	"encoding/binary"

	"hearth/engine/fault"
)

// Rows begin with a version byte. A field is only ever added at the end, and a
// field that a row lacks reads as zero, so rows of an older Hearth stay
// readable and those of a newer one lose nothing here but what is not known.
const rowVersion = 1

func newRow() []byte { return []byte{rowVersion} }

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// rowReader takes fields off the front of a row.
type rowReader struct {
	rest []byte
	bad  bool
}

func readRow(row []byte) rowReader {
	if len(row) == 0 || row[0] != rowVersion {
		return rowReader{bad: true}
	}
	return rowReader{rest: row[1:]}
}

func (r *rowReader) num() uint64 {
	if len(r.rest) == 0 {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *rowReader) bytes() []byte {
	n := r.num()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *rowReader) text() string { return string(r.bytes()) }

func (r *rowReader) err(what string) error {
	if r.bad {
		return fault.E(fault.Corrupt, "account", "the row of %s cannot be read", what)
	}
	return nil
}
