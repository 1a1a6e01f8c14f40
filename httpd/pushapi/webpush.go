package pushapi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// makeKeys derives what the gateway signs and seals with from its one secret, so
// that a backup of that is a backup of all.
func (g *Gateway) makeKeys() error {
	if len(g.o.Secret) < 32 {
		return errors.New("pushapi: the gateway needs a secret of 32 bytes")
	}
	var err error
	if g.sealing, err = hkdf.Key(sha256.New, g.o.Secret, nil, "hearth push endpoints", 32); err != nil {
		return fmt.Errorf("pushapi: %w", err)
	}
	for i := byte(0); ; i++ { // one number in 2^32 is no key
		raw, err := hkdf.Key(sha256.New, g.o.Secret, []byte{i}, "hearth vapid", 32)
		if err != nil {
			return fmt.Errorf("pushapi: %w", err)
		}
		if g.vapid, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err == nil {
			break
		}
	}
	point, err := g.vapid.PublicKey.Bytes()
	if err != nil {
		return fmt.Errorf("pushapi: %w", err)
	}
	g.point = base64.RawURLEncoding.EncodeToString(point)
	return nil
}

const (
	// recordSize is the longest message that every push service takes.
	// Spec: RFC 8030, section 7.2.
	recordSize = 4096
	// maxPlain leaves room for header, tag and delimiter.
	maxPlain   = recordSize - headerSize - 16 - 1
	headerSize = 16 + 4 + 1 + 65
	vapidLife  = 12 * time.Hour
)

// webPush tells a browser. Spec: RFC 8030, RFC 8291, RFC 8292.
func (g *Gateway) webPush(ctx context.Context, n *notification, d *device) error {
	if n.idle(d) {
		return nil
	}
	u, err := url.Parse(d.Data.Endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" || len(d.Data.Endpoint) > 2048 {
		return errRejected
	}
	point := d.Data.Point
	if point == "" {
		point = d.Key
	}
	sealed, err := seal(point, d.Data.Auth, n.payload(d, maxPlain))
	if err != nil {
		return errRejected
	}
	claims := object{'{'}
	claims.text("aud", u.Scheme+"://"+u.Host)
	claims.raw("exp", strconv.AppendInt(nil, g.o.Now().Add(vapidLife).Unix(), 10))
	claims.text("sub", g.o.Contact)
	token, err := es256(g.vapid, "", claims.end())
	if err != nil {
		return err
	}
	header := map[string]string{
		"Authorization": "vapid t=" + token + ",k=" + g.point, "Content-Type": "application/octet-stream", "Content-Encoding": "aes128gcm",
		"TTL": strconv.Itoa(int(n.life() / time.Second)), "Urgency": "high",
	}
	if !n.urgent() {
		header["Urgency"] = "low"
	}
	if d.Data.LastOnly && n.Room != "" {
		h := sha256.Sum256([]byte(n.Room))
		header["Topic"] = base64.RawURLEncoding.EncodeToString(h[:24]) // 32 characters at most
	}
	a, err := g.o.Ask(ctx, &Request{Method: "POST", URL: d.Data.Endpoint, Header: header, Body: sealed})
	if err != nil {
		return err
	}
	if a.Status == 401 || a.Status == 403 {
		return errRejected // the subscription was made for another server's key
	}
	return judge(a, g.o.Now())
}

// seal encrypts a message for a browser, by its public key and its secret in
// base64, in one record. Spec: RFC 8291, section 3.4; RFC 8188.
func seal(point, auth string, plain []byte) ([]byte, error) {
	secret, err := decode64(auth)
	if err != nil || len(secret) != 16 {
		return nil, errors.New("the secret of the subscription has not 16 bytes")
	}
	raw, err := decode64(point)
	if err != nil {
		return nil, err
	}
	to, err := ecdh.P256().NewPublicKey(raw)
	if err != nil {
		return nil, err
	}
	from, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	var salt [16]byte
	rand.Read(salt[:]) // never fails
	return sealWith(from, to, [2][]byte{secret, salt[:]}, plain)
}

// sealWith is seal by a given key, and by the secret and the salt.
func sealWith(from *ecdh.PrivateKey, to *ecdh.PublicKey, auth [2][]byte, plain []byte) ([]byte, error) {
	shared, err := from.ECDH(to)
	if err != nil {
		return nil, err
	}
	mine := from.PublicKey().Bytes()
	info := "WebPush: info\x00" + string(to.Bytes()) + string(mine)
	ikm, err := hkdf.Key(sha256.New, shared, auth[0], info, 32)
	if err != nil {
		return nil, err
	}
	prk, err := hkdf.Extract(sha256.New, ikm, auth[1])
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, headerSize+len(plain)+17), auth[1]...)
	out = binary.BigEndian.AppendUint32(out, recordSize)
	out = append(append(out, byte(len(mine))), mine...)
	last := append(append(make([]byte, 0, len(plain)+1), plain...), 2) // 2 ends the last record
	return box.Seal(out, nonce, last, nil), nil
}

// decode64 reads base64 in either alphabet, padded or not.
func decode64(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if b, err := base64.RawURLEncoding.DecodeString(s); err == nil {
		return b, nil
	}
	return base64.RawStdEncoding.DecodeString(s)
}
