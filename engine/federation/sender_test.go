package federation

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// world is a hub and those it sends to, which keep what they get and answer as
// the test wants it.
type world struct {
	t       *testing.T
	fs      *vfs.MemFS
	catchup int
	Parts
	*Federation

	mu   sync.Mutex
	down map[mxid.Server]error
	vain map[mxid.Server]int  // tries while it was down
	deaf map[mxid.Server]bool // it takes what it is sent, and its answer gets lost
	got  map[mxid.Server][]string
	txns map[mxid.Server]map[string]string // by id
	all  map[mxid.Server][]string          // ids of transactions as they came
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, fs: vfs.NewCrashableMem(), down: map[mxid.Server]error{}, deaf: map[mxid.Server]bool{},
		vain: map[mxid.Server]int{}, got: map[mxid.Server][]string{}, txns: map[mxid.Server]map[string]string{}, all: map[mxid.Server][]string{}}
	w.open()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() {
	var p Parts
	var err error
	p.Store, err = store.Open(store.Options{Dir: "db", FS: w.fs})
	w.must(err)
	p.Log, err = stream.Open(p.Store)
	w.must(err)
	p.Names, err = store.OpenNames(p.Store)
	w.must(err)
	signer := event.Signer{Server: "hub", KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	p.Rooms, err = room.Open(p.Store, p.Log, p.Names, room.Options{Signer: signer, Now: time.Now, CacheBytes: 1 << 20})
	w.must(err)
	p.Accounts, err = account.Open(p.Store, p.Log, p.Names, "hub", account.Options{Now: time.Now})
	w.must(err)
	p.E2EE = e2ee.Open(p.Store, p.Log, p.Names, e2ee.Options{})
	p.Ephemeral, err = ephemeral.Open(p.Store, p.Names, ephemeral.Options{})
	w.must(err)
	w.Parts = p
	w.Federation, err = Open(p, Options{Peer: w, Signer: signer, Catchup: w.catchup, Log: w.t.Logf})
	w.must(err)
}

func (w *world) close() {
	w.t.Helper()
	w.must(w.Federation.Close())
	w.must(w.Parts.Store.Close())
}

// Do takes a transaction in.
func (w *world) Do(_ context.Context, r *Request) (*Answer, error) {
	id, ok := strings.CutPrefix(r.Path, "/_matrix/federation/v1/send/")
	if !ok || r.Method != "PUT" {
		return nil, fmt.Errorf("nobody serves %s %s", r.Method, r.Path)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.down[r.Dest]; err != nil {
		w.vain[r.Dest]++
		return nil, err
	}
	w.all[r.Dest] = append(w.all[r.Dest], id)
	if w.txns[r.Dest] == nil {
		w.txns[r.Dest] = map[string]string{}
	}
	said := w.contents(r.Body)
	if old, again := w.txns[r.Dest][id]; again && old != said {
		w.t.Errorf("%s got %s twice: %s and %s", r.Dest, id, old, said)
	} else if !again {
		w.txns[r.Dest][id] = said
		w.got[r.Dest] = append(w.got[r.Dest], strings.Fields(said)...)
	}
	if w.deaf[r.Dest] {
		return nil, errors.New("the line broke")
	}
	return &Answer{Status: 200, Body: []byte(`{"pdus":{}}`)}, nil
}

func (w *world) Open(context.Context, *Request) (*Stream, error) { return nil, errors.New("nobody") }

// contents says what a transaction brings: bodies of messages, memberships as
// localpart-membership, EDUs by their type.
func (w *world) contents(body []byte) string {
	var all []string
	if err := cjson.Check(body); err != nil {
		w.t.Error(err)
	}
	n := 0
	pdus, _ := cjson.Lookup(body, "pdus")
	_ = cjson.Array(pdus, func(val []byte) bool {
		n++
		text := string(val)
		if said, ok := cjson.LookupPath(val, "content", "body"); ok {
			text, _ = cjson.String(said)
		} else if m, ok := cjson.LookupPath(val, "content", "membership"); ok {
			who, _ := cjson.LookupString(val, "state_key")
			what, _ := cjson.String(m)
			text = mxid.UserID(who).Localpart() + "-" + what
		}
		all = append(all, text)
		return true
	})
	edus, _ := cjson.Lookup(body, "edus")
	m := 0
	_ = cjson.Array(edus, func(val []byte) bool {
		m++
		typ, _ := cjson.LookupString(val, "edu_type")
		content, _ := cjson.Lookup(val, "content")
		all = append(all, typ+string(content))
		return true
	})
	if n > maxPDUs || m > maxEDUs || n+m == 0 {
		w.t.Errorf("a transaction of %d PDUs and %d EDUs", n, m)
	}
	return strings.Join(all, " ")
}

func (w *world) fail(dest mxid.Server, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[dest] = err
}

// took gives what a server got since it was last asked.
func (w *world) took(dest mxid.Server) string {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := strings.Join(w.got[dest], " ")
	w.got[dest] = nil
	return got
}

func (w *world) want(dest mxid.Server, want string) {
	w.t.Helper()
	if got := w.took(dest); got != want {
		w.t.Fatalf("%s got %q, want %q", dest, got, want)
	}
}

func key(s string) *string { return &s }

// create makes a room of @a:hub that everybody may join.
func (w *world) create() room.Num {
	w.t.Helper()
	wr := w.Rooms.New(event.LookupVersion("11"), mxid.RoomID(fmt.Sprintf("!r%d:hub", w.Parts.Log.Tip())))
	defer wr.End()
	for _, d := range []room.Draft{
		{Type: "m.room.create", StateKey: key(""), Content: []byte(`{"room_version":"11"}`)},
		{Type: "m.room.member", StateKey: key("@a:hub"), Content: []byte(`{"membership":"join"}`)},
		{Type: "m.room.power_levels", StateKey: key(""), Content: []byte(`{"users":{"@a:hub":100}}`)},
		{Type: "m.room.join_rules", StateKey: key(""), Content: []byte(`{"join_rule":"public"}`)},
	} {
		d.Sender = "@a:hub"
		_, err := wr.Add(&d)
		w.must(err)
	}
	p, err := wr.Commit(nil)
	w.must(err)
	w.must(p.Wait())
	return wr.Head().Room
}

func (w *world) say(num room.Num, body string) {
	w.t.Helper()
	_, err := w.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: "@a:hub", Content: fmt.Appendf(nil, `{"body":%q}`, body)})
	w.must(err)
}

