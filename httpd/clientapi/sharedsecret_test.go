package clientapi

import (
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"
)

// proven builds the body of a registration with a right mac.
func proven(t *testing.T, secret, nonce, name string, admin bool) string {
	t.Helper()
	password := pw
	q := sharedRegistration{Nonce: &nonce, Username: &name, Password: &password, Admin: admin}
	mac := hex.EncodeToString(q.proof([]byte(secret)))
	q.MAC = &mac
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestSharedSecret(t *testing.T) {
	const secret = "sixteen bytes and more"
	h := startWith(t, Options{Registration: Closed, Secret: []byte(secret)})
	nonce := func() string { return h.want(200, "", "GET", sharedPath, "", "").str("nonce") }

	a := h.want(200, "", "POST", sharedPath, "", proven(t, secret, nonce(), "Set-Up", false))
	if a.str("user_id") != "@set-up:hub.test" {
		t.Error(a.body)
	}
	h.want(200, "", "GET", v3+"/account/whoami", a.str("access_token"), "")
	once := nonce()
	body := proven(t, secret, once, "boss", true)
	h.want(200, "", "POST", sharedPath, "", body)
	if u, err := h.e.Accounts.Find("@boss:hub.test"); err != nil || u == 0 {
		t.Error(u, err)
	}
	h.want(400, "M_USER_IN_USE", "POST", sharedPath, "", body)

	h.want(403, "M_FORBIDDEN", "POST", sharedPath, "", proven(t, "another secret of some length", nonce(), "eve", false))
	h.want(400, "M_INVALID_USERNAME", "POST", sharedPath, "", proven(t, secret, nonce(), "us,er", false))
	h.want(400, "M_INVALID_PARAM", "POST", sharedPath, "", proven(t, secret, "00", "eve", false))
	h.want(400, "M_INVALID_PARAM", "POST", sharedPath, "", proven(t, secret, once[:len(once)-2]+"zz", "eve", false))
	h.want(400, "M_MISSING_PARAM", "POST", sharedPath, "", `{"nonce":""}`)
	h.want(400, "M_BAD_JSON", "POST", sharedPath, "", `{"nonce":1}`)
}

func TestNonce(t *testing.T) {
	s, now := newSharedSecret([]byte("x")), time.UnixMilli(1e12)
	n := s.nonce(now)
	if !s.fresh(n, now) || !s.fresh(n, now.Add(nonceLife-1)) || s.fresh(n, now.Add(nonceLife)) || s.fresh(n, now.Add(-1)) {
		t.Error("life of a nonce")
	}
	if newSharedSecret([]byte("x")).fresh(n, now) {
		t.Error("a nonce of another start is good")
	}
}

func TestNoSharedSecret(t *testing.T) {
	start(t, Anyone).want(404, "M_UNRECOGNIZED", "GET", sharedPath, "", "")
}
