package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// bench is records on a disk, with a clock of their own.
type bench struct {
	*testing.T
	*Records
	st  *store.Store
	dir string
	now time.Time
}

func open(t *testing.T) *bench {
	b := &bench{T: t, dir: t.TempDir(), now: time.UnixMilli(1_800_000_000_000)}
	b.reopen()
	t.Cleanup(func() { b.st.Close() })
	return b
}

func (b *bench) reopen() {
	b.Helper()
	if b.st != nil {
		if err := b.st.Close(); err != nil {
			b.Fatal(err)
		}
	}
	var err error
	if b.st, err = store.Open(store.Options{Dir: filepath.Join(b.dir, "store")}); err != nil {
		b.Fatal(err)
	}
	if b.Records, err = Open(b.st, Options{Name: "id.test", Dir: b.dir, Now: func() time.Time { return b.now }}); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) kind(err error, want fault.Kind) {
	b.Helper()
	if !fault.Is(err, want) {
		b.Errorf("got %v, want kind %d", err, want)
	}
}

var (
	alice = Address{"email", "alice@example.com"}
	bob   = Address{"email", "bob@example.com"}
	phone = Address{"msisdn", "18005552067"}
)

// The hashes of the specification, for its pepper.
func TestHashVectors(t *testing.T) {
	p := pepper{Text: "matrixrocks"}
	for _, tt := range []struct {
		a    Address
		want string
	}{
		{alice, "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"},
		{bob, "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8"},
		{phone, "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I"},
	} {
		if got := base64.RawURLEncoding.EncodeToString(p.hash(tt.a.query())); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.a, got, tt.want)
		}
	}
}

func ask(a Address, pepper string) string {
	h := sha256.Sum256([]byte(a.Text + " " + a.Medium + " " + pepper))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// find looks addresses up by their hashes.
func (b *bench) find(list ...Address) map[string]mxid.UserID {
	b.Helper()
	pepper, err := b.HashDetails()
	b.ok(err)
	var asked []string
	for _, a := range list {
		asked = append(asked, ask(a, pepper))
	}
	got := map[string]mxid.UserID{}
	b.ok(b.Lookup("sha256", pepper, asked, func(a string, user mxid.UserID) {
		for _, x := range list {
			if ask(x, pepper) == a {
				got[x.Text] = user
			}
		}
	}))
	return got
}

func TestBindAndLookup(t *testing.T) {
	b := open(t)
	if got := b.find(alice); len(got) != 0 {
		t.Error(got)
	}
	signed, err := b.Bind(alice, "@alice:a.test")
	b.ok(err)
	raw, err := base64.RawStdEncoding.DecodeString(b.public())
	b.ok(err)
	b.ok(event.VerifyJSON(signed, "id.test", KeyID, ed25519.PublicKey(raw)))
	_, err = b.Bind(phone, "@alice:a.test")
	b.ok(err)
	old, err := b.HashDetails()
	b.ok(err)
	if got := b.find(alice, bob, phone); len(got) != 2 || got[alice.Text] != "@alice:a.test" || got[phone.Text] != "@alice:a.test" {
		t.Error(got)
	}
	b.now = b.now.Add(8 * 24 * time.Hour)
	fresh, err := b.HashDetails()
	b.ok(err)
	if fresh == old {
		t.Error("the pepper serves for ever")
	}
	b.kind(b.Lookup("sha256", old, nil, nil), fault.WrongPepper)
	b.kind(b.Lookup("md5", fresh, nil, nil), fault.Invalid)
	b.kind(b.Lookup("none", fresh, make([]string, MaxLookup+1), nil), fault.Invalid)
	if got := b.find(alice, bob, phone); len(got) != 2 {
		t.Error(got)
	}
	b.reopen()
	if got := b.find(alice, phone); len(got) != 2 {
		t.Error("after a restart", got)
	}
	n := 0
	b.ok(b.Lookup("none", fresh, []string{"alice@example.com email", "alice@example.com msisdn", "x"}, func(string, mxid.UserID) { n++ }))
	if n != 1 {
		t.Error(n)
	}
	b.ok(b.Unbind(alice, "@mallory:a.test"))
	if len(b.find(alice)) != 1 {
		t.Error("another user's word ended a binding")
	}
	b.ok(b.Unbind(alice, "@alice:a.test"))
	if len(b.find(alice)) != 0 {
		t.Error("unbound and found")
	}
}

// Nothing on the disk holds an address, and a lost key is not replaced.
func TestNoAddressInClear(t *testing.T) {
	b := open(t)
	_, err := b.Bind(alice, "@a:a.test")
	b.ok(err)
	_, err = b.Bind(phone, "@a:a.test")
	b.ok(err)
	_, err = b.Store(bob, "!r:a.test", "@a:a.test")
	b.ok(err)
	_, err = b.HashDetails()
	b.ok(err)
	b.ok(b.st.Settle())
	seen := 0
	b.ok(filepath.Walk(filepath.Join(b.dir, "store"), func(name string, st os.FileInfo, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // the store has tidied up meanwhile
		}
		if err != nil || st.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		for _, a := range [...]string{"alice@", "bob@", "example.com", "8005552067"} {
			if bytes.Contains(text, []byte(a)) {
				t.Errorf("%s holds %s", name, a)
			}
		}
		seen++
		return err
	}))
	// Compressed blocks could hide one; rows as they are read do not.
	b.ok(b.st.Scan([]byte{byte(store.IdentityBinding)}, []byte{byte(store.IdentityNotice) + 1}, func(key, val []byte) (bool, error) {
		seen++
		if s := string(key) + string(val); strings.Contains(s, "example") || strings.Contains(s, "800555") {
			t.Errorf("%q", s)
		}
		return true, nil
	}))
	if seen < 6 {
		t.Error("nothing was looked at")
	}
	b.ok(os.Remove(filepath.Join(b.dir, keyFile)))
	if _, err := Open(b.st, Options{Name: "id.test", Dir: b.dir}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("opened without the key: %v", err)
	}
}

