package thing

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/store"
)

var home = netip.MustParseAddr("192.168.1.7")

type fixture struct {
	t   *testing.T
	fs  vfs.FS
	now time.Time
	st  *store.Store
	*Things
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	if f.st, err = store.Open(store.Options{Dir: "data/store", FS: f.fs}); err != nil {
		f.t.Fatal(err)
	}
	if f.Things, err = Open(f.st, "hub", Options{Dir: "data", FS: f.fs, Now: func() time.Time { return f.now }}); err != nil {
		f.t.Fatal(err)
	}
}

func start(t *testing.T) *fixture {
	f := &fixture{t: t, fs: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000)}
	f.open()
	t.Cleanup(func() { f.st.Close() })
	return f
}

func (f *fixture) add(name string, user uint32) (*Thing, string) {
	f.t.Helper()
	one := &Thing{Name: name, User: user, DeviceNum: 1, Made: f.now}
	secret, err := one.NewSecret()
	if err == nil {
		err = f.Save(one)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return one, secret
}

func TestSecrets(t *testing.T) {
	f := start(t)
	_, secret := f.add("porch", 7)
	if err := f.st.Close(); err != nil {
		t.Fatal(err)
	}
	f.open()
	for _, name := range []string{"porch", "Porch", "@porch:hub"} {
		if got, err := f.Authenticate(name, secret, home); err != nil || got.User != 7 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		name, secret string
		want         fault.Kind
	}{{"porch", "", fault.Forbidden}, {"porch", secret + "x", fault.Forbidden}, {"attic", secret, fault.NotFound}, {"@porch:else", secret, fault.NotFound}} {
		if _, err := f.Authenticate(c.name, c.secret, home); !fault.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	gone := f.Of(7).Clone()
	gone.Revoked = true
	if err := f.Save(gone); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Authenticate("porch", secret, home); !fault.Is(err, fault.Forbidden) {
		t.Error("a revoked thing is let in:", err)
	}
}

func TestMay(t *testing.T) {
	one := &Thing{Name: "porch", Allow: []Grant{{"home/+/light", Read}, {"log/#", Write}}}
	for _, c := range []struct {
		topic  string
		access Access
		want   bool
	}{
		{"porch", Write, true}, {"porch/a/b", Read, true}, {"porch/#", Read, true}, {"porches/a", Read, false}, {"#", Read, false},
		{"+/a", Read, false}, {"home/attic/light", Read, true}, {"home/attic/light", Write, false}, {"home/+/light", Read, true},
		{"home/#", Read, false}, {"log/x", Write, true}, {"log/x", Read, false}, {"porch/", Write, true},
	} {
		if got := one.May(c.topic, c.access); got != c.want {
			t.Errorf("%s %d: %v", c.topic, c.access, got)
		}
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", "a/b", "a+b", "_server", "Porch", "a b", "ä", fmt.Sprintf("%065d", 0)} {
		if err := CheckName(bad); !fault.Is(err, fault.BadUsername) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := CheckName("esp-32.a_b=c"); err != nil {
		t.Error(err)
	}
}

// Who knocks is told of once, is bounded, and comes through a restart.
func TestKnocking(t *testing.T) {
	f := start(t)
	from := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }
	fresh, err := f.Knock("Tasmota", "DVES", "hunter22", from(1))
	if err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	if fresh, err := f.Knock("tasmota", "DVES", "hunter22", from(1)); err != nil || fresh {
		t.Fatal("told of twice", err)
	}
	for _, secret := range []string{"hunter22", "hunter23"} { // the second within the minute
		if _, err := f.Knock("sonoff", "DVES", secret, from(2)); err != nil {
			t.Fatal(err)
		}
	}
	if k, err := f.Knocking("sonoff"); err != nil || !k.Others || (&Thing{}).Adopt(k) {
		t.Errorf("one of two with a name was taken for the other: %+v %v", k, err)
	}
	f.now = f.now.Add(2 * time.Minute)
	if fresh, err := f.Knock("tasmota", "DVES", "hunter22", from(1)); err != nil || fresh {
		t.Fatal("told of twice", err)
	}
	k, err := f.Knocking("tasmota")
	if err != nil || k.Times != 2 || k.Others {
		t.Fatalf("%+v %v", k, err)
	}
	one := &Thing{Name: "tasmota", User: 3}
	if !one.Adopt(k) || !one.knows("hunter22") || one.knows("hunter23") {
		t.Error("what it knocked with does not let it in")
	}
	told := 0
	for i := range 500 {
		if fresh, err := f.Knock(fmt.Sprintf("x%d", i), "", "", from(i%250)); err == nil && fresh {
			told++
		} else if !fault.Is(err, fault.Limit) {
			t.Fatal(err)
		}
	}
	if told >= freshPerHour || len(f.Knocks()) > maxKnocks {
		t.Errorf("a flood made %d notices and %d rows", told, len(f.Knocks()))
	}
	b := f.st.NewBatch()
	b.SetMeta("x", nil)
	if err := f.st.Commit(b); err != nil { // what was applied before is on disk with it
		t.Fatal(err)
	}
	if err := f.Deny("tasmota"); err != nil {
		t.Fatal(err)
	}
	n := len(f.Knocks())
	if err := f.st.Close(); err != nil {
		t.Fatal(err)
	}
	f.open()
	if k, err := f.Knocking("tasmota"); err != nil || !k.Denied || len(f.Knocks()) != n {
		t.Errorf("after a restart: %+v, %d and not %d", k, len(f.Knocks()), n)
	}
	f.now = f.now.Add(3 * time.Minute)
	if fresh, err := f.Knock("tasmota", "DVES", "other-one", from(1)); fresh || err != nil {
		t.Fatal("a denied one is told of", err)
	}
	if k, _ := f.Knocking("tasmota"); !k.Others || (&Thing{}).Adopt(k) {
		t.Error("one of two with a name was taken for the other")
	}
}

func TestCertificates(t *testing.T) {
	f := start(t)
	one, _ := f.add("porch", 7)
	text, err := f.Issue(one)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ByCertificate(cert); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(one); err != nil {
		t.Fatal(err)
	}
	ca, err := f.CA()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error("a listener would refuse it:", err)
	}
	if err := f.st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.fs.Remove("data/" + caFiles[0]); err != nil {
		t.Fatal(err)
	}
	f.open()
	if got, err := f.ByCertificate(cert); err != nil || got.Name != "porch" {
		t.Fatal("the copy of the key does not do:", err)
	}
	other := start(t)
	o, _ := other.add("porch", 9)
	foreign, err := other.Issue(o)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(foreign)
	if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ByCertificate(cert); !fault.Is(err, fault.Forbidden) {
		t.Error("a certificate of another hub:", err)
	}
	for _, name := range caFiles {
		if err := f.fs.Remove("data/" + name); err != nil {
			t.Fatal(err)
		}
	}
	f.ca = authority{}
	if _, err := f.CA(); !fault.Is(err, fault.Corrupt) {
		t.Error("a second CA is made over the first:", err)
	}
}

// A secret that somebody thought up cannot be guessed by trying; who tries keeps
// nobody else out, and a secret of the hub's own is nobody's guess.
func TestGuessing(t *testing.T) {
	f := start(t)
	_, own := f.add("porch", 7)
	soft := &Thing{Name: "tasmota", User: 3, DeviceNum: 1, Salt: []byte("salt"), Secret: hash([]byte("salt"), "hunter22")}
	if err := f.Save(soft); err != nil {
		t.Fatal(err)
	}
	for i := range maxWrong {
		for _, name := range []string{"tasmota", "porch"} {
			if _, err := f.Authenticate(name, fmt.Sprintf("hunter%d", i), home); !fault.Is(err, fault.Forbidden) {
				t.Fatal(err)
			}
		}
	}
	if _, err := f.Authenticate("tasmota", "hunter22", home); !fault.Is(err, fault.Limit) {
		t.Error("the next guess:", err)
	}
	if _, err := f.Authenticate("tasmota", "hunter22", home.Next()); err != nil {
		t.Error("the thing at its own address:", err)
	}
	if _, err := f.Authenticate("porch", own, home); err != nil {
		t.Error("a thing with a secret of the hub's:", err)
	}
	f.now = f.now.Add(wrongFor)
	if _, err := f.Authenticate("tasmota", "hunter22", home); err != nil {
		t.Error("a minute later:", err)
	}
}
