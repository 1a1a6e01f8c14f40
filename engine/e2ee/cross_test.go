package e2ee

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/stream"
)

// signer is a user's cross-signing keys, made from seeds.
type signer struct {
	owner   Owner
	private map[Usage]ed25519.PrivateKey
}

func signerOf(o Owner, seed byte) *signer {
	s := &signer{o, map[Usage]ed25519.PrivateKey{}}
	for _, u := range usages {
		s.private[u] = ed25519.NewKeyFromSeed([]byte(strings.Repeat(string('A'+rune(seed)*4+rune(u)), ed25519.SeedSize)))
	}
	return s
}

func (s *signer) id(u Usage) string {
	return base64.RawStdEncoding.EncodeToString(s.private[u].Public().(ed25519.PublicKey))
}

// bare is a key without signatures.
func (s *signer) bare(u Usage) string {
	return fmt.Sprintf(`{"user_id":%q,"usage":[%q],"keys":{"ed25519:%s":%q}}`, s.owner.UserID, u, s.id(u), s.id(u))
}

// by is the object with a signature by a key of that id.
func by(t *testing.T, obj string, user mxid.UserID, id string, key ed25519.PrivateKey) string {
	t.Helper()
	o, _, err := parseObject("", []byte(obj), user)
	must(t, err)
	sig := base64.RawStdEncoding.EncodeToString(ed25519.Sign(key, o.core))
	out := fmt.Sprintf(`%s,"signatures":{%q:{"ed25519:%s":%q}}}`, obj[:len(obj)-1], user, id, sig)
	canonical, err := cjson.Canonical(nil, []byte(out), false)
	must(t, err)
	return string(canonical)
}

func (s *signer) key(t *testing.T, u Usage) string {
	if u == Master {
		return s.bare(u)
	}
	return by(t, s.bare(u), s.owner.UserID, s.id(Master), s.private[Master])
}

func (s *signer) body(t *testing.T, list ...Usage) string {
	out := `{"auth":{}`
	for _, u := range list {
		out += fmt.Sprintf(`,"%s_key":%s`, u, s.key(t, u))
	}
	return out + "}"
}

func (h *hub) cross(o Owner, body string) (needed bool, err error) {
	c, err := ParseCrossKeys(o.UserID, []byte(body))
	if err != nil {
		return false, err
	}
	needed, err = h.NeedsProof(o.User, c)
	must(h.t, err)
	changed, err := h.CheckCrossKeys(o.User, c)
	if err != nil || !changed {
		return needed, err
	}
	_, err = h.log.Commit(func(tx *stream.Tx) error { return h.PutCrossKeys(tx, o.User, c) })
	return needed, err
}

func (h *hub) crossShown(o Owner, asker uint32, u Usage) string {
	h.t.Helper()
	dst, ok, err := h.AppendCrossKey(nil, o.User, o.UserID, asker, u)
	must(h.t, err)
	if ok != (len(dst) > 0) || ok && !json.Valid(dst) {
		h.t.Fatal(ok, string(dst))
	}
	return string(dst)
}

func TestCrossKeysAreChecked(t *testing.T) {
	h := fresh(t)
	o := device(1, 1)
	s, other := signerOf(o, 0), signerOf(device(2, 1), 1)
	for body, kind := range map[string]fault.Kind{
		`{}`:                   fault.Missing,
		`{"master_key":[{}]}`:  fault.BadJSON,
		`{"master_key":{}}`:    fault.BadJSON,
		s.body(t, SelfSigning): fault.Missing,
		other.body(t, Master):  fault.Invalid,
		`{"master_key":` + s.bare(SelfSigning) + `}`:                                                fault.BadJSON,
		`{"master_key":{"user_id":"@a:hub","usage":["master"],"keys":{}}}`:                          fault.Invalid,
		`{"master_key":{"user_id":"@a:hub","usage":["master"],"keys":{"ed25519:x":"x"}}}`:           fault.Invalid,
		`{"master_key":{"user_id":"@a:hub","usage":["master"],"keys":{"ed25519:x":"y","a:b":"b"}}}`: fault.Invalid,
		`{"master_key":` + s.bare(Master) + `,"self_signing_key":` + s.bare(SelfSigning) + `}`:      fault.BadSignature,
		`{"master_key":` + s.bare(Master) + `,"user_signing_key":` +
			by(t, s.bare(UserSigning), o.UserID, s.id(Master), s.private[SelfSigning]) + `}`: fault.BadSignature,
	} {
		if _, err := h.cross(o, body); !fault.Is(err, kind) {
			t.Errorf("%s: %v, want kind %d", body, err, kind)
		}
	}
}