func TestProofs(t *testing.T) {
	b := open(t)
	w := Want{Address: alice, Secret: "s", Attempt: 1, Next: "https://x/", Origin: "1"}
	p, err := b.Begin(w)
	b.ok(err)
	if again, err := b.Begin(w); err != nil || again.SID != p.SID || again.Code != "" {
		t.Error("a repeated request sends again", again, err)
	}
	_, _, err = b.Proved(p.SID, "s")
	b.kind(err, fault.ProofOpen)
	_, _, err = b.Proved(p.SID, "other")
	b.kind(err, fault.NoProof)
	_, err = b.Submit(p.SID, "s", p.Code+"x")
	b.kind(err, fault.WrongCode)
	next, err := b.Submit(p.SID, "s", p.Code)
	b.ok(err)
	if got, _, err := b.Proved(p.SID, "s"); err != nil || got != alice || next != "https://x/" {
		t.Error(got, err)
	}
	b.now = b.now.Add(25 * time.Hour)
	_, _, err = b.Proved(p.SID, "s")
	b.kind(err, fault.ProofExpired)

	// A code of six digits cannot be tried out.
	p, err = b.Begin(Want{Address: phone, Secret: "s", Attempt: 1, Origin: "2"})
	b.ok(err)
	if len(p.Code) != 6 {
		t.Error(p.Code)
	}
	for range maxWrong {
		_, err = b.Submit(p.SID, "s", "none")
		b.kind(err, fault.WrongCode)
	}
	_, err = b.Submit(p.SID, "s", p.Code)
	b.kind(err, fault.ProofExpired)

	// Messages are counted by address and by who asks.
	for i := range perAddress {
		_, err = b.Begin(Want{Address: bob, Secret: "s" + string(rune('a'+i)), Attempt: 1, Origin: string(rune('a' + i))})
		b.ok(err)
	}
	_, err = b.Begin(Want{Address: bob, Secret: "z", Attempt: 1, Origin: "z"})
	b.kind(err, fault.Limit)
	for i := range perOrigin {
		_, err = b.Begin(Want{Address: Address{"email", string(rune('a'+i)) + "@x.test"}, Secret: "s", Attempt: 1, Origin: "same"})
		b.ok(err)
	}
	_, err = b.Begin(Want{Address: Address{"email", "last@x.test"}, Secret: "s", Attempt: 1, Origin: "same"})
	b.kind(err, fault.Limit)
	b.now = b.now.Add(25 * time.Hour)
	_, err = b.Begin(Want{Address: bob, Secret: "z", Attempt: 1, Origin: "same"})
	b.ok(err)
}

