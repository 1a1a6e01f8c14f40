package event

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// The ways in which a signature is not one.
var (
	errNoSignature  = errors.New("no such signature")
	errBadSignature = errors.New("signature is not base64 of 64 bytes")
	errForged       = errors.New("signature does not fit")
	errBadKey       = errors.New("public key has not 32 bytes")
	errJSON         = errors.New("not a JSON object")
)

// SigningBytes appends the bytes that signatures of the event cover: what
// redaction leaves, without signatures. Who checks several signatures makes them
// once and uses VerifyBytes. Spec: server-server, Validating hashes and signatures
// on received events.
func (e *Event) SigningBytes(dst []byte) []byte {
	out, err := e.Version.appendRedacted(dst, e.JSON, false)
	if err != nil {
		panic("event: kept JSON is not an object")
	}
	return out
}

// Signature is one signature found on an object.
type Signature struct {
	KeyID string // "ed25519:name"
	Sig   []byte // 64 bytes as claimed
}

// Signatures lists the ed25519 signatures of one server (or user) on a JSON object
// or event. Such as are not base64 of 64 bytes are left out, unlike other
// algorithms they then count as missing. Spec: appendices, Checking for a
// Signature.
func Signatures(json []byte, server string) []Signature {
	var list []Signature
	of, ok := cjson.LookupPath(json, "signatures", server)
	if !ok {
		return nil
	}
	_ = cjson.Object(of, func(key, val []byte) bool {
		text, isString := cjson.String(val)
		if !isString || !strings.HasPrefix(string(key), "ed25519:") {
			return true
		}
		if sig, ok := decode64(text); ok && len(sig) == ed25519.SignatureSize {
			list = append(list, Signature{KeyID: string(key), Sig: sig})
		}
		return true
	})
	return list
}

