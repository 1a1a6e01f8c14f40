// Package fields takes rows apart, and puts texts into them: numbers of few bytes,
// and texts with their length before them, one after the other.
//
// It owns the two ways in which a row may end early. A row that grows (Open, New)
// begins with a version byte; a field is only ever added at its end, and one that
// it lacks reads as zero, so rows of an older Hearth stay readable and those of a
// newer one lose nothing but what is not known. Any other row (Of) has to hold
// every field that is asked for.
//
// It refuses to know what a row means, and to make errors: whose row it is says
// what could not be read. A reader is a value on its owner's stack and allocates
// nothing but the texts that are kept.
package fields

import "encoding/binary"

// version is the byte that rows begin with which grow.
const version = 1

// New begins a row that grows.
func New() []byte { return []byte{version} }

// AppendText appends a text with its length before it.
func AppendText[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// Reader takes fields off the front of a row. After a first mistake everything is
// empty, and Cut says so.
type Reader struct {
	Rest  []byte // what was not read yet
	cut   bool
	grows bool
}

// Open reads a row that grows.
func Open(row []byte) Reader {
	if len(row) == 0 || row[0] != version {
		return Reader{cut: true, grows: true}
	}
	return Reader{Rest: row[1:], grows: true}
}

// Of reads a row that holds all its fields.
func Of(row []byte) Reader { return Reader{Rest: row} }

// Cut says whether the row could not be read.
func (r *Reader) Cut() bool { return r.cut }

// fail remembers a mistake.
func (r *Reader) fail() { r.Rest, r.cut = nil, true }

// Uint is a number.
func (r *Reader) Uint() uint64 {
	if len(r.Rest) == 0 && r.grows {
		return 0
	}
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Int is a number that may be negative.
func (r *Reader) Int() int64 {
	if len(r.Rest) == 0 && r.grows {
		return 0
	}
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Byte is one byte.
func (r *Reader) Byte() byte {
	if len(r.Rest) == 0 {
		if !r.grows {
			r.fail()
		}
		return 0
	}
	v := r.Rest[0]
	r.Rest = r.Rest[1:]
	return v
}

// Bytes is a text as a part of the row.
func (r *Reader) Bytes() []byte {
	n := r.Uint()
	if n > uint64(len(r.Rest)) {
		r.fail()
		return nil
	}
	b := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return b
}

// Text is a text that is kept.
func (r *Reader) Text() string { return string(r.Bytes()) }
