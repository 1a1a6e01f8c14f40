package e2ee

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// signaturePrefix begins the rows of the signatures that one user made on a key.
func signaturePrefix(user uint32, key string, signer uint32) []byte {
	return store.U32(appendShort(store.U32(store.KeySignature.Prefix(), user), key), signer)
}

// dropSignatures removes all signatures on a key.
func dropSignatures(b *store.Batch, user uint32, key string) {
	prefix := appendShort(store.U32(store.KeySignature.Prefix(), user), key)
	b.DeleteRange(prefix, store.After(prefix))
}

// Signed is a key object with signatures that somebody uploads.
type Signed struct {
	User mxid.UserID // whose key it is
	Key  string      // a device id, or the name of a master key
	json []byte
}

// ParseSignatures reads an upload of signatures, by user and key.
// Spec: client-server, POST /keys/signatures/upload.
func ParseSignatures(body []byte) ([]Signed, error) {
	const op = "e2ee.Signatures"
	body, err := cjson.Canonical(nil, body, false)
	if err != nil {
		return nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	var list []Signed
	good := eachIn(body, func(user, keys []byte) bool {
		id := mxid.UserID(user)
		return eachIn(keys, func(key, val []byte) bool {
			list = append(list, Signed{id, string(key), val})
			return len(list) <= maxSigned && cjson.KindOf(val) == cjson.ObjectKind
		})
	})
	switch {
	case len(list) > maxSigned:
		return nil, fault.E(fault.TooLarge, op, "at most %d keys can be signed at once", maxSigned)
	case !good:
		return nil, fault.E(fault.BadJSON, op, "signatures must be an object of objects of key objects")
	}
	return list, nil
}

// Signatures is an upload that has been verified.
type Signatures struct {
	Own    Changed       // keys of the signer's own that were signed: those who track them have to know
	Failed []SignFailure // what was not taken, in the order of the upload

	signer uint32
	rows   []signature
	others []uint32 // users whose master key was signed
}

// SignFailure says why signatures on one key were not taken.
type SignFailure struct {
	Signed
	Err error
}

type signature struct {
	key []byte
	sig string
}

// Any says whether the upload changes anything.
func (s *Signatures) Any() bool { return len(s.rows) > 0 }

// CheckSignatures verifies the signatures that a user made: by the self-signing
// key on devices of their own, by such devices on their master key, by the
// user-signing key on the master keys of others. What else is signed is left out.
func (r *Records) CheckSignatures(signer uint32, id mxid.UserID, list []Signed) (*Signatures, error) {
	s := &Signatures{signer: signer}
	for i := range list {
		l := &list[i]
		before := len(s.rows)
		err := r.checkSigned(s, id, l)
		switch fault.KindOf(err) {
		case fault.Internal, fault.Corrupt:
			if err != nil {
				return nil, err
			}
		default:
			s.rows = s.rows[:before]
			s.Failed = append(s.Failed, SignFailure{*l, err})
		}
	}
	return s, nil
}

func (r *Records) checkSigned(s *Signatures, id mxid.UserID, l *Signed) error {
	const op = "e2ee.Signatures"
	o, all, err := parseObject(op, l.json, id)
	if err != nil {
		return err
	}
	user := s.signer
	if l.User != id {
		if user, err = r.names.Find(store.Users, string(l.User)); err != nil {
			return err
		}
	}
	if len(l.User) > maxID || user == 0 {
		return fault.E(fault.NotFound, op, "there is no such user")
	}
	target, err := r.target(user, l, user == s.signer)
	if err != nil {
		return err
	}
	if !bytes.Equal(target.core, o.core) {
		return fault.E(fault.Invalid, op, "this is not the key that the hub has under that name")
	}
	by, err := r.signers(s.signer, user, target)
	if err != nil {
		return err
	}
	n := 0
	mine, _ := cjson.Lookup(all, string(id))
	good := eachIn(mine, func(keyID, val []byte) bool {
		pub := by(string(keyID))
		if pub == nil {
			return true
		}
		n++
		sig, _ := cjson.String(val)
		row := append(signaturePrefix(user, l.Key, s.signer), keyID...)
		s.rows = append(s.rows, signature{row, sig})
		return o.verified(sig, pub)
	})
	if !good || n == 0 {
		return fault.E(fault.BadSignature, op, "there is no good signature by a key that signs such keys")
	}
	return r.news(s, user, n, l.Key, target.device)
}

// target is the key that is signed, and whether it is a device.
type target struct {
	object
	device bool
}

func (r *Records) target(user uint32, l *Signed, own bool) (t target, err error) {
	if own {
		k, ok, err := r.deviceKeys(user, l.Key)
		if err != nil || ok {
			return target{k.object, true}, err
		}
	}
	master, err := r.crossKey(user, Master)
	if err == nil && (master == nil || master.id != l.Key) {
		err = fault.E(fault.NotFound, "e2ee.Signatures", "there is no such key")
	}
	if err != nil {
		return t, err
	}
	return target{object: master.object}, nil
}

// signers gives the function that finds the public key of those keys whose
// signatures on the target count; nil for others.
func (r *Records) signers(signer, user uint32, t target) (func(keyID string) ed25519.PublicKey, error) {
	if !t.device && signer == user {
		return func(keyID string) ed25519.PublicKey {
			device, _ := strings.CutPrefix(keyID, ed25519Prefix)
			k, ok, err := r.deviceKeys(user, device)
			if err != nil || !ok {
				return nil
			}
			pub, _ := publicKey(k.core, device)
			return pub
		}, nil
	}
	usage := UserSigning
	if t.device {
		usage = SelfSigning
	}
	k, err := r.crossKey(signer, usage)
	return func(keyID string) ed25519.PublicKey {
		if k == nil || keyID != ed25519Prefix+k.id {
			return nil
		}
		return k.pub
	}, err
}

// news leaves out of the last n rows those that are on disk as they are, and
// notes whose keys the others sign.
func (r *Records) news(s *Signatures, user uint32, n int, key string, device bool) error {
	last := s.rows[len(s.rows)-n:]
	s.rows = s.rows[:len(s.rows)-n]
	for _, row := range last {
		old, ok, err := r.st.Get(nil, row.key)
		if err != nil {
			return err
		}
		if ok && string(old) == row.sig {
			continue
		}
		s.rows = append(s.rows, row)
		switch {
		case user != s.signer:
			s.others = append(s.others, user)
		case !device:
			s.Own.Cross = true
		case !slices.Contains(s.Own.Devices, key):
			s.Own.Devices = append(s.Own.Devices, key)
		}
	}
	return nil
}

// PutSignatures writes what was verified. Whose keys were signed is told to the
// signer alone; where Own has any the caller calls Tell too. pos is the
// position of the entry.
func (r *Records) PutSignatures(tx *stream.Tx, s *Signatures, pos stream.Pos) {
	for i := range s.rows {
		tx.Set(s.rows[i].key, []byte(s.rows[i].sig))
	}
	for _, user := range s.others {
		tx.Set(signedAtKey(s.signer, pos, user), nil)
	}
}

func signedAtKey(signer uint32, pos stream.Pos, user uint32) []byte {
	return store.U32(store.U64(store.U32(store.SignedAt.Prefix(), signer), uint64(pos)), user)
}

// SignedSince calls f for the users whose master key the signer signed after the
// one position and not after the other.
func (r *Records) SignedSince(signer uint32, after, upto stream.Pos, f func(user uint32)) error {
	lower := store.U64(store.U32(store.SignedAt.Prefix(), signer), uint64(after)+1)
	upper := store.U64(store.U32(store.SignedAt.Prefix(), signer), uint64(upto)+1)
	return r.st.Scan(lower, upper, func(key, _ []byte) (bool, error) {
		if len(key) != 17 {
			return false, corrupt("who was signed")
		}
		f(binary.BigEndian.Uint32(key[13:]))
		return true, nil
	})
}
