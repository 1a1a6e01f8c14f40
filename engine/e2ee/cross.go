package e2ee

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Usage is what a cross-signing key signs. Spec: client-server, cross-signing.
type Usage uint8

// The usages. They are on disk.
const (
	Master      Usage = 1 // the user's identity
	SelfSigning Usage = 2 // the user's own devices
	UserSigning Usage = 3 // other users' master keys; seen by nobody else
)

var usages = [...]Usage{Master, SelfSigning, UserSigning}

var usageNames = [...]string{"", "master", "self_signing", "user_signing"}

func (u Usage) String() string { return usageNames[u] }

// crossKey is one cross-signing key.
type crossKey struct {
	object
	id  string // its public key in base64, which names it
	pub ed25519.PublicKey
}

// CrossKeys is an upload of cross-signing keys, each of which may be absent.
// Spec: client-server, POST /keys/device_signing/upload.
type CrossKeys struct {
	user mxid.UserID
	keys [len(usages) + 1]*crossKey // by usage
}

// ParseCrossKeys checks an upload of cross-signing keys in structure.
func ParseCrossKeys(user mxid.UserID, body []byte) (*CrossKeys, error) {
	c := &CrossKeys{user: user}
	for _, u := range usages {
		raw, ok := member(body, u.String()+"_key")
		if !ok {
			continue
		}
		k, err := parseCrossKey(raw, user, u)
		if err != nil {
			return nil, err
		}
		c.keys[u] = k
	}
	return c, nil
}

func parseCrossKey(raw []byte, user mxid.UserID, u Usage) (*crossKey, error) {
	const op = "e2ee.CrossKeys"
	o, _, err := parseObject(op, raw, user)
	if err != nil {
		return nil, err
	}
	owner, err := mustString(op, o.core, "user_id")
	if err != nil {
		return nil, err
	}
	if owner != string(user) {
		return nil, fault.E(fault.Invalid, op, "user_id is not that of the user who uploads the key")
	}
	k := &crossKey{object: o}
	uses, _ := cjson.Lookup(o.core, "usage")
	named := false
	if cjson.KindOf(uses) == cjson.ArrayKind {
		_ = cjson.Array(uses, func(val []byte) bool { // what Canonical wrote is an array
			named = cjson.Is(val, u.String())
			return !named
		})
	}
	if !named {
		return nil, fault.E(fault.BadJSON, op, "the usage of the %s key does not say so", u)
	}
	keys, _ := cjson.Lookup(o.core, "keys")
	n := 0
	good := eachIn(keys, func(key, val []byte) bool {
		n++
		text, _ := cjson.String(val)
		k.id = text
		return n == 1 && string(key) == ed25519Prefix+text && len(key) <= maxID
	})
	if good && n == 1 {
		k.pub, good = publicKey(o.core, k.id)
	}
	if !good || n != 1 {
		return nil, fault.E(fault.Invalid, op, "the %s key must hold one ed25519 key, named by itself", u)
	}
	return k, nil
}

// IDs gives the names of the uploaded keys. They must not be those of devices.
func (c *CrossKeys) IDs() (ids []string) {
	for _, k := range c.keys {
		if k != nil {
			ids = append(ids, k.id)
		}
	}
	return ids
}

func crossKeyKey(user uint32, u Usage) []byte {
	return append(store.U32(store.CrossKey.Prefix(), user), byte(u))
}

// crossKey reads a cross-signing key; nil where the user has none.
func (r *Records) crossKey(user uint32, u Usage) (*crossKey, error) {
	row, ok, err := r.st.Get(nil, crossKeyKey(user, u))
	if err != nil || !ok {
		return nil, err
	}
	d := fields.Open(row)
	k := &crossKey{id: string(d.Bytes()), object: objectOf(&d)}
	if err := rowErr(&d, "a cross-signing key"); err != nil {
		return nil, err
	}
	if k.pub, ok = publicKey(k.core, k.id); !ok {
		return nil, corrupt("a cross-signing key")
	}
	return k, nil
}

// IsCrossKey says whether the user has a cross-signing key of that name, which
// then no device may have.
func (r *Records) IsCrossKey(user uint32, id string) (bool, error) {
	for _, u := range usages {
		k, err := r.crossKey(user, u)
		if err != nil || k != nil && k.id == id {
			return err == nil, err
		}
	}
	return false, nil
}

