package account

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// hub is an open store with its accounts. Its clock stands still until it is moved.
type hub struct {
	*Accounts
	st  *store.Store
	log *stream.Log
	at  time.Time

	next int // networks that clients were registered from
}

func open(t *testing.T, fs store.FS) *hub {
	t.Helper()
	h := &hub{at: time.UnixMilli(1_700_000_000_000)}
	var err error
	if h.st, err = store.Open(store.Options{Dir: "db", FS: fs}); err != nil {
		t.Fatal(err)
	}
	if h.log, err = stream.Open(h.st); err != nil {
		t.Fatal(err)
	}
	names, err := store.OpenNames(h.st)
	if err != nil {
		t.Fatal(err)
	}
	h.Accounts, err = Open(h.st, h.log, names, "hub.test", Options{
		Now:  func() time.Time { return h.at },
		Cost: Cost{KiB: 64, Passes: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hub) close(t *testing.T) {
	t.Helper()
	if err := h.st.Close(); err != nil {
		t.Fatal(err)
	}
}

func fresh(t *testing.T) *hub {
	h := open(t, vfs.NewMem())
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *hub) user(t *testing.T, name string) uint32 {
	t.Helper()
	user, err := h.Create(NewUser{Localpart: name, Password: "correct horse"})
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func (h *hub) login(t *testing.T, user uint32, device string) (string, Session) {
	t.Helper()
	tokens, s, err := h.Login(user, NewSession{Device: device, Name: "lamp", From: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	return tokens.Access, s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v of kind %d, want kind %d", err, fault.KindOf(err), kind)
	}
}

func TestNames(t *testing.T) {
	h := fresh(t)
	for _, name := range []string{"", "Bob", "a b", "ä", "a:b", "\xff", strings.Repeat("x", 250)} {
		_, err := h.Create(NewUser{Localpart: name})
		wants(t, err, fault.BadUsername)
	}
	for _, name := range []string{"bob", "q3._=-/+", "_x", "1"} {
		h.user(t, name)
		_, err := h.Create(NewUser{Localpart: name})
		wants(t, err, fault.UserInUse)
	}
	_, err := h.Create(NewUser{Localpart: HubName}) // it may not be there yet
	wants(t, err, fault.Exclusive)
	list, err := h.Users(0, 3)
	must(t, err)
	if len(list) != 3 || list[0].ID != "@bob:hub.test" || !list[0].HasPassword || !list[0].Created.Equal(h.at) {
		t.Fatalf("%+v", list)
	}
	rest, err := h.Users(list[2].Num, 3)
	must(t, err)
	if len(rest) != 1 || rest[0].ID != "@1:hub.test" {
		t.Fatalf("%+v", rest)
	}
	if n, err := h.Find("@bob:other.test"); n != 0 || err != nil {
		t.Fatal("a user of another server was found here", n, err)
	}
}

// One name asked for at the same moment is given once.
func TestNameIsGivenOnce(t *testing.T) {
	h := fresh(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := h.Create(NewUser{Localpart: "only"})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !fault.Is(err, fault.UserInUse) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d were given the name", won)
	}
}

func TestPasswords(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	_, err := h.Create(NewUser{Localpart: "weak", Password: "short"})
	wants(t, err, fault.WeakPassword)
	_, err = h.Create(NewUser{Localpart: "bad", Password: "valid? \xff\xfe no"})
	wants(t, err, fault.Invalid)
	user, err := h.CheckPassword("@bob:hub.test", "correct horse")
	if user != bob || err != nil {
		t.Fatal(user, err)
	}
	for _, c := range [][2]string{{"@bob:hub.test", "wrong"}, {"@nobody:hub.test", "correct horse"}, {"@bob:hub.test", ""}, {"@bob:hub.test", strings.Repeat("x", 600)}} {
		_, err := h.CheckPassword(mxid.UserID(c[0]), c[1])
		wants(t, err, fault.Forbidden)
	}
	thing, err := h.Create(NewUser{Localpart: "thing"})
	must(t, err)
	_, err = h.CheckPassword("@thing:hub.test", "")
	wants(t, err, fault.Forbidden)
	if u, err := h.User(thing); err != nil || u.HasPassword {
		t.Fatal(u, err)
	}

	keep, s := h.login(t, bob, "KEEP")
	gone, _ := h.login(t, bob, "GONE")
	must(t, h.SetPassword(bob, "battery staple", true, s.Device))
	if _, err := h.Authenticate([]byte(keep)); err != nil {
		t.Fatal(err)
	}
	_, err = h.Authenticate([]byte(gone))
	wants(t, err, fault.UnknownToken)
	_, err = h.CheckPassword("@bob:hub.test", "correct horse")
	wants(t, err, fault.Forbidden)
	_, err = h.CheckPassword("@bob:hub.test", "battery staple")
	must(t, err)
}

// A user that does not exist is hashed for at the same cost as one that does.
// A login that waits for its turn while the password is changed, because somebody
// else has the old one, gets in by the new one only.
func TestPasswordChangesMeanwhile(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	hashed, err := h.HashPassword("another password")
	must(t, err)
	id, err := h.User(bob)
	must(t, err)
	h.hash.turn <- struct{}{}
	done := make(chan error)
	go func() {
		_, err := h.CheckPassword(id.ID, "correct horse")
		done <- err
	}()
	for h.hash.waiting.Load() == 0 { // it has read what it compares with
		runtime.Gosched()
	}
	_, err = h.log.Commit(func(tx *stream.Tx) error { return h.PutPassword(tx, bob, hashed) })
	must(t, err)
	<-h.hash.turn
	wants(t, <-done, fault.Forbidden)
	_, err = h.CheckPassword(id.ID, "another password")
	must(t, err)
}

func TestUnknownUserCostsTheSame(t *testing.T) {
	h := fresh(t)
	h.user(t, "bob")
	row, _, err := h.row(1)
	must(t, err)
	real, _, _, err := parsePHC(row.password)
	must(t, err)
	decoy, _, _, err := parsePHC(h.hash.decoy)
	must(t, err)
	if real != decoy {
		t.Fatalf("%v for a user, %v for none", real, decoy)
	}
}

func TestDefaultCost(t *testing.T) {
	var h hasher
	must(t, h.open(Cost{}))
	hash, err := h.make("correct horse")
	must(t, err)
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=12288,t=3,p=1$") {
		t.Fatal(hash)
	}
	if ok, err := h.verify("correct horse", hash); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := h.verify("correct hors", hash); ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, bad := range []string{"x", "$argon2id$v=19$m=99999999,t=3,p=1$AAAAAAAAAAA$AAAA", "$argon2i$v=19$m=64,t=1,p=1$a$a", strings.Replace(hash, "m=12288", "m=1", 1)} {
		_, err := h.verify("x", bad)
		wants(t, err, fault.Corrupt)
	}
}

// More logins than may wait are told to come back; nobody waits for ever.
func TestPasswordQueueIsBounded(t *testing.T) {
	var h hasher
	must(t, h.open(Cost{KiB: 64, Passes: 1}))
	h.turn <- struct{}{} // somebody's turn that does not end
	errs := make(chan error)
	for range hashQueue + 3 {
		go func() {
			_, err := h.make("correct horse")
			errs <- err
		}()
	}
	for range 3 {
		wants(t, <-errs, fault.Limit)
	}
	<-h.turn
	for range hashQueue {
		must(t, <-errs)
	}
}

func TestSessions(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	first, s := h.login(t, bob, "DEV")
	if s.UserID != "@bob:hub.test" || s.User != bob || s.Device != "DEV" || s.Admin || s.Guest {
		t.Fatalf("%+v", s)
	}
	second, s2 := h.login(t, bob, "DEV")
	if s2.DeviceNum != s.DeviceNum {
		t.Fatal("the same device has two numbers")
	}
	_, err := h.Authenticate([]byte(first))
	wants(t, err, fault.UnknownToken)
	other, s3 := h.login(t, bob, "")
	if len(s3.Device) != 10 || s3.DeviceNum == s.DeviceNum {
		t.Fatalf("%+v", s3)
	}
	must(t, h.Logout(&s2))
	_, err = h.Authenticate([]byte(second))
	wants(t, err, fault.UnknownToken)
	_, again := h.login(t, bob, "DEV")
	if again.DeviceNum == s.DeviceNum {
		t.Fatal("a deleted device's number was given again")
	}
	must(t, h.SetLocked(bob, true))
	_, err = h.Authenticate([]byte(other))
	wants(t, err, fault.Locked)
	must(t, h.SetLocked(bob, false))
	must(t, h.SetSuspended(bob, true))
	must(t, h.SetAdmin(bob, true))
	got, err := h.Authenticate([]byte(other))
	if err != nil || !got.Suspended || !got.Admin {
		t.Fatal(got, err)
	}
	must(t, h.LogoutAll(bob))
	_, err = h.Authenticate([]byte(other))
	wants(t, err, fault.UnknownToken)
	if list, err := h.Devices(bob); len(list) != 0 || err != nil {
		t.Fatal(list, err)
	}
	_, err = h.Authenticate(nil)
	wants(t, err, fault.MissingToken)
	_, err = h.Authenticate([]byte(strings.Repeat("x", 5000)))
	wants(t, err, fault.UnknownToken)
	_, _, err = h.Login(bob, NewSession{Device: strings.Repeat("D", 300)})
	wants(t, err, fault.Invalid)
	_, _, err = h.Login(bob, NewSession{Device: "\xff"})
	wants(t, err, fault.Invalid)
	_, _, err = h.Login(bob+77, NewSession{})
	wants(t, err, fault.NotFound)
}

// Authenticate is on the way of every request: a hit may not allocate.
func TestAuthenticateAllocatesNothing(t *testing.T) {
	h := fresh(t)
	token, s := h.login(t, h.user(t, "bob"), "")
	text := []byte(token)
	from := netip.MustParseAddr("192.0.2.1")
	n := testing.AllocsPerRun(100, func() {
		if _, err := h.Authenticate(text); err != nil {
			t.Fatal(err)
		}
		if err := h.Seen(&s, from); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestSessionCacheIsBounded(t *testing.T) {
	var c cache
	c.m = map[tokenHash]*cached{}
	for i := range 3 * cacheSize {
		var h tokenHash
		h[0], h[1], h[2] = byte(i), byte(i>>8), byte(i>>16)
		c.put(h, &cached{}, 0)
		if len(c.m) > cacheSize {
			t.Fatal(len(c.m))
		}
	}
	c.gen++
	c.put(tokenHash{9, 9, 9, 9}, &cached{}, 0)
	if _, ok := c.m[tokenHash{9, 9, 9, 9}]; ok {
		t.Fatal("a session from before a change was kept after it")
	}
}

func TestSeenIsWrittenHourly(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	_, s := h.login(t, bob, "DEV")
	start := h.at
	seen := func(want time.Time, from string) {
		t.Helper()
		d, err := h.Device(bob, "DEV")
		if err != nil || !d.Seen.Equal(want) || d.SeenFrom.String() != from {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	h.at = start.Add(59 * time.Minute)
	must(t, h.Seen(&s, netip.MustParseAddr("192.0.2.9")))
	seen(start, "192.0.2.1")
	h.at = start.Add(time.Hour)
	must(t, h.Seen(&s, netip.MustParseAddr("::ffff:192.0.2.9")))
	seen(h.at, "192.0.2.9")
	must(t, h.Logout(&s))
	h.at = start.Add(5 * time.Hour)
	must(t, h.Seen(&s, netip.MustParseAddr("192.0.2.1")))
	if list, err := h.Devices(bob); len(list) != 0 || err != nil {
		t.Fatal("a deleted device came back", list, err)
	}
}

func TestDevices(t *testing.T) {
	h := fresh(t)
	bob, eve := h.user(t, "bob"), h.user(t, "eve")
	for _, id := range []string{"B", "A", "C"} {
		h.login(t, bob, id)
	}
	h.login(t, eve, "A")
	rename := func(id, name string) error {
		_, err := h.log.Commit(func(tx *stream.Tx) error { return h.RenameDevice(tx, bob, id, name) })
		return err
	}
	must(t, rename("A", "kitchen"))
	wants(t, rename("Z", "kitchen"), fault.NotFound)
	wants(t, rename("A", strings.Repeat("x", 300)), fault.Invalid)
	must(t, h.DeleteDevices(bob, func(d *Device) bool { return d.ID == "B" }))
	list, err := h.Devices(bob)
	must(t, err)
	if len(list) != 2 || list[0].ID != "A" || list[0].Name != "kitchen" || list[1].ID != "C" || list[1].Name != "lamp" {
		t.Fatalf("%+v", list)
	}
	if list, err := h.Devices(eve); len(list) != 1 || err != nil {
		t.Fatal(list, err)
	}
}

func TestDeactivated(t *testing.T) {
	h := fresh(t)
	bob := h.user(t, "bob")
	token, _ := h.login(t, bob, "")
	must(t, h.SetProfile(bob, DisplayName, []byte(`"Bob"`)))
	if _, err := h.SetData(bob, 0, "x", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	const root = mxid.EventID("$root")
	must(t, h.Subscribe(bob, 1, root, 0))
	must(t, h.End(bob, true))
	if _, ok, err := h.Subscription(bob, 1, root); ok || err != nil {
		t.Fatal("a thread subscription is still there", err)
	}
	_, err := h.Authenticate([]byte(token))
	wants(t, err, fault.UnknownToken)
	_, err = h.CheckPassword("@bob:hub.test", "correct horse")
	wants(t, err, fault.Deactivated)
	_, _, err = h.Login(bob, NewSession{})
	wants(t, err, fault.Deactivated)
	wants(t, h.SetPassword(bob, "correct horse", false, ""), fault.Deactivated)
	wants(t, h.CheckName("bob"), fault.UserInUse)
	_, err = h.Create(NewUser{Localpart: "bob"})
	wants(t, err, fault.UserInUse)
	u, err := h.User(bob)
	if err != nil || !u.Deactivated || !u.Erased || u.HasPassword {
		t.Fatalf("%+v %v", u, err)
	}
	if p, err := h.AppendProfile(nil, bob); string(p) != "{}" || err != nil {
		t.Fatalf("%s %v", p, err)
	}
	if _, ok, err := h.Data(nil, bob, 0, "x"); ok || err != nil {
		t.Fatal("account data is still there", err)
	}
}

// After a power cut at any moment, what was acknowledged is there.
func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	h := open(t, fs)
	defer h.close(t)
	var tokens []string
	check := func() {
		t.Helper()
		after := open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
		defer after.close(t)
		for i, token := range tokens {
			s, err := after.Authenticate([]byte(token))
			if err != nil || s.UserID != h.ID(fmt.Sprint("u", i)) {
				t.Fatalf("user %d after a cut: %+v, %v", i, s, err)
			}
			if got, ok, err := after.Data(nil, s.User, 0, "x"); !ok || err != nil || string(got) != fmt.Sprintf(`{"n":%d}`, i) {
				t.Fatalf("account data of user %d after a cut: %s, %v", i, got, err)
			}
			if got, err := after.AppendProfile(nil, s.User); err != nil || string(got) != `{"displayname":"U"}` {
				t.Fatalf("profile of user %d after a cut: %s, %v", i, got, err)
			}
		}
		list, err := after.Users(0, 100)
		if err != nil || len(list) < len(tokens) {
			t.Fatalf("%d users after a cut, %d were acknowledged: %v", len(list), len(tokens), err)
		}
	}
	for i := range 12 {
		user := h.user(t, fmt.Sprint("u", i))
		check()
		token, _ := h.login(t, user, "")
		check()
		must(t, h.SetProfile(user, DisplayName, []byte(` "U" `)))
		_, err := h.SetData(user, 0, "x", fmt.Appendf(nil, `{ "n": %d }`, i))
		must(t, err)
		tokens = append(tokens, token)
		check()
	}
}
