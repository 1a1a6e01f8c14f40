package e2ee

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// hub is the records with a clock that stands still until it is moved.
type hub struct {
	*Records
	t    *testing.T
	time time.Time
}

// open makes users 1 to 3: @a:hub, @b:hub, @c:hub.
func open(t *testing.T, fs store.FS) *hub {
	t.Helper()
	st, err := store.Open(store.Options{Dir: "db", FS: fs})
	must(t, err)
	log, err := stream.Open(st)
	must(t, err)
	names, err := store.OpenNames(st)
	must(t, err)
	h := &hub{t: t, time: time.UnixMilli(1_700_000_000_000)}
	h.Records = Open(st, log, names, Options{Now: func() time.Time { return h.time }})
	for i, name := range []string{"@a:hub", "@b:hub", "@c:hub"} {
		if num, err := names.Number(store.Users, name); err != nil || num != uint32(i+1) {
			t.Fatal(num, err)
		}
	}
	return h
}

func fresh(t *testing.T) *hub {
	h := open(t, vfs.NewMem())
	t.Cleanup(h.close)
	return h
}

func (h *hub) close() { must(h.t, h.st.Close()) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v, want kind %d", err, kind)
	}
}

// device is the n-th device of user u.
func device(u uint32, n uint64) Owner {
	return Owner{User: u, UserID: mxid.UserID("@" + string('a'+rune(u-1)) + ":hub"), Device: fmt.Sprintf("DEV%d", n), Num: uint64(u)<<32 | n}
}

func keysOf(o Owner, key string) string {
	return fmt.Sprintf(`{"user_id":%q,"device_id":%q,"algorithms":["m.olm"],"keys":{"ed25519:%s":%q},"signatures":{%q:{"ed25519:%s":"self"}}}`,
		o.UserID, o.Device, o.Device, key, o.UserID, o.Device)
}

func (h *hub) upload(o Owner, body string) error {
	u, err := ParseUpload(o, []byte(body))
	if err != nil {
		return err
	}
	return h.Upload(u, []uint32{o.User})
}

func (h *hub) counts(o Owner) string {
	h.t.Helper()
	dst, err := h.AppendCounts(nil, o.Num)
	must(h.t, err)
	dst, err = h.AppendUnused(append(dst, ' '), o.Num)
	must(h.t, err)
	return string(dst)
}

// claim gives the key that somebody is given; empty where there is none.
func (h *hub) claim(o Owner, algorithm string) string {
	h.t.Helper()
	list := []Claim{{User: o.UserID, Device: o.Device, Algorithm: algorithm, Num: o.Num}}
	must(h.t, h.Claim(list))
	if list[0].Key == nil {
		return ""
	}
	return list[0].KeyID + " " + string(list[0].Key)
}

func (h *hub) shown(o Owner) string {
	h.t.Helper()
	dst, err := h.AppendDeviceKeys(nil, o.User, o.UserID, []Device{{ID: o.Device, Num: o.Num, Name: "phone"}})
	must(h.t, err)
	return string(dst)
}

func (h *hub) changed(after stream.Pos) (users []uint32) {
	h.t.Helper()
	must(h.t, h.ChangedSince(after, h.log.Tip(), func(u uint32) { users = append(users, u) }))
	return users
}

func TestUploadIsChecked(t *testing.T) {
	h := fresh(t)
	o := device(1, 1)
	for body, kind := range map[string]fault.Kind{
		`{"device_keys":[{}]}`: fault.BadJSON,
		`{"device_keys":{"user_id":"@a:hub","device_id":"DEV1"}}`:                               fault.BadJSON,
		strings.Replace(`{"device_keys":`+keysOf(o, "k")+`}`, `"signatures"`, `"signature"`, 1): fault.BadJSON,
		strings.Replace(`{"device_keys":`+keysOf(o, "k")+`}`, `["m.olm"]`, `"m.olm"`, 1):        fault.BadJSON,
		strings.Replace(`{"device_keys":`+keysOf(o, "k")+`}`, `["m.olm"]`, `["m.olm",1]`, 1):    fault.BadJSON,
		strings.Replace(`{"device_keys":`+keysOf(o, "k")+`}`, `:"k"`, `:{}`, 1):                 fault.BadJSON,
		strings.Replace(`{"device_keys":`+keysOf(o, "k")+`}`, `"self"`, `1`, 1):                 fault.BadJSON,
		`{"device_keys":` + keysOf(device(2, 1), "k") + `}`:                                     fault.Invalid,
		`{"device_keys":` + keysOf(device(1, 2), "k") + `}`:                                     fault.Invalid,
		`{"device_keys":` + keysOf(o, strings.Repeat("k", maxKeyObject)) + `}`:                  fault.TooLarge,
		`{"one_time_keys":[]}`:                                                   fault.BadJSON,
		`{"one_time_keys":{"noid":"k"}}`:                                         fault.BadJSON,
		`{"one_time_keys":{"alg:":"k"}}`:                                         fault.BadJSON,
		`{"one_time_keys":{":id":"k"}}`:                                          fault.BadJSON,
		`{"one_time_keys":{"a:b":1}}`:                                            fault.BadJSON,
		`{"fallback_keys":{"a:1":"k","a:2":"k"}}`:                                fault.Invalid,
		`{"fallback_keys":"a"}`:                                                  fault.BadJSON,
		`{"one_time_keys":{"a:b":"` + strings.Repeat("k", maxOneTimeKey) + `"}}`: fault.BadJSON,
	} {
		if err := h.upload(o, body); !fault.Is(err, kind) {
			t.Errorf("%.200s: %v, want kind %d", body, err, kind)
		}
	}
	if got := h.counts(o); got != "{} []" || h.shown(o) != "{}" {
		t.Fatal(got, h.shown(o))
	}
	must(t, h.upload(o, `{}`))
	must(t, h.upload(o, `{"device_keys":null,"one_time_keys":null}`))
}