// NeedsProof says whether the user has to prove who they are before the keys
// are taken: they have a master key, and the upload brings a key that is new.
// Spec: client-server, POST /keys/device_signing/upload.
func (r *Records) NeedsProof(user uint32, c *CrossKeys) (bool, error) {
	master, err := r.crossKey(user, Master)
	if err != nil || master == nil {
		return false, err
	}
	for _, u := range usages {
		if c.keys[u] == nil {
			continue
		}
		old, err := r.crossKey(user, u)
		if err != nil || old == nil || old.id != c.keys[u].id {
			return err == nil, err
		}
	}
	return false, nil
}

// CheckCrossKeys verifies the signatures of the master key, uploaded or stored,
// on the others. changed says whether the upload changes anything.
//
// Errors: Missing where there is no master key, BadSignature.
func (r *Records) CheckCrossKeys(user uint32, c *CrossKeys) (changed bool, err error) {
	const op = "e2ee.CrossKeys"
	master := c.keys[Master]
	if master == nil {
		if master, err = r.crossKey(user, Master); err != nil {
			return false, err
		}
	}
	if master == nil {
		return false, fault.E(fault.Missing, op, "there is no master key, neither in the request nor from before")
	}
	for _, u := range usages {
		k := c.keys[u]
		if k == nil {
			continue
		}
		old, err := r.crossKey(user, u)
		if err != nil {
			return false, err
		}
		changed = changed || old == nil || !bytes.Equal(old.core, k.core) || !bytes.Equal(old.sigs, k.sigs)
		if u == Master {
			continue
		}
		sig, _ := cjson.LookupString(k.sigs, ed25519Prefix+master.id)
		if !k.verified(sig, master.pub) {
			return false, fault.E(fault.BadSignature, op, "the %s key does not bear the master key's signature", u)
		}
	}
	return changed, nil
}

// PutCrossKeys writes keys that CheckCrossKeys has passed. A key that is
// replaced by another takes the signatures on it and by it along; with the master
// key go those that it signed. The caller calls Tell.
func (r *Records) PutCrossKeys(tx *stream.Tx, user uint32, c *CrossKeys) error {
	for _, u := range usages {
		old, err := r.crossKey(user, u)
		if err != nil {
			return err
		}
		k := c.keys[u]
		if k == nil {
			if m := c.keys[Master]; old == nil || m == nil {
				continue
			} else if sig, ok := cjson.LookupString(old.sigs, ed25519Prefix+m.id); ok && old.verified(sig, m.pub) {
				continue
			}
			tx.Delete(crossKeyKey(user, u))
		}
		if old != nil && (k == nil || old.id != k.id) {
			if err := r.dropCrossKey(tx.Batch, user, u, old); err != nil {
				return err
			}
		}
		if k != nil {
			tx.Set(crossKeyKey(user, u), k.append(fields.AppendText(fields.New(), k.id)))
		}
	}
	return nil
}

// dropCrossKey removes the signatures on a key and by it.
func (r *Records) dropCrossKey(b *store.Batch, user uint32, u Usage, old *crossKey) error {
	dropSignatures(b, user, old.id)
	switch u {
	case SelfSigning:
		prefix := store.U32(store.KeySignature.Prefix(), user)
		return r.st.ScanPrefix(prefix, func(key, _ []byte) (bool, error) {
			if _, rest, ok := cutShort(key[len(prefix):]); ok && len(rest) > 4 && string(rest[4:]) == ed25519Prefix+old.id {
				b.Delete(key)
			}
			return true, nil
		})
	case UserSigning:
		prefix := store.U32(store.SignedAt.Prefix(), user)
		return r.st.ScanPrefix(prefix, func(key, _ []byte) (bool, error) {
			if len(key) != 17 {
				return false, corrupt("who was signed")
			}
			return true, r.dropSignatureBy(b, binary.BigEndian.Uint32(key[13:]), user, ed25519Prefix+old.id)
		})
	}
	return nil
}

// dropSignatureBy removes the signatures by one key on a user's master key.
func (r *Records) dropSignatureBy(b *store.Batch, user, signer uint32, keyID string) error {
	master, err := r.crossKey(user, Master)
	if err != nil || master == nil {
		return err
	}
	b.Delete(append(signaturePrefix(user, master.id, signer), keyID...))
	return nil
}
