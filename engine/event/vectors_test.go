package event

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// testSigner signs with the key of the specification's vectors.
func testSigner(t testing.TB) *Signer {
	t.Helper()
	seed, err := base64.RawStdEncoding.DecodeString("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{Server: "domain", KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(seed)}
}

func public(s *Signer) ed25519.PublicKey { return s.Key.Public().(ed25519.PublicKey) }

func TestSpecVectors(t *testing.T) {
	type pair struct{ Input, Signed json.RawMessage }
	var v struct {
		Seed   string `json:"signing_key_seed_base64"`
		Public string `json:"public_key_base64"`
		Server string `json:"server_name"`
		KeyID  string `json:"key_id"`
		JSON   []pair `json:"json_signing"`
		Events []pair `json:"event_signing"`
	}
	file, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(file, &v)
	}
	if err != nil || len(v.JSON) != 2 || len(v.Events) != 2 {
		t.Fatal("vectors are missing", err)
	}
	seed, _ := decode64(v.Seed)
	s := &Signer{Server: mxid.Server(v.Server), KeyID: v.KeyID, Key: ed25519.NewKeyFromSeed(seed)}
	if got := base64.RawStdEncoding.EncodeToString(public(s)); got != v.Public {
		t.Errorf("public key %s, want %s", got, v.Public)
	}
	for _, p := range v.JSON {
		got, err := SignJSON(nil, p.Input, s)
		if want, _ := cjson.Canonical(nil, p.Signed, true); err != nil || string(got) != string(want) {
			t.Errorf("got %s, %v\nwant %s", got, err, want)
		}
		if err := VerifyJSON(got, v.Server, v.KeyID, public(s)); err != nil {
			t.Error(err)
		}
	}
	for i, p := range v.Events {
		for _, name := range [][]string{{"1", "2", "3", "6", "10"}, {"1", "2"}}[i] {
			ver := LookupVersion(name)
			in, err := cjson.Canonical(nil, p.Input, true)
			if err != nil {
				t.Fatal(err)
			}
			got, err := hashAndSign(ver, in, s)
			if want, _ := cjson.Canonical(nil, p.Signed, true); err != nil || string(got) != string(want) {
				t.Errorf("version %s: got %s, %v\nwant %s", name, got, err, want)
			}
		}
	}
}