func (w *world) member(num room.Num, sender, user mxid.UserID, membership string) {
	w.t.Helper()
	_, err := w.Rooms.Send(num, &room.Draft{Type: "m.room.member", StateKey: key(string(user)), Sender: sender,
		Content: fmt.Appendf(nil, `{"membership":%q}`, membership)})
	w.must(err)
}

// Those who are in the room get what is said there, in order and whole
// transactions at a time; who is thrown out is told so, who comes back is not told
// what happened meanwhile, whose invite is taken back is told that.
func TestWhoGetsWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		num := w.create()
		w.member(num, "@b:one.example", "@b:one.example", "join")
		w.member(num, "@c:two.example", "@c:two.example", "join")
		w.want("one.example", "b-join c-join")
		w.want("two.example", "c-join")
		w.say(num, "1")
		w.member(num, "@a:hub", "@b:one.example", "ban")
		w.say(num, "2")
		w.want("one.example", "1 b-ban")
		w.want("two.example", "1 b-ban 2")
		w.member(num, "@a:hub", "@b:one.example", "leave")
		w.member(num, "@b:one.example", "@b:one.example", "join")
		w.say(num, "3")
		w.want("one.example", "b-join 3")
		w.member(num, "@a:hub", "@d:three.example", "invite")
		w.say(num, "4")
		w.member(num, "@a:hub", "@d:three.example", "leave")
		w.say(num, "5")
		w.want("three.example", "d-leave")
		var many []string
		for i := range 130 {
			many = append(many, fmt.Sprint("m", i))
			w.say(num, many[i])
		}
		w.want("one.example", "d-invite 4 d-leave 5 "+strings.Join(many, " "))
	})
}

