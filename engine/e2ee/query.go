package e2ee

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Query asks for the keys of a user's devices: of those named, or of all.
type Query struct {
	User    mxid.UserID
	Devices []string // empty: all
}

// maxQueried bounds the users and devices of one query.
const maxQueried = 20_000

// ParseQueries reads whose keys are asked for: the member device_keys of a request.
// Spec: client-server, POST /keys/query; server-server, POST /user/keys/query.
func ParseQueries(body []byte) ([]Query, error) {
	const op = "e2ee.Query"
	raw, ok := cjson.Lookup(body, "device_keys")
	if !ok {
		return nil, fault.E(fault.Missing, op, "whose device_keys?")
	}
	bad := fault.E(fault.BadJSON, op, "device_keys must be an object of lists of device ids")
	if cjson.KindOf(raw) != cjson.ObjectKind {
		return nil, bad
	}
	raw, err := cjson.Canonical(nil, raw, false) // of equal names one stays
	if err != nil {
		return nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	var list []Query
	n := 0
	good := eachIn(raw, func(user, devices []byte) bool {
		q := Query{User: mxid.UserID(user)}
		n++
		allText := cjson.KindOf(devices) == cjson.ArrayKind
		_ = cjson.Array(devices, func(val []byte) bool { // what Canonical wrote is no broken array
			var id string
			id, allText = cjson.String(val)
			q.Devices = append(q.Devices, id)
			n++
			return allText && n <= maxQueried
		})
		list = append(list, q)
		return allText && n <= maxQueried
	})
	switch {
	case n > maxQueried:
		return nil, fault.E(fault.TooLarge, op, "at most %d users and devices can be asked for at once", maxQueried)
	case !good:
		return nil, bad
	}
	return list, nil
}

// Device is one of a user's devices, as the caller knows it.
type Device struct {
	ID   string
	Num  uint64
	Name string // display name; empty: none
}

// AppendDeviceKeys appends the keys of those devices in the list that have any,
// by device id.
func (r *Records) AppendDeviceKeys(dst []byte, user uint32, id mxid.UserID, list []Device) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	for i := range list {
		d := &list[i]
		k, ok, err := r.deviceKeys(user, d.ID)
		if err != nil {
			return dst, err
		}
		if !ok || k.num != d.Num {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(cjson.AppendString(dst, d.ID), ':')
		if dst, err = r.appendSigned(dst, &k.object, signed{user, id, d.ID}, user); err != nil {
			return dst, err
		}
		if d.Name != "" {
			dst = cjson.AppendString(append(dst[:len(dst)-1], `,"unsigned":{"device_display_name":`...), d.Name)
			dst = append(dst, '}', '}')
		}
	}
	return append(dst, '}'), nil
}

// AppendCrossKey appends a cross-signing key as the asker may see it; asker 0 is
// another server. ok is false, and nothing is appended, where there is none that
// the asker may see.
func (r *Records) AppendCrossKey(dst []byte, user uint32, id mxid.UserID, asker uint32, u Usage) (out []byte, ok bool, err error) {
	if u == UserSigning && asker != user {
		return dst, false, nil
	}
	k, err := r.crossKey(user, u)
	if err != nil || k == nil {
		return dst, false, err
	}
	dst, err = r.appendSigned(dst, &k.object, signed{user, id, k.id}, asker)
	return dst, err == nil, err
}

// signed names a key that may have been signed by others since it was uploaded.
type signed struct {
	user uint32
	id   mxid.UserID
	key  string
}

// appendSigned appends a key object with the signatures of its owner, and with
// those of the asker, who alone may see them.
// Spec: client-server, key and signature security.
func (r *Records) appendSigned(dst []byte, o *object, s signed, asker uint32) ([]byte, error) {
	dst = append(append(dst, o.core[:len(o.core)-1]...), `,"signatures":{`...)
	own, err := r.signatures(s, s.user)
	if err != nil {
		return dst, err
	}
	// Of a signature that came with the key and again later, the later counts.
	first := true
	_ = cjson.Object(o.sigs, func(keyID, val []byte) bool { // it was read before it was stored
		for i := range own {
			if own[i].keyID == string(keyID) {
				return true
			}
		}
		dst = appendSignature(dst, &first, s.id, string(keyID))
		dst = append(dst, val...)
		return true
	})
	for i := range own {
		dst = appendSignature(dst, &first, s.id, own[i].keyID)
		dst = cjson.AppendString(dst, own[i].sig)
	}
	if !first {
		dst = append(dst, '}')
	}
	if asker != 0 && asker != s.user {
		if dst, err = r.appendForeign(dst, !first, s, asker); err != nil {
			return dst, err
		}
	}
	return append(dst, '}', '}'), nil
}

// appendForeign appends the signatures that the asker made.
func (r *Records) appendForeign(dst []byte, behind bool, s signed, asker uint32) ([]byte, error) {
	list, err := r.signatures(s, asker)
	if err != nil || len(list) == 0 {
		return dst, err
	}
	name, err := r.names.Name(store.Users, asker)
	if err != nil {
		return dst, err
	}
	if behind {
		dst = append(dst, ',')
	}
	first := true
	for i := range list {
		dst = appendSignature(dst, &first, mxid.UserID(name), list[i].keyID)
		dst = cjson.AppendString(dst, list[i].sig)
	}
	return append(dst, '}'), nil
}

// appendSignature appends what stands before the text of a signature.
func appendSignature(dst []byte, first *bool, user mxid.UserID, keyID string) []byte {
	if *first {
		dst = append(cjson.AppendString(dst, user), ':', '{')
	} else {
		dst = append(dst, ',')
	}
	*first = false
	return append(cjson.AppendString(dst, keyID), ':')
}

type madeSignature struct{ keyID, sig string }

// signatures reads those that one user made on a key after it was uploaded.
func (r *Records) signatures(s signed, signer uint32) (list []madeSignature, err error) {
	prefix := signaturePrefix(s.user, s.key, signer)
	err = r.st.ScanPrefix(prefix, func(key, val []byte) (bool, error) {
		list = append(list, madeSignature{string(key[len(prefix):]), string(val)})
		return true, nil
	})
	return list, err
}