func TestDeviceKeys(t *testing.T) {
	h := fresh(t)
	o := device(1, 1)
	body := `{"device_keys":` + keysOf(o, "first") + `}`
	must(t, h.upload(o, body))
	if got := h.changed(0); len(got) != 1 || got[0] != 1 {
		t.Fatal(got)
	}
	at := h.log.Tip()
	must(t, h.upload(o, body))
	must(t, h.upload(o, strings.Replace(body, `{"user_id"`, `{ "unsigned":{"x":1}, "user_id"`, 1)))
	if h.log.Tip() != at {
		t.Fatal("the same keys were told again")
	}
	want := `{"DEV1":{"algorithms":["m.olm"],"device_id":"DEV1","keys":{"ed25519:DEV1":"first"},"user_id":"@a:hub",` +
		`"signatures":{"@a:hub":{"ed25519:DEV1":"self"}},"unsigned":{"device_display_name":"phone"}}}`
	if got := h.shown(o); got != want {
		t.Fatal(got)
	}
	must(t, h.upload(o, strings.Replace(body, "first", "second", 1)))
	if got := h.shown(o); !strings.Contains(got, "second") || len(h.changed(at)) != 1 {
		t.Fatal(got)
	}
	// A device of the same name that came later is another.
	later := o
	later.Num++
	if got := h.shown(later); got != "{}" {
		t.Fatal(got)
	}
	at = h.log.Tip()
	must(t, h.upload(later, strings.Replace(body, "first", "second", 1)))
	if h.shown(o) != "{}" || h.shown(later) == "{}" || len(h.changed(at)) != 1 {
		t.Fatal(h.shown(o), h.shown(later))
	}
	// One row for a user, however often they change.
	must(t, h.upload(later, body))
	if got := h.changed(0); len(got) != 1 {
		t.Fatal(got)
	}
}

