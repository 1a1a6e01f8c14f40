package e2ee

import (
	"hearth/engine/fault"
	"hearth/engine/fields"
)

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

// rowErr is an error where a row could not be read. Rows grow; see package fields.
func rowErr(r *fields.Reader, what string) error {
	if r.Cut() {
		return corrupt(what)
	}
	return nil
}

func corrupt(what string) error {
	return fault.E(fault.Corrupt, "e2ee", "the row of %s cannot be read", what)
}
