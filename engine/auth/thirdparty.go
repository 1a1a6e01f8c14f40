package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"

	"hearth/engine/cjson"
	"hearth/engine/event"
)

// maxVerify bounds the pairs of a signature and a key that one third-party invite
// is tried with. An honest one has a signature or two and as many keys; a hostile
// one of 64 KiB could ask for a million verifications.
const maxVerify = 256

// thirdParty is the rule for an invite that answers an invitation by e-mail address
// or the like.
func (c *check) thirdParty(third []byte) error {
	// Spec: rooms v12, auth rule 5.4.1.1.
	if c.membership(c.e.StateKey) == ban {
		return deny("%s is banned", c.e.StateKey)
	}
	// Spec: rooms v12, auth rule 5.4.1.2.
	signed, ok := cjson.Lookup(third, "signed")
	if !ok {
		return malformed("the third-party invite has no signed property")
	}
	// Spec: rooms v12, auth rule 5.4.1.3.
	val, ok := cjson.Lookup(signed, "mxid")
	val2, ok2 := cjson.Lookup(signed, "token")
	token, ok3 := cjson.String(val2)
	if !ok || !ok2 || !ok3 {
		return malformed("the third-party invite has no mxid and token")
	}
	// Spec: rooms v12, auth rule 5.4.1.4.
	if !cjson.Is(val, c.e.StateKey) {
		return deny("the third-party invite is for another user")
	}
	// Spec: rooms v12, auth rule 5.4.1.5.
	offer := c.state(typeThirdParty, token)
	if offer == nil {
		return deny("the third-party invite is not known to the room")
	}
	// Spec: rooms v12, auth rule 5.4.1.6.
	if offer.Sender != c.e.Sender {
		return deny("the third-party invite is of another sender")
	}
	// Spec: rooms v12, auth rule 5.4.1.7.
	if !signedByAny(signed, offerKeys(offer)) {
		return deny("the third-party invite is not signed by a key of the room's")
	}
	return nil
}

// OfferedKey finds the key of an m.room.third_party_invite event's content that
// has signed, as the event has it, and the URL at which the identity server says
// whether it is still good; link is empty where the event names none. ok is false
// where no key of the event's has signed. signed is canonical JSON.
// Spec: client-server, third-party invites, server behaviour.
func OfferedKey(content, signed []byte) (key, link string, ok bool) {
	type offer struct{ key, link string }
	read := func(obj []byte) (o offer) {
		o.key, _ = cjson.LookupString(obj, "public_key")
		o.link, _ = cjson.LookupString(obj, "key_validity_url")
		return o
	}
	offers := []offer{read(content)}
	list, _ := cjson.Lookup(content, "public_keys")
	_ = cjson.Array(list, func(elem []byte) bool {
		offers = append(offers, read(elem))
		return len(offers) < maxVerify
	})
	for _, o := range offers {
		raw, good := decode64(o.key)
		if good && len(raw) == ed25519.PublicKeySize && signedByAny(signed, []ed25519.PublicKey{raw}) {
			return o.key, o.link, true
		}
	}
	return "", "", false
}

// offerKeys lists the public keys of an m.room.third_party_invite event.
func offerKeys(offer *event.Event) []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	add := func(val []byte) {
		text, _ := cjson.String(val)
		if key, ok := decode64(text); ok && len(key) == ed25519.PublicKeySize && len(keys) < maxVerify {
			keys = append(keys, key)
		}
	}
	if val, ok := cjson.Lookup(offer.Content, "public_key"); ok {
		add(val)
	}
	list, _ := cjson.Lookup(offer.Content, "public_keys")
	_ = cjson.Array(list, func(elem []byte) bool {
		if val, ok := cjson.Lookup(elem, "public_key"); ok {
			add(val)
		}
		return len(keys) < maxVerify
	})
	return keys
}

// signedByAny says whether any signature of the object was made with any of the
// keys. Spec: appendices, checking for a signature.
func signedByAny(signed []byte, keys []ed25519.PublicKey) bool {
	text, ok := withoutSignatures(signed)
	if !ok {
		return false
	}
	tries, verified := 0, false
	try := func(name, val []byte) bool {
		if !bytes.HasPrefix(name, []byte("ed25519:")) {
			return true
		}
		b64, _ := cjson.String(val)
		sig, ok := decode64(b64)
		if !ok || len(sig) != ed25519.SignatureSize {
			return true
		}
		for _, key := range keys {
			if tries++; tries > maxVerify {
				return false
			}
			if ed25519.Verify(key, text, sig) {
				verified = true
				return false
			}
		}
		return true
	}
	servers, _ := cjson.Lookup(signed, "signatures")
	_ = cjson.Object(servers, func(_, byKey []byte) bool {
		_ = cjson.Object(byKey, try)
		return !verified && tries <= maxVerify
	})
	return verified
}

// withoutSignatures is the text that was signed. The object is part of an event and
// so canonical already; what remains of it stays canonical.
func withoutSignatures(obj []byte) ([]byte, bool) {
	text := append(make([]byte, 0, len(obj)), '{')
	err := cjson.Object(obj, func(key, val []byte) bool {
		if string(key) == "signatures" || string(key) == "unsigned" {
			return true
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = cjson.AppendString(text, string(key))
		text = append(text, ':')
		text = append(text, val...)
		return true
	})
	return append(text, '}'), err == nil
}

// decode64 reads base64 in either alphabet, padded or not.
func decode64(s string) ([]byte, bool) {
	for len(s) > 0 && s[len(s)-1] == '=' {
		s = s[:len(s)-1]
	}
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		b, err = base64.RawURLEncoding.DecodeString(s)
	}
	return b, err == nil
}
