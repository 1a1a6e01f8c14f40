package event

import (
	"crypto/sha256"
	"encoding/base64"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// scratch is the room on the stack for an event's bytes on their way into a hash.
// Longer events take theirs from the heap.
type scratch [2048]byte

// hashText is the length of a SHA-256 in unpadded base64.
const hashText = 43

// ContentHash is the hash over all of an event, given in canonical form, but
// unsigned, signatures and hashes. Spec: server-server, Calculating the content
// hash for an event.
func ContentHash(json []byte) ([sha256.Size]byte, error) {
	var buf scratch
	text, err := appendWithout(buf[:0], json, func(key []byte) bool {
		switch string(key) {
		case "unsigned", "signatures", "hashes":
			return true
		}
		return false
	})
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(text), nil
}

// ReferenceHash is the hash over what redaction leaves of an event, given in
// canonical form, without signatures. It names events from version 3 on, and
// goes beside their ids before. Spec: server-server, Calculating the reference
// hash for an event.
func ReferenceHash(v *Version, json []byte) ([sha256.Size]byte, error) {
	var buf scratch
	text, err := v.appendRedacted(buf[:0], json, false)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(text), nil
}

// appendID appends the event id that a reference hash makes.
// Spec: rooms v3 and v4, Event IDs.
func (v *Version) appendID(dst []byte, hash *[sha256.Size]byte) []byte {
	dst = append(dst, '$')
	if v.IDs == IDHash {
		return base64.RawStdEncoding.AppendEncode(dst, hash[:])
	}
	return base64.RawURLEncoding.AppendEncode(dst, hash[:])
}

// roomOf is the room id that a create event's id makes. Spec: rooms v12, Event
// format.
func roomOf(id mxid.EventID) mxid.RoomID { return mxid.RoomID("!" + id[1:]) }

// statedHash is the content hash an event claims to have.
func statedHash(json []byte) ([]byte, bool) {
	val, ok := cjson.LookupPath(json, "hashes", "sha256")
	if !ok {
		return nil, false
	}
	text, ok := cjson.String(val)
	if !ok {
		return nil, false
	}
	return decode64(text)
}

// decode64 reads base64 with or without padding. Spec: appendices, Unpadded
// Base64.
func decode64(text string) ([]byte, bool) {
	for len(text) > 0 && text[len(text)-1] == '=' {
		text = text[:len(text)-1]
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	return b, err == nil
}
