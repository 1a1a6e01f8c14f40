package keyring

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// Bounds of what other servers say of keys.
const (
	maxAnswer  = 64 << 10 // bytes of one server's object
	maxBatch   = 4 << 20  // bytes of a notary's answer
	maxKeys    = 64       // of one server at once, retired ones with them
	maxKeyID   = 255      // bytes of "ed25519:name"; some put the whole key into the name
	maxNotary  = 1000     // objects in a notary's answer
	maxSigners = 8        // signatures of one server that are looked at on its own object
)

// believed is how long a server's word about its keys is believed. Spec:
// server-server, publishing keys, valid_until_ts.
const believed = 7 * 24 * 3600 * 1000

// answer is what a server says of its keys.
type answer struct {
	server mxid.Server
	at     int64 // when it came, in milliseconds
	until  int64 // valid_until_ts as it stands, none below 0
	direct bool  // from the server itself; otherwise by way of a notary
	keys   []key
	inUse  int    // how many of keys are; they come first
	raw    []byte // the object as it came
}

var errAnswer = errors.New("not an object of a server's keys")

// parseAnswer reads the object in which a server publishes its keys, and
// checks that one of the keys has signed it. What it returns keeps raw. now, in
// milliseconds, bounds how long it is believed.
//
// Every signature by a key that the object lists as in use has to hold, and
// there has to be one: what one key says of the others is as good as what it
// says of events.
func parseAnswer(raw []byte, server mxid.Server, now int64) (*answer, error) {
	a, err := readAnswer(raw, server, now)
	if err != nil {
		return nil, err
	}
	return a, a.checkSelf()
}

// readAnswer is parseAnswer for an object whose signatures were checked when it
// came.
func readAnswer(raw []byte, server mxid.Server, now int64) (*answer, error) {
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("%w: %d bytes", errAnswer, len(raw))
	}
	if err := cjson.Check(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if name, _ := cjson.LookupString(raw, "server_name"); name != string(server) {
		return nil, fmt.Errorf("%w: it is of another server", errAnswer)
	}
	a := &answer{server: server, at: now, raw: raw}
	val, _ := cjson.Lookup(raw, "valid_until_ts")
	var ok bool
	if a.until, ok = cjson.Int(val); !ok {
		return nil, fmt.Errorf("%w: no valid_until_ts", errAnswer)
	}
	a.until = max(0, a.until)
	until := min(a.until, now+believed)
	all := 0
	each := func(member string, f func(id string, pub [32]byte, obj []byte)) {
		obj, _ := cjson.Lookup(raw, member)
		_ = cjson.Object(obj, func(id, val []byte) bool {
			if pub, ok := publicKey(val); ok && goodKeyID(string(id)) {
				f(string(id), pub, val)
			}
			all++
			return all <= maxKeys
		})
	}
	each("verify_keys", func(id string, pub [32]byte, _ []byte) {
		a.put(key{id: id, pub: pub, first: now, last: now, until: until, said: a.until})
	})
	a.inUse = len(a.keys)
	each("old_verify_keys", func(id string, pub [32]byte, obj []byte) {
		val, _ := cjson.Lookup(obj, "expired_ts")
		if at, ok := cjson.Int(val); ok && at > 0 && a.find(id) == nil {
			a.put(key{id: id, pub: pub, first: now, last: now, expired: at, said: a.until})
		}
	})
	if all > maxKeys {
		return nil, fmt.Errorf("%w: too many keys", errAnswer)
	}
	return a, nil
}

// put adds a key; of equal ids the last one counts, as everywhere in JSON.
func (a *answer) put(k key) {
	if old := a.find(k.id); old != nil {
		*old = k
		return
	}
	a.keys = append(a.keys, k)
}

func (a *answer) find(id string) *key {
	for i := range a.keys {
		if a.keys[i].id == id {
			return &a.keys[i]
		}
	}
	return nil
}

// checkSelf holds the object to the signatures that its own keys put on it.
func (a *answer) checkSelf() error {
	good := 0
	for i, sig := range event.Signatures(a.raw, string(a.server)) {
		if i == maxSigners && good > 0 {
			break
		}
		for _, k := range a.keys[:a.inUse] {
			if k.id != sig.KeyID {
				continue
			}
			if err := event.VerifyJSON(a.raw, string(a.server), k.id, k.pub[:]); err != nil {
				return fmt.Errorf("%w: signature by %s: %w", errAnswer, k.id, err)
			}
			good++
		}
	}
	if good == 0 {
		return fmt.Errorf("%w: none of its keys has signed it", errAnswer)
	}
	return nil
}

// publicKey reads the member "key".
func publicKey(obj []byte) (pub [32]byte, ok bool) {
	text, _ := cjson.LookupString(obj, "key")
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return pub, false
	}
	return [32]byte(b), true
}

// goodKeyID says whether a name of a key may be kept. The specification has
// letters, digits and "_" alone; there are servers with more.
func goodKeyID(id string) bool {
	name, ok := strings.CutPrefix(id, "ed25519:")
	if !ok || name == "" || len(id) > maxKeyID {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_-+/.=", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// parseBatch splits a notary's answer and calls f for the object of each of the
// servers that were asked about. Those that are of others are skipped.
func parseBatch(raw []byte, f func(server mxid.Server, obj []byte)) error {
	if len(raw) > maxBatch {
		return fmt.Errorf("a notary's answer of %d bytes", len(raw))
	}
	if err := cjson.Check(raw); err != nil {
		return fmt.Errorf("a notary's answer: %w", err)
	}
	list, _ := cjson.Lookup(raw, "server_keys")
	n := 0
	return cjson.Array(list, func(obj []byte) bool {
		name, _ := cjson.LookupString(obj, "server_name")
		f(mxid.Server(name), obj)
		n++
		return n < maxNotary
	})
}