func TestOneTimeKeysAreServedInOrderAndOnce(t *testing.T) {
	h := fresh(t)
	o, other := device(1, 1), device(1, 2)
	must(t, h.upload(o, `{"one_time_keys":{"s:9":{"key":"nine"},"s:8":{"key":"eight"},"c:1":"plain"}}`))
	must(t, h.upload(o, `{"one_time_keys":{"s:1":{"key":"one"},"s:8":{"key":"eight"}}}`))
	must(t, h.upload(other, `{"one_time_keys":{"s:0":"zero"}}`))
	wants(t, h.upload(o, `{"one_time_keys":{"s:2":"two","s:8":{"key":"other"}}}`), fault.Invalid)
	if got := h.counts(o); got != `{"c":1,"s":3} []` {
		t.Fatal(got)
	}
	for _, want := range []string{`s:8 {"key":"eight"}`, `s:9 {"key":"nine"}`, `s:1 {"key":"one"}`, ""} {
		if got := h.claim(o, "s"); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	if got := h.counts(o); got != `{"c":1,"s":0} []` {
		t.Fatal(got)
	}
	clear(h.supply)
	if got := h.counts(o); got != `{"c":1} []` {
		t.Fatal(got)
	}
	if got := h.claim(o, "unknown"); got != "" {
		t.Fatal(got)
	}
	many := `{"one_time_keys":{`
	for i := range maxOneTime {
		many += fmt.Sprintf(`"s:m%d":"k",`, i)
	}
	wants(t, h.upload(o, many[:len(many)-1]+`}}`), fault.Invalid)
}

func TestFallbackKeys(t *testing.T) {
	h := fresh(t)
	o := device(1, 1)
	must(t, h.upload(o, `{"one_time_keys":{"s:1":"one"},"fallback_keys":{"s:f":{"key":"F","fallback":true}}}`))
	if got := h.counts(o); got != `{"s":1} ["s"]` {
		t.Fatal(got)
	}
	h.claim(o, "s")
	if got := h.counts(o); got != `{"s":0} ["s"]` {
		t.Fatal(got)
	}
	for range 2 {
		if got := h.claim(o, "s"); got != `s:f {"fallback":true,"key":"F"}` {
			t.Fatal(got)
		}
	}
	if got := h.counts(o); got != `{"s":0} []` {
		t.Fatal(got)
	}
	// The same again stays used, another does not.
	must(t, h.upload(o, `{"fallback_keys":{"s:f":{"key":"F","fallback":true}}}`))
	if got := h.counts(o); got != `{} []` {
		t.Fatal(got)
	}
	must(t, h.upload(o, `{"org.matrix.msc2732.fallback_keys":{"s:g":{"key":"G","fallback":true}}}`))
	if got := h.counts(o); got != `{} ["s"]` {
		t.Fatal(got)
	}
	clear(h.supply)
	if got := h.counts(o); got != `{} ["s"]` {
		t.Fatal(got)
	}
	b := h.st.NewBatch()
	VoidOneTimeKeys(b)
	must(t, h.st.Commit(b))
	clear(h.supply)
	if got := h.counts(o); got != `{} []` || h.claim(o, "s") != "" {
		t.Fatal(got)
	}
}

// Those who claim at the same time never get the same key.
func TestClaimsAtTheSameTime(t *testing.T) {
	h := fresh(t)
	o := device(1, 1)
	body := `{"one_time_keys":{`
	const n = 200
	for i := range n {
		body += fmt.Sprintf(`"s:%d":"k",`, i)
	}
	must(t, h.upload(o, body[:len(body)-1]+`}}`))
	got := make(chan string)
	for range 4 {
		go func() {
			for range n / 4 {
				list := []Claim{{Num: o.Num, Algorithm: "s"}}
				if err := h.Claim(list); err != nil {
					t.Error(err)
				}
				got <- list[0].KeyID
			}
		}()
	}
	seen := map[string]bool{}
	for range n {
		id := <-got
		if id == "" || seen[id] {
			t.Fatal("given twice: ", id)
		}
		seen[id] = true
	}
	if h.claim(o, "s") != "" {
		t.Fatal("one too many")
	}
}

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
	if len(got.Failed) != 0 || !got.Own || len(got.others) != 1 {
		t.Fatalf("%+v", got)
	}
	if again := h.sign(o, good); again.Any() || again.Own {
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

func TestDrop(t *testing.T) {
	h := fresh(t)
	o, other := device(1, 1), device(1, 2)
	for _, d := range []Owner{o, other} {
		must(t, h.upload(d, `{"device_keys":`+keysOf(d, "k")+`,"one_time_keys":{"s:1":"one"},"fallback_keys":{"s:2":"two"}}`))
		must(t, h.Send(&Sent{Sender: "@b:hub", Type: "t"}, []Message{{1, d.Num, []byte("{}")}}))
	}
	left := func() (rows int) {
		for _, table := range []store.Table{store.DeviceKeys, store.OneTimeKey, store.FallbackKey, store.ToDevice, store.Dehydrated} {
			must(t, h.st.ScanPrefix(table.Prefix(), func(_, _ []byte) (bool, error) { rows++; return true, nil }))
		}
		return rows
	}
	_, err := h.log.Commit(func(tx *stream.Tx) error {
		h.PutDehydrated(tx, 1, &Dehydrated{ID: other.Device, Num: other.Num, Data: []byte("{}")})
		return nil
	})
	must(t, err)
	if left() != 9 {
		t.Fatal(left())
	}
	drop := func(d Owner) (had bool) {
		_, err := h.log.Commit(func(tx *stream.Tx) (err error) {
			had, err = h.DropDevice(tx, d.User, d.Device, d.Num)
			return err
		})
		must(t, err)
		return had
	}
	if !drop(o) || left() != 5 || drop(o) {
		t.Fatal(left())
	}
	if !drop(other) || left() != 0 {
		t.Fatal(left())
	}
	must(t, h.upload(o, `{"device_keys":`+keysOf(o, "k")+`}`))
	_, err = h.log.Commit(func(tx *stream.Tx) error {
		had, err := h.DropUser(tx, 1)
		if !had {
			t.Error("had no keys")
		}
		return err
	})
	must(t, err)
	if left() != 0 {
		t.Fatal(left())
	}
}