func TestCrossKeys(t *testing.T) {
	h := fresh(t)
	o := device(1, 1)
	s, anew := signerOf(o, 0), signerOf(o, 2)
	// The first upload and the same again need no proof; anything new does.
	for i, c := range []struct {
		body   string
		needed bool
	}{
		{s.body(t, Master), false},
		{s.body(t, Master), false},
		{s.body(t, Master, SelfSigning), true},
		{s.body(t, UserSigning), true},
		{s.body(t, Master, SelfSigning, UserSigning), false},
		{anew.body(t, Master), true},
	} {
		if needed, err := h.cross(o, c.body); err != nil || needed != c.needed {
			t.Fatal(i, needed, err)
		}
	}
	if got := h.crossShown(o, 2, Master); !strings.Contains(got, anew.id(Master)) {
		t.Fatal(got)
	}
	// The others were signed by the master key that is gone.
	if h.crossShown(o, 1, SelfSigning) != "" || h.crossShown(o, 1, UserSigning) != "" {
		t.Fatal("keys of a master key that is gone are shown")
	}
	if _, err := h.cross(o, anew.body(t, SelfSigning, UserSigning)); err != nil {
		t.Fatal(err)
	}
	if h.crossShown(o, 2, SelfSigning) == "" || h.crossShown(o, 1, UserSigning) == "" {
		t.Fatal("a key is missing")
	}
	if h.crossShown(o, 2, UserSigning) != "" || h.crossShown(o, 0, UserSigning) != "" {
		t.Fatal("others see the user-signing key")
	}
	if is, err := h.IsCrossKey(1, anew.id(SelfSigning)); !is || err != nil {
		t.Fatal(is, err)
	}
	if is, err := h.IsCrossKey(1, s.id(SelfSigning)); is || err != nil {
		t.Fatal(is, err)
	}
}

func (h *hub) sign(o Owner, body string) *Signatures {
	h.t.Helper()
	list, err := ParseSignatures([]byte(body))
	must(h.t, err)
	s, err := h.CheckSignatures(o.User, o.UserID, list)
	must(h.t, err)
	_, err = h.log.Commit(func(tx *stream.Tx) error {
		h.PutSignatures(tx, s, tx.Next())
		tx.Put(&stream.Entry{Kind: stream.Devices, User: o.User})
		return nil
	})
	must(h.t, err)
	return s
}

