package store

import "encoding/binary"

// Verify holds the two directions of the interned names to each other, and
// tells bad what does not agree. The error is one of reading.
func (n *Names) Verify(bad func(format string, args ...any)) error {
	if err := n.s.ScanPrefix(NameNumber.Prefix(), func(key, val []byte) (bool, error) {
		num, w := binary.Uvarint(val)
		if len(key) < 2 || w <= 0 {
			bad("name %q: a row of unknown form", key[1:])
			return true, nil
		}
		name, ok, err := n.s.Get(nil, U32(append(NumberName.Prefix(), key[1]), uint32(num)))
		if err == nil && (!ok || string(name) != string(key[2:])) {
			bad("name %c %q: its number %d is that of %q", key[1], key[2:], num, name)
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	return n.s.ScanPrefix(NumberName.Prefix(), func(key, name []byte) (bool, error) {
		if len(key) != 6 {
			bad("number of a name: a key of %d bytes", len(key))
			return true, nil
		}
		val, ok, err := n.s.Get(nil, append(append(NameNumber.Prefix(), key[1]), name...))
		num, _ := binary.Uvarint(val)
		if err == nil && (!ok || uint32(num) != binary.BigEndian.Uint32(key[2:])) {
			bad("number %d of a name %c: %q has number %d", binary.BigEndian.Uint32(key[2:]), key[1], name, num)
		}
		return err == nil, err
	})
}