// Signers lists the servers that must have signed the event: the sender's; in
// versions 1 and 2 the one that gave the event its id; and the one that let the
// sender into a restricted room. An invite by way of a third party is sent by
// whatever server the invited address belongs to, so its sender's server has not
// signed it: package auth judges what the third party has. Spec: server-server,
// Validating hashes and signatures on received events; rooms v8, Signing key
// validity period and restricted joins.
func (e *Event) Signers() []mxid.Server {
	list := make([]mxid.Server, 0, 2)
	add := func(s mxid.Server) {
		if s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	membership := ""
	if e.Type == "m.room.member" && e.IsState {
		membership, _ = cjson.LookupString(e.Content, "membership")
	}
	_, thirdParty := cjson.Lookup(e.Content, "third_party_invite")
	if membership != "invite" || !thirdParty {
		add(e.Sender.Server())
	}
	if e.Version.IDs == IDInEvent {
		add(e.ID.Server())
	}
	if membership == "join" && e.Version.Restricted {
		by, _ := cjson.LookupString(e.Content, "join_authorised_via_users_server")
		add(mxid.UserID(by).Server())
	}
	return list
}

// VerifyBytes checks one signature over bytes. It accepts exactly what package
// crypto/ed25519 accepts.
func VerifyBytes(text, sig []byte, pub ed25519.PublicKey) error {
	switch {
	case len(pub) != ed25519.PublicKeySize:
		return errBadKey
	case len(sig) != ed25519.SignatureSize:
		return errBadSignature
	case !ed25519.Verify(pub, text, sig):
		return errForged
	}
	return nil
}

// signatureOf finds one signature.
func signatureOf(json []byte, server, keyID string) ([]byte, error) {
	val, ok := cjson.LookupPath(json, "signatures", server, keyID)
	if !ok {
		return nil, errNoSignature
	}
	text, ok := cjson.String(val)
	if !ok {
		return nil, errBadSignature
	}
	sig, ok := decode64(text)
	if !ok || len(sig) != ed25519.SignatureSize {
		return nil, errBadSignature
	}
	return sig, nil
}

// Verify checks that the event bears a server's signature by the key.
func (e *Event) Verify(server mxid.Server, keyID string, pub ed25519.PublicKey) error {
	sig, err := signatureOf(e.JSON, string(server), keyID)
	if err != nil {
		return err
	}
	var buf scratch
	return VerifyBytes(e.SigningBytes(buf[:0]), sig, pub)
}

// Sign gives the event with one more signature; one by the same key is replaced.
// Id and hashes stay. It serves where two servers sign: restricted joins and
// invites.
func (e *Event) Sign(s *Signer) (*Event, error) {
	json, err := addSignature(e.JSON, s, ed25519.Sign(s.Key, e.SigningBytes(nil)))
	if err != nil {
		return nil, err
	}
	return ParseAs(e.Version, json, e.ID)
}

// WithSignature is the event with a signature that somebody else has made. It is
// not checked.
func (e *Event) WithSignature(server mxid.Server, keyID string, sig []byte) (*Event, error) {
	json, err := addSignature(e.JSON, &Signer{Server: server, KeyID: keyID}, sig)
	if err != nil {
		return nil, err
	}
	return ParseAs(e.Version, json, e.ID)
}

// SignJSON appends a JSON object with one more signature on it, in canonical form.
// unsigned and other signatures stay and are not covered. Spec: appendices,
// Signing Details.
func SignJSON(dst, obj []byte, s *Signer) ([]byte, error) {
	json, text, err := signedText(obj)
	if err != nil {
		return dst, err
	}
	json, err = addSignature(json, s, ed25519.Sign(s.Key, text))
	if err != nil {
		return dst, err
	}
	return append(dst, json...), nil
}

// VerifyJSON checks that a JSON object bears the signature of a server, or of
// whatever else names itself in signatures, by the key.
func VerifyJSON(obj []byte, server, keyID string, pub ed25519.PublicKey) error {
	json, text, err := signedText(obj)
	if err != nil {
		return err
	}
	sig, err := signatureOf(json, server, keyID)
	if err != nil {
		return err
	}
	return VerifyBytes(text, sig, pub)
}

// SigningText gives the bytes that signatures of a JSON object cover, for who
// checks them by VerifyBytes or faster. Spec: appendices, Checking for a
// Signature.
func SigningText(obj []byte) ([]byte, error) {
	_, text, err := signedText(obj)
	return text, err
}

// signedText is an object in canonical form, and its part that is signed.
func signedText(obj []byte) (json, text []byte, err error) {
	json, err = cjson.Canonical(nil, obj, false)
	if err != nil {
		return nil, nil, err
	}
	text, err = appendWithout(nil, json, func(key []byte) bool {
		return string(key) == "signatures" || string(key) == "unsigned"
	})
	if err != nil {
		return nil, nil, errJSON
	}
	return json, text, nil
}

// addSignature puts a signature on a canonical object. The new text goes behind
// what is there, since the last of equal keys wins and Canonical sorts.
func addSignature(json []byte, s *Signer, sig []byte) ([]byte, error) {
	all, _ := cjson.Lookup(json, "signatures")
	own, _ := cjson.Lookup(all, string(s.Server))
	mine := cjson.AppendString(nil, base64.RawStdEncoding.EncodeToString(sig))
	own = withMember(own, s.KeyID, mine)
	all = withMember(all, string(s.Server), own)
	return cjson.Canonical(nil, withMember(json, "signatures", all), false)
}

// withMember is a copy of an object with one more member behind; what is no object
// counts as an empty one.
func withMember(obj []byte, key string, val []byte) []byte {
	out := []byte{'{'}
	if cjson.KindOf(obj) == cjson.ObjectKind {
		out = append(out[:0], obj[:len(obj)-1]...)
	}
	if len(out) > 1 {
		out = append(out, ',')
	}
	out = cjson.AppendString(out, key)
	out = append(out, ':')
	out = append(out, val...)
	return append(out, '}')
}

// Complete turns a template from another server, or any event without hashes, into
// an event of ours: hashes, id and signature are made anew, everything else stays
// as it is. Spec: server-server, Joining Rooms.
func Complete(v *Version, template []byte, s *Signer) (*Event, error) {
	json, err := clean(v, template)
	if err != nil {
		return nil, err
	}
	if json, err = hashAndSign(v, json, s); err != nil {
		return nil, badEvent(err)
	}
	if json, err = clean(v, json); err != nil { // for its size
		return nil, err
	}
	return accept(v, json, MaxPrev, MaxAuth)
}

// hashAndSign puts hashes and a signature on a canonical event that has none or
// loses those it has.
func hashAndSign(v *Version, json []byte, s *Signer) ([]byte, error) {
	hash, err := ContentHash(json)
	if err != nil {
		return nil, err
	}
	hashes := []byte(`{"sha256":"`)
	hashes = base64.RawStdEncoding.AppendEncode(hashes, hash[:])
	hashes = append(hashes, `"}`...)
	json = withMember(json, "hashes", hashes)
	json, err = cjson.Canonical(nil, withMember(json, "signatures", []byte(`{}`)), false)
	if err != nil {
		return nil, err
	}
	text, err := v.appendRedacted(nil, json, false)
	if err != nil {
		return nil, err
	}
	return addSignature(json, s, ed25519.Sign(s.Key, text))
}
