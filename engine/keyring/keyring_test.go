package keyring

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// world is a set of servers that publish their keys, and a clock.
type world struct {
	mu      sync.Mutex
	now     time.Time
	servers map[mxid.Server]*Own
	until   map[mxid.Server]time.Duration // how far ahead; a day where unset
	down    map[mxid.Server]bool
	raw     map[mxid.Server][]byte // said in place of the keys
	asked   map[mxid.Server]int
	batches int
	notary  *Keys // answers Ask; nil: nobody
}

func newWorld() *world {
	return &world{now: time.UnixMilli(1_700_000_000_000), servers: map[mxid.Server]*Own{}, until: map[mxid.Server]time.Duration{},
		down: map[mxid.Server]bool{}, raw: map[mxid.Server][]byte{}, asked: map[mxid.Server]int{}}
}

func seedKey(seed string) ed25519.PrivateKey {
	var b [32]byte
	copy(b[:], seed)
	return ed25519.NewKeyFromSeed(b[:])
}

// server adds a server with one key.
func (w *world) server(name mxid.Server) event.Signer {
	s := event.Signer{Server: name, KeyID: "ed25519:1", Key: seedKey(string(name))}
	w.servers[name] = &Own{Server: name, Current: []event.Signer{s}}
	return s
}

// rotate retires a server's key and gives it another.
func (w *world) rotate(name mxid.Server, at time.Time) event.Signer {
	old := w.servers[name]
	id := fmt.Sprintf("ed25519:%d", len(old.Retired)+2)
	s := event.Signer{Server: name, KeyID: id, Key: seedKey(string(name) + id)}
	next := &Own{Server: name, Current: []event.Signer{s}, Retired: append([]Retired(nil), old.Retired...)}
	was := old.Current[0]
	next.Retired = append(next.Retired, Retired{KeyID: was.KeyID, Public: was.Key.Public().(ed25519.PublicKey), Expired: at})
	w.servers[name] = next
	return s
}

func (w *world) object(name mxid.Server) []byte {
	own := w.servers[name]
	ahead := w.until[name]
	if ahead == 0 {
		ahead = 24 * time.Hour
	}
	obj := own.appendObject(nil, w.now.Add(ahead))
	for i := range own.Current {
		var err error
		if obj, err = event.SignJSON(nil, obj, &own.Current[i]); err != nil {
			panic(err)
		}
	}
	return obj
}

func (w *world) fetch(_ context.Context, name mxid.Server) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[name]++
	if raw := w.raw[name]; raw != nil {
		return raw, nil
	}
	if w.down[name] || w.servers[name] == nil {
		return nil, errors.New("connection refused")
	}
	return w.object(name), nil
}

func (w *world) ask(ctx context.Context, _ mxid.Server, body []byte) ([]byte, error) {
	w.mu.Lock()
	w.batches++
	notary := w.notary
	w.mu.Unlock()
	if notary == nil {
		return nil, errors.New("connection refused")
	}
	queries, err := ParseQueries(body)
	if err != nil {
		return nil, err
	}
	list, err := notary.Answer(ctx, queries)
	return AppendAnswers(nil, list), err
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) count(name mxid.Server) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[name]
}

