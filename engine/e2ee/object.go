package e2ee

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
)

// object is a signed key object, apart from its signatures. The core is at the
// same time the text that signatures cover. Spec: appendices, signing JSON.
type object struct {
	core []byte // canonical, without signatures and unsigned
	sigs []byte // canonical: the owner's signatures, key id → signature
}

// parseObject splits a key object that a client sent. all is its signatures by
// user. Signatures of others than the owner are not kept: who signs the keys of
// others says so by another way.
func parseObject(op string, raw []byte, owner mxid.UserID) (o object, all []byte, err error) {
	if cjson.KindOf(raw) != cjson.ObjectKind {
		return o, nil, fault.E(fault.BadJSON, op, "a key must be an object")
	}
	if len(raw) > maxKeyObject {
		return o, nil, fault.E(fault.TooLarge, op, "a key has at most %d bytes", maxKeyObject)
	}
	raw, err = cjson.Canonical(nil, raw, false)
	if err != nil {
		return o, nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	all, o.sigs = []byte("{}"), []byte("{}")
	o.core = append(make([]byte, 0, len(raw)), '{')
	err = cjson.Object(raw, func(key, val []byte) bool {
		switch string(key) {
		case "signatures":
			all = val
		case "unsigned":
		default:
			if len(o.core) > 1 {
				o.core = append(o.core, ',')
			}
			o.core = append(append(cjson.AppendString(o.core, string(key)), ':'), val...)
		}
		return true
	})
	if err != nil {
		return o, nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	o.core = append(o.core, '}')
	if !eachIn(all, func(_, val []byte) bool { return stringsIn(val) }) {
		return o, nil, fault.E(fault.BadJSON, op, "signatures must be an object of objects of strings")
	}
	if own, ok := cjson.Lookup(all, string(owner)); ok {
		o.sigs = own
	}
	return o, all, nil
}

// eachIn says whether val is an object whose members all please f.
func eachIn(val []byte, f func(key, val []byte) bool) bool {
	ok := cjson.KindOf(val) == cjson.ObjectKind
	return ok && cjson.Object(val, func(key, val []byte) bool {
		ok = f(key, val)
		return ok
	}) == nil && ok
}

// stringsIn says whether val is an object of strings with keys of sane length.
func stringsIn(val []byte) bool {
	return eachIn(val, func(key, val []byte) bool { return len(key) <= maxID && cjson.KindOf(val) == cjson.StringKind })
}

// mustString looks up a string that an object must have.
func mustString(op string, obj []byte, key string) (string, error) {
	val, ok := cjson.Lookup(obj, key)
	if !ok {
		return "", fault.E(fault.BadJSON, op, "%s is missing", key)
	}
	s, ok := cjson.String(val)
	if !ok {
		return "", fault.E(fault.BadJSON, op, "%s must be a string", key)
	}
	return s, nil
}

// parseDeviceKeys checks the structure of a device's identity keys.
// Spec: client-server, device keys.
func parseDeviceKeys(raw []byte, owner *Owner) (*object, error) {
	const op = "e2ee.Upload"
	o, _, err := parseObject(op, raw, owner.UserID)
	if err != nil {
		return nil, err
	}
	if _, ok := cjson.Lookup(raw, "signatures"); !ok {
		return nil, fault.E(fault.BadJSON, op, "signatures is missing")
	}
	for _, id := range [...]struct{ key, want string }{{"user_id", string(owner.UserID)}, {"device_id", owner.Device}} {
		got, err := mustString(op, o.core, id.key)
		if err != nil {
			return nil, err
		}
		if got != id.want {
			return nil, fault.E(fault.Invalid, op, "%s is not that of the device that uploads the keys", id.key)
		}
	}
	algorithms, ok := cjson.Lookup(o.core, "algorithms")
	good := ok && cjson.KindOf(algorithms) == cjson.ArrayKind
	if good {
		_ = cjson.Array(algorithms, func(val []byte) bool { // what Canonical wrote is an array
			good = cjson.KindOf(val) == cjson.StringKind
			return good
		})
	}
	if !good {
		return nil, fault.E(fault.BadJSON, op, "algorithms must be a list of strings")
	}
	if keys, ok := cjson.Lookup(o.core, "keys"); !ok || !stringsIn(keys) {
		return nil, fault.E(fault.BadJSON, op, "keys must be an object of strings")
	}
	return &o, nil
}

// decode64 reads base64 of either alphabet's usual spelling, padded or not.
func decode64(s string) ([]byte, bool) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	return b, err == nil
}

const ed25519Prefix = "ed25519:"

// publicKey reads the ed25519 key of that id from a key object.
func publicKey(core []byte, id string) (ed25519.PublicKey, bool) {
	val, ok := cjson.LookupPath(core, "keys", ed25519Prefix+id)
	if !ok {
		return nil, false
	}
	text, _ := cjson.String(val)
	b, ok := decode64(text)
	return b, ok && len(b) == ed25519.PublicKeySize
}

// verified says whether sig, as a client spelt it, is the key's signature on the
// object.
func (o *object) verified(sig string, pub ed25519.PublicKey) bool {
	b, ok := decode64(sig)
	return ok && len(b) == ed25519.SignatureSize && ed25519.Verify(pub, o.core, b)
}

func (o *object) append(dst []byte) []byte {
	return fields.AppendText(fields.AppendText(dst, o.core), o.sigs)
}

func objectOf(r *fields.Reader) object { return object{core: r.Bytes(), sigs: r.Bytes()} }