// A server that was away gets all it missed, in order, when it speaks again; what
// it got without our hearing of it comes under the same id; its wait outlives
// a restart.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		num := w.create()
		w.member(num, "@b:one.example", "@b:one.example", "join")
		w.want("one.example", "b-join")
		w.deaf["one.example"] = true
		w.say(num, "1")
		w.want("one.example", "1")
		w.fail("one.example", errors.New("no route"))
		w.say(num, "2")
		w.want("one.example", "")
		w.close()
		w.open()
		w.mu.Lock()
		w.deaf = map[mxid.Server]bool{}
		w.mu.Unlock()
		w.fail("one.example", nil)
		w.say(num, "3")
		w.want("one.example", "")
		if w.awake("one.example") {
			t.Error("it is taken to be awake")
		}
		w.sender.seen("one.example")
		w.want("one.example", "2 3")
		if !w.awake("one.example") || len(w.all["one.example"]) != 4 || w.all["one.example"][1] != w.all["one.example"][2] {
			t.Errorf("transactions %q, awake %v", w.all["one.example"], w.awake("one.example"))
		}
		w.close()
	})
}

func (w *world) awake(s mxid.Server) bool { return w.sender.awake(s) }

// Who missed more than the owner allows for is told the newest of each room.
func TestMissedTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.sender.o.Catchup = 10
		r1, r2 := w.create(), w.create()
		for _, num := range []room.Num{r1, r2} {
			w.member(num, "@b:one.example", "@b:one.example", "join")
		}
		w.took("one.example")
		w.fail("one.example", errors.New("no route"))
		w.say(r1, "first")
		synctest.Wait()
		for i := range 10 {
			w.say(r1, fmt.Sprint("x", i))
			w.say(r2, fmt.Sprint("y", i))
		}
		synctest.Wait()
		w.fail("one.example", nil)
		w.sender.seen("one.example")
		w.want("one.example", "first x9 y9") // the first was tried by itself, and is tried again as it was
	})
}

// Whatever fails, whenever the power goes: all that is for a server reaches it in
// order, and nothing in two transactions but what a crash doubled.
func TestNothingLost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		dests := []mxid.Server{"one.example", "two.example", "three.example"}
		num := w.create()
		for _, d := range dests {
			w.member(num, mxid.UserID("@u:"+d), mxid.UserID("@u:"+d), "join")
		}
		for _, d := range dests {
			w.took(d)
		}
		var want []string
		for range 150 {
			switch n := rnd.IntN(20); {
			case n < 12:
				for range rnd.IntN(60) {
					want = append(want, fmt.Sprint("m", len(want)))
					w.say(num, want[len(want)-1])
				}
			case n < 14:
				w.fail(dests[rnd.IntN(3)], errors.New("down"))
			case n < 15:
				w.mu.Lock()
				w.deaf[dests[rnd.IntN(3)]] = rnd.IntN(2) == 0
				w.mu.Unlock()
			case n < 17:
				w.mu.Lock()
				clear(w.down)
				w.mu.Unlock()
				w.sender.seen(dests[rnd.IntN(3)])
			case n < 19:
				time.Sleep(time.Duration(rnd.IntN(60)) * time.Second)
			default:
				synctest.Wait()
				clone := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rnd})
				w.close()
				w.fs = clone
				w.open()
			}
		}
		synctest.Wait()
		w.mu.Lock()
		clear(w.down)
		clear(w.deaf)
		w.mu.Unlock()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for _, d := range dests {
			next := 0
			for _, got := range w.got[d] {
				if next < len(want) && got == want[next] {
					next++
				} else if got != "u-join" && !slices.Contains(want[:next], got) {
					t.Fatalf("%s got %s where %s is next", d, got, want[next])
				}
			}
			if next != len(want) {
				t.Fatalf("%s lacks %d", d, len(want)-next)
			}
		}
		w.close()
	})
}