func TestInvites(t *testing.T) {
	b := open(t)
	in, err := b.Store(alice, "!r:a.test", "@bob:a.test")
	b.ok(err)
	if in.Display != "a...@e..." {
		t.Error(in.Display)
	}
	if good, err := b.ValidEphemeral(in.Ephemeral); err != nil || !good || !b.Valid(in.LongTerm) || b.Valid(in.Ephemeral) {
		t.Error(good, err)
	}
	signed, err := b.Sign("@alice:b.test", in.Token, in.Private)
	b.ok(err)
	public, _ := publicKey(in.Ephemeral)
	b.ok(event.VerifyJSON(signed, "id.test", KeyID, public))
	_, err = b.Sign("@alice:b.test", strings.Repeat("x", 43), in.Private)
	b.kind(err, fault.Unrecognised)
	_, err = b.Sign("@alice:b.test", in.Token, "short")
	b.kind(err, fault.Invalid)

	_, err = b.Bind(alice, "@alice:b.test")
	b.ok(err)
	_, err = b.Store(alice, "!r:a.test", "@bob:a.test")
	b.kind(err, fault.ThreepidInUse)
	if good, _ := b.ValidEphemeral(in.Ephemeral); good {
		t.Error("the key of an invite that was accepted is valid")
	}
	// The server is away, the service restarts, the server is told.
	_, err = b.step(context.Background(), func(context.Context, mxid.Server, []byte) error { return fault.E(fault.Remote, "test", "away") })
	b.ok(err)
	b.reopen()
	b.now = b.now.Add(2 * firstWait)
	var told []byte
	send := func(_ context.Context, to mxid.Server, body []byte) error {
		if to != "b.test" || told != nil {
			t.Error("told", to, "twice or wrongly")
		}
		told = body
		return nil
	}
	for range 2 {
		_, err = b.step(context.Background(), send)
		b.ok(err)
	}
	var m struct {
		Address, MXID string
		Invites       []struct {
			Room   string `json:"room_id"`
			Sender string
			Signed json.RawMessage
		}
	}
	b.ok(json.Unmarshal(told, &m))
	if m.Address != alice.Text || m.MXID != "@alice:b.test" || len(m.Invites) != 1 || m.Invites[0].Room != "!r:a.test" || m.Invites[0].Sender != "@bob:a.test" {
		t.Errorf("%s", told)
	}
	long, _ := publicKey(in.LongTerm)
	b.ok(event.VerifyJSON(m.Invites[0].Signed, "id.test", KeyID, long))
	b.ok(event.VerifyJSON(told, "id.test", KeyID, long))

	for range maxInvites {
		_, err = b.Store(bob, "!r:a.test", "@bob:a.test")
		b.ok(err)
	}
	_, err = b.Store(bob, "!r:a.test", "@bob:a.test")
	b.kind(err, fault.Limit)
}

func TestAccounts(t *testing.T) {
	b := open(t)
	token, err := b.Register("@a:a.test")
	b.ok(err)
	b.reopen()
	if user, err := b.Account(token); err != nil || user != "@a:a.test" {
		t.Error(user, err)
	}
	if ok, _ := b.Accepted("@a:a.test", "https://terms"); ok {
		t.Error("accepted")
	}
	b.ok(b.Accept("@a:a.test", []string{"https://terms"}))
	if ok, _ := b.Accepted("@a:a.test", "https://terms"); !ok {
		t.Error("not accepted")
	}
	b.ok(b.Logout(token))
	_, err = b.Account(token)
	b.kind(err, fault.UnknownToken)
	if token, err = b.Register("@a:a.test"); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(tokenLife + time.Hour)
	_, err = b.Account(token)
	b.kind(err, fault.UnknownToken)
}

// Who has proved an address does not fill the disk by saying so again and again,
// nor who makes up users.
func TestWhatWaitsIsBounded(t *testing.T) {
	b := open(t)
	count := func(table store.Table) (n int) {
		b.ok(b.st.ScanPrefix(table.Prefix(), func(_, _ []byte) (bool, error) { n++; return true, nil }))
		return n
	}
	first, err := b.Bind(alice, "@alice:x.test")
	b.ok(err)
	for range 5 {
		b.now = b.now.Add(time.Second)
		again, err := b.Bind(alice, "@alice:x.test")
		b.ok(err)
		if !bytes.Equal(first, again) {
			t.Errorf("%s, then %s", first, again)
		}
	}
	if n := count(store.IdentityNotice); n != 1 {
		t.Errorf("%d notices of one binding", n)
	}
	b.untold.Store(maxNotices)
	_, err = b.Bind(alice, "@other:x.test")
	b.kind(err, fault.Limit)
	_, err = b.step(context.Background(), func(context.Context, mxid.Server, []byte) error { return errors.New("away") })
	b.ok(err)
	_, err = b.Bind(alice, "@other:x.test")
	b.ok(err)

	token, err := b.Register("@a:x.test")
	b.ok(err)
	b.tokens.Store(maxTokens)
	_, err = b.Register("@b:x.test")
	b.kind(err, fault.Limit)
	b.now = b.now.Add(tokenLife + time.Second)
	b.ok(b.sweep())
	if n := count(store.IdentityToken); n != 0 {
		t.Errorf("%d tokens stay", n)
	}
	_, err = b.Account(token)
	b.kind(err, fault.UnknownToken)
	_, err = b.Register("@b:x.test")
	b.ok(err)
}
