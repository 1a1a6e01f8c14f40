package pushapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
)

// The tokens by which push services know who asks: JSON web tokens, in the two
// algorithms that they want. Spec: RFC 7519, RFC 7515.

func unsigned(alg, key string, claims []byte) []byte {
	head := object{'{'}
	head.text("typ", "JWT")
	head.text("alg", alg)
	head.text("kid", key)
	out := base64.RawURLEncoding.AppendEncode(nil, head.end())
	return base64.RawURLEncoding.AppendEncode(append(out, '.'), claims)
}

// es256 signs claims by a key on the curve P-256; name is the key's id, if it has one.
func es256(key *ecdsa.PrivateKey, name string, claims []byte) (string, error) {
	text := unsigned("ES256", name, claims)
	hash := sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		return "", fmt.Errorf("pushapi: %w", err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return string(base64.RawURLEncoding.AppendEncode(append(text, '.'), sig[:])), nil
}

// rs256 signs claims by an RSA key.
func rs256(key *rsa.PrivateKey, name string, claims []byte) (string, error) {
	text := unsigned("RS256", name, claims)
	hash := sha256.Sum256(text)
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:])
	if err != nil {
		return "", fmt.Errorf("pushapi: %w", err)
	}
	return string(base64.RawURLEncoding.AppendEncode(append(text, '.'), sig)), nil
}

// privateKey reads a key in PEM, as both companies hand theirs out.
func privateKey(text []byte) (any, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no key in PEM form")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key, nil
}