func TestSignatures(t *testing.T) {
	h := fresh(t)
	o, friend := device(1, 1), device(2, 1)
	s, f := signerOf(o, 0), signerOf(friend, 1)
	deviceKey := ed25519.NewKeyFromSeed([]byte(strings.Repeat("d", ed25519.SeedSize)))
	bare := fmt.Sprintf(`{"user_id":%q,"device_id":%q,"algorithms":[],"keys":{"ed25519:DEV1":%q}}`, o.UserID, o.Device,
		base64.RawStdEncoding.EncodeToString(deviceKey.Public().(ed25519.PublicKey)))
	must(t, h.upload(o, `{"device_keys":`+by(t, bare, o.UserID, "DEV1", deviceKey)+`}`))
	for _, k := range []*signer{s, f} {
		_, err := h.cross(k.owner, k.body(t, Master, SelfSigning, UserSigning))
		must(t, err)
	}
	at := h.log.Tip()
	byMe := func(obj string, id string, key ed25519.PrivateKey) string { return by(t, obj, o.UserID, id, key) }
	onDevice := byMe(bare, s.id(SelfSigning), s.private[SelfSigning])
	good := fmt.Sprintf(`{"@a:hub":{"DEV1":%s,%q:%s},"@b:hub":{%q:%s}}`,
		onDevice,
		s.id(Master), byMe(s.bare(Master), "DEV1", deviceKey),
		f.id(Master), byMe(f.bare(Master), s.id(UserSigning), s.private[UserSigning]))
	got := h.sign(o, good)
	if len(got.Failed) != 0 || !got.Own.Any() || len(got.others) != 1 {
		t.Fatalf("%+v", got)
	}
	if again := h.sign(o, good); again.Any() || again.Own.Any() {
		t.Fatalf("%+v", again)
	}
	if shown := h.shown(o); !strings.Contains(shown, `"ed25519:DEV1":"`) || !strings.Contains(shown, "ed25519:"+s.id(SelfSigning)) {
		t.Fatal(shown)
	}
	if shown := h.crossShown(o, 2, Master); !strings.Contains(shown, `"ed25519:DEV1":"`) {
		t.Fatal(shown)
	}
	for asker, sees := range map[uint32]bool{0: false, 1: true, 2: false, 3: false} {
		if shown := h.crossShown(friend, asker, Master); strings.Contains(shown, s.id(UserSigning)) != sees {
			t.Fatal(asker, shown)
		}
	}
	var signed []uint32
	must(t, h.SignedSince(1, at, h.log.Tip(), func(u uint32) { signed = append(signed, u) }))
	if len(signed) != 1 || signed[0] != 2 {
		t.Fatal(signed)
	}

	bad := fmt.Sprintf(`{"@a:hub":{"DEV1":%s,"NONE":%s,%q:%s},"@b:hub":{%q:%s,"DEV1":{}},"@nobody:hub":{"x":{}}}`,
		byMe(bare, s.id(SelfSigning), deviceKey), onDevice,
		s.id(Master), byMe(strings.Replace(s.bare(Master), "master", "masters", 1), "DEV1", deviceKey),
		f.id(Master), byMe(f.bare(Master), s.id(SelfSigning), s.private[SelfSigning]))
	got = h.sign(o, bad)
	want := []fault.Kind{fault.BadSignature, fault.NotFound, fault.Invalid, fault.BadSignature, fault.NotFound, fault.NotFound}
	if got.Any() || len(got.Failed) != len(want) {
		t.Fatalf("%+v", got)
	}
	kinds := map[fault.Kind]int{}
	for i := range want {
		kinds[want[i]]++
		kinds[fault.KindOf(got.Failed[i].Err)]--
	}
	for k, n := range kinds {
		if n != 0 {
			t.Fatal(k, n)
		}
	}
	// Other keys under the same name lose the signatures on the old ones, a new
	// self-signing key those that the old one made.
	anew := signerOf(o, 2)
	_, err := h.cross(o, anew.body(t, Master, SelfSigning, UserSigning))
	must(t, err)
	if shown := h.shown(o); strings.Contains(shown, s.id(SelfSigning)) || !strings.Contains(shown, "ed25519:DEV1") {
		t.Fatal(shown)
	}
	if shown := h.crossShown(friend, 1, Master); strings.Contains(shown, s.id(UserSigning)) {
		t.Fatal(shown)
	}
}

func TestParseSignatures(t *testing.T) {
	for _, body := range []string{`{"@a:hub":[]}`, `{"@a:hub":{"x":1}}`, `{"@a:hub":1}`} {
		_, err := ParseSignatures([]byte(body))
		wants(t, err, fault.BadJSON)
	}
}
