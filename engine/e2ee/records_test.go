package e2ee

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

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

// close ends the hub, whatever the test did to it: its tables must agree.
func (h *hub) close() {
	must(h.t, h.Verify(func(format string, args ...any) { h.t.Errorf(format, args...) }))
	must(h.t, h.st.Close())
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
	// The usual algorithm is always there; the tests with others leave it out.
	return strings.NewReplacer(`{"signed_curve25519":0}`, "{}", `,"signed_curve25519":0}`, "}").Replace(string(dst))
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

// Who has no keys left reads so, also when the hub has forgotten that there were any:
// clients of the Rust SDK make no new ones before.
func TestNoKeysLeftIsSaid(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	o := device(1, 1)
	said := func(want string) {
		t.Helper()
		if got, err := h.AppendCounts(nil, o.Num); err != nil || string(got) != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
	said(`{"signed_curve25519":0}`)
	must(t, h.upload(o, `{"one_time_keys":{"c:1":"plain","signed_curve25519:1":{"key":"one"}}}`))
	said(`{"c":1,"signed_curve25519":1}`)
	h.claim(o, "signed_curve25519")
	said(`{"c":1,"signed_curve25519":0}`)
	h.close()
	h = open(t, fs)
	defer h.close()
	said(`{"c":1,"signed_curve25519":0}`)
	h.claim(o, "c")
	must(t, h.upload(o, `{}`))
	said(`{"signed_curve25519":0}`)
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
		if !had.Any() {
			t.Error("had no keys")
		}
		return err
	})
	must(t, err)
	if left() != 0 {
		t.Fatal(left())
	}
}

// Many clients come back at once after a power cut, each with the keys it had and
// some new one-time keys.
func BenchmarkUpload(b *testing.B) {
	t := &testing.T{}
	h := open(t, vfs.NewMem())
	defer h.close()
	n := 0
	upload := func(o Owner, from int) {
		body := `{"device_keys":` + keysOf(o, "k") + `,"one_time_keys":{`
		for i := range 20 {
			if i > 0 {
				body += ","
			}
			body += fmt.Sprintf(`"signed_curve25519:AAAA%d":{"key":"zKbLg+NrIjpnagy+pIY6uPL4ZwEG2v+8F9lmgsnlZzs","signatures":`+
				`{"@a:hub":{"ed25519:DEV1":"FLWxXqGbwrb8SM3Y795eB6OA8bwBcoMZFXBqnTn58AYWZSqiD45tlBVcDa2L7RwdKXebW"}}}`, from+i)
		}
		must(t, h.upload(o, body+"}}"))
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		n++
		upload(device(1, uint64(n)), 0)
		b.StartTimer()
		upload(device(1, uint64(n)), 10)
	}
}
