package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
)

// unreserved are the characters of a code verifier. Spec: RFC 7636, 4.1.
const unreserved = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"

// IsChallenge says whether a text can be an S256 code challenge.
func IsChallenge(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == sha256.Size && !strings.ContainsAny(s, "\r\n")
}

// Verifies says whether the verifier is the one that the challenge was made of.
// Spec: RFC 7636, 4.6.
func Verifies(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || strings.Trim(verifier, unreserved) != "" {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}

// userLetters are those of a code that people type: without vowels, so that no
// words come of them. Spec: RFC 8628, 6.1.
const userLetters = "BCDFGHJKLMNPQRSTVWXZ"

// userCode is how many letters it has: 34 bits. Whoever guesses is signed in,
// and may be wrong a few times only.
const userCode = 8

// NewUserCode makes a code of random bytes; ok is false where they have to be
// drawn again, so that each letter is as likely as the others.
func NewUserCode(random [userCode]byte) (code string, ok bool) {
	b := make([]byte, 0, userCode+1)
	for i, c := range random {
		if c >= 240 {
			return "", false
		}
		if i == userCode/2 {
			b = append(b, '-')
		}
		b = append(b, userLetters[c%20])
	}
	return string(b), true
}

// ParseUserCode reads a code as people type it: in small letters, without the
// dash, with spaces. Empty where it is none.
func ParseUserCode(s string) string {
	if len(s) > 64 {
		return ""
	}
	b := make([]byte, 0, userCode+1)
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '-' || c == ' ':
			continue
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		if strings.IndexByte(userLetters, c) < 0 || len(b) > userCode {
			return ""
		}
		if len(b) == userCode/2 {
			b = append(b, '-')
		}
		b = append(b, c)
	}
	if len(b) != userCode+1 {
		return ""
	}
	return string(b)
}
