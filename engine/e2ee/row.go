package e2ee

import (
	"encoding/binary"

	"hearth/engine/fault"
)

// Rows begin with a version byte. A field is only ever added at the end, and a
// field that a row lacks reads as zero.
const rowVersion = 1

func newRow() []byte { return []byte{rowVersion} }

func appendText[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendShort puts a text of at most 255 bytes into a key, so that what follows
// it never mixes with it.
func appendShort(dst []byte, s string) []byte {
	return append(append(dst, byte(len(s))), s...)
}

// cutShort takes a text that appendShort wrote off the front of a key.
func cutShort(key []byte) (s, rest []byte, ok bool) {
	if len(key) == 0 || len(key)-1 < int(key[0]) {
		return nil, nil, false
	}
	n := 1 + int(key[0])
	return key[1:n], key[n:], true
}

// reader takes fields off the front of a row.
type reader struct {
	rest []byte
	bad  bool
}

func read(row []byte) reader {
	if len(row) == 0 || row[0] != rowVersion {
		return reader{bad: true}
	}
	return reader{rest: row[1:]}
}

func (r *reader) num() uint64 {
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

// bytes gives a field as a part of the row.
func (r *reader) bytes() []byte {
	n := r.num()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) err(what string) error {
	if r.bad {
		return corrupt(what)
	}
	return nil
}

func corrupt(what string) error {
	return fault.E(fault.Corrupt, "e2ee", "the row of %s cannot be read", what)
}
