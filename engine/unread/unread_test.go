package unread

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/ephemeral"
	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

const (
	alice = mxid.UserID("@alice:hub")
	bob   = mxid.UserID("@bob:hub")
)

// hub is what unread counts stand on.
type hub struct {
	t     *testing.T
	st    *store.Store
	log   *stream.Log
	rooms *room.Rooms
	eph   *ephemeral.Records
	*Unread
	room room.Num
}

func (h *hub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func open(t *testing.T, fs store.FS) *hub {
	t.Helper()
	h := &hub{t: t}
	var err error
	h.st, err = store.Open(store.Options{Dir: "db", FS: fs})
	h.must(err)
	h.log, err = stream.Open(h.st)
	h.must(err)
	names, err := store.OpenNames(h.st)
	h.must(err)
	h.rooms, err = room.Open(h.st, h.log, names, room.Options{
		Signer: event.Signer{Server: "hub", KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(make([]byte, 32))},
		Now:    time.Now, CacheBytes: 1 << 20,
	})
	h.must(err)
	accounts, err := account.Open(h.st, h.log, names, "hub", account.Options{})
	h.must(err)
	h.eph, err = ephemeral.Open(h.st, names, ephemeral.Options{})
	h.must(err)
	h.Unread = Open(h.st, h.rooms, accounts, h.eph)
	return h
}

func (h *hub) reopen(fs store.FS) *hub {
	h.must(h.Close())
	h.must(h.st.Close())
	n := open(h.t, fs)
	n.room = h.room
	return n
}

func (h *hub) create() {
	h.t.Helper()
	w := h.rooms.New(event.LookupVersion("11"), "!r:hub")
	for _, d := range []room.Draft{
		{Type: "m.room.create", StateKey: new(string), Content: []byte(`{"room_version":"11"}`)},
		member(alice, alice, "join"),
		{Type: "m.room.power_levels", StateKey: new(string), Content: []byte(`{"users":{"@alice:hub":100},"notifications":{"room":50}}`)},
		{Type: "m.room.join_rules", StateKey: new(string), Content: []byte(`{"join_rule":"public"}`)},
	} {
		d.Sender = alice
		_, err := w.Add(&d)
		h.must(err)
	}
	p, err := w.Commit(nil)
	h.must(err)
	h.must(p.Wait())
	h.room = w.Head().Room
}

func member(sender, user mxid.UserID, membership string) room.Draft {
	key := string(user)
	return room.Draft{Type: "m.room.member", StateKey: &key, Sender: sender,
		Content: []byte(`{"displayname":"` + key[1:4] + ` B","membership":"` + membership + `"}`)}
}

func (h *hub) send(d room.Draft) mxid.EventID {
	h.t.Helper()
	id, err := h.rooms.Send(h.room, &d)
	h.must(err)
	return id
}

// say sends a message; relates is what stands in m.relates_to, "rel_type target".
func (h *hub) say(sender mxid.UserID, body, relates string) mxid.EventID {
	h.t.Helper()
	content := `{"body":"` + body + `","msgtype":"m.text"`
	if typ, target, ok := strings.Cut(relates, " "); ok {
		content += `,"m.relates_to":{"rel_type":"` + typ + `","event_id":"` + target + `"}`
	}
	return h.send(room.Draft{Type: "m.room.message", Sender: sender, Content: []byte(content + `}`)})
}

func (h *hub) user(id mxid.UserID) uint32 {
	h.t.Helper()
	num, err := h.rooms.User(id)
	h.must(err)
	return num
}

func (h *hub) read(id mxid.UserID, ev mxid.EventID, thread string) {
	h.t.Helper()
	e, err := h.rooms.Lookup(ev)
	h.must(err)
	_, err = h.log.Commit(func(tx *stream.Tx) error {
		_, err := h.eph.PutReceipt(tx, &ephemeral.Receipt{Room: uint32(h.room), User: h.user(id), Type: ephemeral.Read,
			Thread: thread, Event: ev, At: e.At.Pos})
		return err
	})
	h.must(err)
}

// counts spells what bob has not read: all, main, then the threads.
func (h *hub) counts() string {
	h.t.Helper()
	head, err := h.rooms.Head(h.room)
	h.must(err)
	t, err := h.Count(&Reader{User: h.user(bob), ID: bob, Ignores: func(u mxid.UserID) bool { return u == "@rude:hub" }}, head, h.log.Tip(), nil)
	h.must(err)
	s := fmt.Sprintf("%d/%d %d/%d", t.All.Notify, t.All.Highlight, t.Main.Notify, t.Main.Highlight)
	for _, th := range t.Threads {
		s += fmt.Sprintf(" %d/%d", th.Notify, th.Highlight)
	}
	return s
}

func (h *hub) want(want string) {
	h.t.Helper()
	if got := h.counts(); got != want {
		h.t.Fatalf("%s, want %s", got, want)
	}
}

// A message without any row is counted from the join on; receipts of all three
// forms take off what they say and nothing else.
func TestThreadsAndReceipts(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	h.create()
	h.say(alice, "before bob", "")
	h.send(member(bob, bob, "join"))
	a := h.say(alice, "hello", "")
	b := h.say(alice, "start", "m.thread "+string(a))
	h.say(alice, "for bob", "m.thread "+string(a))
	d := h.say(alice, "hello bob", "")
	h.say(alice, "end", "m.thread "+string(a))
	f := h.say(alice, "reference", "m.reference "+string(a))
	g := h.send(room.Draft{Type: "m.reaction", Sender: alice, Content: []byte(`{"m.relates_to":{"rel_type":"m.annotation","event_id":"` + string(f) + `"}}`)})
	h.want("6/2 3/1 3/1")
	h.read(bob, a, "main")
	h.want("5/2 2/1 3/1")
	h.read(bob, b, string(a))
	h.want("4/2 2/1 2/1")
	h = h.reopen(fs)
	h.want("4/2 2/1 2/1")
	h.read(bob, d, "")
	h.want("2/0 1/0 1/0")
	h.read(bob, g, string(a))
	h.want("1/0 1/0")
	h.say(alice, "deep", "m.annotation "+string(h.say(alice, "in", "m.thread "+string(a))))
	h.want("3/0 1/0 2/0")
	h = h.reopen(fs)
	h.want("3/0 1/0 2/0")
	h.must(h.st.Close())
}

func TestWhatIsNoNews(t *testing.T) {
	h := open(t, vfs.NewMem())
	defer func() { h.must(h.st.Close()) }()
	h.create()
	h.send(member(bob, bob, "join"))
	h.want("0/0 0/0")
	h.send(room.Draft{Type: "m.room.topic", StateKey: new(string), Sender: alice, Content: []byte(`{"topic":"bob"}`)})
	h.send(member("@rude:hub", "@rude:hub", "join"))
	h.say("@rude:hub", "bob, bob B!", "")
	h.want("0/0 0/0")
	gone := h.say(alice, "my name is bob b", "")
	h.want("1/1 1/1")
	h.send(room.Draft{Type: "m.room.redaction", Sender: alice, Redacts: gone, Content: []byte(`{"redacts":"` + string(gone) + `"}`)})
	h.want("0/0 0/0")
	first := h.say(alice, "one", "")
	h.say(alice, "two", "m.thread "+string(first))
	h.send(member(bob, bob, "join")) // a change of profile reads nothing
	h.want("2/0 1/0 1/0")
	h.say(bob, "I have read it", "")
	h.want("1/0 0/0 1/0")
	h.say(bob, "and the thread", "m.thread "+string(first))
	h.want("0/0 0/0")
	h.say(alice, "three", "")
	h.want("1/0 1/0")
	h.send(member(bob, bob, "leave"))
	h.say(alice, "bob is gone", "")
	h.want("0/0 0/0")
	h.send(member(bob, bob, "join"))
	h.say(alice, "@room he is back", "")
	h.want("1/1 1/1")
}

// The same story by many small steps, one large step, or with a crash in
// between comes to the same counts.
func TestManyRoadsOneCount(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	var want string
	for _, road := range []string{"steps", "one", "crash"} {
		r := rand.New(rand.NewPCG(seed, 3))
		fs := vfs.NewMem()
		h := open(t, fs)
		h.create()
		h.send(member(bob, bob, "join"))
		h.counts()
		var ids []mxid.EventID
		for range 120 {
			switch n := r.IntN(12); {
			case n < 6 || len(ids) == 0:
				ids = append(ids, h.say(alice, "m", ""))
			case n < 9:
				ids = append(ids, h.say(alice, "for bob", "m.thread "+string(ids[0])))
			case n < 10:
				h.read(bob, ids[r.IntN(len(ids))], "")
			case n < 11:
				h.read(bob, ids[r.IntN(len(ids))], "main")
			default:
				h.read(bob, ids[r.IntN(len(ids))], string(ids[0]))
			}
			switch {
			case road == "steps":
				h.counts()
			case road == "crash" && rnd.IntN(10) == 0:
				h.counts()
				h.must(h.st.Close()) // what the rows have in memory is lost
				n := open(t, fs)
				n.room, h = h.room, n
			}
		}
		got := h.counts()
		if want == "" {
			want = got
		}
		if got != want {
			t.Fatalf("%s: %s, want %s", road, got, want)
		}
		h.must(h.st.Close())
	}
}

func TestBounds(t *testing.T) {
	h := open(t, vfs.NewMem())
	defer func() { h.must(h.st.Close()) }()
	h.create()
	h.send(member(bob, bob, "join"))
	for range maxFold + 20 {
		h.say(alice, "m", "")
	}
	h.want(fmt.Sprintf("%d/0 %d/0", maxFold, maxFold))
	r := &row{}
	for i := range stream.Pos(3 * maxNotes) {
		thread, ok := r.thread(mxid.EventID(fmt.Sprint("$", i%(2*maxThreads))), true)
		if !ok {
			t.Fatal("a thread was refused")
		}
		r.add(note{pos: i + 1, thread: thread})
	}
	if len(r.notes) != maxNotes || len(r.threads) > maxThreads {
		t.Fatal(len(r.notes), len(r.threads))
	}
	back := &row{}
	if !back.parse(r.appendTo(nil)) || fmt.Sprint(back.tally()) != fmt.Sprint(r.tally()) {
		t.Fatal("a full row does not come back")
	}
	full := r.appendTo(nil)
	for n := range full {
		(&row{}).parse(full[:n])
	}
	h.grown(maxCached)
	h.want(fmt.Sprintf("%d/0 %d/0", maxFold, maxFold))
}