// ring is the keyring of "hub", on a disk in memory.
func (w *world) ring(t testing.TB, o Options) *Keys {
	t.Helper()
	st, err := store.Open(store.Options{Dir: "store", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	o.Fetch, o.Ask, o.Now = w.fetch, w.ask, w.clock
	if o.Server == "" {
		o.Server = "hub"
	}
	k, err := Open(st, o)
	if err != nil {
		t.Fatal(err)
	}
	own := w.server(o.Server)
	k.SetOwn(&Own{Server: o.Server, Current: []event.Signer{own}})
	t.Cleanup(func() {
		if err := errors.Join(k.Close(), st.Close()); err != nil {
			t.Error(err)
		}
	})
	return k
}

// message is an event of a user of the signer's server.
func message(t testing.TB, version string, s event.Signer, at time.Time) *event.Event {
	t.Helper()
	e, err := event.Build(event.LookupVersion(version), &event.Draft{
		Room: "!r:hub", Type: "m.room.message",
		Sender: mxid.UserID("@a:" + string(s.Server)), Time: at.UnixMilli(), Depth: 2, Content: []byte(`{"body":"x"}`),
	}, &s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func verify(k *Keys, events ...*event.Event) []error {
	return k.VerifyEvents(context.Background(), events[0].Version, events)
}

func wantKind(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("error is %v, want kind %d", err, kind)
	}
}

func TestEventValidity(t *testing.T) {
	w := newWorld()
	s := w.server("a")
	k := w.ring(t, Options{})
	day := 24 * time.Hour
	start := w.now
	for _, c := range []struct {
		name    string
		version string
		at      time.Time
		kind    fault.Kind
		ok      bool
	}{
		{"now", "10", start, 0, true},
		{"long ago", "10", start.Add(-1000 * day), 0, true},
		{"to the end of its validity", "10", start.Add(day), 0, true},
		{"behind it", "10", start.Add(day + time.Millisecond), fault.BadSignature, false},
		{"behind it in an old version", "4", start.Add(900 * day), 0, true},
	} {
		err := verify(k, message(t, c.version, s, c.at))[0]
		if c.ok && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.ok {
			if err == nil {
				t.Errorf("%s: accepted", c.name)
			} else if got := fault.KindOf(err); got != c.kind && got != fault.Remote {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// A validity that a server claims for years is believed for seven days only.
func TestValidityIsCapped(t *testing.T) {
	w := newWorld()
	s := w.server("a")
	w.until["a"] = 1000 * 24 * time.Hour
	k := w.ring(t, Options{})
	if err := verify(k, message(t, "10", s, w.now.Add(7*24*time.Hour)))[0]; err != nil {
		t.Error(err)
	}
	if err := verify(k, message(t, "10", s, w.now.Add(7*24*time.Hour+time.Millisecond)))[0]; err == nil {
		t.Error("a time that lies more than seven days ahead was accepted")
	}
}

func TestRotation(t *testing.T) {
	w := newWorld()
	old := w.server("a")
	k := w.ring(t, Options{})
	before := message(t, "10", old, w.now)
	if err := verify(k, before)[0]; err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	next := w.rotate("a", w.now)
	late := message(t, "10", old, w.now.Add(time.Second))
	if err := verify(k, late)[0]; err != nil {
		t.Errorf("until the hub hears of the rotation the old key is good: %v", err)
	}
	// The new key is unknown, so the server is asked, and tells that the old one has gone.
	errs := verify(k, message(t, "10", next, w.now), before, late, message(t, "10", old, w.now))
	for i, ok := range []bool{true, true, false, true} {
		if (errs[i] == nil) != ok {
			t.Errorf("event %d: %v", i, errs[i])
		}
	}
	if err := verify(k, message(t, "3", old, w.now.Add(time.Second)))[0]; err != nil {
		t.Errorf("version 3 does not know of validity: %v", err)
	}
	// Requests are signed by keys in use only.
	for _, c := range []struct {
		s  event.Signer
		ok bool
	}{{old, false}, {next, true}} {
		obj, err := event.SignJSON(nil, []byte(`{"uri":"/"}`), &c.s)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.VerifyJSON(context.Background(), "a", obj, w.now); (err == nil) != c.ok {
			t.Errorf("a request signed with %s: %v", c.s.KeyID, err)
		}
	}
}

func TestForged(t *testing.T) {
	w := newWorld()
	s := w.server("a")
	k := w.ring(t, Options{})
	forger := event.Signer{Server: "a", KeyID: s.KeyID, Key: seedKey("forger")}
	wantKind(t, verify(k, message(t, "10", forger, w.now))[0], fault.BadSignature)
	// One good signature does not make up for one that does not fit.
	other := w.rotate("a", w.now)
	w.servers["a"].Current = append(w.servers["a"].Current, s)
	w.servers["a"].Retired = nil
	w.pass(time.Hour)
	e, err := message(t, "10", other, w.now).Sign(&forger)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, verify(k, e)[0], fault.BadSignature)
	// A signature by a key that nobody knows is passed over.
	unknown := event.Signer{Server: "a", KeyID: "ed25519:unknown", Key: seedKey("forger")}
	if e, err = message(t, "10", other, w.now).Sign(&unknown); err != nil {
		t.Fatal(err)
	}
	if err := verify(k, e)[0]; err != nil {
		t.Error(err)
	}
	// It alone does not do, and neither does none.
	w.pass(time.Minute)
	wantKind(t, verify(k, message(t, "10", unknown, w.now))[0], fault.BadSignature)
	stranger := w.server("b")
	e = message(t, "10", stranger, w.now)
	e.Sender = "@a:a"
	wantKind(t, verify(k, e)[0], fault.BadSignature)
}

func TestBackoff(t *testing.T) {
	w := newWorld()
	s := w.server("a")
	w.down["a"] = true
	k := w.ring(t, Options{})
	e := message(t, "10", s, w.now)
	for range 5 {
		wantKind(t, verify(k, e)[0], fault.Remote)
	}
	if n := w.count("a"); n != 1 {
		t.Errorf("a server that is down was asked %d times at once", n)
	}
	w.pass(11 * time.Second)
	wantKind(t, verify(k, e)[0], fault.Remote)
	w.pass(11 * time.Second)
	wantKind(t, verify(k, e)[0], fault.Remote)
	if n := w.count("a"); n != 2 {
		t.Errorf("it was asked %d times, the second pause is longer", n)
	}
	// A request of the server tells that it is back.
	w.down["a"] = false
	obj, err := event.SignJSON(nil, []byte(`{"uri":"/"}`), &s)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.VerifyJSON(context.Background(), "a", obj, w.now); err != nil {
		t.Error(err)
	}
	if err := verify(k, e)[0]; err != nil {
		t.Error(err)
	}
	// Whoever invents names of keys does not make the hub ask each time.
	asked := w.count("a")
	for i := range 20 {
		bad := event.Signer{Server: "a", KeyID: fmt.Sprintf("ed25519:x%d", i), Key: seedKey("x")}
		_ = verify(k, message(t, "10", bad, w.now))
	}
	if n := w.count("a"); n > asked {
		t.Errorf("it was asked %d times more for keys that do not exist", n-asked)
	}
}

func TestTriesAreBounded(t *testing.T) {
	w := newWorld()
	k := w.ring(t, Options{})
	for i := range 2 * maxTries {
		k.landed(mxid.Server(fmt.Sprintf("s%d", i)), errors.New("x"))
	}
	if len(k.tries) > maxTries {
		t.Errorf("%d rows", len(k.tries))
	}
}

func TestManyServers(t *testing.T) {
	const servers = 60
	w := newWorld()
	w.server("notary")
	notary := w.ring(t, Options{Server: "notary"})
	w.notary = notary
	for _, trusted := range []bool{true, false} {
		o := Options{}
		if trusted {
			o.Notaries = []mxid.Server{"notary"}
		}
		k := w.ring(t, o)
		clear(w.asked)
		w.batches = 0
		var at, most atomic.Int32
		k.o.Fetch = func(ctx context.Context, name mxid.Server) ([]byte, error) {
			most.Store(max(most.Load(), at.Add(1)))
			defer at.Add(-1)
			return w.fetch(ctx, name)
		}
		var events []*event.Event
		for i := range servers {
			name := mxid.Server(fmt.Sprintf("s%d", i))
			s := w.server(name)
			w.mu.Lock()
			w.down[name] = i%2 == 0
			w.mu.Unlock()
			events = append(events, message(t, "10", s, w.now), message(t, "10", s, w.now.Add(-time.Hour)))
		}
		for i, err := range verify(k, events...) {
			if down := i/2%2 == 0; (err == nil) == down {
				t.Errorf("trusted %v, event %d: %v", trusted, i, err)
			} else if down {
				wantKind(t, err, fault.Remote)
			}
		}
		if most.Load() > forMany {
			t.Errorf("%d servers were asked at once", most.Load())
		}
		if trusted && w.batches != 1 {
			t.Errorf("%d questions to the notary", w.batches)
		}
		// Twice at most: by the notary, and by ourselves.
		for name, n := range w.asked {
			if n > 2 {
				t.Errorf("%s was asked %d times", name, n)
			}
		}
	}
}

// A notary that nobody trusts, or answers in its name, is of no use.
func TestNotary(t *testing.T) {
	w := newWorld()
	k := w.ring(t, Options{Notaries: []mxid.Server{"notary"}})
	other := w.ring(t, Options{Server: "other"})
	s := w.server("gone")
	e := message(t, "10", s, w.now)
	if _, err := other.Answer(context.Background(), []Query{{Server: "gone"}}); err != nil {
		t.Fatal(err)
	}
	w.down["gone"] = true
	w.server("notary")
	w.notary = other // signs as "other"
	wantKind(t, verify(k, e)[0], fault.Remote)

	notary := w.ring(t, Options{Server: "notary"})
	w.down["gone"] = false
	if _, err := notary.Answer(context.Background(), []Query{{Server: "gone"}}); err != nil {
		t.Fatal(err)
	}
	w.down["gone"] = true
	w.notary = notary
	if err := verify(k, e)[0]; err != nil {
		t.Errorf("a notary has the keys of a server that is gone: %v", err)
	}
}

// What a notary says that is older than what is known does not bring a retired
// key back.
func TestOldWord(t *testing.T) {
	w := newWorld()
	w.server("a")
	stale := w.object("a")
	w.pass(time.Hour)
	w.rotate("a", w.now)
	fresh := w.object("a")
	parse := func(raw []byte, direct bool) *answer {
		a, err := parseAnswer(raw, "a", w.now.UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		a.direct = direct
		return a
	}
	for _, c := range []struct {
		name     string
		words    []*answer
		retired1 bool
	}{
		{"fresh, then stale by a notary", []*answer{parse(fresh, true), parse(stale, false)}, true},
		{"stale by a notary, then fresh", []*answer{parse(stale, false), parse(fresh, true)}, true},
		{"both by a notary", []*answer{parse(fresh, false), parse(stale, false)}, true},
		{"the server itself takes it back", []*answer{parse(fresh, true), parse(stale, true)}, false},
	} {
		var set keySet
		for _, a := range c.words {
			set.merge(a)
		}
		one := set.of("ed25519:1")
		if len(one) != 1 || (one[0].expired != 0) != c.retired1 {
			t.Errorf("%s: %+v", c.name, one)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	w := newWorld()
	k := w.ring(t, Options{AnswerBytes: 4000, Keep: func(s mxid.Server) bool { return s != "s1" }})
	for i := range 40 {
		name := mxid.Server(fmt.Sprintf("s%d", i))
		w.server(name)
		if _, err := k.Answer(context.Background(), []Query{{Server: name}}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
	}
	if k.bytes > 4000 || k.bytes <= 0 {
		t.Errorf("%d bytes are kept", k.bytes)
	}
	was := k.bytes
	k.bytes = 0
	if err := k.count(); err != nil || k.bytes != was {
		t.Errorf("%d bytes are counted, %d were: %v", k.bytes, was, err)
	}
	if list, _ := k.answers("s39"); len(list) != 1 {
		t.Error("the newest is gone")
	}
	if list, _ := k.answers("s0"); len(list) != 0 {
		t.Error("the oldest is still there")
	}
	if set, _ := k.known("s0"); len(set) != 1 {
		t.Error("its keys are gone with it")
	}
	if set, _ := k.known("s1"); len(set) != 0 {
		t.Error("the keys of a server are there that need not be kept")
	}
}

// A notary keeps telling of a key that its server has forgotten.
func TestForgottenKey(t *testing.T) {
	w := newWorld()
	k := w.ring(t, Options{})
	w.server("a")
	ask := func(ids ...string) (found []string) {
		list, err := k.Answer(context.Background(), []Query{{Server: "a", KeyIDs: ids}})
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range list {
			if err := event.VerifyJSON(obj, "hub", "ed25519:1", seedKey("hub").Public().(ed25519.PublicKey)); err != nil {
				t.Error(err)
			}
			keys, _ := cjson.Lookup(obj, "verify_keys")
			_ = cjson.Object(keys, func(id, _ []byte) bool { found = append(found, string(id)); return true })
		}
		return found
	}
	if got := ask(); len(got) != 1 {
		t.Fatal(got)
	}
	w.rotate("a", w.now)
	w.servers["a"].Retired = nil
	w.pass(23 * time.Hour)
	if got := ask("ed25519:2"); len(got) != 1 || got[0] != "ed25519:2" {
		t.Error(got)
	}
	if got := ask("ed25519:1"); len(got) != 2 {
		t.Errorf("asked for the forgotten key: %v", got)
	}
	if got := ask(); len(got) != 2 {
		t.Errorf("asked for all: %v", got)
	}
	w.down["a"] = true
	w.pass(100 * 24 * time.Hour)
	if got := ask("ed25519:2"); len(got) != 1 {
		t.Errorf("of a server that is gone the last answer stays: %v", got)
	}
}

// Two who want the keys of one server at the same time ask once.
func TestJoined(t *testing.T) {
	w := newWorld()
	s := w.server("a")
	k := w.ring(t, Options{})
	begun, let := make(chan struct{}), make(chan struct{})
	k.o.Fetch = func(ctx context.Context, name mxid.Server) ([]byte, error) {
		close(begun) // a second call would panic
		<-let
		return w.fetch(ctx, name)
	}
	e := message(t, "10", s, w.now)
	errs := make(chan error, 8)
	go func() { errs <- verify(k, e)[0] }()
	<-begun
	for range 7 {
		go func() { errs <- verify(k, e)[0] }()
	}
	close(let)
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestOwnEvents(t *testing.T) {
	w := newWorld()
	k := w.ring(t, Options{})
	s := k.own.Load().Current[0]
	if err := verify(k, message(t, "10", s, w.now.Add(1000*24*time.Hour)))[0]; err != nil {
		t.Error(err)
	}
	if w.count("hub") != 0 {
		t.Error("the hub asked itself")
	}
}

func TestReopened(t *testing.T) {
	w := newWorld()
	s := w.server("a")
	k := w.ring(t, Options{})
	if err := verify(k, message(t, "10", s, w.now))[0]; err != nil {
		t.Fatal(err)
	}
	w.down["a"] = true
	again, err := Open(k.st, k.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(again, message(t, "10", s, w.now.Add(time.Hour)))[0]; err != nil {
		t.Errorf("what was known is gone: %v", err)
	}
	if w.count("a") != 1 {
		t.Errorf("it was asked %d times", w.count("a"))
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
