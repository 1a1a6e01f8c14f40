package identity

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// access is the row of an access token.
type access struct {
	User mxid.UserID `json:"user"`
	Time int64       `json:"time"`
}

// tokenLife is how long an access token serves. Clients get another by
// themselves.
const tokenLife = 90 * 24 * time.Hour

// maxTokens bounds those of all users: servers can make up users.
const maxTokens = 200_000

func tokenKey(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return append(store.IdentityToken.Prefix(), h[:]...)
}

// Register gives a user, who has proved to be that, an access token.
// Spec: identity service, POST /account/register.
//
// Error: Limit where too many are given out.
func (s *Records) Register(user mxid.UserID) (string, error) {
	if s.tokens.Add(1) > maxTokens {
		s.tokens.Add(-1)
		return "", fault.Wait("identity.Register", longWait)
	}
	token := random(32)
	b := s.st.NewBatch()
	if err := put(b, tokenKey(token), &access{User: user, Time: s.millis()}); err != nil {
		b.Drop()
		return "", err
	}
	return token, s.st.Commit(b)
}

// Account says whose access token it is. Error: UnknownToken.
// Spec: identity service, GET /account.
func (s *Records) Account(token string) (mxid.UserID, error) {
	var row access
	ok, err := s.row(tokenKey(token), &row)
	if err == nil && (!ok || s.millis()-row.Time > tokenLife.Milliseconds()) {
		err = fault.E(fault.UnknownToken, "identity.Account", "the access token is unknown or has expired")
	}
	return row.User, err
}

// Logout ends an access token. Spec: identity service, POST /account/logout.
func (s *Records) Logout(token string) error {
	b := s.st.NewBatch()
	b.Frees()
	b.Delete(tokenKey(token))
	err := s.st.Commit(b)
	if err == nil {
		s.tokens.Add(-1)
	}
	return err
}

func termsKey(user mxid.UserID, url string) []byte {
	h := sha256.Sum256([]byte(url))
	return append(append(append(store.IdentityTerms.Prefix(), user...), 0), h[:]...)
}

// Accept notes that a user accepts terms. Spec: identity service, POST /terms.
func (s *Records) Accept(user mxid.UserID, urls []string) error {
	b := s.st.NewBatch()
	for _, url := range urls {
		b.Set(termsKey(user, url), store.U64(nil, uint64(s.millis())))
	}
	return s.st.Commit(b)
}

// Accepted says whether a user has accepted terms.
func (s *Records) Accepted(user mxid.UserID, url string) (bool, error) {
	return s.st.Has(termsKey(user, url))
}

// sweep removes what has outlived its time.
func (s *Records) sweep() error {
	now := s.millis()
	b := s.st.NewBatch()
	b.Frees()
	tokens := int64(0)
	err := s.st.ScanPrefix(store.IdentityToken.Prefix(), func(key, val []byte) (bool, error) {
		var row access
		if err := json.Unmarshal(val, &row); b.Bytes() < 1<<20 && (err != nil || now-row.Time > tokenLife.Milliseconds()) {
			b.Delete(key)
		} else {
			tokens++
		}
		return true, nil
	})
	s.tokens.Store(tokens)
	if err == nil {
		err = s.st.ScanPrefix(store.IdentityInvite.Prefix(), func(key, val []byte) (bool, error) {
			var row invite
			if err := json.Unmarshal(val, &row); err != nil || now-row.Time > inviteLife.Milliseconds() {
				b.Delete(key)
				b.Delete(invitedKey(row.Key, string(key[1:])))
				b.Delete(ephemeralKey(row.Public))
			}
			return b.Bytes() < 1<<20, nil
		})
	}
	if err != nil || b.Empty() {
		b.Drop()
		return err
	}
	return s.st.Commit(b)
}
